"""Sums of joint prediction over prompts, tile by tile of units and their partners.

What is predicted, and why so, :mod:`synatlas.decompose.prediction` says.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import isqrt
from typing import Any, Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

#: Fewest prompts of a pair. Of two prompts less their mean, one is the other's negative.
LEAST_PROMPTS: Final = 3

#: A square of which no more than this is left, of 1, is nothing but rounding.
NOTHING: Final = 1e-9

#: Correlations of one direction held at once by one thread, over all prompts, of three terms.
_HELD: Final = 1_000_000

#: Most units of a tile: thirty squares of so many stay in a cache.
_WIDEST: Final = 128

#: Pair-prompts from which compiled terms pay for their start.
_COMPILE_FROM: Final = 8_000_000

#: Writes what units and partners give in one prompt: see :func:`fill_terms`.
Fill = Callable[..., Any]


class Prompt(NamedTuple):
    """Past x and future a of one prompt, of mean 0 and mean square 1; 0 where not `defined`.

    x² less its mean and what x tells of it is own; a less what x and own tell of it is what is
    left. The five coefficients: the slope of x² on x, and one over own's root mean square; the
    slopes of a on x and on own of mean square 1, and one over the root mean square of what is
    left.
    """

    past: Float[np.ndarray, "unit sample"]
    future: Float[np.ndarray, "unit sample"]
    defined: Bool[np.ndarray, " unit"]
    coefficients: Float[np.ndarray, "unit five"]

    @classmethod
    def of(cls, x: np.ndarray, a: np.ndarray, defined: np.ndarray) -> "Prompt":
        """With coefficients of a past and a future."""
        square = x**2
        skew = _mean(square * x)
        own = square - 1 - skew * x
        curve = inverse_root(_mean(own**2))
        own *= curve
        memory = _mean(a * x)
        left = a - memory * x
        bend = _mean(left * own)
        left -= bend * own
        rest = inverse_root(_mean(left**2))
        return cls(x, a, defined, np.concatenate([skew, curve, memory, bend, rest], axis=1))

    def units(self, some: slice) -> "Prompt":
        """Some of the units."""
        return Prompt(*(field[some] for field in self))


def _mean(values: Float[np.ndarray, "unit sample"]) -> Float[np.ndarray, "unit 1"]:
    return values.mean(axis=1, keepdims=True)


def inverse_root(square: np.ndarray) -> np.ndarray:
    """One over the root; 0 for what is rounding."""
    return (square > NOTHING) / np.sqrt(np.maximum(square, NOTHING))


class _Sums(NamedTuple):
    """Sums of :func:`_squares`: of all prompts, then with each left out."""

    units: Float[np.ndarray, "left_out unit"]
    partners: Float[np.ndarray, "left_out partner"]


class _Tile(NamedTuple):
    """Two sets of units: futures of the first, and pasts of the second."""

    units: slice
    partners: slice


class _Direction(NamedTuple):
    """What the pairs of a tile add to its units and to its partners."""

    tile: _Tile
    linear: _Sums
    interaction: _Sums
    used: Float[np.ndarray, " unit"]


def pseudo_values(
    prompts: list[Prompt], shared: float, threads: int
) -> Float[np.ndarray, "2 prompt unit"]:
    """Jackknife pseudo-values of the linear term and of the interaction, in nats.

    Parameters
    ----------
    prompts : what every prompt has.
    shared : share of s² that is taken off the linear term's squares.
    threads : how many work at once; no value depends on it.
    """
    count, units = len(prompts), prompts[0].defined.size
    sums = np.zeros((2, 1 + count, units))
    partners = np.zeros(units)
    work = _tiles(units, count)
    fill = fill_terms
    if units * (units - 1) // 2 * count >= _COMPILE_FROM:
        from synatlas.decompose.kernels_prediction import fill_terms as fill
    with ThreadPoolExecutor(threads) as pool:
        # In order, whatever thread is first: sums are the same to the last digit.
        for done in pool.map(lambda tile: _tile(prompts, tile, shared, fill), work):
            for way in done:
                partners[way.tile.units] += way.used
                for out, found in zip(sums, (way.linear, way.interaction), strict=True):
                    out[:, way.tile.units] += found.units
                    out[:, way.tile.partners] += found.partners
    with np.errstate(invalid="ignore", divide="ignore"):
        value = 0.5 * sums / partners
        return count * value[:, :1] - (count - 1) * value[:, 1:]


def _tiles(units: int, prompts: int) -> list[_Tile]:
    """Two slices of units each, which together hold every pair once."""
    most = min(_WIDEST, max(1, isqrt(_HELD // prompts)))
    size = -(-units // -(-units // most))
    cuts = [slice(k, min(k + size, units)) for k in range(0, units, size)]
    return [_Tile(one, other) for k, one in enumerate(cuts) for other in cuts[k:]]


def _tile(prompts: list[Prompt], tile: _Tile, shared: float, fill: Fill) -> list[_Direction]:
    """Both directions of two sets of units, or what one set has within itself."""
    ways = [tile] if tile.units == tile.partners else [tile, _Tile(tile.partners, tile.units)]
    held = [
        np.empty((3, len(prompts), _size(way.units), _size(way.partners)), dtype=np.float64)
        for way in ways
    ]
    cross = [np.zeros(values.shape[2:]) for values in held]
    for k, prompt in enumerate(prompts):
        one, other = prompt.units(tile.units), prompt.units(tile.partners)
        pairs = [(one, other), (other, one)][: len(ways)]
        products = [_products(mine, theirs) for mine, theirs in pairs]
        squares = (one.past**2) @ (other.past**2).T / one.past.shape[1]
        # The last is the opposite of the first; within one set it is the first itself.
        for way, (mine, theirs) in enumerate(pairs):
            fill(
                products[way],
                np.ascontiguousarray(products[-1 - way][1].T),
                np.ascontiguousarray(squares.T) if way else squares,
                mine.coefficients,
                mine.defined,
                theirs.defined,
                held[way],
                k,
            )
            # Products with undefined series are 0 already.
            cross[way] += products[way][3]
    return [
        _direction(prompts, way, values, total, shared)
        for way, values, total in zip(ways, held, cross, strict=True)
    ]


def _size(some: slice) -> int:
    return some.stop - some.start


def _products(prompt: Prompt, partner: Prompt) -> Float[np.ndarray, "five unit partner"]:
    """Means over samples of the partner's past y times x, x², x³, a and a x of the unit."""
    x, a = prompt.past, prompt.future
    square = x**2
    table = np.concatenate([x, square, square * x, a, a * x]) @ partner.past.T
    table /= x.shape[1]
    return table.reshape(5, len(x), -1)


def fill_terms(
    products: Float[np.ndarray, "five unit partner"],
    on_y: Float[np.ndarray, "unit partner"],
    squares: Float[np.ndarray, "unit partner"],
    coefficients: Float[np.ndarray, "unit five"],
    mine: Bool[np.ndarray, " unit"],
    theirs: Bool[np.ndarray, " partner"],
    held: Float[np.ndarray, "three prompt unit partner"],
    prompt: int,
) -> None:
    """Write what units and partners give in one prompt, 0 where one of them is undefined.

    Three correlations with the future a of the unit: of y given x and x²; of x given y; of the
    product x y given x, x² and y. From means of products, `on_y` of x y² and `squares` of x² y².
    """
    x, square, cube, future, both = products
    skew, curve, memory, bend, left = coefficients.T[:, :, None]
    rest_same = 1 - x**2
    curved = (square - skew * x) * curve
    on_own = (cube - x - skew * square) * curve
    linear = (future - memory * x - bend * curved) * left
    target = (both - memory * square - bend * on_own) * left
    rest = inverse_root(rest_same - curved**2)
    transfer = linear * rest
    # The partner's past without x and x²; what the product holds of it.
    on_other = (on_y - x * square - curved * on_own) * rest
    spread = squares - x**2 - square**2 - on_own**2 - on_other**2
    held[0, prompt] = transfer
    held[1, prompt] = (memory - future * x) * inverse_root(rest_same * (1 - future**2))
    # Where the partner is a function of x, so is the product.
    held[2, prompt] = (target - transfer * on_other) * inverse_root(spread) * (rest > 0)
    undefined = ~mine[:, None] | ~theirs
    if undefined.any():
        held[:, prompt, undefined] = 0.0


def _direction(
    prompts: list[Prompt],
    tile: _Tile,
    held: Float[np.ndarray, "term prompt unit partner"],
    cross: Float[np.ndarray, "unit partner"],
    shared: float,
) -> _Direction:
    """Sums of one direction, from correlations in every prompt and their sum for a and y."""
    transfer, of_own, interaction = held
    mine = np.stack([prompt.defined[tile.units] for prompt in prompts]).astype(np.float64)
    theirs = np.stack([prompt.defined[tile.partners] for prompt in prompts]).astype(np.float64)
    memory = np.stack([prompt.coefficients[tile.units, 2] for prompt in prompts]).T @ theirs
    # Which past tells less is a matter of all prompts together: one prompt would pick by noise.
    np.copyto(transfer, of_own, where=np.abs(cross) > np.abs(memory))
    both = mine.T @ theirs
    if tile.units == tile.partners:
        np.fill_diagonal(both, 0.0)
    return _Direction(
        tile,
        _squares(transfer, mine, theirs, both, shared),
        _squares(interaction, mine, theirs, both, 0.0),
        (both >= LEAST_PROMPTS).sum(axis=1).astype(np.float64),
    )


def _squares(
    values: Float[np.ndarray, "prompt unit partner"],
    mine: Float[np.ndarray, "prompt unit"],
    theirs: Float[np.ndarray, "prompt partner"],
    both: Float[np.ndarray, "unit partner"],
    share: float,
) -> _Sums:
    """Half of both directions; the other half is the mean of two.

    Of n prompts with sum s and sum of squares q, (s² - q) / n (n - 1) is the mean of c_p c_q and
    (q - s² / n) / (n - 1) the variance, of which `share` / n is taken off. Without a prompt of
    value v they are s - v and q - v², and the sum is a parabola of v. `both` is n.
    """
    used = both >= LEAST_PROMPTS
    s, q = values.sum(axis=0), np.einsum("pij,pij->ij", values, values)

    def weights(n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of s² and of -q."""
        each = np.where(used, 0.5 / np.where(used, n * (n - 1), 1.0), 0.0)
        return each * (1 + share), each * (1 + share * n)

    of_s, of_q = weights(both)
    whole = of_s * s**2 - of_q * q
    of_s, of_q = weights(both - 1)
    constant, slope, curve = of_s * s**2 - of_q * q - whole, -2 * of_s * s, of_s + of_q
    units = whole.sum(axis=1) + np.concatenate([0 * mine[:1], mine * (theirs @ constant.T)])
    partners = whole.sum(axis=0) + np.concatenate([0 * theirs[:1], theirs * (mine @ constant)])
    for k, v in enumerate(values, start=1):
        change = curve * v
        change += slope
        change *= v
        units[k] += change.sum(axis=1)
        partners[k] += change.sum(axis=0)
    return _Sums(units, partners)

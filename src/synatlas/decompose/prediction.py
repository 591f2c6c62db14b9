"""Joint prediction: what two pasts tell of a future together, beyond the better one of them.

For a future a of a unit, its own past x and a partner's past y, standardised within the prompt:

linear       squared partial correlation of a with whichever of x and y tells less of it, given
             the other. Half of it is I(xy; a) - max(I(x; a), I(y; a)) to second order: the
             synergy of two pasts about a future under MMI, str + stx. It is 0 for a delayed
             copy.
interaction  squared correlation of what x and x² leave of a and what x, x² and y leave of the
             product x y: what no sum of functions of x and of y (of these degrees) tells.

Both are guarded: from every series its mean over prompts at each step is taken first, and past
and future are conditioned on the mean past of all units. What is the same in every prompt, and
what all units share at a step, cannot predict. With few units that mean is a part of the signal.

Correlations c of the prompts enter as half the mean of c_p c_q over p ≠ q, which is c² - s²/P:
unbiased for half the square of their mean whatever the dependence within a prompt, 0 on average
where nothing is predicted, and so negative as often as not. Taking off the mean over prompts
makes two prompts of a group of G correlate by -1/(G - 1), which lifts the mean of c_p c_q of two
linear series by the share 1/(G - 1)² of the variance; that is taken off as well.
"""

from concurrent.futures import ThreadPoolExecutor
from math import isqrt
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from synatlas.decompose.groups import Group
from synatlas.decompose.windows import LEAST_SAMPLES, standardise

#: Fewest prompts of one length. Of two prompts less their mean, one is the other's negative.
LEAST_PROMPTS: Final = 3

#: Fewest units: of two less their mean, one is the other's negative.
LEAST_UNITS: Final = 3

#: Correlations of one direction held at once by one thread, over all prompts, of three terms.
_HELD: Final = 1_000_000

#: Most units of a tile: thirty squares of so many stay in a cache.
_WIDEST: Final = 128

#: A square of which no more than this is left, of 1, is nothing but rounding.
_NOTHING: Final = 1e-9


class JointPrediction(NamedTuple):
    """Jackknife pseudo-values in nats; their mean over prompts is the estimate of the unit.

    The standard deviation over prompts divided by the root of their number is the jackknife
    standard error of that mean. NaN for units and prompts that are undefined.
    """

    linear: Float[np.ndarray, "prompt unit"]
    interaction: Float[np.ndarray, "prompt unit"]


class _Prompt(NamedTuple):
    """Past x and future a of one prompt, of mean 0 and mean square 1; 0 where not `defined`.

    x² less its mean and what x tells of it is own; a less what x and own tell of it is what is
    left. `skew` is the slope of x² on x; `memory` and `bend` are those of a on x and on own,
    which has mean square 1; `curved` and `left` are one over the root mean squares.
    """

    past: Float[np.ndarray, "unit sample"]
    future: Float[np.ndarray, "unit sample"]
    defined: Bool[np.ndarray, " unit"]
    skew: Float[np.ndarray, "unit 1"]
    curved: Float[np.ndarray, "unit 1"]
    memory: Float[np.ndarray, "unit 1"]
    bend: Float[np.ndarray, "unit 1"]
    left: Float[np.ndarray, "unit 1"]

    def units(self, some: slice) -> "_Prompt":
        """Some of the units."""
        return _Prompt(*(field[some] for field in self))


class _Products(NamedTuple):
    """Means over samples of a partner's past y times what a unit has."""

    x: Float[np.ndarray, "unit partner"]
    square: Float[np.ndarray, "unit partner"]
    cube: Float[np.ndarray, "unit partner"]
    future: Float[np.ndarray, "unit partner"]
    both: Float[np.ndarray, "unit partner"]


class _Terms(NamedTuple):
    """What units and their partners give in one prompt: correlations with the unit's future."""

    transfer: Float[np.ndarray, "unit partner"]
    of_own: Float[np.ndarray, "unit partner"]
    interaction: Float[np.ndarray, "unit partner"]


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


def joint_prediction(groups: list[Group], lag: int, *, threads: int = 1) -> JointPrediction:
    """Guarded joint prediction of every unit, mean over its partners and both directions.

    For units i and j, ``V_ij = (c² - s² / P) / 2`` with c and s² mean and variance over P prompts
    of a correlation with the future of i (see the module); s² / P is multiplied by
    (P - 1) / (P - 2) in the linear term. A unit's value is the mean over its partners j of
    (V_ij + V_ji) / 2.

    Parameters
    ----------
    groups
        Prompts of each length. Lengths that fewer than three prompts have are left out.
    lag
        Steps from past to future, 1 or more.
    threads
        How many work at once; no value depends on it.

    Returns
    -------
    JointPrediction
        In nats; estimates of quantities that are 0 or more, themselves of either sign. NaN in
        prompts of lengths left out; for units whose series are undefined (constant, nonfinite)
        in all but two prompts, which are no one's partners either; with fewer than three
        units. Duplicates within a prompt predict nothing together there.

    References
    ----------
    Schreiber, https://doi.org/10.1103/PhysRevLett.85.461 (transfer entropy, what `linear` is for
    a partner that tells less than the unit's own past); Mediano et al., arXiv 2109.13186 (the
    atoms); Efron, Stein, https://doi.org/10.1214/aos/1176345462 (jackknife).
    """
    count = sum(group.prompts.size for group in groups)
    units = groups[0].series.shape[2]
    prompts: list[_Prompt] = []
    where: list[int] = []
    sizes: list[int] = []
    for group in groups:
        if group.prompts.size < LEAST_PROMPTS or group.series.shape[1] - lag < LEAST_SAMPLES:
            continue
        prompts += _guard(group.series, lag)
        where += group.prompts.tolist()
        sizes.append(group.prompts.size)
    linear, interaction = np.full((2, count, units), np.nan)
    if prompts and units >= LEAST_UNITS:
        linear[where], interaction[where] = _pseudo_values(prompts, _shared(sizes), threads)
    return JointPrediction(linear, interaction)


def _shared(sizes: list[int]) -> float:
    """Share of s² by which the mean of c_p c_q is too high, since prompts share a mean."""
    count = sum(sizes)
    share = sum(size / (size - 1) for size in sizes) / (count * (count - 1))
    return share / (1 - share)


def _guard(series: Float[np.ndarray, "prompt step unit"], lag: int) -> list[_Prompt]:
    """Windows without the mean over prompts and without the mean past of all units."""
    raw = standardise(series, lag).reason == 0
    clean = np.where(raw[:, None, :], series, 0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = clean.sum(axis=0) / np.maximum(raw.sum(axis=0), 1)
        left = np.where(raw[:, None, :], clean - mean, 0.0)
        same = np.abs(left).max(axis=1) <= 1e-12 * np.abs(clean).max(axis=1)
    left[np.broadcast_to(same[:, None, :], left.shape)] = 0.0
    # Of 1728 units and 60 prompts each of these is a tenth of a gigabyte.
    del clean
    ready = standardise(left, lag)
    return [_condition(*pair) for pair in zip(ready.values, ready.reason == 0, strict=True)]


def _condition(
    window: Float[np.ndarray, "window unit sample"], defined: Bool[np.ndarray, " unit"]
) -> _Prompt:
    """Take the mean past of all units out of past and future, in place."""
    common = window[0].sum(axis=0) / max(int(defined.sum()), 1)
    size = common @ common
    if size > _NOTHING:
        window -= (window @ common)[..., None] * (common / size)
    square = np.einsum("wus,wus->wu", window, window)
    defined = defined & (square > _NOTHING).all(axis=0)
    scale = np.sqrt(window.shape[2] / np.where(square > _NOTHING, square, np.inf))
    window *= np.where(defined, scale, 0.0)[..., None]
    return _described(window[0], window[1], defined)


def _described(x: np.ndarray, a: np.ndarray, defined: np.ndarray) -> _Prompt:
    square = x**2
    skew = _mean(square * x)
    own = square - 1 - skew * x
    curved = _inverse_root(_mean(own**2))
    own *= curved
    memory = _mean(a * x)
    left = a - memory * x
    bend = _mean(left * own)
    left -= bend * own
    return _Prompt(x, a, defined, skew, curved, memory, bend, _inverse_root(_mean(left**2)))


def _mean(values: Float[np.ndarray, "unit sample"]) -> Float[np.ndarray, "unit 1"]:
    return values.mean(axis=1, keepdims=True)


def _inverse_root(square: np.ndarray) -> np.ndarray:
    """One over the root; 0 for what is rounding."""
    return (square > _NOTHING) / np.sqrt(np.maximum(square, _NOTHING))


def _pseudo_values(
    prompts: list[_Prompt], shared: float, threads: int
) -> Float[np.ndarray, "2 prompt unit"]:
    """Pseudo-values of the linear term and of the interaction, by tiles of units and partners."""
    count, units = len(prompts), prompts[0].defined.size
    sums = np.zeros((2, 1 + count, units))
    partners = np.zeros(units)
    work = _tiles(units, count)
    with ThreadPoolExecutor(threads) as pool:
        # In order, whatever thread is first: sums are the same to the last digit.
        for done in pool.map(lambda tile: _tile(prompts, tile, shared), work):
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


def _tile(prompts: list[_Prompt], tile: _Tile, shared: float) -> list[_Direction]:
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
            turned = np.ascontiguousarray(products[-1 - way].square.T)
            terms = _terms(mine, products[way], turned, squares.T if way else squares)
            undefined = ~mine.defined[:, None] | ~theirs.defined
            for values, term in zip(held[way], terms, strict=True):
                values[k] = term
                values[k][undefined] = 0.0
            # Products with undefined series are 0 already.
            cross[way] += products[way].future
    return [
        _direction(prompts, way, values, total, shared)
        for way, values, total in zip(ways, held, cross, strict=True)
    ]


def _size(some: slice) -> int:
    return some.stop - some.start


def _products(prompt: _Prompt, partner: _Prompt) -> _Products:
    x, a = prompt.past, prompt.future
    square = x**2
    table = np.concatenate([x, square, square * x, a, a * x]) @ partner.past.T
    table /= x.shape[1]
    return _Products(*table.reshape(5, len(x), -1))


def _terms(prompt: _Prompt, of: _Products, on_y: np.ndarray, squares: np.ndarray) -> _Terms:
    """Correlations with a, from means of products; `on_y` and `squares` are of x y² and x² y²."""
    rest_same = 1 - of.x**2
    curved = (of.square - prompt.skew * of.x) * prompt.curved
    on_own = (of.cube - of.x - prompt.skew * of.square) * prompt.curved
    linear = (of.future - prompt.memory * of.x - prompt.bend * curved) * prompt.left
    target = (of.both - prompt.memory * of.square - prompt.bend * on_own) * prompt.left
    rest = _inverse_root(rest_same - curved**2)
    transfer = linear * rest
    of_own = (prompt.memory - of.future * of.x) * _inverse_root(rest_same * (1 - of.future**2))
    # The partner's past without x and x²; what the product holds of it.
    on_other = (on_y - of.x * of.square - curved * on_own) * rest
    spread = squares - of.x**2 - of.square**2 - on_own**2 - on_other**2
    # Where the partner is a function of x, so is the product.
    interaction = (target - transfer * on_other) * _inverse_root(spread) * (rest > 0)
    return _Terms(transfer, of_own, interaction)


def _direction(
    prompts: list[_Prompt],
    tile: _Tile,
    held: Float[np.ndarray, "term prompt unit partner"],
    cross: Float[np.ndarray, "unit partner"],
    shared: float,
) -> _Direction:
    """Sums of one direction, from correlations in every prompt and their sum for a and y."""
    transfer, of_own, interaction = held
    mine = np.stack([prompt.defined[tile.units] for prompt in prompts]).astype(np.float64)
    theirs = np.stack([prompt.defined[tile.partners] for prompt in prompts]).astype(np.float64)
    memory = np.stack([prompt.memory[tile.units, 0] for prompt in prompts]).T @ theirs
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

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

from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from synatlas.decompose.groups import Group
from synatlas.decompose.windows import LEAST_SAMPLES, standardise

#: Fewest prompts of one length. Of two prompts less their mean, one is the other's negative.
LEAST_PROMPTS: Final = 3

#: Fewest units: of two less their mean, one is the other's negative.
LEAST_UNITS: Final = 3

#: Correlations held at once, over all prompts, for each of three terms.
_HELD: Final = 4_000_000

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
    """Past and future of one prompt, of mean 0 and mean square 1; 0 where not `defined`."""

    past: Float[np.ndarray, "unit sample"]
    future: Float[np.ndarray, "unit sample"]
    defined: Bool[np.ndarray, " unit"]


class _Terms(NamedTuple):
    """What rows of units and all their partners give in one prompt."""

    transfer: Float[np.ndarray, "row unit"]
    of_own: Float[np.ndarray, "row unit"]
    cross: Float[np.ndarray, "row unit"]
    memory: Float[np.ndarray, " row"]
    interaction: Float[np.ndarray, "row unit"]


def joint_prediction(groups: list[Group], lag: int) -> JointPrediction:
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
        linear[where], interaction[where] = _pseudo_values(prompts, _shared(sizes))
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
    return _Prompt(window[0], window[1], defined)


def _pseudo_values(prompts: list[_Prompt], shared: float) -> Float[np.ndarray, "2 prompt unit"]:
    """Pseudo-values of the linear term and of the interaction, by rows of units."""
    count, units = len(prompts), prompts[0].defined.size
    defined = np.stack([prompt.defined for prompt in prompts]).astype(np.float64)
    sums = np.zeros((2, 1 + count, units))
    partners = np.zeros(units)
    step = max(1, _HELD // (count * units))
    for begin in range(0, units, step):
        rows = slice(begin, min(begin + step, units))
        both = defined.T[rows] @ defined
        both[np.arange(both.shape[0]), np.arange(rows.start, rows.stop)] = 0.0
        used = both >= LEAST_PROMPTS
        partners[rows] = used.sum(axis=1)
        for out, values, share in zip(
            sums, _rows(prompts, defined, rows), (shared, 0.0), strict=True
        ):
            _add_squares(out, values, defined, both, used, rows, share)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = 0.5 * sums / partners
        return count * value[:, :1] - (count - 1) * value[:, 1:]


def _rows(
    prompts: list[_Prompt], defined: np.ndarray, rows: slice
) -> tuple[Float[np.ndarray, "prompt row unit"], Float[np.ndarray, "prompt row unit"]]:
    """Correlations of the linear term and of the interaction of some units in every prompt."""
    shape = (len(prompts), rows.stop - rows.start, defined.shape[1])
    transfer, of_own, interaction = np.empty(shape), np.empty(shape), np.empty(shape)
    cross, memory = np.zeros(shape[1:]), np.zeros(shape[1:])
    for k, prompt in enumerate(prompts):
        terms = _terms(prompt, rows)
        transfer[k], of_own[k], interaction[k] = terms.transfer, terms.of_own, terms.interaction
        # Products with undefined series are 0 already.
        cross += terms.cross
        memory += terms.memory[:, None] * defined[k]
    # Which past tells less is a matter of all prompts together: one prompt would pick by noise.
    np.copyto(transfer, of_own, where=np.abs(cross) > np.abs(memory))
    return transfer, interaction


def _terms(prompt: _Prompt, rows: slice) -> _Terms:
    """Correlations with the future of the rows, from products of series with x_j and x_j²."""
    x, a = prompt.past[rows], prompt.future[rows]
    square = x**2
    own = _standard(square - 1 - _on(square, x))
    left = _standard(a - _on(a, x) - _on(a, own))
    block, samples = x.shape
    products = np.concatenate([x, own, left, a, square, x * own, left * x]) @ prompt.past.T
    same, curved, linear, cross, on_x, on_own, target = products.reshape(7, block, -1) / samples
    on_y, squares = (np.concatenate([x, square]) @ (prompt.past**2).T / samples).reshape(
        2, block, -1
    )
    rest = _inverse_root(1 - same**2 - curved**2)
    transfer = linear * rest
    memory = (a * x).mean(axis=1)
    of_own = (memory[:, None] - cross * same) * _inverse_root((1 - same**2) * (1 - cross**2))
    # The partner's past without x and x²; what the product holds of it.
    on_other = (on_y - same * on_x - curved * on_own) * rest
    spread = squares - same**2 - on_x**2 - on_own**2 - on_other**2
    interaction = (target - transfer * on_other) * _inverse_root(spread)
    # Where the partner is a function of x, so is the product.
    interaction[rest == 0] = 0.0
    undefined = ~prompt.defined[rows, None] | ~prompt.defined
    for values in (transfer, of_own, interaction):
        values[undefined] = 0.0
    return _Terms(transfer, of_own, cross, memory, interaction)


def _on(v: Float[np.ndarray, "row sample"], w: Float[np.ndarray, "row sample"]) -> np.ndarray:
    return w * (v * w).mean(axis=1, keepdims=True)


def _standard(v: Float[np.ndarray, "row sample"]) -> np.ndarray:
    """Divided by its root mean square; 0 where nothing is left of it."""
    return v * _inverse_root((v**2).mean(axis=1, keepdims=True))


def _inverse_root(square: np.ndarray) -> np.ndarray:
    """One over the root; 0 for what is rounding."""
    return np.where(square > _NOTHING, 1 / np.sqrt(np.maximum(square, _NOTHING)), 0.0)


def _add_squares(
    out: Float[np.ndarray, "left_out unit"],
    values: Float[np.ndarray, "prompt row unit"],
    defined: Float[np.ndarray, "prompt unit"],
    both: Float[np.ndarray, "row unit"],
    used: Bool[np.ndarray, "row unit"],
    rows: slice,
    share: float,
) -> None:
    """Add sums over partners of both directions: of all prompts, then with each left out."""
    total, square = values.sum(axis=0), np.einsum("pij,pij->ij", values, values)
    for k in range(len(out)):
        s, q, n = total, square, both
        if k:
            one = values[k - 1]
            s, q = total - one, square - one**2
            n = both - defined[k - 1, rows, None] * defined[k - 1]
        n = np.where(used, n, 2.0)
        # (s² - q) / n (n - 1) is the mean of c_p c_q, (q - s² / n) / (n - 1) the variance.
        both_terms = s**2 * (1 + share) - q * (1 + share * n)
        pair = np.where(used, 0.5 * both_terms / (n * (n - 1)), 0.0)
        # Half of both directions; the other half is the mean of two.
        out[k, rows] += pair.sum(axis=1)
        out[k] += pair.sum(axis=0)

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
from synatlas.decompose.prediction_tiles import (
    LEAST_PROMPTS,
    NOTHING,
    Prompt,
    pseudo_values,
)
from synatlas.decompose.windows import LEAST_SAMPLES, standardise

#: Fewest units: of two less their mean, one is the other's negative.
LEAST_UNITS: Final = 3


class JointPrediction(NamedTuple):
    """Jackknife pseudo-values in nats; their mean over prompts is the estimate of the unit.

    The standard deviation over prompts divided by the root of their number is the jackknife
    standard error of that mean. NaN for units and prompts that are undefined.
    """

    linear: Float[np.ndarray, "prompt unit"]
    interaction: Float[np.ndarray, "prompt unit"]


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
    prompts: list[Prompt] = []
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
        linear[where], interaction[where] = pseudo_values(prompts, _shared(sizes), threads)
    return JointPrediction(linear, interaction)


def _shared(sizes: list[int]) -> float:
    """Share of s² by which the mean of c_p c_q is too high, since prompts share a mean."""
    count = sum(sizes)
    share = sum(size / (size - 1) for size in sizes) / (count * (count - 1))
    return share / (1 - share)


def _guard(series: Float[np.ndarray, "prompt step unit"], lag: int) -> list[Prompt]:
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
) -> Prompt:
    """Take the mean past of all units out of past and future, in place."""
    common = window[0].sum(axis=0) / max(int(defined.sum()), 1)
    size = common @ common
    if size > NOTHING:
        window -= (window @ common)[..., None] * (common / size)
    square = np.einsum("wus,wus->wu", window, window)
    defined = defined & (square > NOTHING).all(axis=0)
    scale = np.sqrt(window.shape[2] / np.where(square > NOTHING, square, np.inf))
    window *= np.where(defined, scale, 0.0)[..., None]
    return Prompt.of(window[0], window[1], defined)

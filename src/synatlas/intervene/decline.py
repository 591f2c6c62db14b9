"""Whether damage grows gradually or at once as more units are ablated."""

from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from synatlas.inference import resampling_weights

#: Forms of a curve, smooth ones first; `jump` is a line with one step in it.
FORMS: Final = ("line", "power", "sigmoid", "jump")

#: Parameters of every form, with the variance of what it leaves.
_PARAMETERS: Final = np.array([3, 4, 5, 5])

#: A form is preferred where its AICc is lower by this much.
LIMIT: Final = 4.0

#: Share of prompt bootstraps in which the preference must hold.
SUPPORT: Final = 0.95

#: Share of the damage that one step of the grid must add to be called a collapse.
COLLAPSE: Final = 1 / 3

#: A sigmoid that is smooth takes at least this share of the range from 10 to 90 % of its rise; a
#: narrower one is a jump.
_WIDEST_STEP: Final = 0.2

#: Fewest counts of units, beside 0, of a curve that is judged.
FEWEST: Final = 8

#: What is said of a curve; the numbers are stored as flags.
NOT_JUDGED, GRADUAL, CATASTROPHIC, OPEN = range(4)
DECLINES: Final = MappingProxyType(
    {NOT_JUDGED: "not_judged", GRADUAL: "gradual", CATASTROPHIC: "catastrophic", OPEN: "open"}
)


class Decline(NamedTuple):
    """How one order's damage grows.

    `said` is a key of `DECLINES`; `aicc` of `FORMS`; `jump_share` the largest rise between two
    neighbouring counts over the largest damage, `jump_at` the count after it; `support` the share
    of prompt bootstraps in which the jump (else the smooth forms) is preferred as it is here.
    """

    said: int
    aicc: Float[np.ndarray, " form"]
    jump_share: float
    jump_at: int
    support: float


NO_DECLINE: Final = Decline(NOT_JUDGED, np.full(len(FORMS), np.nan), np.nan, 0, np.nan)


def decline(
    curves: Float[np.ndarray, "count prompt"],
    counts: Int[np.ndarray, " count"],
    *,
    draws: int = 500,
    rng: np.random.Generator,
) -> Decline:
    """Judge how damage grows with the number of units ablated.

    To the mean curve, with the point (0, 0) added, are fitted by least squares: a line; a power
    ``b x^g``; a sigmoid that takes a fifth of the range or more; and a line with a jump between
    two neighbouring counts. ``AICc = n log(RSS / n) + 2 k + 2 k (k + 1) / (n - k - 1)``. It is
    catastrophic where the jump is better by 4 than every smooth form, in the data and in 95 % of
    prompt bootstraps, and one step of the grid adds a third or more of the largest damage; gradual
    where a smooth form is better by 4 and that in 95 %, or where no step of the grid adds a third
    of the damage in 95 %; else open. How often that is wrong is in docs/validity.md.

    Parameters
    ----------
    curves : damage of every prompt, at growing `counts` above 0.
    counts : of units ablated.
    draws : bootstraps of the prompts.
    rng : of the bootstraps.

    References
    ----------
    Hurvich, Tsai (1989), https://doi.org/10.1093/biomet/76.2.297 (AICc).
    """
    if counts.size < FEWEST or not curves.any():
        return NO_DECLINE
    prompts = curves.shape[1]
    weights = np.concatenate(
        [np.full((1, prompts), 1 / prompts), resampling_weights(prompts, draws, rng)]
    )
    means = np.concatenate([np.zeros((1 + draws, 1)), weights @ curves.T], axis=1)
    x = np.concatenate([[0], counts]) / counts[-1]
    aicc = _aicc(means, x)
    lead = aicc[:, :3].min(axis=1) - aicc[:, 3]
    rises = np.diff(means, axis=1)
    top = means.max(axis=1)
    share = np.divide(rises.max(axis=1), top, out=np.full(top.shape, np.nan), where=top > 0)
    jumps = (lead >= LIMIT) & (share >= COLLAPSE)
    smooth = (lead <= -LIMIT) | (share < COLLAPSE)
    said = OPEN
    support = np.mean(jumps[1:] if jumps[0] else smooth[1:])
    if support >= SUPPORT and (jumps[0] or smooth[0]):
        said = CATASTROPHIC if jumps[0] else GRADUAL
    return Decline(
        said=said,
        aicc=aicc[0],
        jump_share=float(share[0]),
        jump_at=int(counts[rises[0].argmax()]),
        support=float(support),
    )


def largest_rise(curve: Float[np.ndarray, " count"]) -> float:
    """Largest rise between neighbouring counts, from 0 on, over the largest damage."""
    top = curve.max()
    return float(np.diff(curve, prepend=0.0).max() / top) if top > 0 else float("nan")


def _aicc(
    curves: Float[np.ndarray, "draw point"], x: Float[np.ndarray, " point"]
) -> Float[np.ndarray, "draw form"]:
    n = x.size
    rest = np.stack([_least_squares(curves, one) for one in _bases(tuple(x.tolist()))], axis=1)
    # An exact fit leaves rounding, not nothing: the comparison stays finite.
    floor = 1e-12 * (curves**2).sum(axis=1, keepdims=True)
    rest = np.maximum(rest, np.maximum(floor, 1e-300))
    k = _PARAMETERS
    return n * np.log(rest / n) + 2 * k + 2 * k * (k + 1) / (n - k - 1)


@lru_cache(maxsize=4)
def _bases(points: tuple[float, ...]) -> tuple[np.ndarray, ...]:
    """Orthonormal bases of each form, for every value of the parameters that are searched.

    One array (basis, point, dimension) for each of `FORMS`.
    """
    x = np.array(points)
    one = np.ones(x.size)
    turns = np.linspace(0, 1, 26)
    widths = np.geomspace(_WIDEST_STEP, 1, 7) / (2 * np.log(9))
    spans = (
        [(one, x)],
        [(one, x**g) for g in np.geomspace(0.2, 6, 30)],
        [(one, 1 / (1 + np.exp(-(x - t) / w))) for t in turns for w in widths],
        [(one, x, (x > c).astype(float)) for c in (x[1:] + x[:-1]) / 2],
    )
    return tuple(np.linalg.qr(np.array(span).swapaxes(1, 2))[0] for span in spans)


def _least_squares(
    curves: Float[np.ndarray, "draw point"], bases: Float[np.ndarray, "basis point dimension"]
) -> Float[np.ndarray, " draw"]:
    """Smallest sum of squares that any of the bases leaves."""
    count, points, dimensions = bases.shape
    flat = bases.swapaxes(0, 1).reshape(points, count * dimensions)
    explained = ((curves @ flat) ** 2).reshape(len(curves), count, dimensions).sum(axis=2)
    return (curves**2).sum(axis=1) - explained.max(axis=1)

"""Common change in surprisal (CCS): redundancy from local mutual informations, sample by sample.

For two sources with local informations i1, i2 and joint i12, the common change is
-c = i1 + i2 - i12, and the redundancy of a sample is -c where i1, i2, i12 and -c have one sign,
else 0 [1]_. The double redundancy is the analogue on the product lattice. As in the reference
code for time series, local informations come from the Gaussian fit itself, not from a
maximum-entropy surrogate of it.

Every local information is written with residuals, so that nearly collinear windows lose no digits:
with e what is left of a after regression on S and v its variance,
i(S; a) = -1/2 ln v + a² / 2 - e² / (2 v), for windows of unit variance.

References
----------
.. [1] Ince (2017), Entropy 19(7), 318, doi:10.3390/e19070318.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from synatlas.decompose.gaussian import Informations
from synatlas.decompose.pairs import Block

#: Cases of four windows at a time: the arrays of one stay in a second-level cache.
_CASES = 96


class Fit(NamedTuple):
    """A target window after regression: its residual, and the residual's mean square."""

    residual: np.ndarray
    variance: np.ndarray


def common_change(
    windows: Float[np.ndarray, "case variable sample"],
) -> Float[np.ndarray, "case seven"]:
    """Means over samples of the seven CCS redundancies of x, y, a, b, in nats; may be negative.

    Parameters
    ----------
    windows : standardised windows of norm 1 in the order x, y (pasts), a, b (futures), in general
        position.

    Returns
    -------
    array
        R(x,y; a,b), R(x,y; a), R(x,y; b), R(x,y; ab), R(a,b; x), R(a,b; y), R(a,b; xy).
    """
    out = np.empty((windows.shape[0], 7))
    for begin in range(0, windows.shape[0], _CASES):
        part = slice(begin, begin + _CASES)
        out[part] = _chunk(windows[part]).mean(axis=2).T
    return out


def gather(
    block: Block, prompt: Int[np.ndarray, " case"], position: Int[np.ndarray, " case"]
) -> Float[np.ndarray, "case variable sample"]:
    """Windows x, y, a, b of some cases of a block."""
    first, second = block.panel.first[position], block.panel.second[position]
    windows = np.empty((prompt.size, 4, block.left.shape[3]))
    windows[:, 0::2] = block.left[prompt, :, first]
    windows[:, 1::2] = block.right[prompt, :, second]
    return windows


def _chunk(windows: np.ndarray) -> np.ndarray:
    return np.stack(local_changes(local_informations(windows)))


def local_informations(windows: Float[np.ndarray, "case variable sample"]) -> Informations:
    """Nine local informations of x, y, a, b, ``(case, sample)`` each, in nats.

    The mean of each over samples is the information of the sample correlations.

    Parameters
    ----------
    windows : as in :func:`common_change`.
    """
    # Unit variance with the divisor n - 1, as in the reference code.
    x, y, a, b = np.sqrt(windows.shape[2] - 1) * windows.transpose(1, 0, 2)
    xy_a, xy_b, xy_ab = _joint(x, y, a, b)
    x_ab, y_ab, _ = _joint(a, b, x, y)
    singles = (_local(a, x), _local(b, x), _local(a, y), _local(b, y))
    return Informations(*singles, xy_a, xy_b, x_ab, y_ab, xy_ab)


def local_changes(i: Informations) -> tuple[np.ndarray, ...]:
    """The seven redundancies of :func:`common_change` of each sample, in the same order."""
    to_a, to_b = shared_change(i.xa, i.ya, i.xy_a), shared_change(i.xb, i.yb, i.xy_b)
    to_ab = shared_change(i.x_ab, i.y_ab, i.xy_ab)
    to_x, to_y = shared_change(i.xa, i.xb, i.x_ab), shared_change(i.ya, i.yb, i.y_ab)
    to_xy = shared_change(i.xy_a, i.xy_b, i.xy_ab)
    change = i.x_ab + i.y_ab + i.xy_a + i.xy_b - i.xy_ab - (i.xa + i.xb + i.ya + i.yb)
    change += to_a + to_b - to_ab + to_x + to_y - to_xy
    double = _where_one_sign(change, i.xa, i.xb, i.ya, i.yb)
    return double, to_a, to_b, to_ab, to_x, to_y, to_xy


def _mean_product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.einsum("cs,cs->c", left, right)[:, None] / (left.shape[1] - 1)


def _regress(target: np.ndarray, source: Fit) -> Fit:
    slope = _mean_product(source.residual, target) / source.variance
    residual = target - slope * source.residual
    return Fit(residual, _mean_product(residual, residual))


def _local(target: np.ndarray, source: np.ndarray) -> np.ndarray:
    fit = _regress(target, Fit(source, np.ones((1, 1))))
    return 0.5 * (target**2 - fit.residual**2 / fit.variance - np.log(fit.variance))


def _joint(
    x: np.ndarray, y: np.ndarray, a: np.ndarray, b: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Local i(xy; a), i(xy; b), i(xy; ab), by orthogonalising in that order."""
    first = Fit(x, np.ones((1, 1)))
    second = _regress(y, first)
    a_left = _regress(_regress(a, first).residual, second)
    b_left = _regress(_regress(b, first).residual, second)
    b_after_a = _regress(b_left.residual, a_left)
    b_on_a = _regress(b, Fit(a, np.ones((1, 1))))
    one = 0.5 * (a**2 - a_left.residual**2 / a_left.variance - np.log(a_left.variance))
    two = 0.5 * (b**2 - b_left.residual**2 / b_left.variance - np.log(b_left.variance))
    quotient = b_after_a.variance / b_on_a.variance
    rest = b_on_a.residual**2 / b_on_a.variance - b_after_a.residual**2 / b_after_a.variance
    return one, two, one + 0.5 * (rest - np.log(quotient))


def shared_change(one: np.ndarray, two: np.ndarray, both: np.ndarray) -> np.ndarray:
    """Common change of two sources in each sample, from the local informations of each and both."""
    return _where_one_sign(one + two - both, one, two, both)


def _where_one_sign(change: np.ndarray, *terms: np.ndarray) -> np.ndarray:
    least = np.minimum.reduce([change, *terms])
    most = np.maximum.reduce([change, *terms])
    return np.where((least > 0) | (most < 0), change, 0.0)

"""Pairs whose correlations are too close to singular for the recursion: by QR on the windows.

A conditional variance is the squared residual of one window on others. Taken from the windows,
its relative error is about (rounding / residual)², where the recursion's is rounding / residual².
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int8

from synatlas.decompose.gaussian import Informations
from synatlas.decompose.windows import CODE


class Resolved(NamedTuple):
    """Informations of each pair-prompt, NaN where `status` is not ok, and residual windows."""

    informations: Informations
    status: Int8[np.ndarray, " case"]


def resolve(
    windows: Float[np.ndarray, "case variable sample"],
    resolution: Float[np.ndarray, " case"],
) -> Resolved:
    """Nine informations of the standardised windows x, y, a, b, in nats.

    A pair is a duplicate where y is a straight function of x in the past and in the future: then
    every information has the limit I(x; a). It is deterministic where one window is a linear
    function of the others in any other way, which makes an information infinite or undefined.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        forward = triangle(windows)
        backward = triangle(windows[:, [2, 3, 0, 1]])
        p, q = forward[:, 1, 1] ** 2, backward[:, 1, 1] ** 2
        v_a, v_x = forward[:, 2, 2] ** 2, backward[:, 2, 2] ** 2
        v_b = forward[:, 2, 3] ** 2 + forward[:, 3, 3] ** 2
        v_y = backward[:, 2, 3] ** 2 + backward[:, 3, 3] ** 2
        single = [
            residual_square(windows[:, i], windows[:, j])
            for i, j in ((0, 2), (0, 3), (1, 2), (1, 3))
        ]
        both = v_a * forward[:, 3, 3] ** 2 / q
        values = [-0.5 * np.log(v) for v in (*single, v_a, v_b, v_x, v_y, both)]
    least = np.minimum.reduce(
        [p, q, v_a, v_b, v_x, v_y, forward[:, 3, 3] ** 2, backward[:, 3, 3] ** 2]
    )
    floor = resolution**2
    duplicate = (p <= floor) & (q <= floor)
    status = np.where(least > floor, CODE["ok"], CODE["deterministic"])
    status = np.where(duplicate, CODE["duplicate"], status).astype(np.int8)
    limit = np.where(duplicate, values[0], np.nan)
    values = [np.where(status == CODE["ok"], value, limit) for value in values]
    return Resolved(Informations(*values), status)


def residual_square(x: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Squared norm of what is left of `a` after regression on `x`, both of norm 1."""
    left = a - np.einsum("cs,cs->c", x, a)[:, None] * x
    return np.einsum("cs,cs->c", left, left)


def triangle(columns: np.ndarray) -> np.ndarray:
    """Upper triangle of the QR decomposition, by Gram-Schmidt with every projection done twice."""
    count = columns.shape[1]
    left = columns.copy()
    upper = np.zeros((columns.shape[0], count, count))
    for j in range(count):
        for _ in range(2):
            for i in range(j):
                part = np.einsum("cs,cs->c", left[:, i], left[:, j])
                upper[:, i, j] += part
                left[:, j] -= part[:, None] * left[:, i]
        norm = np.sqrt(np.einsum("cs,cs->c", left[:, j], left[:, j]))
        upper[:, j, j] = norm
        left[:, j] /= np.where(norm > 0, norm, 1.0)[:, None]
    return upper

"""Compiled loop over samples for the common change in surprisal (CCS).

A local information needs one fused multiplication for each source once the regression's slopes
are known, and these follow from the correlations: no window is regressed on another here, and no
sample needs a logarithm. What belongs to one unit alone is made once and kept in a few rows. The
loop over samples stores nothing, so LLVM sees that it can be taken several samples at a time; the
lessons of :mod:`synatlas.decompose.kernels` hold here too.
"""

from typing import Any, Final, no_type_check

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from synatlas.decompose.kernels import compiled
from synatlas.decompose.pairs import Block
from synatlas.decompose.pointwise import common_change, gather

#: Below this conditional variance slopes from correlations lose 1e-13 and more, and the pair is
#: left to NumPy, which regresses the windows themselves.
LEAST_PIVOT: Final = 1e-3

#: Rows kept of each unit: past, future, half their squares, local self-information.
_ROWS: Final = 5

#: Samples are padded to a multiple of this, so that none is left over.
_TOGETHER: Final = 8

#: Bytes of kept rows: a second-level cache.
_KEPT: Final = 1 << 20

#: More nats than any information has; the sign of what padding holds.
_PADDING: Final = 1e6

_FAST: Final = {"contract", "reassoc", "nsz", "arcp"}


@intrinsic
@no_type_check
def _bits(typingctx, x):
    """A float's bits as an integer, which is negative where the float is."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(64))

    return numba.int64(numba.float64), generate


@compiled(_FAST)
@no_type_check
def _keep(windows, sign, rows):
    """Rows of one unit, from its past and future of norm 1.

    Padding of first and of second units has opposite signs, such that whatever two informations
    are compared below differ in sign, and padded samples add 0.
    """
    samples = windows.shape[1]
    scale = np.sqrt(samples - 1.0)
    r = 0.0
    for t in range(samples):
        r += windows[0, t] * windows[1, t]
    square = 0.0
    for t in range(samples):
        left = windows[1, t] - r * windows[0, t]
        square += left * left
        rows[0, t] = scale * windows[0, t]
        rows[1, t] = scale * windows[1, t]
    constant, weight = -0.5 * np.log(square), 0.5 / square
    for t in range(samples):
        x, a = rows[0, t], rows[1, t]
        left = a - r * x
        rows[2, t] = 0.5 * x * x
        rows[3, t] = 0.5 * a * a
        rows[4, t] = constant + 0.5 * a * a - weight * left * left
    for t in range(samples, rows.shape[1]):
        rows[0, t] = 0.0
        rows[1, t] = 0.0
        rows[2, t] = sign * _PADDING
        rows[3, t] = sign * _PADDING
        rows[4, t] = -sign * _PADDING


@compiled(_FAST)
@no_type_check
def _fit(r, s):
    """Slopes and half precisions of the seven regressions of a pair; returns its least variance.

    The algebra is that of :func:`synatlas.decompose.gaussian.variances`.
    """
    xy, ab, xa, yb, xb, ya = r[0], r[1], r[2], r[3], r[4], r[5]
    p, q = (1.0 - xy) * (1.0 + xy), (1.0 - ab) * (1.0 + ab)
    e_xa, e_yb = (1.0 - xa) * (1.0 + xa), (1.0 - yb) * (1.0 + yb)
    e_xb, e_ya = (1.0 - xb) * (1.0 + xb), (1.0 - ya) * (1.0 + ya)
    s[0], s[1] = xb, 0.5 / e_xb
    s[2], s[3] = ya, 0.5 / e_ya
    s[5] = (ya - xy * xa) / p
    s[4] = xa - xy * s[5]
    v_a = e_xa - (ya - xy * xa) * s[5]
    s[6] = 0.5 / v_a
    s[8] = (yb - xy * xb) / p
    s[7] = xb - xy * s[8]
    v_b = e_xb - (yb - xy * xb) * s[8]
    s[9] = 0.5 / v_b
    s[11] = (xb - ab * xa) / q
    s[10] = xa - ab * s[11]
    v_x = e_xa - (xb - ab * xa) * s[11]
    s[12] = 0.5 / v_x
    s[14] = (yb - ab * ya) / q
    s[13] = ya - ab * s[14]
    v_y = e_ya - (yb - ab * ya) * s[14]
    s[15] = 0.5 / v_y
    c = ab - xa * xb - (yb - xy * xb) * s[5]
    s[16] = c / v_a
    left = v_b - c * s[16]
    s[17], s[18], s[19] = 0.5 / left, ab, 0.5 / q
    return min(p, q, e_xa, e_yb, v_a, v_x, v_y, left)


@compiled(_FAST)
@no_type_check
def _shared(one, two, both):
    """The common change where one, two, both and itself have one sign, else 0."""
    change = one + two - both
    differ = (_bits(one) ^ _bits(two)) | (_bits(one) ^ _bits(both)) | (_bits(one) ^ _bits(change))
    return 0.0 if differ < 0 else change


@compiled(_FAST)
@no_type_check
def _double(xa, xb, ya, yb, change):
    differ = (_bits(xa) ^ _bits(xb)) | (_bits(xa) ^ _bits(ya)) | (_bits(xa) ^ _bits(yb))
    return 0.0 if (differ | (_bits(xa) ^ _bits(change))) < 0 else change


@compiled(_FAST)
@no_type_check
def _sum_shared(first, second, s, i, out):
    """Sums over samples of the seven redundancies of one pair, in the order of the reference.

    `i` holds the nine mean informations: the mean of a local information is its constant.
    """
    r0 = r1 = r2 = r3 = r4 = r5 = r6 = 0.0
    for t in range(first.shape[1]):
        x, a, xx, aa, xa = first[0, t], first[1, t], first[2, t], first[3, t], first[4, t]
        y, b, yy, bb, yb = second[0, t], second[1, t], second[2, t], second[3, t], second[4, t]
        left = b - s[0] * x
        xb = i[1] + bb - s[1] * (left * left)
        left = a - s[2] * y
        ya = i[2] + aa - s[3] * (left * left)
        left_a = a - s[4] * x - s[5] * y
        xy_a = i[4] + aa - s[6] * (left_a * left_a)
        left_b = b - s[7] * x - s[8] * y
        xy_b = i[5] + bb - s[9] * (left_b * left_b)
        left = x - s[10] * a - s[11] * b
        ab_x = i[6] + xx - s[12] * (left * left)
        left = y - s[13] * a - s[14] * b
        ab_y = i[7] + yy - s[15] * (left * left)
        after = left_b - s[16] * left_a
        on = b - s[18] * a
        xy_ab = xy_a + (i[8] - i[4]) + s[19] * (on * on) - s[17] * (after * after)
        to_a, to_b = _shared(xa, ya, xy_a), _shared(xb, yb, xy_b)
        to_ab = _shared(ab_x, ab_y, xy_ab)
        to_x, to_y = _shared(xa, xb, ab_x), _shared(ya, yb, ab_y)
        to_xy = _shared(xy_a, xy_b, xy_ab)
        change = ab_x + ab_y + xy_a + xy_b - xy_ab - (xa + xb + ya + yb)
        change += to_a + to_b - to_ab + to_x + to_y - to_xy
        r0 += _double(xa, xb, ya, yb, change)
        r1 += to_a
        r2 += to_b
        r3 += to_ab
        r4 += to_x
        r5 += to_y
        r6 += to_xy
    out[0], out[1], out[2], out[3], out[4], out[5], out[6] = r0, r1, r2, r3, r4, r5, r6


@compiled(_FAST)
@no_type_check
def _common_change(
    left,  # (window, unit, sample) of first units
    right,  # of second units
    first,  # (pair)
    second,
    information,  # (pair, nine)
    correlation,  # (pair, six)
    wanted,  # (pair), False where the pair is undefined, and afterwards where it is done
    out,  # (pair, seven), means
    mine,  # (row, sample): rows of the present first unit
    others,  # (slot, row, sample): rows of second units
    owner,  # (slot): which unit's
    slopes,
):
    """One prompt of a block; returns how many pairs are left to NumPy."""
    present = -1
    lost = 0
    owner[:] = -1
    for k in range(first.shape[0]):
        if not wanted[k]:
            continue
        if _fit(correlation[k], slopes) < LEAST_PIVOT:
            lost += 1
            continue
        wanted[k] = False
        if first[k] != present:
            present = first[k]
            _keep(left[:, present], 1.0, mine)
        slot = second[k] % owner.shape[0]
        if owner[slot] != second[k]:
            owner[slot] = second[k]
            _keep(right[:, second[k]], -1.0, others[slot])
        _sum_shared(mine, others[slot], slopes, information[k], out[k])
        for row in range(7):
            out[k, row] /= left.shape[2]
    return lost


def common_change_compiled(block: Block) -> np.ndarray:
    """:func:`synatlas.decompose.pointwise.common_change` of a block: (seven, prompt, pair)."""
    prompts, pairs = block.defined.shape
    samples = -(-block.left.shape[3] // _TOGETHER) * _TOGETHER
    slots = min(block.right.shape[2], max(1, _KEPT // (8 * _ROWS * samples)))
    kept: list[Any] = [
        np.empty((_ROWS, samples)),
        np.empty((slots, _ROWS, samples)),
        np.empty(slots, dtype=np.int64),
        np.empty(20),
    ]
    information = np.ascontiguousarray(np.stack(block.informations, axis=-1))
    correlation = np.ascontiguousarray(np.stack(block.correlations, axis=-1))
    out = np.zeros((prompts, pairs, 7))
    wanted = block.defined.copy()
    for t in range(prompts):
        lost = _common_change(
            block.left[t],
            block.right[t],
            block.panel.first,
            block.panel.second,
            information[t],
            correlation[t],
            wanted[t],
            out[t],
            *kept,
        )
        if lost:
            where = np.flatnonzero(wanted[t])
            out[t, where] = common_change(gather(block, np.full_like(where, t), where))
    return np.moveaxis(out, -1, 0)

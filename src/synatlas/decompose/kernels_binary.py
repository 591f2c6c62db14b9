"""Compiled sums over pairs of binary windows: common bits and two tables, no logarithm in a loop.

Counts are unsigned throughout: signed ones would make every look-up test for a negative index.
"""

from functools import partial
from typing import Final, no_type_check

import numba
import numpy as np
from numba.extending import intrinsic

from synatlas.decompose.kernels import compiled

#: Widest tile: its rows of sums stay in a first-level cache.
WIDTH: Final = 64

_FAST: Final = {"contract", "reassoc", "nsz", "arcp"}

#: Functions without freedom round alike wherever LLVM puts them. Numba need not inline these,
#: which would take it many seconds.
_EXACT = partial(compiled, set(), inline="never")

#: Rows of one prompt, the same over prompts, and what the sixteen cells of one pair need.
_TOTAL: Final = 19 * WIDTH
_CELL: Final = 2 * _TOTAL
_LOCAL: Final = _CELL + 16 * 16
SCRATCH: Final = _LOCAL + 9 * 16

#: Local informations of counts are 0 or at least 1 / n²; rounding is far below this.
_NOTHING: Final = 1e-12


@intrinsic
@no_type_check
def _ones(typingctx, word):
    """How many bits of a word are 1."""

    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return numba.uint64(numba.uint64), generate


@compiled(_FAST)
@no_type_check
def _common(mine, other):
    """Samples at which two, three and four windows are 1 together."""
    xy = ab = xb = ya = xya = xyb = xab = yab = every = np.uint64(0)
    for w in range(mine.shape[1]):
        x, a, y, b = mine[0, w], mine[1, w], other[0, w], other[1, w]
        both, after = x & y, a & b
        xy += _ones(both)
        ab += _ones(after)
        xb += _ones(x & b)
        ya += _ones(y & a)
        xya += _ones(both & a)
        xyb += _ones(both & b)
        xab += _ones(x & after)
        yab += _ones(y & after)
        every += _ones(both & after)
    return xy, ab, xb, ya, xya, xyb, xab, yab, every


@compiled(_FAST)
@no_type_check
def _two(f, n, one, two, both):
    """Sum of the table over the four counts of two windows among n samples."""
    return f[both] + f[one - both] + f[two - both] + f[n - one - two + both]


@compiled(_FAST)
@no_type_check
def _three(f, n, k1, k2, k3, k12, k13, k23, every):
    """The same of three windows: two among the samples where the third is 1, and where it is 0."""
    return _two(f, k3, k13, k23, every) + _two(f, n - k3, k1 - k13, k2 - k23, k12 - every)


@compiled(_FAST)
@no_type_check
def _informations(f, n, k, mine, other, x_held, y_held):
    """Nine plug-in informations in nats, in the order of the reference."""
    x, a, xa = mine[0], mine[1], mine[2]
    y, b, yb = other[0], other[1], other[2]
    xy, ab, xb, ya, xya, xyb, xab, yab, every = k
    of_x, of_a, of_xa = x_held[0], x_held[1], x_held[2]
    of_y, of_b, of_yb = y_held[0], y_held[1], y_held[2]
    of_xy, of_ab = _two(f, n, x, y, xy), _two(f, n, a, b, ab)
    of_xb, of_ya = _two(f, n, x, b, xb), _two(f, n, y, a, ya)
    of_xya = _three(f, n, x, y, a, xy, xa, ya, xya)
    of_xyb = _three(f, n, x, y, b, xy, xb, yb, xyb)
    of_xab = _three(f, n, x, a, b, xa, xb, ab, xab)
    of_yab = _three(f, n, y, a, b, ya, yb, ab, yab)
    of_all = _three(f, b, xb, yb, ab, xyb, xab, yab, every) + _three(
        f, n - b, x - xb, y - yb, a - ab, xy - xyb, xa - xab, ya - yab, xya - every
    )
    whole, share = f[n], 1.0 / np.float64(n)
    return (
        (whole + of_xa - of_x - of_a) * share,
        (whole + of_xb - of_x - of_b) * share,
        (whole + of_ya - of_y - of_a) * share,
        (whole + of_yb - of_y - of_b) * share,
        (whole + of_xya - of_xy - of_a) * share,
        (whole + of_xyb - of_xy - of_b) * share,
        (whole + of_xab - of_x - of_ab) * share,
        (whole + of_yab - of_y - of_ab) * share,
        (whole + of_all - of_xy - of_ab) * share,
    )


@compiled(_FAST)
@no_type_check
def _least(i):
    """The seven redundancies under MMI."""
    xa, xb, ya, yb, xy_a, xy_b, x_ab, y_ab, _ = i
    to_a, to_b = min(xa, ya), min(xb, yb)
    return (
        min(to_a, to_b),
        to_a,
        to_b,
        min(x_ab, y_ab),
        min(xa, xb),
        min(ya, yb),
        min(xy_a, xy_b),
    )


@_EXACT()
@no_type_check
def _cells(n, k, mine, other, c):
    """Counts of every subset of windows in each of the sixteen cells 8 x + 4 y + 2 a + b.

    Row S of `c`, a subset written in the same way, holds for each cell the samples that have the
    cell's values in the windows of S, whatever the others are. Row 15 holds the cells themselves.
    """
    q = 15 * 16
    c[q + 0], c[q + 8], c[q + 4], c[q + 2], c[q + 1] = n, mine[0], other[0], mine[1], other[1]
    c[q + 12], c[q + 3], c[q + 9], c[q + 6] = k[0], k[1], k[2], k[3]
    c[q + 10], c[q + 5], c[q + 14], c[q + 13] = mine[2], other[2], k[4], k[5]
    c[q + 11], c[q + 7], c[q + 15] = k[6], k[7], k[8]
    for axis in range(4):
        bit = 1 << axis
        for cell in range(16):
            if not cell & bit:
                c[q + cell] -= c[q + (cell | bit)]
    # A subset is a greater one summed over the least window that it lacks.
    for step in range(15):
        subset = 14 - step
        bit = 1
        while subset & bit:
            bit <<= 1
        for cell in range(16):
            above = (subset | bit) * 16
            c[subset * 16 + cell] = c[above + cell] + c[above + (cell ^ bit)]


@_EXACT()
@no_type_check
def _local(s, row, past, future):
    """Local information of two subsets in each cell, exactly 0 where the cell has none."""
    joint = _CELL + (past | future) * 16
    for cell in range(16):
        known = s[_CELL + cell] + s[joint + cell]
        value = known - s[_CELL + past * 16 + cell] - s[_CELL + future * 16 + cell]
        s[_LOCAL + row * 16 + cell] = value if abs(value) > _NOTHING else 0.0


@compiled(_FAST)
@no_type_check
def _shared(one, two, both):
    change = one + two - both
    least, most = min(one, two, both, change), max(one, two, both, change)
    return change if (least > 0.0) | (most < 0.0) else 0.0


@compiled(_FAST)
@no_type_check
def _common_change(log, n, k, mine, other, c, s):
    """The seven redundancies under CCS: over the cells, weighted by their counts."""
    _cells(n, k, mine, other, c)
    for at in range(256):
        s[_CELL + at] = log[c[at]]
    _local(s, 0, 8, 2)
    _local(s, 1, 8, 1)
    _local(s, 2, 4, 2)
    _local(s, 3, 4, 1)
    _local(s, 4, 12, 2)
    _local(s, 5, 12, 1)
    _local(s, 6, 8, 3)
    _local(s, 7, 4, 3)
    _local(s, 8, 12, 3)
    r0 = r1 = r2 = r3 = r4 = r5 = r6 = 0.0
    for cell in range(16):
        at = _LOCAL + cell
        xa, xb, ya, yb = s[at], s[at + 16], s[at + 32], s[at + 48]
        xy_a, xy_b, x_ab, y_ab = s[at + 64], s[at + 80], s[at + 96], s[at + 112]
        xy_ab = s[at + 128]
        to_a, to_b, to_ab = _shared(xa, ya, xy_a), _shared(xb, yb, xy_b), _shared(x_ab, y_ab, xy_ab)
        to_x, to_y, to_xy = _shared(xa, xb, x_ab), _shared(ya, yb, y_ab), _shared(xy_a, xy_b, xy_ab)
        change = x_ab + y_ab + xy_a + xy_b - xy_ab - (xa + xb + ya + yb)
        change += to_a + to_b - to_ab + to_x + to_y - to_xy
        least, most = min(xa, xb, ya, yb, change), max(xa, xb, ya, yb, change)
        weight = np.float64(c[15 * 16 + cell])
        r0 += weight * (change if (least > 0.0) | (most < 0.0) else 0.0)
        r1 += weight * to_a
        r2 += weight * to_b
        r3 += weight * to_ab
        r4 += weight * to_x
        r5 += weight * to_y
        r6 += weight * to_xy
    share = 1.0 / np.float64(n)
    return r0 * share, r1 * share, r2 * share, r3 * share, r4 * share, r5 * share, r6 * share


@compiled(_FAST)
@no_type_check
def _put(s, j, i, r, same):
    """One pair's column of rows: 16 knowns, same-step correlation, its size, defined."""
    s[j], s[1 * WIDTH + j], s[2 * WIDTH + j], s[3 * WIDTH + j] = r[0], r[1], r[2], r[3]
    s[4 * WIDTH + j], s[5 * WIDTH + j], s[6 * WIDTH + j], s[7 * WIDTH + j] = r[4], i[0], i[1], i[6]
    s[8 * WIDTH + j], s[9 * WIDTH + j], s[10 * WIDTH + j] = r[5], i[2], i[3]
    s[11 * WIDTH + j], s[12 * WIDTH + j], s[13 * WIDTH + j] = i[7], r[6], i[4]
    s[14 * WIDTH + j], s[15 * WIDTH + j] = i[5], i[8]
    s[16 * WIDTH + j], s[17 * WIDTH + j], s[18 * WIDTH + j] = same, abs(same), 1.0


@compiled(_FAST)
@no_type_check
def _one_to_one(n, one, two, both):
    return ((both == one) & (both == two)) | ((both == 0) & (one + two == n))


@compiled(_FAST)
@no_type_check
def add_binary_tile(
    x_words,  # (prompt, row, window, word): bits of first units
    x_counts,  # (prompt, row, three): ones of past, future and both
    x_held,  # (prompt, row, five): sums of the table over these counts, and two scales
    x_reason,  # (prompt, row)
    y_words,  # (prompt, column, ...): the same of second units
    y_counts,
    y_held,
    y_reason,
    f,  # (samples + 1): k ln k
    log,  # (samples + 1): ln k
    n,  # samples
    change,  # whether redundancy is CCS
    diagonal,
    pair,  # (19, pair), written
    tally,  # (status, pair), added to
    offsets,  # position in `pair` of (row, column 0), for each row
    per_unit,
    x_unit,  # (prompt, 19, row), added to
    y_unit,  # (prompt, 19, column), added to, rows swapped
    swap,
    s,  # scratch
    c,  # counts of cells
):
    """Add the pairs of one tile of units over all prompts; returns whether any is in the tally."""
    found = False
    prompts, rows, columns = x_words.shape[0], x_words.shape[1], y_words.shape[1]
    for row in range(rows):
        begin = row + 1 if diagonal else 0
        width = columns - begin
        if prompts > 1:
            s[_TOTAL:_CELL] = 0.0
        for t in range(prompts):
            mine, held = x_counts[t, row], x_held[t, row]
            for j in range(width):
                at = begin + j
                reason = max(x_reason[t, row], y_reason[t, at])
                if reason > 0:
                    for q in range(19):
                        s[q * WIDTH + j] = 0.0
                    tally[reason, offsets[row] + at] += 1
                    found = True
                    continue
                other = y_counts[t, at]
                k = _common(x_words[t, row], y_words[t, at])
                i = _informations(f, n, k, mine, other, held, y_held[t, at])
                r = _common_change(log, n, k, mine, other, c, s) if change else _least(i)
                past = np.float64(n * k[0]) - np.float64(mine[0] * other[0])
                future = np.float64(n * k[1]) - np.float64(mine[1] * other[1])
                same = past * held[3] * y_held[t, at, 3] + future * held[4] * y_held[t, at, 4]
                _put(s, j, i, r, 0.5 * same)
                copied = _one_to_one(n, mine[0], other[0], k[0])
                if copied & _one_to_one(n, mine[1], other[1], k[1]):
                    tally[2, offsets[row] + at] += 1
                    found = True
            for q in range(19 if per_unit else 0):
                mean = 0.0
                for j in range(width):
                    mean += s[q * WIDTH + j]
                    y_unit[t, swap[q], begin + j] += s[q * WIDTH + j]
                x_unit[t, q, row] += mean
            for q in range(19 if prompts > 1 else 0):
                for j in range(width):
                    s[_TOTAL + q * WIDTH + j] += s[q * WIDTH + j]
        # One prompt is its own total.
        first = _TOTAL if prompts > 1 else 0
        for q in range(19):
            to = pair[q, offsets[row] + begin :]
            for j in range(width):
                to[j] = s[first + q * WIDTH + j]
    return found

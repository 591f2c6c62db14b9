"""Compiled sums over pairs: the recursion of :mod:`synatlas.decompose.gaussian`, row by row.

Importing this module imports numba; the first call compiles, once per machine where the cache
folder can be written.

Lessons that the loops follow: divisions must not branch (``error_model``); one scratch array with
a constant stride lets LLVM prove that loads and stores do not overlap; ``nnan`` and ``ninf`` stay
off so that undefined series are still seen; without a vector library `log` is scalar, so
logarithms are polynomials here. Lengths of loops are rounded up to whole vectors, because the
elements that are left over run one by one: what stands there is computed and never read.

What is compiled together stands in one file: numba's cache does not see changes of other files.
"""

from collections.abc import Callable
from typing import Any, Final, no_type_check

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

#: Widest tile; the stride of scratch rows is a little more, so that rows fall on distinct sets of
#: the first-level cache.
WIDTH: Final = 64
_STRIDE: Final = 72

#: Elements of the longest whole vectors, unrolled.
_WHOLE: Final = 16

#: Reassociation would multiply out the exponent's offset of 2^52 and lose every digit.
_EXACT: Final = {"contract", "nsz"}


def compiled(fastmath: set[str], *, inline: str = "always") -> Callable[[Callable[..., Any]], Any]:
    """Compile for NumPy semantics without the lock, cached on disk where that is possible."""

    def decorate(function: Callable[..., Any]) -> Any:
        # Inlined by numba, not by LLVM: a kernel compiled in this process and one loaded from the
        # cache are then the same code and round alike, so an interrupted run repeats bitwise.
        options: dict[str, Any] = {
            "nogil": True,
            "error_model": "numpy",
            "fastmath": fastmath,
            "inline": inline,
        }
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:
            # No folder to cache in: a read-only installation and no home.
            return numba.njit(**options)(function)

    return decorate


# Rows of scratch, in units of the stride.
_XY, _AB, _XB, _YA, _YB = 0, 1, 2, 3, 4
_IYB, _OK = 5, 6
_LOG = 7  # variances, then their informations: xb, ya, xy_a, xy_b, x_ab, y_ab, xy_ab
_SUM = 14  # rows of one prompt, as in synatlas.decompose.pairs
_TOTAL = 33  # the same over prompts

#: Size of the scratch: all of it stays in a second-level cache, what one loop uses in the first.
SCRATCH: Final = 52 * _STRIDE

_ROOT_HALF: Final = 0x3FE6A09E667F3BCD
_TO_ONE: Final = 0x3FF0000000000000 - _ROOT_HALF
_FRACTION: Final = 0x000FFFFFFFFFFFFF
_TWO52: Final = 0x4330000000000000


@intrinsic
@no_type_check
def _bits(_, value):
    """The 64 bits of a float."""

    def generate(_context, builder, _signature, args):
        return builder.bitcast(args[0], ir.IntType(64))

    return types.uint64(types.float64), generate


@intrinsic
@no_type_check
def _float(_, bits):
    """The float of 64 bits."""

    def generate(_context, builder, _signature, args):
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.uint64), generate


@intrinsic
@no_type_check
def _plus(_, one, other):
    """A sum in any order: this addition alone may be spread over the lanes of a vector."""

    def generate(_context, builder, _signature, args):
        return builder.fadd(*args, flags=("reassoc", "nsz"))

    return types.float64(types.float64, types.float64), generate


@compiled(_EXACT)
@no_type_check
def _information(variance):
    """-1/2 ln of a positive normal number, by fdlibm's polynomial [1]_; error 2e-16 nat.

    References
    ----------
    .. [1] Sun Microsystems (1993), fdlibm e_log.c.
    """
    shifted = _bits(variance) + np.uint64(_TO_ONE)
    exponent = _float((shifted >> np.uint64(52)) | np.uint64(_TWO52)) - 4503599627371519.0
    mantissa = _float((shifted & np.uint64(_FRACTION)) + np.uint64(_ROOT_HALF))
    r = (mantissa - 1.0) / (mantissa + 1.0)
    z = r * r
    p = 0.07399099302558292955
    p = p * z + 0.0765691884960468666
    p = p * z + 0.0909178608080902506
    p = p * z + 0.1111109921607489198
    p = p * z + 0.14285714371831195745
    p = p * z + 0.1999999999970470954
    p = p * z + 0.3333333333333367565
    return -(r + r * (z * p)) - exponent * 0.34657359027997264311


@compiled(_EXACT)
@no_type_check
def _gather(s, table, t, i, begin, width, y_self, y_information):
    """Copy what the pairs of row i need: correlations and the second units' own information."""
    for j in range(width):
        s[_XY * _STRIDE + j] = table[t, 0, 0, i, begin + j]
    for j in range(width):
        s[_XB * _STRIDE + j] = table[t, 0, 1, i, begin + j]
    for j in range(width):
        s[_YA * _STRIDE + j] = table[t, 1, 0, i, begin + j]
    for j in range(width):
        s[_AB * _STRIDE + j] = table[t, 1, 1, i, begin + j]
    for j in range(width):
        s[_YB * _STRIDE + j] = y_self[t, begin + j]
    for j in range(width):
        s[_IYB * _STRIDE + j] = y_information[t, begin + j]


@compiled(_EXACT)
@no_type_check
def _variances(s, xa, length, threshold):
    """Seven conditional variances, 1 where the pair is left out; returns how many are."""
    lost = 0
    e_xa = (1.0 - xa) * (1.0 + xa)
    for j in range(length):
        xy, ab = s[_XY * _STRIDE + j], s[_AB * _STRIDE + j]
        xb, ya, yb = s[_XB * _STRIDE + j], s[_YA * _STRIDE + j], s[_YB * _STRIDE + j]
        p = (1.0 - xy) * (1.0 + xy)
        q = (1.0 - ab) * (1.0 + ab)
        over = 1.0 / (p * q)
        over_p, over_q = q * over, p * over
        e_xb = (1.0 - xb) * (1.0 + xb)
        e_ya = (1.0 - ya) * (1.0 + ya)
        e_yb = (1.0 - yb) * (1.0 + yb)
        u_a = ya - xy * xa
        u_b = yb - xy * xb
        u_a_p = u_a * over_p
        v_a = e_xa - u_a * u_a_p
        v_b = e_xb - u_b * (u_b * over_p)
        c = ab - xa * xb - u_b * u_a_p
        w_x = xb - ab * xa
        w_y = yb - ab * ya
        v_x = e_xa - w_x * (w_x * over_q)
        v_y = e_ya - w_y * (w_y * over_q)
        det = v_a * v_b - c * c
        greater = v_a if v_a > v_b else v_b
        ok = (
            (p >= threshold)
            & (q >= threshold)
            & (v_x >= threshold)
            & (v_y >= threshold)
            & (det >= threshold * greater)
            & (greater > 0.0)
            & (e_yb >= 0.0)
        )
        s[_OK * _STRIDE + j] = 1.0 if ok else 0.0
        lost += 0 if ok else 1
        s[(_LOG + 0) * _STRIDE + j] = e_xb if ok else 1.0
        s[(_LOG + 1) * _STRIDE + j] = e_ya if ok else 1.0
        s[(_LOG + 2) * _STRIDE + j] = v_a if ok else 1.0
        s[(_LOG + 3) * _STRIDE + j] = v_b if ok else 1.0
        s[(_LOG + 4) * _STRIDE + j] = v_x if ok else 1.0
        s[(_LOG + 5) * _STRIDE + j] = v_y if ok else 1.0
        s[(_LOG + 6) * _STRIDE + j] = det * over_q if ok else 1.0
    return lost


@compiled(_EXACT)
@no_type_check
def _extremes(s, xa, length):
    """Of the seven variances make two: exp(-2 rtr) and exp(-2 sts).

    The least information is that of the greatest variance, so products and quotients of variances
    stand for the sums and differences of the informations of sts.
    """
    own = (1.0 - xa) * (1.0 + xa)
    for j in range(length):
        ok, yb = s[_OK * _STRIDE + j], s[_YB * _STRIDE + j]
        e_yb = (1.0 - yb) * (1.0 + yb)
        e_xa, e_yb = own if ok > 0.0 else 1.0, e_yb if ok > 0.0 else 1.0
        e_xb, e_ya = s[(_LOG + 0) * _STRIDE + j], s[(_LOG + 1) * _STRIDE + j]
        v_a, v_b = s[(_LOG + 2) * _STRIDE + j], s[(_LOG + 3) * _STRIDE + j]
        v_x, v_y = s[(_LOG + 4) * _STRIDE + j], s[(_LOG + 5) * _STRIDE + j]
        red = max(e_xa, e_ya, e_xb, e_yb)
        more = s[(_LOG + 6) * _STRIDE + j] * min(e_xa, e_ya) * min(e_xb, e_yb) * red
        less = min(v_x, v_y) * min(v_a, v_b) * max(e_xa, e_xb) * max(e_ya, e_yb)
        s[(_LOG + 0) * _STRIDE + j] = red
        s[(_LOG + 1) * _STRIDE + j] = more / less


@compiled(_EXACT)
@no_type_check
def _informations(s, rows, length):
    """Replace variances by informations."""
    for k in range(rows):
        # A loop whose length is known takes two thirds of the time.
        if length == WIDTH:
            for j in range(WIDTH):
                s[(_LOG + k) * _STRIDE + j] = _information(s[(_LOG + k) * _STRIDE + j])
        else:
            for j in range(length):
                s[(_LOG + k) * _STRIDE + j] = _information(s[(_LOG + k) * _STRIDE + j])


@compiled(_EXACT)
@no_type_check
def _knowns(s, ixa, length):
    """Rows of sums of one pair-prompt each: the 16 knowns."""
    for j in range(length):
        ok = s[_OK * _STRIDE + j]
        xa = ixa if ok > 0.0 else 0.0
        yb = s[_IYB * _STRIDE + j] if ok > 0.0 else 0.0
        xb, ya = s[(_LOG + 0) * _STRIDE + j], s[(_LOG + 1) * _STRIDE + j]
        xy_a, xy_b = s[(_LOG + 2) * _STRIDE + j], s[(_LOG + 3) * _STRIDE + j]
        x_ab, y_ab = s[(_LOG + 4) * _STRIDE + j], s[(_LOG + 5) * _STRIDE + j]
        to_a, to_b = min(xa, ya), min(xb, yb)
        s[(_SUM + 0) * _STRIDE + j] = min(to_a, to_b)
        s[(_SUM + 1) * _STRIDE + j] = to_a
        s[(_SUM + 2) * _STRIDE + j] = to_b
        s[(_SUM + 3) * _STRIDE + j] = min(x_ab, y_ab)
        s[(_SUM + 4) * _STRIDE + j] = min(xa, xb)
        s[(_SUM + 5) * _STRIDE + j] = xa
        s[(_SUM + 6) * _STRIDE + j] = xb
        s[(_SUM + 7) * _STRIDE + j] = x_ab
        s[(_SUM + 8) * _STRIDE + j] = min(ya, yb)
        s[(_SUM + 9) * _STRIDE + j] = ya
        s[(_SUM + 10) * _STRIDE + j] = yb
        s[(_SUM + 11) * _STRIDE + j] = y_ab
        s[(_SUM + 12) * _STRIDE + j] = min(xy_a, xy_b)
        s[(_SUM + 13) * _STRIDE + j] = xy_a
        s[(_SUM + 14) * _STRIDE + j] = xy_b
        s[(_SUM + 15) * _STRIDE + j] = s[(_LOG + 6) * _STRIDE + j]


@compiled(_EXACT)
@no_type_check
def _same_step(s, first, length):
    """Same-step correlation, its size and 1 where defined, into three rows from `first` on."""
    for j in range(length):
        ok = s[_OK * _STRIDE + j]
        same = 0.5 * (s[_XY * _STRIDE + j] + s[_AB * _STRIDE + j])
        same = same if ok > 0.0 else 0.0
        s[(first + 0) * _STRIDE + j] = same
        s[(first + 1) * _STRIDE + j] = abs(same)
        s[(first + 2) * _STRIDE + j] = ok


@compiled(_EXACT)
@no_type_check
def _case(
    s, table, t, i, begin, width, x_self, x_information, y_self, y_information, extremes, threshold
):
    """Rows of one prompt of the pairs of row i; returns how many are left out, or would be."""
    length = min((width + _WHOLE - 1) // _WHOLE * _WHOLE, WIDTH)
    _gather(s, table, t, i, begin, width, y_self, y_information)
    lost = _variances(s, x_self[t, i], length, threshold)
    if extremes:
        _extremes(s, x_self[t, i], length)
    _informations(s, 2 if extremes else 7, length)
    if extremes:
        for j in range(length):
            s[_SUM * _STRIDE + j] = s[_LOG * _STRIDE + j]
            s[(_SUM + 1) * _STRIDE + j] = s[(_LOG + 1) * _STRIDE + j]
        _same_step(s, _SUM + 2, length)
    else:
        _knowns(s, x_information[t, i], length)
        _same_step(s, _SUM + 16, length)
    return lost


# An index that may be negative costs more than what it finds: below they have no sign.


@compiled(_EXACT)
@no_type_check
def _add_to_total(s, kept, count, fresh):
    """Add the rows of one prompt to those over prompts; the first prompt is copied."""
    for k in range(kept):
        one, total = np.uint64((_SUM + k) * _STRIDE), np.uint64((_TOTAL + k) * _STRIDE)
        if fresh:
            for j in range(count):
                s[total + j] = s[one + j]
        else:
            for j in range(count):
                s[total + j] += s[one + j]


@compiled(_EXACT)
@no_type_check
def _add_to_units(s, kept, count, t, i, start, x_unit, y_unit, swap):
    """Add the rows of one prompt to the first unit and, swapped, to the second ones."""
    for k in range(kept):
        one, turned = np.uint64((_SUM + k) * _STRIDE), np.uint64(swap[k])
        mine = 0.0
        for j in range(count):
            value = s[one + j]
            y_unit[t, turned, start + j] += value
            mine = _plus(mine, value)
        x_unit[t, k, i] += mine


@compiled(_EXACT)
@no_type_check
def _add_to_pairs(s, first, kept, count, pair, place, fresh):
    """Add rows from `first` on to the pairs'; the first prompts are copied, and nothing read."""
    for k in range(kept):
        row = np.uint64((first + k) * _STRIDE)
        if fresh:
            for j in range(count):
                pair[k, place + j] = s[row + j]
        else:
            for j in range(count):
                pair[k, place + j] += s[row + j]


@compiled(_EXACT)
@no_type_check
def add_tile(
    table,  # (prompt, window of first unit, of second, row, column): correlations
    x_self,  # (prompt, row): self-correlation and self-information of first units
    x_information,
    y_self,  # (prompt, column)
    y_information,
    diagonal,
    threshold,
    pair,  # (row of sums, pair), added to: 19, or 5 of the extremes
    offsets,  # position in `pair` of (row, column 0), for each row
    fresh,  # `pair` is written without being read
    per_unit,
    x_unit,  # (prompt, row of sums, row), added to
    y_unit,  # (prompt, row of sums, column), added to, rows swapped
    swap,
    flagged,  # (case, 3): prompt, row, column of what is left out
    s,  # scratch
):
    """Add the pairs of one tile of units over some prompts; returns how many are left out."""
    prompts = table.shape[0]
    rows, columns = x_self.shape[1], y_self.shape[1]
    kept = pair.shape[0]
    found = 0
    for i in range(rows):
        for begin in range(i + 1 if diagonal else 0, columns, WIDTH):
            width = min(WIDTH, columns - begin)
            count, start = np.uint64(width), np.uint64(begin)
            for t in range(prompts):
                lost = _case(
                    s,
                    table,
                    t,
                    i,
                    begin,
                    width,
                    x_self,
                    x_information,
                    y_self,
                    y_information,
                    kept == 5,
                    threshold,
                )
                if lost > 0:
                    for j in range(width):
                        if s[_OK * _STRIDE + j] == 0.0:
                            flagged[found, 0] = t
                            flagged[found, 1] = i
                            flagged[found, 2] = begin + j
                            found += 1
                if per_unit:
                    _add_to_units(s, kept, count, t, i, start, x_unit, y_unit, swap)
                _add_to_total(s, kept, count, t == 0)
            place = np.uint64(offsets[i] + begin)
            _add_to_pairs(s, _TOTAL, kept, count, pair, place, fresh)
    return found


@compiled(_EXACT)
@no_type_check
def _differences(s, first, step, length):
    """Möbius inverse on one axis, of four rows that stand `step` apart."""
    red, one = np.uint64(first), np.uint64(first + step)
    two, both = np.uint64(first + 2 * step), np.uint64(first + 3 * step)
    for j in range(length):
        s[both + j] = s[both + j] - s[one + j] - s[two + j] + s[red + j]
        s[one + j] -= s[red + j]
        s[two + j] -= s[red + j]


@compiled(_EXACT)
@no_type_check
def _measures(s, length, count, cells, signs, ends):
    """Replace rows of knowns by atoms, I(xy; ab) and aggregates."""
    tdmi, known = np.uint64((_SUM + 16) * _STRIDE), np.uint64((_SUM + 15) * _STRIDE)
    for j in range(length):
        s[tdmi + j] = s[known + j]
    for k in range(4):
        _differences(s, (_SUM + 4 * k) * _STRIDE, _STRIDE, length)
    for k in range(4):
        _differences(s, (_SUM + k) * _STRIDE, 4 * _STRIDE, length)
    for k in range(count):
        to = np.uint64((_SUM + 17 + k) * _STRIDE)
        for j in range(length):
            s[to + j] = 0.0
        for part in range(ends[k], ends[k + 1]):
            cell, sign = np.uint64((_SUM + cells[part]) * _STRIDE), signs[part]
            for j in range(length):
                s[to + j] += sign * s[cell + j]


@compiled(_EXACT)
@no_type_check
def measure_tile(
    table,  # as of add_tile, of one prompt
    x_self,
    x_information,
    y_self,
    y_information,
    diagonal,
    threshold,
    out,  # (row, pair): sixteen atoms, I(xy; ab), aggregates
    offsets,
    cells,  # aggregate k sums the atoms cells[ends[k] : ends[k + 1]] with their signs
    signs,
    ends,
    s,
):
    """Atoms and aggregates of the pairs of one tile; returns how many pairs are left undefined."""
    rows, columns = x_self.shape[1], y_self.shape[1]
    lost = 0
    for i in range(rows):
        for begin in range(i + 1 if diagonal else 0, columns, WIDTH):
            width = min(WIDTH, columns - begin)
            _case(
                s,
                table,
                0,
                i,
                begin,
                width,
                x_self,
                x_information,
                y_self,
                y_information,
                False,
                threshold,
            )
            for j in range(width):
                lost += 1 if s[_OK * _STRIDE + j] == 0.0 else 0
            length = np.uint64(min((width + _WHOLE - 1) // _WHOLE * _WHOLE, WIDTH))
            _measures(s, length, ends.shape[0] - 1, cells, signs, ends)
            count, place = np.uint64(width), np.uint64(offsets[i] + begin)
            _add_to_pairs(s, _SUM, out.shape[0], count, out, place, True)
    return lost

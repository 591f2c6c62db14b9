"""Compiled sums over pairs: the recursion of :mod:`synatlas.decompose.gaussian`, row by row.

Importing this module imports numba; the first call compiles, once per machine where the cache
folder can be written. Lessons that the loops follow: divisions must not branch (``error_model``);
one scratch array with a constant stride lets LLVM prove that loads and stores do not overlap;
``nnan`` and ``ninf`` stay off so that undefined series are still seen; without a vector library
`log` is scalar, so logarithms are polynomials here.
"""

from collections.abc import Callable
from typing import Any, Final, no_type_check

import numba
import numpy as np

#: Widest tile; the stride of scratch rows is a little more, so that rows fall on distinct sets of
#: the first-level cache.
WIDTH: Final = 64
_STRIDE: Final = 72

#: Size of the scratch: all of it stays in a second-level cache, what one loop uses in the first.
SCRATCH: Final = 66 * _STRIDE

_FAST: Final = {"contract", "reassoc", "nsz", "arcp"}
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
_XY, _AB, _XB, _YA = 0, 1, 2, 3
_YB, _IYB = 4, 5
_OK = 6
_LOG = 7  # seven variances, then their informations: xb, ya, xy_a, xy_b, x_ab, y_ab, xy_ab
_MANTISSA, _EXPONENT = 14, 21
_SUM = 28  # 19 rows of one prompt: knowns, same-step, absolute, defined
_TOTAL = 47  # the same over prompts

_ROOT_HALF: Final = 0x3FE6A09E667F3BCD
_TO_ONE: Final = 0x3FF0000000000000 - _ROOT_HALF
_FRACTION: Final = 0x000FFFFFFFFFFFFF
_TWO52: Final = 0x4330000000000000


@compiled(_FAST)
@no_type_check
def _variances(s, xa, width, threshold):
    """Seven conditional variances, 1 where the pair is left out; returns how many are."""
    lost = 0.0
    e_xa = (1.0 - xa) * (1.0 + xa)
    for j in range(width):
        xy, ab = s[_XY * _STRIDE + j], s[_AB * _STRIDE + j]
        xb, ya, yb = s[_XB * _STRIDE + j], s[_YA * _STRIDE + j], s[_YB * _STRIDE + j]
        p = (1.0 - xy) * (1.0 + xy)
        q = (1.0 - ab) * (1.0 + ab)
        over_p, over_q = 1.0 / p, 1.0 / q
        e_xb = (1.0 - xb) * (1.0 + xb)
        e_ya = (1.0 - ya) * (1.0 + ya)
        e_yb = (1.0 - yb) * (1.0 + yb)
        u_a = ya - xy * xa
        u_b = yb - xy * xb
        v_a = e_xa - u_a * u_a * over_p
        v_b = e_xb - u_b * u_b * over_p
        c = ab - xa * xb - u_a * u_b * over_p
        w_x = xb - ab * xa
        w_y = yb - ab * ya
        v_x = e_xa - w_x * w_x * over_q
        v_y = e_ya - w_y * w_y * over_q
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
        s[(_LOG + 0) * _STRIDE + j] = e_xb if ok else 1.0
        s[(_LOG + 1) * _STRIDE + j] = e_ya if ok else 1.0
        s[(_LOG + 2) * _STRIDE + j] = v_a if ok else 1.0
        s[(_LOG + 3) * _STRIDE + j] = v_b if ok else 1.0
        s[(_LOG + 4) * _STRIDE + j] = v_x if ok else 1.0
        s[(_LOG + 5) * _STRIDE + j] = v_y if ok else 1.0
        s[(_LOG + 6) * _STRIDE + j] = det * over_q if ok else 1.0
        lost += 0.0 if ok else 1.0
    return lost


@compiled(_EXACT)
@no_type_check
def _informations(s, bits, width):
    """Replace the seven variances by -1/2 ln; fdlibm's polynomial, error below 1 ulp [1]_.

    References
    ----------
    .. [1] Sun Microsystems (1993), fdlibm e_log.c.
    """
    for k in range(7):
        source = (_LOG + k) * _STRIDE
        mantissa, exponent = _MANTISSA * _STRIDE, _EXPONENT * _STRIDE
        for j in range(width):
            shifted = bits[source + j] + np.uint64(_TO_ONE)
            bits[exponent + j] = (shifted >> np.uint64(52)) | np.uint64(_TWO52)
            bits[mantissa + j] = (shifted & np.uint64(_FRACTION)) + np.uint64(_ROOT_HALF)
        for j in range(width):
            e = s[exponent + j] - 4503599627370496.0 - 1023.0
            f = s[mantissa + j] - 1.0
            r = f / (2.0 + f)
            z = r * r
            w = z * z
            even = w * (
                0.3999999999940941908 + w * (0.2222219843214978396 + w * 0.1531383769920937332)
            )
            odd = z * (
                0.6666666666666735130
                + w
                * (0.2857142874366239149 + w * (0.1818357216161805012 + w * 0.1479819860511658591))
            )
            half = 0.5 * f * f
            low = r * (half + even + odd) + e * 1.90821492927058770002e-10
            s[source + j] = -0.5 * (low - half + f + e * 6.93147180369123816490e-01)


@compiled(_FAST)
@no_type_check
def _knowns(s, ixa, width):
    """Rows of sums of one pair-prompt each: 16 knowns, same-step correlation, size, defined."""
    for j in range(width):
        ok = s[_OK * _STRIDE + j]
        xa = ixa if ok > 0.0 else 0.0
        yb = s[_IYB * _STRIDE + j] if ok > 0.0 else 0.0
        xb, ya = s[(_LOG + 0) * _STRIDE + j], s[(_LOG + 1) * _STRIDE + j]
        xy_a, xy_b = s[(_LOG + 2) * _STRIDE + j], s[(_LOG + 3) * _STRIDE + j]
        x_ab, y_ab = s[(_LOG + 4) * _STRIDE + j], s[(_LOG + 5) * _STRIDE + j]
        to_a = xa if xa < ya else ya
        to_b = xb if xb < yb else yb
        to_x = xa if xa < xb else xb
        to_y = ya if ya < yb else yb
        s[(_SUM + 0) * _STRIDE + j] = to_a if to_a < to_b else to_b
        s[(_SUM + 1) * _STRIDE + j] = to_a
        s[(_SUM + 2) * _STRIDE + j] = to_b
        s[(_SUM + 3) * _STRIDE + j] = x_ab if x_ab < y_ab else y_ab
        s[(_SUM + 4) * _STRIDE + j] = to_x
        s[(_SUM + 5) * _STRIDE + j] = xa
        s[(_SUM + 6) * _STRIDE + j] = xb
        s[(_SUM + 7) * _STRIDE + j] = x_ab
        s[(_SUM + 8) * _STRIDE + j] = to_y
        s[(_SUM + 9) * _STRIDE + j] = ya
        s[(_SUM + 10) * _STRIDE + j] = yb
        s[(_SUM + 11) * _STRIDE + j] = y_ab
        s[(_SUM + 12) * _STRIDE + j] = xy_a if xy_a < xy_b else xy_b
        s[(_SUM + 13) * _STRIDE + j] = xy_a
        s[(_SUM + 14) * _STRIDE + j] = xy_b
        s[(_SUM + 15) * _STRIDE + j] = s[(_LOG + 6) * _STRIDE + j]
        same = 0.5 * (s[_XY * _STRIDE + j] + s[_AB * _STRIDE + j])
        same = same if ok > 0.0 else 0.0
        s[(_SUM + 16) * _STRIDE + j] = same
        s[(_SUM + 17) * _STRIDE + j] = abs(same)
        s[(_SUM + 18) * _STRIDE + j] = ok


@compiled(_FAST)
@no_type_check
def _add_row(s, k, other, width):
    """Add row k of one prompt to the row over prompts and to `other`; returns its sum."""
    mine = 0.0
    for j in range(width):
        value = s[(_SUM + k) * _STRIDE + j]
        s[(_TOTAL + k) * _STRIDE + j] += value
        other[j] += value
        mine += value
    return mine


# Exact, because what is compiled into it, logarithms too, may inherit its freedom.
@compiled(_EXACT)
@no_type_check
def add_tile(
    table,  # (prompt, past and future of the rows, past and future of the columns)
    x_self,  # (prompt, row): self-correlation and self-information of first units
    x_information,
    y_self,  # (prompt, column)
    y_information,
    diagonal,
    threshold,
    pair,  # (19, pair), added to
    offsets,  # position in `pair` of (row, column 0), for each row
    per_unit,
    x_unit,  # (prompt, 19, row), added to
    y_unit,  # (prompt, 19, column), added to, rows swapped
    swap,
    flagged,  # (case, 3): prompt, row, column of what is left out
    s,  # scratch
    bits,  # the same memory as integers
):
    """Add the pairs of one tile of units over some prompts; returns how many are left out."""
    prompts = table.shape[0]
    rows, columns = x_self.shape[1], y_self.shape[1]
    found = 0
    for i in range(rows):
        begin = i + 1 if diagonal else 0
        width = columns - begin
        for k in range(19 if prompts > 1 else 0):
            for j in range(width):
                s[(_TOTAL + k) * _STRIDE + j] = 0.0
        for t in range(prompts):
            for j in range(width):
                s[_XY * _STRIDE + j] = table[t, i, begin + j]
                s[_XB * _STRIDE + j] = table[t, i, columns + begin + j]
            for j in range(width):
                s[_YA * _STRIDE + j] = table[t, rows + i, begin + j]
                s[_AB * _STRIDE + j] = table[t, rows + i, columns + begin + j]
            for j in range(width):
                s[_YB * _STRIDE + j] = y_self[t, begin + j]
                s[_IYB * _STRIDE + j] = y_information[t, begin + j]
            lost = _variances(s, x_self[t, i], width, threshold)
            if lost > 0.0:
                for j in range(width):
                    if s[_OK * _STRIDE + j] == 0.0:
                        flagged[found, 0] = t
                        flagged[found, 1] = i
                        flagged[found, 2] = begin + j
                        found += 1
            _informations(s, bits, width)
            _knowns(s, x_information[t, i], width)
            if per_unit:
                for k in range(19):
                    x_unit[t, k, i] += _add_row(s, k, y_unit[t, swap[k], begin:], width)
            elif prompts > 1:
                for k in range(19):
                    for j in range(width):
                        s[(_TOTAL + k) * _STRIDE + j] += s[(_SUM + k) * _STRIDE + j]
        # One prompt is its own total.
        first = _TOTAL if prompts > 1 else _SUM
        for k in range(19):
            to = pair[k, offsets[i] + begin :]
            for j in range(width):
                to[j] += s[(first + k) * _STRIDE + j]
    return found

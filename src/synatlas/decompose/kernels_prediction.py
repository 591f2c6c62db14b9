"""Compiled terms of joint prediction: one row of units' futures at a time, without temporaries.

The lessons of :mod:`synatlas.decompose.kernels` hold here too.
"""

from typing import Final, no_type_check

import numpy as np

from synatlas.decompose.kernels import compiled

#: Most partners of a tile; rows of scratch fall on distinct sets of the first-level cache.
_WIDEST: Final = 128
_STRIDE: Final = _WIDEST + 8
_SCRATCH: Final = 10 * _STRIDE

#: Rows of scratch: products as in synatlas.decompose.prediction_tiles, then the three terms.
_X, _SQUARE, _CUBE, _FUTURE, _BOTH, _ON_Y, _SQUARES, _OUT = range(8)

#: As in :mod:`synatlas.decompose.prediction_tiles`.
_NOTHING: Final = 1e-9

_EXACT: Final = {"contract", "nsz"}


@compiled(_EXACT)
@no_type_check
def _inverse_root(square):
    # Without the guard the loop would have to branch.
    safe = square if square > _NOTHING else 1.0
    root = 1.0 / np.sqrt(safe)
    return root if square > _NOTHING else 0.0


@compiled(_EXACT)
@no_type_check
def _row(s, width, skew, curve, memory, bend, left):
    """The three terms of one unit and its partners."""
    for j in range(width):
        x, square = s[_X * _STRIDE + j], s[_SQUARE * _STRIDE + j]
        future = s[_FUTURE * _STRIDE + j]
        rest_same = 1.0 - x * x
        curved = (square - skew * x) * curve
        on_own = (s[_CUBE * _STRIDE + j] - x - skew * square) * curve
        linear = (future - memory * x - bend * curved) * left
        target = (s[_BOTH * _STRIDE + j] - memory * square - bend * on_own) * left
        rest = _inverse_root(rest_same - curved * curved)
        transfer = linear * rest
        on_other = (s[_ON_Y * _STRIDE + j] - x * square - curved * on_own) * rest
        explained = x * x + square * square + on_own * on_own + on_other * on_other
        spread = _inverse_root(s[_SQUARES * _STRIDE + j] - explained)
        s[(_OUT + 0) * _STRIDE + j] = transfer
        s[(_OUT + 1) * _STRIDE + j] = (memory - future * x) * _inverse_root(
            rest_same * (1.0 - future * future)
        )
        s[(_OUT + 2) * _STRIDE + j] = (target - transfer * on_other) * spread if rest > 0.0 else 0.0


@compiled(_EXACT)
@no_type_check
def fill_terms(
    products,  # (product, unit, partner), see synatlas.decompose.prediction_tiles
    on_y,  # (unit, partner): means of x y²
    squares,  # (unit, partner): means of x² y²
    coefficients,  # (unit, five): skew, curved, memory, bend, left
    mine,  # (unit): whether defined
    theirs,  # (partner)
    held,  # (term, prompt, unit, partner), written
    prompt,
):
    """:func:`synatlas.decompose.prediction_tiles.fill_terms`, compiled."""
    s = np.empty(_SCRATCH)
    width = np.uint64(products.shape[2])
    for i in range(products.shape[1]):
        for k in range(5):
            for j in range(width):
                s[k * _STRIDE + j] = products[k, i, j]
        for j in range(width):
            s[_ON_Y * _STRIDE + j] = on_y[i, j]
        for j in range(width):
            s[_SQUARES * _STRIDE + j] = squares[i, j]
        c = coefficients[i]
        _row(s, width, c[0], c[1], c[2], c[3], c[4])
        for k in range(3):
            row = np.uint64((_OUT + k) * _STRIDE)
            for j in range(width):
                known = mine[i] & theirs[j]
                held[k, prompt, i, j] = s[row + j] if known else 0.0

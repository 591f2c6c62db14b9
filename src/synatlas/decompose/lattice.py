"""The sixteen-atom lattice: from redundancies and mutual informations to atoms, and aggregates.

A grid of 16 values is listed row by row: past role (red, un1, un2, syn) by future role.
The *knowns* stand in the same grid. With x, y the pasts and a, b the futures of a pair:

====  ================  ==========  ==========  ===========
      red               un1         un2         syn
====  ================  ==========  ==========  ===========
red   R(x, y; a, b)     R(x, y; a)  R(x, y; b)  R(x, y; ab)
un1   R(a, b; x)        I(x; a)     I(x; b)     I(x; ab)
un2   R(a, b; y)        I(y; a)     I(y; b)     I(y; ab)
syn   R(a, b; xy)       I(xy; a)    I(xy; b)    I(xy; ab)
====  ================  ==========  ==========  ===========

A known is the sum of the atoms at or below its cell in the order red <= un1, un2 <= syn of both
axes, so the atoms are its Möbius inverse on both axes [1]_.

References
----------
.. [1] Mediano et al. (2025), PNAS 122(39), arXiv:2109.13186.
"""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
from jaxtyping import Float

from synatlas.axes import ROLES, SHORT_NAMES

_PHI_R: Final = ("rts", "xts", "sts", "sty", "str", "yts", "ytx", "stx", "xty")

#: Aggregate -> the atoms that it sums, less those after a minus. a is the pair's first unit, b its
#: second.
AGGREGATES: Final = MappingProxyType(
    {
        "phi_r": _PHI_R,
        "phi_wms": (*_PHI_R, "-rtr"),
        "transfer": ("xty", "ytx"),
        "storage": ("rtr", "xtx", "yty", "sts"),
        "copy": ("xtr", "ytr"),
        "erasure": ("rtx", "rty"),
        "upward": ("rts", "xts", "yts"),
        "downward": ("str", "stx", "sty"),
        "transfer_entropy_ab": ("xtr", "xty", "str", "sty"),
        "transfer_entropy_ba": ("ytr", "ytx", "str", "stx"),
    }
)

#: What each aggregate means.
AGGREGATE_NAMES: Final = MappingProxyType(
    {
        "phi_r": "revised integrated information",
        "phi_wms": "whole-minus-sum integrated information, I(xy; ab) - I(x; a) - I(y; b)",
        "transfer": "information moved from one unit to the other alone",
        "storage": "information that keeps its role",
        "copy": "unique information that becomes redundant",
        "erasure": "redundant information that becomes unique",
        "upward": "information that becomes synergistic from red, un1 or un2",
        "downward": "synergy that becomes red, un1 or un2",
        "transfer_entropy_ab": "transfer entropy from unit_a to unit_b",
        "transfer_entropy_ba": "transfer entropy from unit_b to unit_a",
    }
)

_SWAPPED_ROLES = (0, 2, 1, 3)

#: Position of each atom of the pair (b, a) in the grid of the pair (a, b).
SWAP: Final = np.array([4 * _SWAPPED_ROLES[k // 4] + _SWAPPED_ROLES[k % 4] for k in range(16)])


def moebius(known: Sequence[Any]) -> list[Any]:
    """Atoms of 16 knowns, by differences along the future and then along the past.

    Parameters
    ----------
    known : 16 arrays or tensors of one shape, in grid order, in nats.

    Returns
    -------
    list
        16 atoms in grid order, in nats. Their sum is the last known, I(xy; ab).
    """
    rows = [_differences(known[4 * past : 4 * past + 4]) for past in range(4)]
    columns = [_differences([row[future] for row in rows]) for future in range(4)]
    return [columns[future][past] for past in range(4) for future in range(4)]


def moebius_in_place(known: Float[np.ndarray, "*batch past future item"]) -> None:
    """:func:`moebius` of an array, written over it: the same digits without temporary arrays."""
    for axis in (known, known.swapaxes(-2, -3)):
        red = axis[..., 0, :]
        axis[..., 3, :] -= axis[..., 1, :]
        axis[..., 3, :] -= axis[..., 2, :]
        axis[..., 3, :] += red
        axis[..., 1, :] -= red
        axis[..., 2, :] -= red


class Extremes(NamedTuple):
    """The atoms at the ends of the lattice, in nats."""

    red_red: Any
    syn_syn: Any


def extremes(known: Sequence[Any]) -> Extremes:
    """First and last of :func:`moebius`, without the others."""
    along = [_differences(known[4 * past : 4 * past + 4])[3] for past in range(4)]
    return Extremes(known[0], _differences(along)[3])


def _differences(chain: Sequence[Any]) -> tuple[Any, Any, Any, Any]:
    """Möbius inverse on one axis of (red, un1, un2, syn)."""
    red, one, two, both = chain
    return red, one - red, two - red, both - one - two + red


def grid(
    rows: Float[np.ndarray, "atom *batch"],
) -> Float[np.ndarray, "*batch past future"]:
    """View 16 leading rows as a trailing (past, future) grid."""
    return np.moveaxis(rows, 0, -1).reshape(*rows.shape[1:], len(ROLES), len(ROLES))


def aggregate(
    name: str, atoms: Float[np.ndarray, "*batch past future"]
) -> Float[np.ndarray, "*batch"]:
    """Sum of the atoms of :data:`AGGREGATES` ``[name]``, in nats."""
    total = np.zeros(atoms.shape[:-2])
    for short in AGGREGATES[name]:
        cell = SHORT_NAMES.index(short.removeprefix("-"))
        add = np.subtract if short.startswith("-") else np.add
        add(total, atoms[..., cell // 4, cell % 4], out=total)
    return total

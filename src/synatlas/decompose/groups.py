"""Prompts of one length together: windows of a whole data set, and sums over all its prompts."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, Int

from synatlas.decompose.engine import Engine
from synatlas.decompose.lattice import moebius_in_place
from synatlas.decompose.pairs import DEFINED, EXTREME_ROWS
from synatlas.decompose.windows import CODE, Windows

#: Items at a time: sixteen rows of so many stay in the cache. Far fewer, and NumPy spends its time
#: on proving that rows do not overlap.
_ITEMS: Final = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Prompts of one number of steps: their positions in the data set and their series."""

    prompts: Int[np.ndarray, " prompt"]
    series: Float[np.ndarray, "prompt step unit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over every prompt of the data set; rows as in :class:`synatlas.decompose.pairs`."""

    pair: Float[np.ndarray, "row pair"]
    unit: Float[np.ndarray, "prompt row unit"] | None
    tally: Int[np.ndarray, "status pair"] | None
    prompts: int


def group_by_length(
    values: Float[np.ndarray, "prompt step unit"], n_steps: Int[np.ndarray, " prompt"]
) -> list[Group]:
    """Cut off padding: prompts of equal length share a group, shortest first."""
    return [
        # A choice of rows is a copy; where all are chosen it need not be one.
        Group(prompts=where, series=values[where if where.size < len(values) else ..., :steps, :])
        for steps in np.unique(n_steps)
        for where in [np.flatnonzero(n_steps == steps)]
    ]


def total(
    left: list[Windows],
    right: list[Windows],
    prompts: list[Int[np.ndarray, " _"]],
    engine: Engine,
    *,
    per_unit: bool,
) -> Totals:
    """Sum every pair over all groups; `prompts` says where each group's prompts belong."""
    units = left[0].shape[1]
    count = sum(where.size for where in prompts)
    pair: np.ndarray | None = None
    unit: np.ndarray | None = None
    tally = None
    for mine, other, where in zip(left, right, prompts, strict=True):
        sums = engine(mine, other, per_unit=per_unit)
        # A million pairs are a quarter of a gigabyte: the first group's sums are kept, not copied.
        pair = sums.pair if pair is None else np.add(pair, sums.pair, out=pair)
        if sums.unit is not None:
            unit = np.zeros((count, len(pair), units)) if unit is None else unit
            unit[where] = sums.unit
        if sums.tally is not None:
            tally = sums.tally if tally is None else tally + sums.tally
    assert pair is not None
    if tally is not None:
        # Groups without any trouble keep no tally of their own.
        tally[CODE["ok"]] = pair[DEFINED] - tally[CODE["duplicate"]]
    return Totals(pair=pair, unit=unit, tally=tally, prompts=count)


def mean_atoms(
    rows: Float[np.ndarray, "*lead row item"], *, in_place: bool = False
) -> Float[np.ndarray, "*lead item past future"]:
    """Atoms of sums, in nats; NaN where nothing was defined.

    Sums of the extremes give their two atoms, and NaN for the others. With `in_place` the sums
    of all knowns are overwritten, and the result is a view of them: for a million pairs they are
    a fifth of a gigabyte.
    """
    if rows.shape[-2] == EXTREME_ROWS:
        return _extreme_atoms(rows)
    known = rows[..., :16, :]
    out = known if in_place else np.empty(known.shape)
    cells = out.reshape(*known.shape[:-2], 4, 4, known.shape[-1])
    with np.errstate(divide="ignore", invalid="ignore"):
        for begin in range(0, rows.shape[-1], _ITEMS):
            part = slice(begin, begin + _ITEMS)
            defined = rows[..., DEFINED:, part]
            np.divide(known[..., part], defined, out=out[..., part])
            moebius_in_place(cells[..., part])
    return np.moveaxis(cells, -1, -3)


def _extreme_atoms(rows: np.ndarray) -> np.ndarray:
    # Items last, as of all atoms: each cell is written from end to end.
    cells = np.full((*rows.shape[:-2], 4, 4, rows.shape[-1]), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        for row, end in enumerate((0, 3)):
            np.divide(rows[..., row, :], rows[..., DEFINED, :], out=cells[..., end, end, :])
    return np.moveaxis(cells, -1, -3)


def mean_row(rows: Float[np.ndarray, "*lead row item"], row: int) -> np.ndarray:
    """Mean of one row over its defined cases, NaN where there are none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return rows[..., row, :] / rows[..., DEFINED, :]


def statuses(totals: Totals) -> np.ndarray:
    """Status of each pair over all prompts, int8.

    0 where the pair is defined in some prompt (how many, `n_defined` says); duplicate where it is
    one in any prompt; else the most frequent reason, the lower code first.
    """
    status = np.zeros(totals.pair.shape[1], dtype=np.int8)
    if totals.tally is not None:
        reasons = totals.tally.copy()
        reasons[CODE["ok"]] = 0
        lost = totals.pair[DEFINED] == 0
        status[lost] = reasons[:, lost].argmax(axis=0)
        status[totals.tally[CODE["duplicate"]] > 0] = CODE["duplicate"]
    return status

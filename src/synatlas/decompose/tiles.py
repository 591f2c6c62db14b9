"""All pairs of units with the compiled kernel: tiles of units, every prompt of a tile at once.

A correlation table of all units is never held: one product per tile and prompt gives the four
blocks past-past, past-future, future-past and future-future.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import numpy as np

from synatlas.decompose.kernels import SCRATCH, WIDTH, add_tile
from synatlas.decompose.lattice import extremes
from synatlas.decompose.pairs import (
    LEAST_PIVOT,
    ROWS,
    Flagged,
    PairSums,
    Redundancy,
    add_flagged,
    pair_count,
    swapped_rows,
)
from synatlas.decompose.windows import Windows

#: Prompts per call of the kernel: a table of two megabytes.
_PROMPTS: Final = 16


class Tile(NamedTuple):
    """Rows and columns of units; `diagonal` where they are the same."""

    rows: slice
    columns: slice

    @property
    def diagonal(self) -> bool:
        """Whether rows and columns are the same units."""
        return self.rows == self.columns


class TileSums(NamedTuple):
    """What one tile adds to the units of its rows and columns, and what it left out."""

    tile: Tile
    rows: np.ndarray | None
    columns: np.ndarray | None
    flagged: list[Flagged]


def tiles(units: int) -> list[Tile]:
    """Tiles that together hold every pair once."""
    cuts = [slice(k, min(k + WIDTH, units)) for k in range(0, units, WIDTH)]
    return [Tile(mine, other) for k, mine in enumerate(cuts) for other in cuts[k:]]


def sum_tiles(
    left: Windows,
    right: Windows,
    redundancy: Redundancy,
    *,
    per_unit: bool,
    threads: int,
    only: str = "all",
) -> PairSums:
    """:func:`synatlas.decompose.pairs.sum_pairs` under MMI, compiled.

    The order of additions, and so every digit, is the same whatever the number of threads.
    """
    prompts, units, _ = left.shape
    pair = np.zeros((ROWS, pair_count(units)))
    unit = np.zeros((prompts, ROWS, units)) if per_unit else None
    flagged: list[Flagged] = []
    for done in _each_tile(left, right, pair, per_unit=per_unit, threads=threads):
        flagged += done.flagged
        if unit is not None and done.rows is not None and done.columns is not None:
            unit[:, :, done.tile.rows] += done.rows
            unit[:, :, done.tile.columns] += done.columns
    sums = PairSums(pair=pair, unit=unit, tally=None)
    sums = add_flagged(sums, left, right, redundancy, flagged) if flagged else sums
    return sums if only == "all" else _extremes(sums)


def _extremes(sums: PairSums) -> PairSums:
    """The atoms red-red and syn-syn in place of the knowns: sums of atoms are atoms of sums."""
    unit = sums.unit
    if unit is not None:
        unit = _extreme_rows(unit.swapaxes(0, 1)).swapaxes(0, 1)
    return PairSums(pair=_extreme_rows(sums.pair), unit=unit, tally=sums.tally)


def _extreme_rows(rows: np.ndarray) -> np.ndarray:
    return np.stack([*extremes(list(rows[:16])), *rows[16:]])


def _each_tile(
    left: Windows, right: Windows, pair: np.ndarray, *, per_unit: bool, threads: int
) -> Iterator[TileSums]:
    work = tiles(left.shape[1])

    def run(tile: Tile) -> TileSums:
        return _tile(left, right, tile, pair, per_unit=per_unit)

    if threads == 1 or len(work) == 1:
        yield from map(run, work)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(run, work)


def _tile(
    left: Windows, right: Windows, tile: Tile, pair: np.ndarray, *, per_unit: bool
) -> TileSums:
    prompts, units, samples = left.shape
    rows, columns = tile.rows.stop - tile.rows.start, tile.columns.stop - tile.columns.start
    first = np.arange(tile.rows.start, tile.rows.stop)
    offsets = first * (2 * units - first - 1) // 2 - first - 1 + tile.columns.start
    x_unit = np.zeros((prompts if per_unit else 1, ROWS, rows))
    y_unit = np.zeros((prompts if per_unit else 1, ROWS, columns))
    scratch = np.zeros(SCRATCH)
    size = min(prompts, _PROMPTS)
    found = np.empty((size * rows * columns, 3), dtype=np.int32)
    flagged: list[Flagged] = []
    for begin in range(0, prompts, size):
        chunk = slice(begin, min(begin + size, prompts))
        mine = left.values[chunk, :, tile.rows].reshape(-1, 2 * rows, samples)
        # A product of an array with itself costs half.
        same = tile.diagonal and right is left
        other = mine if same else right.values[chunk, :, tile.columns]
        other = other.reshape(-1, 2 * columns, samples)
        lost = add_tile(
            np.matmul(mine, other.transpose(0, 2, 1)),
            left.self_correlation[chunk, tile.rows],
            left.self_information[chunk, tile.rows],
            right.self_correlation[chunk, tile.columns],
            right.self_information[chunk, tile.columns],
            tile.diagonal,
            LEAST_PIVOT,
            pair,
            offsets,
            per_unit,
            x_unit[chunk] if per_unit else x_unit,
            y_unit[chunk] if per_unit else y_unit,
            swapped_rows(ROWS),
            found,
            scratch,
            scratch.view(np.uint64),
        )
        if lost:
            cases = found[:lost].astype(np.int64)
            flagged.append(
                Flagged(
                    cases[:, 0] + begin,
                    cases[:, 1] + tile.rows.start,
                    cases[:, 2] + tile.columns.start,
                )
            )
    kept = (x_unit, y_unit) if per_unit else (None, None)
    return TileSums(tile, *kept, flagged)

"""All pairs of binary units with the compiled kernel, tile by tile."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from synatlas.decompose.discrete import pack, table
from synatlas.decompose.kernels_binary import SCRATCH, WIDTH, add_binary_tile
from synatlas.decompose.pairs import KEPT, ROWS, PairSums, pair_count, swapped_rows
from synatlas.decompose.tiles import Tile
from synatlas.decompose.windows import CODE, Windows


class Packed(NamedTuple):
    """Bits of windows by prompt and unit, and what one unit alone brings to every pair."""

    words: np.ndarray
    counts: np.ndarray
    held: np.ndarray
    reason: np.ndarray

    def units(self, some: slice) -> "Packed":
        """Some of the units."""
        return Packed(*(field[:, some] for field in self))


class _Sums(NamedTuple):
    """Sums over all prompts of every pair, and the prompts of each status."""

    pair: np.ndarray
    tally: np.ndarray


class _TileSums(NamedTuple):
    """What one tile adds to the units of its rows and columns."""

    tile: Tile
    rows: np.ndarray
    columns: np.ndarray
    tallied: bool


def sum_binary_tiles(
    left: Windows,
    right: Windows,
    *,
    common_change: bool,
    per_unit: bool,
    threads: int,
    only: str = "all",
) -> PairSums:
    """:func:`synatlas.decompose.discrete.sum_binary`, compiled, under CCS or else under MMI.

    The order of additions, and so every digit, is the same whatever the number of threads.
    """
    prompts, units, samples = left.shape
    count = pair_count(units)
    sums = _Sums(np.empty((ROWS, count)), np.zeros((len(CODE), count), dtype=np.int32))
    unit = np.zeros((prompts, ROWS, units)) if per_unit else None
    mine = packed(left)
    other = mine if right is left else packed(right)

    def run(tile: Tile) -> _TileSums:
        return _tile(mine, other, tile, sums, samples, change=common_change, per_unit=per_unit)

    tallied = False
    for done in _each(run, _tiles(units), threads):
        tallied |= done.tallied
        if unit is not None:
            unit[:, :, done.tile.rows] += done.rows
            unit[:, :, done.tile.columns] += done.columns
    tally = sums.tally if tallied else None
    if tally is not None:
        tally[CODE["ok"]] = sums.pair[-1] - tally[CODE["duplicate"]]
    if only == "all":
        return PairSums(pair=sums.pair, unit=unit, tally=tally)
    if unit is not None:
        unit = _kept(unit.swapaxes(0, 1), only).swapaxes(0, 1)
    return PairSums(pair=_kept(sums.pair, only), unit=unit, tally=tally)


def packed(windows: Windows) -> Packed:
    """Bits and counts of every unit in every prompt."""
    samples = windows.shape[2]
    words = np.ascontiguousarray(pack(windows.values).transpose(0, 2, 1, 3))
    past, future = words[:, :, 0], words[:, :, 1]
    one, two, both = (
        np.bitwise_count(bits).sum(axis=-1, dtype=np.int64)
        for bits in (past, future, past & future)
    )
    f = table(samples)
    held = [
        f[one] + f[samples - one],
        f[two] + f[samples - two],
        f[both] + f[one - both] + f[two - both] + f[samples - one - two + both],
        *(1 / np.sqrt(np.maximum(ones * (samples - ones), 1.0)) for ones in (one, two)),
    ]
    counts = np.stack([one, two, both], axis=-1).astype(np.uint64)
    return Packed(words, counts, np.stack(held, axis=-1), windows.reason)


def _tiles(units: int) -> list[Tile]:
    cuts = [slice(k, min(k + WIDTH, units)) for k in range(0, units, WIDTH)]
    return [Tile(mine, other) for k, mine in enumerate(cuts) for other in cuts[k:]]


def _each(run: Callable[[Tile], _TileSums], work: list[Tile], threads: int) -> Iterator[_TileSums]:
    if threads == 1 or len(work) == 1:
        yield from map(run, work)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(run, work)


def _tile(
    left: Packed,
    right: Packed,
    tile: Tile,
    sums: _Sums,
    samples: int,
    *,
    change: bool,
    per_unit: bool,
) -> _TileSums:
    prompts, units = left.reason.shape
    first = np.arange(tile.rows.start, tile.rows.stop)
    offsets = first * (2 * units - first - 1) // 2 - first - 1 + tile.columns.start
    kept = prompts if per_unit else 1
    x_unit = np.zeros((kept, ROWS, first.size))
    y_unit = np.zeros((kept, ROWS, tile.columns.stop - tile.columns.start))
    tallied = add_binary_tile(
        *left.units(tile.rows),
        *right.units(tile.columns),
        table(samples),
        np.log(np.maximum(np.arange(samples + 1), 1)),
        np.uint64(samples),
        change,
        tile.diagonal,
        sums.pair,
        sums.tally,
        offsets,
        per_unit,
        x_unit,
        y_unit,
        swapped_rows(ROWS),
        np.empty(SCRATCH),
        np.empty(16 * 16, dtype=np.uint64),
    )
    return _TileSums(tile, x_unit, y_unit, tallied)


def _kept(rows: np.ndarray, only: str) -> np.ndarray:
    """Sums of atoms are atoms of sums."""
    return np.stack([*KEPT[only].of(list(rows[:16])), *rows[16:]])

"""All pairs of units with the compiled kernel: tiles of units, every prompt of a tile at once.

A correlation table of all units is never held: one product per tile and prompt gives the four
blocks past-past, past-future, future-past and future-future.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from math import prod
from queue import SimpleQueue
from typing import Final, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float

from synatlas.axes import SHORT_NAMES
from synatlas.decompose.kernels import SCRATCH, WIDTH, add_tile, measure_tile
from synatlas.decompose.lattice import AGGREGATES
from synatlas.decompose.pairs import (
    KEPT,
    LEAST_PIVOT,
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

    @property
    def size(self) -> int:
        """Rows times columns."""
        return (self.rows.stop - self.rows.start) * (self.columns.stop - self.columns.start)


class TileSums(NamedTuple):
    """What one tile adds to the units of its rows and columns, and what it left out."""

    tile: Tile
    rows: np.ndarray | None
    columns: np.ndarray | None
    flagged: list[Flagged]


def tiles(units: int, prompts: int = _PROMPTS) -> list[Tile]:
    """Tiles that together hold every pair once; those of few prompts have more columns.

    Without `prompts` no tile is wider than the rows of a kernel's scratch.
    """
    # Of one size, a multiple of a vector's: a narrow tile costs as much as a wide one.
    count = -(-units // WIDTH)
    size = -(-units // (8 * count)) * 8
    cuts = [slice(k, min(k + size, units)) for k in range(0, units, size)]
    together = max(1, min(4, _PROMPTS // prompts))
    out: list[Tile] = []
    for k, mine in enumerate(cuts):
        later = [cuts[j : j + together] for j in range(k + 1, len(cuts), together)]
        out += [Tile(mine, mine), *(Tile(mine, slice(c[0].start, c[-1].stop)) for c in later)]
    return out


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
    rows = KEPT[only].rows
    pair = np.empty((rows, pair_count(units)))
    unit = np.zeros((prompts, rows, units)) if per_unit else None
    flagged: list[Flagged] = []

    def run(tile: Tile, workspace: _Workspace) -> TileSums:
        return _tile(left, right, tile, pair, workspace, per_unit=per_unit)

    for done in _each_tile(units, prompts, threads, run):
        flagged += done.flagged
        if unit is not None and done.rows is not None and done.columns is not None:
            unit[:, :, done.tile.rows] += done.rows
            unit[:, :, done.tile.columns] += done.columns
    sums = PairSums(pair=pair, unit=unit, tally=None)
    return add_flagged(sums, left, right, redundancy, flagged, only=only) if flagged else sums


Done = TypeVar("Done")


class _Workspace:
    """Memory of one thread, the same for every tile: fresh pages cost as much as a product."""

    def __init__(self, cases: int) -> None:
        self.table = np.empty(4 * cases)
        self.flagged = np.empty((cases, 3), dtype=np.int32)
        self.scratch = np.zeros(SCRATCH)


def _each_tile(
    units: int, prompts: int, threads: int, run: Callable[[Tile, _Workspace], Done]
) -> Iterator[Done]:
    """What `run` makes of each tile, in order, whatever thread has run it."""
    work = tiles(units, prompts)
    cases = max(tile.size for tile in work) * min(prompts, _PROMPTS)
    threads = min(threads, len(work))
    free: SimpleQueue[_Workspace] = SimpleQueue()
    for _ in range(threads):
        free.put(_Workspace(cases))

    def one(tile: Tile) -> Done:
        workspace = free.get()
        done = run(tile, workspace)
        free.put(workspace)
        return done

    if threads == 1:
        yield from map(one, work)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(one, work)


def _tile(
    left: Windows,
    right: Windows,
    tile: Tile,
    pair: np.ndarray,
    workspace: _Workspace,
    *,
    per_unit: bool,
) -> TileSums:
    prompts, units, _ = left.shape
    rows, columns = tile.rows.stop - tile.rows.start, tile.columns.stop - tile.columns.start
    kept = len(pair)
    x_unit = np.zeros((prompts if per_unit else 1, kept, rows))
    y_unit = np.zeros((prompts if per_unit else 1, kept, columns))
    swap = swapped_rows(kept)
    flagged: list[Flagged] = []
    for begin in range(0, prompts, _PROMPTS):
        chunk = slice(begin, min(begin + _PROMPTS, prompts))
        lost = add_tile(
            *_inputs(left, right, tile, chunk, workspace.table),
            pair,
            _offsets(tile, units),
            begin == 0,
            per_unit,
            x_unit[chunk] if per_unit else x_unit,
            y_unit[chunk] if per_unit else y_unit,
            swap,
            workspace.flagged,
            workspace.scratch,
        )
        if lost:
            cases = workspace.flagged[:lost].astype(np.int64)
            flagged.append(
                Flagged(
                    cases[:, 0] + begin,
                    cases[:, 1] + tile.rows.start,
                    cases[:, 2] + tile.columns.start,
                )
            )
    sums = (x_unit, y_unit) if per_unit else (None, None)
    return TileSums(tile, *sums, flagged)


def _offsets(tile: Tile, units: int) -> np.ndarray:
    """Position in pair order of each row with the tile's first column, if it were a pair."""
    first = np.arange(tile.rows.start, tile.rows.stop)
    return first * (2 * units - first - 1) // 2 - first - 1 + tile.columns.start


class _Inputs(NamedTuple):
    """What every kernel takes first, see :func:`synatlas.decompose.kernels.add_tile`."""

    table: np.ndarray
    x_self: np.ndarray
    x_information: np.ndarray
    y_self: np.ndarray
    y_information: np.ndarray
    diagonal: bool
    threshold: float


def _inputs(left: Windows, right: Windows, tile: Tile, chunk: slice, memory: np.ndarray) -> _Inputs:
    # One memory layout, whatever the slices: another would be compiled anew.
    return _Inputs(
        _correlations(left, right, tile, chunk, memory),
        np.ascontiguousarray(left.self_correlation[chunk, tile.rows]),
        np.ascontiguousarray(left.self_information[chunk, tile.rows]),
        np.ascontiguousarray(right.self_correlation[chunk, tile.columns]),
        np.ascontiguousarray(right.self_information[chunk, tile.columns]),
        tile.diagonal,
        LEAST_PIVOT,
    )


def _correlations(
    left: Windows, right: Windows, tile: Tile, chunk: slice, memory: np.ndarray
) -> np.ndarray:
    """Past or future of rows with past or future of columns, written into `memory`."""
    mine = left.values[chunk, :, tile.rows]
    shape = (len(mine), 2, 2, mine.shape[2], tile.columns.stop - tile.columns.start)
    table = memory[: prod(shape)].reshape(shape)
    if tile.diagonal and right is left:
        # A product of an array with itself costs half, and a transposed one nothing.
        own = table.reshape(len(table), 4, *table.shape[3:])[:, ::3]
        np.matmul(mine, mine.swapaxes(2, 3), out=own)
        np.matmul(mine[:, 0], mine[:, 1].swapaxes(1, 2), out=table[:, 0, 1])
        table[:, 1, 0] = table[:, 0, 1].swapaxes(1, 2)
    else:
        other = right.values[chunk, :, tile.columns].swapaxes(2, 3)
        np.matmul(mine[:, :, None], other[:, None], out=table)
    return table


def measure_tiles(windows: Windows, *, threads: int) -> Float[np.ndarray, "row pair"] | None:
    """Sixteen atoms, I(xy; ab) and the aggregates of every pair of one prompt, in nats.

    As of :func:`sum_tiles` and what follows it, within 1e-13, without sums in memory between. None
    where some pair is left to :func:`synatlas.decompose.pairs.add_flagged`.
    """
    _, units, _ = windows.shape
    cells = [SHORT_NAMES.index(n.removeprefix("-")) for names in AGGREGATES.values() for n in names]
    signs = [-1.0 if n.startswith("-") else 1.0 for names in AGGREGATES.values() for n in names]
    parts = np.array(cells), np.array(signs), np.cumsum([0, *map(len, AGGREGATES.values())])
    out = np.empty((17 + len(AGGREGATES), pair_count(units)))

    def run(tile: Tile, workspace: _Workspace) -> int:
        inputs = _inputs(windows, windows, tile, slice(0, 1), workspace.table)
        return measure_tile(*inputs, out, _offsets(tile, units), *parts, workspace.scratch)

    lost = sum(_each_tile(units, 1, threads, run))
    return None if lost else out

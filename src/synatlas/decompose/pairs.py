"""All pairs of units: sums over prompts of the 16 knowns of every pair, in NumPy.

Pairs are visited in panels of a few units against all later ones, small enough for the cache.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from synatlas.decompose.gaussian import Correlations, Informations, informations, variances
from synatlas.decompose.lattice import SWAP, extremes
from synatlas.decompose.singular import resolve
from synatlas.decompose.windows import CODE, Windows

#: Rows of sums: 16 knowns of which the last is I(xy; ab), then from the end the same-step
#: correlation, its absolute value and the number of defined cases. Sums of the extremes hold two
#: atoms in place of the knowns: red-red and syn-syn.
TDMI: Final = 15
SAME: Final = -3
ABSOLUTE: Final = -2
DEFINED: Final = -1
ROWS: Final = 19
EXTREME_ROWS: Final = 5

#: Below this conditional variance a pair is taken to its windows: the recursion's error of
#: 1e-16 / variance would pass 1e-8 nat.
LEAST_PIVOT: Final = 1e-8

#: Pair-prompts at a time: twenty arrays of this length stay in a second-level cache.
_BLOCK: Final = 3072

_SWAPPED_ROWS: Final = np.concatenate([SWAP, np.arange(len(SWAP), ROWS)])


class Kept(NamedTuple):
    """What is made of the 16 knowns of each case before they are summed, and the rows of sums."""

    rows: int
    of: Callable[[list[np.ndarray]], list[np.ndarray]]


#: What sums may hold: all knowns, or the two atoms at the ends of the lattice.
KEPT: Final = MappingProxyType(
    {"all": Kept(ROWS, list), "extremes": Kept(EXTREME_ROWS, lambda known: [*extremes(known)])}
)


def swapped_rows(rows: int) -> Int[np.ndarray, " row"]:
    """Where each row of the pair (b, a) stands in the rows of (a, b)."""
    return _SWAPPED_ROWS if rows == ROWS else np.arange(rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSums:
    """Sums over prompts for each pair and, where asked for, sums over partners for each unit.

    Rows are those of this module's constants; a unit's rows are oriented: `un1` is the unit.
    `tally` counts, for each pair, the prompts in which it has each status.
    """

    pair: Float[np.ndarray, "row pair"]
    unit: Float[np.ndarray, "prompt row unit"] | None
    tally: Int[np.ndarray, "status pair"] | None


class Panel(NamedTuple):
    """Units `start` to `stop` against all units after each, in pair order."""

    start: int
    stop: int
    pairs: slice
    first: Int[np.ndarray, " pair"]
    second: Int[np.ndarray, " pair"]


class Block(NamedTuple):
    """What a redundancy function sees: some prompts of one panel, ``(prompt, pair)`` each."""

    informations: Informations
    correlations: Correlations
    defined: Bool[np.ndarray, "prompt pair"]
    left: Float[np.ndarray, "prompt window unit sample"]
    right: Float[np.ndarray, "prompt window unit sample"]
    panel: Panel


#: From a block to its 16 knowns.
Redundancy = Callable[[Block], list[np.ndarray]]


class Flagged(NamedTuple):
    """Cases that the recursion leaves to :func:`synatlas.decompose.singular.resolve`."""

    prompt: Int[np.ndarray, " case"]
    first: Int[np.ndarray, " case"]
    second: Int[np.ndarray, " case"]


def pair_count(units: int) -> int:
    """Unordered pairs of `units` units."""
    return units * (units - 1) // 2


def pair_index(first: np.ndarray, second: np.ndarray, units: int) -> np.ndarray:
    """Position of the pair (first, second), first < second, in pair order."""
    return first * (2 * units - first - 1) // 2 + second - first - 1


@lru_cache(maxsize=8)
def panels(units: int) -> tuple[Panel, ...]:
    """Panels that together hold every pair once, in pair order."""
    out: list[Panel] = []
    start = done = 0
    while start < units - 1:
        rows = min(max(1, _BLOCK // (units - start)), max(4, units // 4), units - 1 - start)
        lengths = units - 1 - np.arange(start, start + rows)
        first = np.repeat(np.arange(start, start + rows), lengths)
        second = np.concatenate([np.arange(i + 1, units) for i in range(start, start + rows)])
        out.append(Panel(start, start + rows, slice(done, done + first.size), first, second))
        start, done = start + rows, done + first.size
    return tuple(out)


def sum_pairs(
    left: Windows, right: Windows, redundancy: Redundancy, *, per_unit: bool, only: str = "all"
) -> PairSums:
    """Sums over prompts of every pair's knowns: first unit from `left`, second from `right`.

    Parameters
    ----------
    left, right : the same windows, or, for a null, windows with other prompts or rotations.
    redundancy : how knowns follow from informations.
    per_unit : keep sums over partners per prompt as well.
    only : which of :data:`KEPT` the sums hold.
    """
    prompts, units, _ = left.shape
    kept = KEPT[only]
    pair = np.zeros((kept.rows, pair_count(units)))
    unit = np.zeros((prompts, kept.rows, units)) if per_unit else None
    found: list[Flagged] = []
    for panel in panels(units):
        for chunk in chunks(prompts, panel.first.size):
            block, flagged = _block(left, right, panel, chunk)
            rows = [*kept.of(redundancy(block)), *_same_step(block)]
            for row, values in enumerate(rows):
                pair[row, panel.pairs] += values.sum(axis=0)
            if unit is not None:
                add_to_units(unit[chunk], np.stack(rows, axis=1), panel, swapped_rows(kept.rows))
            if flagged is not None:
                found.append(flagged)
    sums = PairSums(pair=pair, unit=unit, tally=None)
    return add_flagged(sums, left, right, redundancy, found, only=only) if found else sums


def chunks(prompts: int, pairs: int) -> Iterator[slice]:
    """Slices of prompts that with `pairs` pairs fill the cache and no more."""
    size = max(1, _BLOCK // pairs)
    for begin in range(0, prompts, size):
        yield slice(begin, min(begin + size, prompts))


@lru_cache(maxsize=64)
def _positions(panel_start: int, rows: int, units: int) -> tuple[np.ndarray, ...]:
    """Where xy, ab, xb, ya of each pair of a panel stand in its flattened correlations."""
    columns = units - panel_start
    panel = next(p for p in panels(units) if p.start == panel_start)
    i, j = panel.first - panel_start, panel.second - panel_start
    width = 2 * columns
    return (
        i * width + j,
        (rows + i) * width + columns + j,
        i * width + columns + j,
        (rows + i) * width + j,
    )


def correlations(left: Windows, right: Windows, panel: Panel, chunk: slice) -> Correlations:
    """Six correlations, ``(prompt, pair)`` each, of a panel's pairs in some prompts."""
    units, samples = left.shape[1:]
    rows = panel.stop - panel.start
    mine = left.values[chunk, :, panel.start : panel.stop].reshape(-1, 2 * rows, samples)
    others = right.values[chunk, :, panel.start :].reshape(mine.shape[0], -1, samples)
    table = np.matmul(mine, others.transpose(0, 2, 1)).reshape(mine.shape[0], -1)
    xy, ab, xb, ya = (
        np.take(table, where, axis=1) for where in _positions(panel.start, rows, units)
    )
    xa = np.take(left.self_correlation[chunk], panel.first, axis=1)
    yb = np.take(right.self_correlation[chunk], panel.second, axis=1)
    return Correlations(xy, ab, xa, yb, xb, ya)


def _block(
    left: Windows, right: Windows, panel: Panel, chunk: slice
) -> tuple[Block, Flagged | None]:
    r = correlations(left, right, panel, chunk)
    with np.errstate(divide="ignore", invalid="ignore"):
        remaining = variances(r)
        # NaN compares false: a pair with an undefined series is left out here too.
        defined = remaining.pivot >= LEAST_PIVOT
        flagged = None
        if not defined.all():
            case, position = np.nonzero(~defined)
            flagged = Flagged(case + chunk.start, panel.first[position], panel.second[position])
            # ln 1 = 0: what is left out adds nothing.
            remaining = remaining._replace(
                **{
                    name: np.where(defined, getattr(remaining, name), 1.0)
                    for name in remaining._fields
                }
            )
        known = informations(remaining)._replace(
            xa=_own(left.self_information[chunk], panel.first, defined),
            yb=_own(right.self_information[chunk], panel.second, defined),
        )
    block = Block(known, r, defined, left.values[chunk], right.values[chunk], panel)
    return block, flagged


def _own(information: np.ndarray, unit: np.ndarray, defined: np.ndarray) -> np.ndarray:
    values = np.take(information, unit, axis=1)
    return values if defined.all() else np.where(defined, values, 0.0)


def _same_step(block: Block) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Same-step correlation, mean of the past's and the future's; its size; 1 where defined."""
    same = np.where(block.defined, 0.5 * (block.correlations.xy + block.correlations.ab), 0.0)
    return same, np.abs(same), block.defined


def add_to_units(
    unit: Float[np.ndarray, "case row unit"],
    rows: Float[np.ndarray, "case row pair"],
    panel: Panel,
    swap: Int[np.ndarray, " row"],
) -> None:
    """Add each pair's rows to its first unit, and with their rows swapped to its second."""
    swapped = rows[:, swap]
    begin = 0
    for i in range(panel.start, panel.stop):
        end = begin + unit.shape[2] - 1 - i
        unit[:, :, i] += rows[:, :, begin:end].sum(axis=2)
        unit[:, :, i + 1 :] += swapped[:, :, begin:end]
        begin = end


def add_flagged(
    sums: PairSums,
    left: Windows,
    right: Windows,
    redundancy: Redundancy,
    found: list[Flagged],
    *,
    only: str = "all",
) -> PairSums:
    """Resolve the flagged cases from their windows and add them in place."""
    cases = Flagged(*(np.concatenate(parts) for parts in zip(*found, strict=True)))
    units = left.shape[1]
    where = pair_index(cases.first, cases.second, units)
    reason = np.maximum(
        left.reason[cases.prompt, cases.first], right.reason[cases.prompt, cases.second]
    )
    tally = np.zeros((len(CODE), sums.pair.shape[1]), dtype=np.int32)
    np.add.at(tally, (reason[reason != 0], where[reason != 0]), 1)
    open_cases = np.flatnonzero(reason == 0)
    # Four windows of this many cases take a few megabytes.
    for part in np.array_split(open_cases, max(1, open_cases.size // 2048)):
        if part.size:
            some = Flagged(*(field[part] for field in cases))
            knowns, same, status = _resolved_rows(left, right, redundancy, some)
            np.add.at(tally, (status, where[part]), 1)
            add_rows(sums, np.stack([*KEPT[only].of(knowns), *same]), some, units)
    tally[0] = sums.pair[DEFINED] - tally[CODE["duplicate"]]
    return PairSums(pair=sums.pair, unit=sums.unit, tally=tally)


def add_rows(
    sums: PairSums, rows: Float[np.ndarray, "row case"], cases: Flagged, units: int
) -> None:
    """Add rows of single cases to the sums of their pairs and units, in place."""
    np.add.at(sums.pair.T, pair_index(cases.first, cases.second, units), rows.T)
    if sums.unit is not None:
        unit, swapped = sums.unit.transpose(0, 2, 1), rows[swapped_rows(len(rows))]
        np.add.at(unit, (cases.prompt, cases.first), rows.T)
        np.add.at(unit, (cases.prompt, cases.second), swapped.T)


class _Resolved(NamedTuple):
    """Knowns and same-step rows of flagged cases, 0 where undefined, and their statuses."""

    knowns: list[np.ndarray]
    same: list[np.ndarray]
    status: np.ndarray


def _resolved_rows(
    left: Windows, right: Windows, redundancy: Redundancy, cases: Flagged
) -> _Resolved:
    mine = left.values[cases.prompt, :, cases.first]
    other = right.values[cases.prompt, :, cases.second]
    windows = np.stack([mine[:, 0], other[:, 0], mine[:, 1], other[:, 1]], axis=1)
    resolution = (
        left.resolution[cases.prompt, cases.first] + right.resolution[cases.prompt, cases.second]
    )
    resolved = resolve(windows, resolution)
    defined = (resolved.status == CODE["ok"]) | (resolved.status == CODE["duplicate"])
    gram = np.einsum("cis,cjs->ijc", windows, windows)[:, :, None]
    r = Correlations(gram[0, 1], gram[2, 3], gram[0, 2], gram[1, 3], gram[0, 3], gram[1, 2])
    zero = Informations(*(np.where(defined, value, 0.0)[None] for value in resolved.informations))
    count = cases.prompt.size
    panel = Panel(0, 1, slice(0, count), np.arange(count), np.arange(count))
    block = Block(
        zero,
        r,
        (resolved.status == CODE["ok"])[None],
        windows[:, [0, 2]].transpose(1, 0, 2)[None],
        windows[:, [1, 3]].transpose(1, 0, 2)[None],
        panel,
    )
    # Every known of a duplicate is I(x; x'), under any redundancy function.
    duplicate = resolved.status == CODE["duplicate"]
    knowns = [
        np.where(duplicate, resolved.informations.xa, known[0]) for known in redundancy(block)
    ]
    same = [row[0] for row in _same_step(block._replace(defined=defined[None]))]
    return _Resolved(knowns, same, resolved.status)


def unit_rows(pair: Float[np.ndarray, "row pair"], units: int) -> Float[np.ndarray, "row unit"]:
    """Sums over partners of sums over prompts, oriented."""
    rows = len(pair)
    first, second = np.empty((rows, units)), np.empty((rows, units))
    table = np.zeros((units, units))
    upper = _upper(units)
    for row in range(rows):
        table.reshape(-1)[upper] = pair[row]
        first[row], second[row] = table.sum(axis=1), table.sum(axis=0)
    return first + second[swapped_rows(rows)]


@lru_cache(maxsize=4)
def _upper(units: int) -> np.ndarray:
    """Where each pair stands in a flattened square of units."""
    first, second = np.triu_indices(units, k=1)
    return first * units + second

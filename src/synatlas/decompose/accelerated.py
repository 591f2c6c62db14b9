"""All pairs of units with torch, on the device where the series were given: large N on a GPU.

The formulas are those of :mod:`synatlas.decompose.gaussian`, which are written once for NumPy and
torch. Blocks of some units against all later ones and some prompts bound the memory of the device:
beside the windows (16 bytes a sample and series, 24 in single precision, twice that where a null
shuffles them) no more than 80 numbers for each of 2^20 pair-prompts are held at a time, 0.7 GB in
double and 0.35 GB in single precision.

Single precision keeps 1e-5 nat only where no variable is nearly a straight function of others.
Pair-prompts below :data:`LEAST_PIVOT_SINGLE` are therefore computed again in double precision, and
those below the double's own limit from their windows on the CPU, as everywhere else: no status
depends on the device.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import numpy as np

from synatlas.decompose.gaussian import (
    Correlations,
    Variances,
    informations,
    minimum_information,
    variances,
)
from synatlas.decompose.pairs import (
    KEPT,
    LEAST_PIVOT,
    Flagged,
    PairSums,
    add_flagged,
    add_rows,
    pair_count,
    pair_index,
    swapped_rows,
)
from synatlas.decompose.redundancy import mmi
from synatlas.decompose.windows import Windows

#: Pair-prompts at a time, unless one unit and one prompt are more.
CASES: Final = 2**20

#: Least conditional variance in single precision, whose error is about 1e-7 / variance.
LEAST_PIVOT_SINGLE: Final = 0.02

#: Numbers of the windows that are gathered at a time to compute cases again.
_GATHERED: Final = 2**24


class Accelerator(NamedTuple):
    """A torch device by name, such as ``cuda:0``, and whether it computes in double precision."""

    device: str
    double: bool


def accelerator_of(series: Any) -> Accelerator | None:
    """The device of a torch tensor that lies on none of the CPU's; None for all other series."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(series, torch.Tensor) or series.device.type == "cpu":
        return None
    half = (torch.float32, torch.float16, torch.bfloat16)
    return Accelerator(str(series.device), double=series.dtype not in half)


class _Side(NamedTuple):
    """Windows of first or of second units on the device."""

    values: Any  # (prompt, window, unit, sample)
    correlation: Any  # (prompt, unit)
    information: Any


class _Block(NamedTuple):
    """Units `start` to `stop` against `start` and all later ones, and prompts at a time."""

    start: int
    stop: int
    chunks: list[slice]


class _Found(NamedTuple):
    """Rows of one block: (row, prompt, first, second), and where a pair is left out."""

    rows: Any
    lost: Any


def sum_accelerated(
    left: Windows,
    right: Windows,
    *,
    per_unit: bool,
    accelerator: Accelerator,
    only: str = "all",
) -> PairSums:
    """:func:`synatlas.decompose.pairs.sum_pairs` under MMI, on a torch device.

    Parameters
    ----------
    left, right : the same windows, or, for a null, windows with other prompts or rotations.
    per_unit : keep sums over partners per prompt as well.
    accelerator : where, and in which precision. Sums agree with the plain ones within 1e-9 nat a
        prompt in double and 1e-5 in single precision.
    only : which of :data:`synatlas.decompose.pairs.KEPT` the sums hold.
    """
    import torch

    prompts, units, _ = left.shape
    count = KEPT[only].rows
    pair = np.zeros((count, pair_count(units)))
    unit = np.zeros((prompts, count, units)) if per_unit else None
    flagged: list[Flagged] = []
    least = LEAST_PIVOT if accelerator.double else LEAST_PIVOT_SINGLE
    with torch.no_grad(), _full_products():
        mine, other = _on_device(left, right, accelerator)
        for block in _blocks(prompts, units):
            totals: Any = 0.0
            for chunk in block.chunks:
                found = _rows(mine, other, block, chunk, least, only)
                totals = totals + found.rows.sum(dim=1)
                if unit is not None:
                    _add_units(unit, found, block, chunk)
                if bool(found.lost.any()):
                    flagged.append(_flagged(found, block, chunk))
            _add_pairs(pair, totals.cpu().numpy(), block, units)
        sums = PairSums(pair=pair, unit=unit, tally=None)
        if not accelerator.double and flagged:
            flagged = _add_again(sums, left, right, accelerator, _joined(flagged), only)
    return add_flagged(sums, left, right, mmi, flagged, only=only) if flagged else sums


def _on_device(left: Windows, right: Windows, accelerator: Accelerator) -> tuple[_Side, _Side]:
    mine = _sent(left, accelerator)
    return mine, mine if right is left else _sent(right, accelerator)


def _sent(windows: Windows, accelerator: Accelerator) -> _Side:
    import torch

    kind = torch.float64 if accelerator.double else torch.float32
    arrays = windows.values, windows.self_correlation, windows.self_information
    return _Side(
        *(
            torch.from_numpy(np.ascontiguousarray(array)).to(kind).to(accelerator.device)
            for array in arrays
        )
    )


@contextmanager
def _full_products() -> Iterator[None]:
    """Products in the precision of their factors: some users let torch round them to ten bits."""
    import torch

    chosen = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(chosen)


def _blocks(prompts: int, units: int) -> Iterator[_Block]:
    start = 0
    while start < units - 1:
        columns = units - start
        # Few rows beside the columns: the triangle below the diagonal is computed for nothing.
        rows = min(max(1, CASES // columns), max(16, columns // 8), units - 1 - start)
        size = max(1, CASES // (rows * columns))
        chunks = [slice(k, min(k + size, prompts)) for k in range(0, prompts, size)]
        yield _Block(start, start + rows, chunks)
        start += rows


def _rows(
    mine: _Side, other: _Side, block: _Block, chunk: slice, least_pivot: float, only: str
) -> _Found:
    import torch

    r = _correlations(mine, other, block, chunk)
    own_x = mine.information[chunk, block.start : block.stop, None]
    own_y = other.information[chunk, None, block.start :]
    upper = torch.ones(r.xy.shape[1:], dtype=torch.bool, device=r.xy.device).triu(1)
    found = _knowns(r, own_x, own_y, least_pivot, only)
    return _Found(torch.where(upper, found.rows, 0.0), found.lost & upper)


def _knowns(r: Correlations, own_x: Any, own_y: Any, least_pivot: float, only: str) -> _Found:
    """Rows of sums of each case, 0 where it is left out.

    Self-informations are those of the windows: near 1, correlations have lost their digits.
    """
    import torch

    left = variances(r)
    # NaN compares false: a pair with an undefined series is left out here too.
    defined = left.pivot >= least_pivot
    # ln 1 = 0: what is left out adds nothing.
    kept = Variances(*(torch.where(defined, value, 1.0) for value in left))
    known = informations(kept)._replace(
        xa=torch.where(defined, own_x, 0.0), yb=torch.where(defined, own_y, 0.0)
    )
    same = torch.where(defined, 0.5 * (r.xy + r.ab), 0.0)
    rows = [*KEPT[only].of(minimum_information(known)), same, same.abs(), defined.to(same.dtype)]
    return _Found(torch.stack(rows), ~defined)


def _correlations(mine: _Side, other: _Side, block: _Block, chunk: slice) -> Correlations:
    first = mine.values[chunk, :, block.start : block.stop].flatten(1, 2)
    second = other.values[chunk, :, block.start :].flatten(1, 2)
    table = first @ second.transpose(1, 2)
    rows, columns = first.shape[1] // 2, second.shape[1] // 2
    return Correlations(
        xy=table[:, :rows, :columns],
        ab=table[:, rows:, columns:],
        xa=mine.correlation[chunk, block.start : block.stop, None],
        yb=other.correlation[chunk, None, block.start :],
        xb=table[:, :rows, columns:],
        ya=table[:, rows:, :columns],
    )


def _add_pairs(pair: np.ndarray, totals: np.ndarray, block: _Block, units: int) -> None:
    for k, first in enumerate(range(block.start, block.stop)):
        begin = int(pair_index(np.array([first]), np.array([first + 1]), units)[0])
        pair[:, begin : begin + units - 1 - first] += totals[:, k, k + 1 :]


def _add_units(unit: np.ndarray, found: _Found, block: _Block, chunk: slice) -> None:
    swap = swapped_rows(unit.shape[1])
    first = found.rows.sum(dim=3).cpu().numpy()
    second = found.rows.sum(dim=2).cpu().numpy()
    unit[chunk, :, block.start : block.stop] += first.swapaxes(0, 1)
    unit[chunk, :, block.start :] += second[swap].swapaxes(0, 1)


def _flagged(found: _Found, block: _Block, chunk: slice) -> Flagged:
    prompt, first, second = (part.cpu().numpy() for part in found.lost.nonzero(as_tuple=True))
    return Flagged(prompt + chunk.start, first + block.start, second + block.start)


def _joined(parts: list[Flagged]) -> Flagged:
    return Flagged(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _add_again(
    sums: PairSums,
    left: Windows,
    right: Windows,
    accelerator: Accelerator,
    cases: Flagged,
    only: str,
) -> list[Flagged]:
    """Add what single precision left out in double precision; returns what that leaves out."""
    # Apple's devices have no double precision.
    device = "cpu" if accelerator.device.startswith("mps") else accelerator.device
    mine, other = _on_device(left, right, Accelerator(device, double=True))
    _, units, samples = left.shape
    # A series that is out by itself has no windows to go back to.
    dead = (left.reason[cases.prompt, cases.first] != 0) | (
        right.reason[cases.prompt, cases.second] != 0
    )
    lost = [Flagged(*(field[dead] for field in cases))]
    cases = Flagged(*(field[~dead] for field in cases))
    parts = 1 + cases.prompt.size * 4 * samples // _GATHERED
    for where in np.array_split(np.arange(cases.prompt.size), parts):
        some = Flagged(*(field[where] for field in cases))
        found = _gathered_rows(mine, other, some, only)
        add_rows(sums, found.rows.cpu().numpy(), some, units)
        out = found.lost.cpu().numpy()
        lost.append(Flagged(*(field[out] for field in some)))
    return [_joined(lost)] if any(part.prompt.size for part in lost) else []


def _gathered_rows(mine: _Side, other: _Side, cases: Flagged, only: str) -> _Found:
    import torch

    prompt, first, second = (torch.from_numpy(f).to(mine.values.device) for f in cases)
    x, a = mine.values[prompt, :, first].unbind(1)
    y, b = other.values[prompt, :, second].unbind(1)
    r = Correlations(
        xy=(x * y).sum(1),
        ab=(a * b).sum(1),
        xa=mine.correlation[prompt, first],
        yb=other.correlation[prompt, second],
        xb=(x * b).sum(1),
        ya=(y * a).sum(1),
    )
    own = mine.information[prompt, first], other.information[prompt, second]
    return _knowns(r, *own, LEAST_PIVOT, only)

"""Cells on their way: each an ordinary run folder, made once, several at a time."""

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, final, runtime_checkable

from synatlas.errors import InputError, RunFolderError
from synatlas.processes import processes
from synatlas.progress import Progress, silent
from synatlas.study.cells import Cell, cell_folder

#: A row of a study's table.
Row = dict[str, Any]


@runtime_checkable
class Watcher(Protocol):
    """Told of cells in the process of the study, to free the disk for instance."""

    def before(self, cell: Cell) -> None:
        """A cell is about to begin; a complete one too, which is reused."""

    def after(self, cell: Cell) -> None:
        """The run of a cell is complete."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Travelled:
    """A cell that was run, with its rows of the study's table, or what was wrong with it."""

    cell: Cell
    folder: Path
    rows: tuple[Row, ...] = ()
    failure: str = ""


def travel(
    cells: Sequence[Cell],
    folder: Path,
    *,
    jobs: int = 1,
    until: str = "report",
    force: bool = False,
    watcher: Watcher | None = None,
    progress: Progress = silent,
) -> tuple[Travelled, ...]:
    """Run every cell in `folder`, in their order or several at a time.

    A cell that is complete is reused and one that was interrupted is resumed, as
    :func:`synatlas.run.advance` does; where a cell fails for a reason that the user can mend, the
    others go on, and those that read its replies fail with it.

    Parameters
    ----------
    cells : of the study, those that read another's replies after it.
    folder : of the study.
    jobs : cells at a time; more than one run in processes of their own, on one thread each.
    until : stage that each run is taken to.
    force : replace another run that is in a cell's folder.
    watcher : told in this process of each cell before it begins and once it is complete.
    progress : told how many cells are done.
    """
    how = _How(folder=folder, until=until, force=force, watcher=watcher)
    outcomes: dict[str, Travelled] = {}
    progress("cells", 0, len(cells))
    journey = (
        _one_by_one(cells, how, outcomes, progress)
        if jobs == 1
        else _several(cells, how, outcomes, jobs)
    )
    for done in journey:
        outcomes[done.cell.name] = done
        if watcher is not None and not done.failure:
            watcher.after(done.cell)
        progress("cells", len(outcomes), len(cells))
    return tuple(outcomes[cell.name] for cell in cells)


@dataclass(frozen=True, slots=True, kw_only=True)
class _How:
    """Where the cells of a study go, and how far."""

    folder: Path
    until: str
    force: bool
    watcher: Watcher | None = None

    def begin(self, cell: Cell) -> "_How":
        """Tell the watcher; what a process of its own needs to know."""
        if self.watcher is not None:
            self.watcher.before(cell)
        return replace(self, watcher=None)


def _run(cell: Cell, how: _How, progress: Progress = silent) -> Travelled:
    where = cell_folder(how.folder, cell.name)
    try:
        try:
            rows = _advance(cell, how, progress, force=False)
        except RunFolderError:
            if not how.force:
                raise
            rows = _advance(cell, how, progress, force=True)
    except InputError as error:
        return Travelled(cell=cell, folder=where, failure=str(error))
    return Travelled(cell=cell, folder=where, rows=rows)


def _advance(cell: Cell, how: _How, progress: Progress, *, force: bool) -> tuple[Row, ...]:
    from synatlas.run import advance
    from synatlas.study.table import rows_of

    run = advance(cell.within(how.folder, force=force), until=how.until, progress=progress)
    if cell.measured:
        from synatlas.study.measures import measured

        measured(cell.config, run.folder, run.recording.attrs["model_revision"])
    # Here, while the artifacts are in memory: reading an atlas back takes a second.
    return rows_of(cell, run)


def _ready(cell: Cell, outcomes: dict[str, Travelled]) -> bool:
    return not cell.reads or cell.reads in outcomes


def _stopped(cell: Cell, how: _How, outcomes: dict[str, Travelled]) -> Travelled | None:
    """The outcome of a cell whose source has failed."""
    source = outcomes.get(cell.reads)
    if source is None or not source.failure:
        return None
    failure = f"the cell {cell.reads}, whose replies it reads, failed: {source.failure}"
    return Travelled(cell=cell, folder=cell_folder(how.folder, cell.name), failure=failure)


def _one_by_one(
    cells: Sequence[Cell], how: _How, outcomes: dict[str, Travelled], progress: Progress
) -> Iterator[Travelled]:
    for cell in cells:
        yield _stopped(cell, how, outcomes) or _run(cell, how.begin(cell), progress)


def _several(
    cells: Sequence[Cell], how: _How, outcomes: dict[str, Travelled], jobs: int
) -> Iterator[Travelled]:
    waiting = list(cells)
    running: dict[Future[Travelled], Cell] = {}
    with processes(jobs) as pool:
        while waiting or running:
            for cell in [c for c in waiting if _ready(c, outcomes)]:
                waiting.remove(cell)
                stopped = _stopped(cell, how, outcomes)
                if stopped is None:
                    running[pool.submit(_run, cell, how.begin(cell))] = cell
                else:
                    yield stopped
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                del running[future]
                yield future.result()

"""A study in its folder: cells, table, and what it is a study of."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import pandas as pd

from synatlas import provenance
from synatlas.errors import ConfigError
from synatlas.folder import RECORD_FILE, check_writable, locked, open_record
from synatlas.progress import Progress, silent
from synatlas.study.cells import Cell
from synatlas.study.recipe import Study
from synatlas.study.table import tidy, write_table
from synatlas.study.travel import Travelled, Watcher, travel

#: Where studies go when no folder is given.
STUDIES: Final = Path("studies")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A study that was run: its cells, in their order, and the table of all of them."""

    study: Study
    folder: Path
    outcomes: tuple[Travelled, ...]
    table: pd.DataFrame

    @property
    def failed(self) -> tuple[Travelled, ...]:
        """Cells that could not be run."""
        return tuple(o for o in self.outcomes if o.failure)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The folder of a study, which no other process writes to while it is held.

    Parameters
    ----------
    study, folder : what is run, and where.
    record : of the study, as the folder had it or a new one.
    jobs : cells at a time.
    force : replace runs of other studies.
    """

    study: Study
    folder: Path
    record: Mapping[str, Any]
    jobs: int
    force: bool


@contextmanager
def held(
    study: Study, folder: Path | None = None, *, jobs: int = 1, force: bool = False
) -> Iterator[Held]:
    """Hold the folder of a study; one that is refused stays as it is.

    Parameters
    ----------
    study : what is run.
    folder : where; ``studies/NAME`` where None.
    jobs : cells at a time.
    force : replace another study that is in the folder; cells that both have are kept.

    Raises
    ------
    ConfigError
        `jobs` is not positive.
    RunFolderError
        The folder holds another study, is held by another process, or cannot be written.
    """
    if jobs < 1:
        raise ConfigError(
            given=f"jobs {jobs}", expected="a whole number from 1", remedy="choose another number"
        )
    where = folder or STUDIES / study.name
    check_writable(where)
    settings = {
        "study": study.name,
        "question": study.question,
        "cells": {cell.name: _described(cell) for cell in study.cells},
    }
    open_record(where, settings, force=force)
    with locked(where):
        record = open_record(where, settings, force=force)
        yield Held(study=study, folder=where, record=record, jobs=jobs, force=force)


def run_study(
    study: Study,
    folder: Path | None = None,
    *,
    jobs: int = 1,
    until: str = "report",
    force: bool = False,
    watcher: Watcher | None = None,
    progress: Progress = silent,
) -> Done:
    """Run every cell of a study, and put the table of all of them into its folder.

    The folder holds ``cells/NAME``, an ordinary run folder each, ``table.parquet`` and
    ``run.json``. A cell that is complete is reused, an interrupted one resumed. Parameters and
    errors are those of :func:`held` and :func:`run_held`.
    """
    with held(study, folder, jobs=jobs, force=force) as holding:
        return run_held(holding, until=until, watcher=watcher, progress=progress)


def run_held(
    holding: Held,
    *,
    until: str = "report",
    watcher: Watcher | None = None,
    progress: Progress = silent,
) -> Done:
    """As :func:`run_study`, in a folder that is held.

    Parameters
    ----------
    holding : as :func:`held` gives it.
    until : stage that each run is taken to, ``atoms``, ``atlas`` or ``report``.
    watcher : told of each cell before it begins and once it is complete.
    progress : told how far it is.
    """
    study, where = holding.study, holding.folder
    record = {**holding.record, "status": "running"}
    record.pop("finished", None)
    provenance.write_record(where / RECORD_FILE, record)
    outcomes = travel(
        study.cells,
        where,
        jobs=holding.jobs,
        until=until,
        force=holding.force,
        watcher=watcher,
        progress=progress,
    )
    table = tidy(outcomes)
    write_table(table, where)
    failures = {o.cell.name: o.failure for o in outcomes if o.failure}
    state = "incomplete" if failures else "complete"
    ended = {"status": state, "failures": failures, "finished": provenance.now()}
    provenance.write_record(where / RECORD_FILE, {**record, **ended})
    return Done(study=study, folder=where, outcomes=outcomes, table=table)


def _described(cell: Cell) -> dict[str, Any]:
    found = {"settings": cell.config.identity(), "labels": dict(cell.labels), "reads": cell.reads}
    if cell.measured:
        found["measured"] = True
    # As it is read back: tuples are lists there.
    return json.loads(json.dumps(found))

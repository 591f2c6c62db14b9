"""A study in its folder: cells, table, and what it is a study of."""

import json
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
    ``run.json``. A cell that is complete is reused, an interrupted one resumed.

    Parameters
    ----------
    study : what is run.
    folder : where; ``studies/NAME`` where None.
    jobs : cells at a time.
    until : stage that each run is taken to, ``atoms``, ``atlas`` or ``report``.
    force : replace another study that is in the folder; cells that both have are kept.
    watcher : told of each cell before it begins and once it is complete.
    progress : told how far it is.

    Raises
    ------
    ConfigError
        `jobs` is not positive.
    RunFolderError
        The folder holds another study, or cannot be written.
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
        record = open_record(where, settings, force=force) | {"status": "running"}
        record.pop("finished", None)
        provenance.write_record(where / RECORD_FILE, record)
        outcomes = travel(
            study.cells,
            where,
            jobs=jobs,
            until=until,
            force=force,
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

"""The comparison of models from their names to its page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from synatlas.config import MapConfig
from synatlas.errors import StudyError
from synatlas.models.identity import BUNDLED, bundled_models
from synatlas.progress import Progress, silent
from synatlas.study.compare import (
    FAMILY,
    compare_study,
    entry,
    tokenizer_groups,
)
from synatlas.study.compare_page import compare_page
from synatlas.study.contrast import View, against_fresh, numbers, pairs, views
from synatlas.study.page import Page, write_page
from synatlas.study.study import Done, held, run_held
from synatlas.study.table import write_table

#: The page of a study, in its folder.
PAGE_FILE: Final = "report.html"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A comparison that was made: its runs, what they show, and the page of it."""

    done: Done
    page: Page
    path: Path


def compare(
    models: Sequence[str] = (),
    folder: Path | None = None,
    *,
    base: MapConfig,
    units: str = "mixers",
    fresh: int = 2,
    jobs: int = 1,
    force: bool = False,
    progress: Progress = silent,
) -> Compared:
    """Map several models and put them side by side.

    Parameters
    ----------
    models : ``MODEL``, ``MODEL@REVISION``, ``MODEL=UNITS``; the bundled family where none.
    folder : of the study; made from the names where None.
    base : settings of every run beside model, revision, units and weights.
    units : what is a node where a model's name does not say.
    fresh : fresh weights of each architecture, as a control.
    jobs : runs at a time.
    force : replace another study that is in the folder.
    progress : told how far it is.

    Returns
    -------
    Compared
        The folder holds ``report.html``, ``numbers.parquet`` (see
        :func:`synatlas.study.contrast.numbers`), ``fresh.parquet`` and ``pairs.parquet``.

    Raises
    ------
    StudyError
        No model could be mapped.
    ConfigError, ModelError, RunFolderError
        See :func:`synatlas.study.compare.compare_study`, :func:`synatlas.study.study.held`.
    """
    entries = [entry(name, units) for name in models or at_hand()]
    groups = tokenizer_groups(entries, trust_remote_code=base.trust_remote_code)
    study = compare_study(entries, groups, base, seeds=fresh)
    with held(study, folder, jobs=jobs, force=force) as holding:
        done = run_held(holding, until="atlas", progress=progress)
        return _shown(done, views(done.outcomes, seed=base.seed))


def _shown(done: Done, found: Sequence[View]) -> Compared:
    """What the complete cells show, written into the folder."""
    if not found:
        raise StudyError(
            given=f"{len(done.outcomes)} maps of {done.study.name}",
            expected="at least one that can be made",
            cause=done.failed[0].failure,
            remedy="mend this and run the same command",
        )
    for name, table in (
        ("numbers", numbers(found)),
        ("fresh", against_fresh(found)),
        ("pairs", pairs(found)),
    ):
        write_table(table, done.folder, name)
    failed = [o.cell.name for o in done.failed]
    page = compare_page(found, done.table, failed)
    return Compared(done=done, page=page, path=write_page(done.folder / PAGE_FILE, page))


def at_hand() -> tuple[str, ...]:
    """The bundled family, as far as it is there."""
    known = {name.removeprefix(BUNDLED) for name in bundled_models()}
    return tuple(m for m in FAMILY if m.removeprefix(BUNDLED).partition("@")[0] in known)

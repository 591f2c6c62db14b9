"""When in training the profile takes its final shape: the cells of that study, run and judged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, final

from synatlas.config import MapConfig
from synatlas.errors import ConfigError
from synatlas.models.revisions import Revision, Training, revisions, spaced
from synatlas.progress import Progress, silent
from synatlas.study.cells import LIGHT, Cell, checked, fed, slug
from synatlas.study.recipe import Study
from synatlas.study.study import Done, held, run_held

#: Model whose training is looked at where none is named.
MODEL: Final = "bundled:dense"

#: Controls: kind -> the setting that makes it.
CONTROLS: Final[Mapping[str, str]] = {"random_init": "random_init", "shuffled": "shuffled"}

#: What the labels `replies` say.
OWN: Final = "own"
COMMON: Final = "of the last step"

QUESTION: Final = "From which step of training on does the profile over depth have its final shape?"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Emergence:
    """The study of one model's training.

    Parameters
    ----------
    training : revisions of the model, and what is none.
    chosen : those that are mapped, the last among them.
    study : a cell for each of them and for each control, with replies of its own and with those of
        the last step.
    """

    training: Training
    chosen: tuple[Revision, ...]
    study: Study

    @property
    def needs(self) -> dict[str, frozenset[str]]:
        """Cell -> commits of the Hub that are to be in the cache while it runs.

        Those of the last step stay to the end: the others share small files with it, which are
        then never taken away while another cell reads them.
        """
        commits = {r.step: r.commit for r in self.chosen}
        last = self.chosen[-1].commit
        return {
            cell.name: frozenset({commits[int(cell.labels["step"])], last} - {""})
            for cell in self.study.cells
        }


def emergence(
    model: str = MODEL,
    *,
    points: int = 10,
    pattern: str = "",
    seeds: int = 3,
    settings: Mapping[str, Any] | None = None,
) -> Emergence:
    """Lay out the study of a model's training.

    Parameters
    ----------
    model : see :func:`synatlas.models.revisions.revisions`.
    points : revisions that are mapped, log-spaced in step, the first and the last among them.
    pattern : regular expression of the names of revisions, see there.
    seeds : networks with fresh weights, and with shuffled ones, that serve as controls.
    settings : of every run, beside :data:`synatlas.study.cells.LIGHT`.

    Raises
    ------
    ConfigError
        The model has fewer than two revisions, `points` or `seeds` is below 2, or a setting is out
        of range.
    ModelError
        The model cannot be found.
    """
    if seeds < 2:
        raise ConfigError(
            given=f"--seeds {seeds}",
            expected="at least 2: one network of chance says nothing of how they differ",
            remedy="pass --seeds 2 or more",
        )
    base = MapConfig.from_settings({**LIGHT, **(settings or {})})
    base.check()
    training = revisions(model, pattern)
    chosen = spaced(training.revisions, points)
    cells = checked(_cells(training, chosen, base, seeds))
    study = Study(name=slug(f"emerge-{_short(model)}"), question=QUESTION, cells=cells)
    return Emergence(training=training, chosen=chosen, study=study)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Emerged:
    """A course of training that was run and judged.

    `table` and `page` lie in the study's folder; they are None, and `headline` says why, where
    cells are missing without which nothing can be said.
    """

    done: Done
    headline: str
    table: Path | None
    page: Path | None


def _short(model: str) -> str:
    return Path(model).expanduser().resolve().name if Path(model).is_dir() else model


def _cells(
    training: Training, chosen: Sequence[Revision], base: MapConfig, seeds: int
) -> list[Cell]:
    """The last step first, whose replies the others are fed; then controls; then all steps."""
    last = chosen[-1]
    first = _cell(f"step{last.step}", training, last, base, kind="step", measured=True)
    found = [first]
    for kind, setting in CONTROLS.items():
        for seed in range(seeds):
            changed = replace(base, **{setting: True}, init_seed=seed)
            name = f"{kind.replace('_', '-')}-{seed}"
            found += _both(name, training, last, changed, first.name, kind=kind, seed=seed)
    for revision in chosen[:-1]:
        name = f"step{revision.step}"
        found += _both(name, training, revision, base, first.name, kind="step", measured=True)
    return found


def _both(
    name: str, training: Training, revision: Revision, base: MapConfig, source: str, **about: Any
) -> list[Cell]:
    own = _cell(name, training, revision, base, **about)
    about["measured"] = False
    fed = _cell(f"{name}_fed", training, revision, base, reads=source, **about)
    return [own, fed]


def _cell(
    name: str,
    training: Training,
    revision: Revision,
    base: MapConfig,
    *,
    kind: str,
    seed: int = -1,
    reads: str = "",
    measured: bool = False,
) -> Cell:
    config: MapConfig = replace(fed(base) if reads else base, **training.settings(revision))
    labels: dict[str, str | int] = {"kind": kind, "step": revision.step}
    labels |= {"replies": COMMON if reads else OWN}
    if seed >= 0:
        labels["seed"] = seed
    return Cell(
        name=name,
        config=config,
        labels=labels,
        reads=reads,
        measured=measured,
    )


def run_emergence(
    laid: Emergence,
    out: Path | None = None,
    *,
    jobs: int = 1,
    spare_disk: bool = False,
    force: bool = False,
    progress: Progress = silent,
) -> Emerged:
    """Run the study as far as the atlases, compare them, and write the table and the page.

    Parameters
    ----------
    laid : what is run.
    out : folder of the study; ``studies/NAME`` where None.
    jobs : cells at a time.
    spare_disk : delete what the study downloads once no cell needs it, see
        :class:`synatlas.study.disk.SpareDisk`; nothing for models that are at hand.
    force : replace another study that is in the folder.
    progress : told how far it is.

    Raises
    ------
    ConfigError, RunFolderError
        See :func:`synatlas.study.study.held`.
    """
    from synatlas.study.disk import SpareDisk

    spared = spare_disk and laid.training.kind == "hub"
    with held(laid.study, out, jobs=jobs, force=force) as holding:
        watcher = SpareDisk(holding.folder, laid.training.model, laid.needs) if spared else None
        done = run_held(holding, until="atlas", watcher=watcher, progress=progress)
        return _judged(laid, done, progress)


def _judged(laid: Emergence, done: Done, progress: Progress) -> Emerged:
    """What the complete cells show, written into the folder."""
    from synatlas.study.course import course, read_state, with_common
    from synatlas.study.emerge_page import emergence_page
    from synatlas.study.emerge_verdict import judge
    from synatlas.study.table import write_table

    complete = [o for o in done.outcomes if not o.failure]
    if lacking := _lacking(laid, [o.cell for o in complete]):
        return Emerged(done=done, headline=lacking, table=None, page=None)
    read = []
    for at, outcome in enumerate(complete):
        progress("cells read", at, len(complete))
        read.append(read_state(outcome))
    progress("cells read", len(complete), len(complete))
    states = with_common(read)
    table = course(states)
    judgement = judge(table, states)
    failures = [f"{o.cell.name} could not be made: {o.failure}" for o in done.failed]
    page = done.folder / "emergence.html"
    emergence_page(page, laid, states, table, judgement, failures)
    return Emerged(
        done=done,
        headline=judgement.headline,
        table=write_table(table, done.folder, "emergence"),
        page=page,
    )


def _lacking(laid: Emergence, cells: Sequence[Cell]) -> str:
    """What keeps a course from being judged; empty where nothing does."""
    fed = [cell for cell in cells if cell.reads]
    kinds = {str(cell.labels["kind"]) for cell in fed}
    own = {cell.labels["step"] for cell in cells if cell.labels["kind"] == "step"}
    if laid.chosen[-1].step not in own:
        return "Nothing can be said without the last step."
    if missing := [kind for kind in ("step", *CONTROLS) if kind not in kinds]:
        return f"Nothing can be said without any {' or '.join(missing)} on the common tokens."
    return ""

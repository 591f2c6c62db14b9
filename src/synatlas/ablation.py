"""Ablation of a run: from its folder to a Divergence and a report with it, on all cores."""

import shutil
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from os import cpu_count
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, final

import xarray as xr

from synatlas import artifact, provenance
from synatlas.config import MapConfig, differences
from synatlas.errors import ConfigError, ModelError, RunFolderError
from synatlas.folder import FILES, PARTS_FOLDER, RECORD_FILE, locked
from synatlas.intervene.settings import Settings
from synatlas.intervene.statistics import ablation_tests
from synatlas.models.identity import content_revision
from synatlas.progress import Progress, silent
from synatlas.run import Run, load_model, resume

if TYPE_CHECKING:
    from synatlas.intervene.experiment import Experiment, Stage

#: Folder of finished pieces of an ablation, within the run folder.
_PARTS: Final = "ablation"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """An ablation of a run, as it is asked for.

    Parameters
    ----------
    folder : a run folder.
    settings : of the experiment.
    model : the model that was mapped, where its name alone does not say where it is.
    tasks : file of questions and answers; the built-in questions where empty.
    device : where the model runs.
    trust_remote_code : let a Hub model run code of its own.
    """

    folder: Path
    settings: Settings = field(default_factory=Settings)
    model: str = ""
    tasks: str = ""
    device: str | None = None
    trust_remote_code: bool = False


def ablate_run(
    asked: Ablation, *, jobs: int = 0, force: bool = False, progress: Progress = silent
) -> Run:
    """Ablate the units of a run in several orders, and write the report again with what it shows.

    A folder that holds the same ablation is reused, an interrupted one is resumed and ends with
    the same values; another ablation is refused unless `force`.

    Parameters
    ----------
    asked : what is ablated, and how.
    jobs : processes; 0 chooses as many as there are cores for small models, else one.
    force : replace another ablation that is in the folder.
    progress : told how far it is.

    Raises
    ------
    InputError
        Something in settings, questions or folder that the user can mend; nothing is lost.
    """
    asked.settings.check()
    if jobs < 0:
        raise ConfigError(
            given=f"jobs {jobs}", expected="a whole number from 0", remedy="choose another number"
        )
    run = resume(asked.folder, until="atlas", progress=progress)
    config = _config(asked, run)
    with locked(run.folder):
        record = provenance.read_record(run.folder / RECORD_FILE) or {}
        stage = _Stage(asked=asked, config=config, run=run, record=record, progress=progress)
        stage.make(jobs=jobs, force=force)
    return resume(asked.folder, until="report", progress=progress)


def read_recipe(path: str | Path) -> Settings:
    """Settings of an experiment from the table ``[ablate]`` of a TOML file.

    Raises
    ------
    ConfigError
        The file cannot be read, or has a key that is no setting.
    """
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))["ablate"]
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError) as error:
        raise ConfigError(
            given=f"the recipe {path}",
            expected="a TOML file with a table [ablate]",
            cause=str(error),
            remedy="check the path and the syntax",
        ) from error
    return Settings.from_settings(table)


def _config(asked: Ablation, run: Run) -> MapConfig:
    """How the model of the run is loaded again.

    Raises
    ------
    ModelError
        There is no such model.
    RunFolderError
        The model is not the one that was mapped.
    """
    stored: Mapping[str, Any] = run.record["settings"]
    known = {k: v for k, v in stored.items() if k in MapConfig.names()}
    config = MapConfig.from_settings(
        {**known, "prompts": "", "direction": "", "replies_of": "", "texts": ""},
        out=str(asked.folder),
    )
    config = replace(
        config,
        model=asked.model or config.model,
        device=asked.device,
        trust_remote_code=asked.trust_remote_code,
    )
    try:
        revision = content_revision(config.model, config.revision)
    except ModelError as error:
        if asked.model:
            raise
        raise ModelError(
            given=f"the run {asked.folder} of the model {config.model!r}",
            expected="a model that is found by that name",
            cause="it was mapped from a folder, which a run does not name",
            remedy="pass --model with that folder",
        ) from error
    if revision != stored["model_revision"]:
        raise RunFolderError(
            given=f"the model {config.model}, revision {revision}",
            expected=f"the one of {asked.folder}: {stored['model']}, revision "
            f"{stored['model_revision']}",
            cause="the folder is the run of another model, or the model's files have changed",
            remedy="pass --model with the model that was mapped, or map this one",
        )
    return config


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """The making of a divergence in a locked folder."""

    asked: Ablation
    config: MapConfig
    run: Run
    record: dict[str, Any]
    progress: Progress

    def make(self, *, jobs: int, force: bool) -> None:
        experiment = _experiment(self.asked, self.config, self.run)
        path = self.run.folder / FILES["divergence"]
        known = self.record["stages"].get("divergence")
        identity = _identity(self.asked)
        if known and path.exists() and not force:
            if known["fingerprint"] == experiment.fingerprint:
                artifact.open_artifact(path)
                return
            raise _another(self.run.folder, known.get("settings", {}), identity)
        started = monotonic()
        workers = jobs or _workers(experiment)
        for stage in _stages():
            _run_stage(experiment, stage, self, workers)
        divergence = _assembled(experiment)
        artifact.save(ablation_tests(divergence), self.run.folder / FILES["ablation_tests"])
        artifact.save(divergence, path)
        self.record["stages"]["divergence"] = {
            "parent": self.run.atlas.attrs["fingerprint"],
            "fingerprint": experiment.fingerprint,
            "settings": identity,
            "seconds": round(monotonic() - started, 3),
        }
        self.record["stages"].pop("report", None)
        provenance.write_record(self.run.folder / RECORD_FILE, self.record)
        shutil.rmtree(self.run.folder / PARTS_FOLDER, ignore_errors=True)


def _identity(asked: Ablation) -> dict[str, Any]:
    """What decides the values, as run.json holds it; the file of questions by its name alone."""
    return {**asked.settings.identity(), "tasks": Path(asked.tasks).name}


def _another(folder: Path, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> RunFolderError:
    differing = differences(stored, wanted) or ("the questions, or the run itself",)
    return RunFolderError(
        given=f"the run folder {folder}, which holds another ablation",
        expected="a run without one, or the same",
        cause=f"they differ in {'; '.join(differing)}",
        remedy="pass --force to replace it, or ablate a copy of the run folder",
    )


def _parts(folder: Path) -> Path:
    return folder / PARTS_FOLDER / _PARTS


def _stages() -> "tuple[Stage, ...]":
    from synatlas.intervene.experiment import STAGES

    return STAGES


def _assembled(experiment: "Experiment") -> xr.Dataset:
    from synatlas.intervene.ablate import assemble

    return assemble(experiment)


def _experiment(asked: Ablation, config: MapConfig, run: Run) -> "Experiment":
    from synatlas.intervene.ablate import prepare
    from synatlas.intervene.items import generated, read_items

    settings = asked.settings
    items = None
    if asked.tasks:
        items = read_items(asked.tasks)
    elif settings.questions:
        items = generated(settings.questions, seed=settings.seed)
    return prepare(
        load_model(config),
        run.recording,
        run.atlas,
        settings=settings,
        given={},
        items=items,
        questions=Path(asked.tasks).name or "built-in",
        parts=_parts(run.folder),
    )


def _workers(experiment: "Experiment") -> int:
    """As many processes as cores for a model that runs on one thread, else one."""
    from synatlas.record.threads import is_small

    on_cpu = experiment.model.device.type == "cpu"
    return max(1, cpu_count() or 1) if on_cpu and is_small(experiment.model) else 1


def _run_stage(experiment: "Experiment", stage: "Stage", made: _Stage, workers: int) -> None:
    from synatlas.intervene.ablate import PHASES, run_stage
    from synatlas.record.threads import fitting_threads

    left = [piece for piece in experiment.pieces(stage) if not experiment.is_done(stage, piece)]
    if workers == 1 or len(left) < 2:
        with fitting_threads(experiment.model):
            run_stage(experiment, stage, made.progress)
        return
    total = len(experiment.pieces(stage))
    done = total - len(left)
    made.progress(PHASES[stage], done, total)
    for _ in _several(made, stage, left, workers):
        done += 1
        made.progress(PHASES[stage], done, total)


def _several(made: _Stage, stage: "Stage", pieces: Sequence[int], workers: int) -> Iterator[None]:
    from synatlas.record.threads import one_thread_each

    running: set[Future[None]] = set()
    with (
        one_thread_each(),
        ProcessPoolExecutor(
            workers,
            mp_context=get_context("spawn"),
            initializer=_begin_worker,
            initargs=(made.asked, made.config),
        ) as pool,
    ):
        try:
            running = {pool.submit(_work, stage, piece) for piece in pieces}
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                    yield
        finally:
            # After Ctrl-C what has not begun does not begin; what runs was told by the terminal.
            pool.shutdown(wait=False, cancel_futures=True)


#: The experiment of a worker process, loaded once.
_HERE: "dict[str, Experiment]" = {}


def _begin_worker(asked: Ablation, config: MapConfig) -> None:
    with _unlocked_run(asked.folder) as run:
        _HERE["experiment"] = _experiment(asked, config, run)


@contextmanager
def _unlocked_run(folder: Path) -> Iterator[Run]:
    """The artifacts of a folder that the parent process has locked."""
    artifacts = {
        name: artifact.open_artifact(folder / FILES[name]) for name in ("recording", "atlas")
    }
    record = provenance.read_record(folder / RECORD_FILE) or {}
    yield Run(folder=folder, artifacts=artifacts, report=None, reused=(), record=record)


def _work(stage: "Stage", piece: int) -> None:
    _HERE["experiment"].do(stage, piece)

"""Ablation of a run: from its folder to a Divergence and a report with it, on all cores."""

import shutil
from collections.abc import Mapping
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass, field, replace
from os import cpu_count
from pathlib import Path
from time import monotonic
from typing import Any, Final, final

from synatlas import artifact, provenance
from synatlas.config import MapConfig, differences, read_toml
from synatlas.errors import ConfigError, ModelError, RunFolderError
from synatlas.folder import FILES, PARTS_FOLDER, RECORD_FILE, locked
from synatlas.intervene.ablate import PHASES, assemble, prepare, run_stage
from synatlas.intervene.experiment import STAGES, Experiment, Stage
from synatlas.intervene.items import generated, read_items
from synatlas.intervene.settings import Settings
from synatlas.intervene.statistics import ablation_tests
from synatlas.models.identity import content_revision
from synatlas.processes import processes
from synatlas.progress import Progress, silent
from synatlas.record.threads import fitting_threads, is_small
from synatlas.run import Run, config_of, load_model, resume

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
    tables = read_toml(path)
    if "ablate" not in tables:
        raise ConfigError(
            given=f"the recipe {path}",
            expected="a TOML file with a table [ablate]",
            remedy="put the settings of the experiment under [ablate]",
        )
    return Settings.from_settings(tables["ablate"])


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
    config = config_of(run.record, run.folder)
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
                return
            raise _another(self.run.folder, known.get("settings", {}), identity)
        started = monotonic()
        workers = jobs or _workers(experiment)
        given = (self.asked, self.config)
        with processes(workers, begin=_begin_worker, given=given) as pool:
            for stage in STAGES:
                _run_stage(experiment, stage, self.progress, pool if workers > 1 else None)
        divergence = assemble(experiment)
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


def _experiment(asked: Ablation, config: MapConfig, run: Run) -> Experiment:
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


def _workers(experiment: Experiment) -> int:
    """As many processes as cores for a model that runs on one thread, else one."""
    on_cpu = experiment.model.device.type == "cpu"
    return max(1, cpu_count() or 1) if on_cpu and is_small(experiment.model) else 1


def _run_stage(
    experiment: Experiment, stage: Stage, progress: Progress, pool: Executor | None
) -> None:
    pieces = experiment.pieces(stage)
    left = [piece for piece in pieces if not experiment.is_done(stage, piece)]
    if pool is None or len(left) < 2:
        with fitting_threads(experiment.model):
            run_stage(experiment, stage, progress)
        return
    total = len(pieces)
    progress(PHASES[stage], total - len(left), total)
    running = [pool.submit(_work, stage, piece) for piece in left]
    for done, future in enumerate(as_completed(running), total - len(left) + 1):
        future.result()
        progress(PHASES[stage], done, total)


#: The experiment of a worker process, loaded once.
_HERE: dict[str, Experiment] = {}


def _begin_worker(asked: Ablation, config: MapConfig) -> None:
    # The parent process holds the lock of the folder.
    names = ("recording", "atlas")
    artifacts = {name: artifact.open_artifact(asked.folder / FILES[name]) for name in names}
    run = Run(folder=asked.folder, artifacts=artifacts, report=None, reused=(), record={})
    _HERE["experiment"] = _experiment(asked, config, run)


def _work(stage: Stage, piece: int) -> None:
    _HERE["experiment"].do(stage, piece)

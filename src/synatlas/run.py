"""One run: from a model to a report, in a folder that can be interrupted, resumed and reused."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr

from synatlas import artifact, provenance
from synatlas.config import MapConfig
from synatlas.decompose.nuisance import check_room
from synatlas.errors import ArtifactError, ConfigError, RunFolderError
from synatlas.folder import FILES, PARTS_FOLDER, RECORD_FILE, check_writable, locked, open_record
from synatlas.models.identity import content_revision, resolve
from synatlas.progress import Progress, silent
from synatlas.record.reductions import read_direction
from synatlas.tasks.battery import battery
from synatlas.tasks.prompts import Prompts, read_prompts

if TYPE_CHECKING:
    from synatlas.models.load import LanguageModel
    from synatlas.record.given import Given

#: Settings that are paths where they are given, and digests in run.json.
_PATHS: Final = {"prompts": "", "direction": "", "replies_of": "", "texts": ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run as far as it was taken: its artifacts in memory, and where they lie.

    `reused` names the stages whose results were already in the folder.
    """

    folder: Path
    artifacts: dict[str, xr.Dataset]
    report: Path | None
    reused: tuple[str, ...]
    record: dict[str, Any]

    @property
    def recording(self) -> xr.Dataset:
        """What the units did."""
        return self.artifacts["recording"]

    @property
    def atoms(self) -> xr.Dataset:
        """The decomposition."""
        return self.artifacts["atoms"]

    @property
    def atlas(self) -> xr.Dataset:
        """Scores, profiles and the verdict."""
        return self.artifacts["atlas"]


def map(config: MapConfig, *, progress: Progress = silent) -> Run:
    """Record, decompose, rank and report, in the run folder of `config`.

    A folder that holds the same run, complete, is reused; an interrupted one is resumed, and
    equals the undisturbed one bitwise; another run is refused unless ``config.force``.

    Raises
    ------
    InputError
        Something in the settings, prompts, model or folder that the user can mend. Nothing is
        written and nothing is lost.
    """
    return advance(config, progress=progress)


def advance(config: MapConfig, *, until: str = "report", progress: Progress = silent) -> Run:
    """Bring the run of `config` as far as the stage `until`, and return what there is."""
    config.check()
    given = _given(config)
    prompts = given.prompts if given else _asked(config)
    check_room(config.nuisance, prompts=len(prompts.ids), steps=config.tokens, lag=config.lag)
    direction = read_direction(config.direction) if config.direction else None
    folder = config.folder()
    check_writable(folder)
    settings = {
        **config.identity(),
        "model": resolve(config.model).name,
        "model_revision": content_revision(config.model, config.revision),
        "prompts": _digest(prompts),
        "replies_of": given.fingerprint if given else "",
        "texts": _digest(prompts) if config.texts else "",
        "direction": "" if direction is None else _digest_of(direction),
    }
    open_record(folder, settings, force=config.force)
    with locked(folder):
        journey = _Journey(
            config=config,
            prompts=prompts,
            given=given,
            direction=direction,
            folder=folder,
            record=open_record(folder, settings, force=config.force),
            progress=progress,
        )
        return journey.travel(until)


def resume(
    folder: str | Path, *, until: str, redo: bool = False, progress: Progress = silent
) -> Run:
    """Take a run folder that holds a recording as far as the stage `until`.

    Parameters
    ----------
    folder : a run folder with its run.json and recording.nc.
    until : ``atoms``, ``atlas`` or ``report``.
    redo : make the stage `until` again although the folder holds it.
    """
    where = Path(folder)
    record = provenance.read_record(where / RECORD_FILE)
    if record is None or "recording" not in record["stages"]:
        raise RunFolderError(
            given=f"the folder {where}",
            expected=f"a run folder with {RECORD_FILE} and {FILES['recording']}",
            cause="no recording was completed there",
            remedy="run synatlas record or synatlas map with --out set to this folder first",
        )
    config = config_of(record, where)
    if redo:
        record["stages"].pop(until, None)
    with locked(where):
        journey = _Journey(
            config=config,
            prompts=None,
            given=None,
            direction=None,
            folder=where,
            record=record,
            progress=progress,
        )
        return journey.travel(until)


def config_of(record: Mapping[str, Any], folder: Path) -> MapConfig:
    """Settings of a run by its record; files that it was given are not named there."""
    settings = {k: v for k, v in record["settings"].items() if k in MapConfig.names()}
    return MapConfig.from_settings({**settings, **_PATHS}, out=str(folder))


def load_model(config: MapConfig) -> "LanguageModel":
    """The model of a run."""
    from synatlas.models.load import load

    return load(
        config.model,
        revision=config.revision,
        dtype=config.dtype,
        device=config.device,
        random_init=config.random_init,
        shuffled=config.shuffled,
        seed=config.init_seed,
        trust_remote_code=config.trust_remote_code,
        allow_pickle=config.allow_pickle,
    )


def _asked(config: MapConfig) -> Prompts:
    file = config.texts or config.prompts
    return read_prompts(file) if file else battery()


def _given(config: MapConfig) -> "Given | None":
    """Prompts and replies of the run that the settings name."""
    if not config.replies_of:
        return None
    from synatlas.record.given import read_given

    return read_given(config.replies_of, config.tokens)


def _digest(prompts: Prompts) -> str:
    content = [list(prompts.ids), list(prompts.texts), list(prompts.categories)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def _digest_of(array: np.ndarray) -> str:
    content = f"{array.dtype.str}{array.shape}".encode() + np.ascontiguousarray(array).tobytes()
    return hashlib.sha256(content).hexdigest()[:32]


@dataclass(slots=True, kw_only=True)
class _Journey:
    """A run as it advances: every stage is made once, saved, and entered in run.json."""

    config: MapConfig
    prompts: Prompts | None
    given: "Given | None"
    direction: np.ndarray | None
    folder: Path
    record: dict[str, Any]
    progress: Progress
    artifacts: dict[str, xr.Dataset] = field(default_factory=dict)
    reused: list[str] = field(default_factory=list)

    def travel(self, until: str) -> Run:
        """The stages in order, as far as `until`."""
        stages: dict[str, Callable[[], xr.Dataset]] = {
            "recording": self._record,
            "atoms": self._decompose,
            "atlas": self._rank,
        }
        parent = ""
        for name, make in stages.items():
            self.artifacts[name] = self._stage(name, parent, make)
            parent = self.artifacts[name].attrs["fingerprint"]
            if name == until:
                break
        if until == "report":
            parent += self._divergence(parent)
        page = self._report(parent) if until == "report" else None
        return Run(
            folder=self.folder,
            artifacts=self.artifacts,
            report=page,
            reused=tuple(self.reused),
            record=self.record,
        )

    def _divergence(self, parent: str) -> str:
        """Take along the folder's ablation, if it is of this atlas: its fingerprint."""
        path = self.folder / FILES["divergence"]
        known = self.record["stages"].get("divergence")
        if not known or known["parent"] != parent or not path.exists():
            return ""
        dataset = artifact.open_artifact(path)
        if dataset.attrs["fingerprint"] != known["fingerprint"]:
            raise _swapped(path)
        self.artifacts["divergence"] = dataset
        tests = self.folder / FILES["ablation_tests"]
        if tests.exists():
            self.artifacts["ablation_tests"] = artifact.open_artifact(tests)
        return known["fingerprint"]

    def _stage(self, name: str, parent: str, make: Callable[[], xr.Dataset]) -> xr.Dataset:
        path = self.folder / FILES[name]
        known = self.record["stages"].get(name)
        if known and known["parent"] == parent and path.exists():
            dataset = artifact.open_artifact(path)
            if dataset.attrs["fingerprint"] == known["fingerprint"]:
                self.reused.append(name)
                return dataset
            raise _swapped(path)
        started = monotonic()
        dataset = make()
        artifact.save(dataset, path)
        self._enter(name, parent=parent, fingerprint=dataset.attrs["fingerprint"], started=started)
        if name == "recording":
            shutil.rmtree(self.folder / PARTS_FOLDER, ignore_errors=True)
        return dataset

    def _enter(self, name: str, *, started: float, **facts: str) -> None:
        seconds = round(monotonic() - started, 3)
        self.record["stages"][name] = {**facts, "seconds": seconds}
        self._write()

    def _write(self) -> None:
        provenance.write_record(self.folder / RECORD_FILE, self.record)

    def _record(self) -> xr.Dataset:
        from synatlas.record.given import check_same_tokens, given_texts
        from synatlas.record.record import choose_batch_size, record

        config = self.config
        model = load_model(config)
        units = model.found.select(config.units, config.site)
        if len(units) < 2:
            raise ConfigError(
                given=f"a model with {len(units)} unit",
                expected="at least 2 units: the decomposition is of pairs",
                remedy="choose other units, or a model with more of them",
            )
        if self.given is not None:
            check_same_tokens(model, self.given)
            return self._replay(model, self.given)
        if config.texts and self.prompts is not None:
            return self._replay(model, given_texts(model, self.prompts, config.tokens))
        # The batch size stays that of the first attempt: a resumed run is then bitwise the same.
        batch_size = self.record.get("batch_size") or config.batch_size
        batch_size = batch_size or choose_batch_size(
            model, self.prompts, tokens=config.tokens, system=config.system
        )

        def begin(rows: int) -> None:
            self.record["batch_size"] = rows
            self.record["device"] = str(model.device)
            self._write()

        return record(
            model,
            self.prompts,
            tokens=config.tokens,
            **self._reading,
            capture=config.capture,
            prompt_style=config.prompt_style,
            system=config.system,
            stop_at_eos=config.stop_at_eos,
            batch_size=batch_size,
            parts=self.folder / PARTS_FOLDER,
            begin=begin,
            progress=self.progress,
        )

    @property
    def _reading(self) -> dict[str, Any]:
        """What is read of a model, whether it generates or is fed."""
        names = ("units", "site", "reduce", "policy")
        chosen = {name: getattr(self.config, name) for name in names}
        return {**chosen, "direction": self.direction}

    def _replay(self, model: "LanguageModel", given: "Given") -> xr.Dataset:
        from synatlas.record.record import replay

        config = self.config
        self.record["device"] = str(model.device)
        return replay(
            model,
            given.rows,
            given.prompt_lengths,
            prompts=given.prompts,
            **self._reading,
            batch_size=config.batch_size,
            progress=self.progress,
        )

    def _decompose(self) -> xr.Dataset:
        from synatlas.decompose.pipeline import decompose

        config = self.config
        return decompose(
            self.artifacts["recording"],
            lag=config.lag,
            redundancy=config.redundancy,
            estimator=config.estimator,
            nulls=config.nulls,
            surrogates=config.surrogates,
            seed=config.seed,
            nuisance=config.nuisance,
            threads=config.threads,
            progress=self.progress,
        )

    def _rank(self) -> xr.Dataset:
        from synatlas.rank.rank import rank
        from synatlas.rank.topology import DRAWS

        # Who asks for few surrogates of series asks for few of graphs.
        asked = self.config.surrogates
        return rank(
            self.artifacts["atoms"],
            seed=self.config.seed,
            graph_draws=DRAWS if asked is None else min(DRAWS, asked),
            progress=self.progress,
        )

    def _report(self, parent: str) -> Path:
        from synatlas.report.page import report

        path = self.folder / FILES["report"]
        known = self.record["stages"].get("report")
        if known and known["parent"] == parent and path.is_file():
            self.reused.append("report")
            return path
        started = monotonic()
        # In the order of a record that was read back: an interrupted run reports the same bytes.
        stated = self.record["settings"]
        settings = {name: stated[name] for name in sorted(stated)}
        settings["environment"] = dict(sorted(self.record["environment"].items()))
        report(list(self.artifacts.values()), path, settings=settings)
        self.record["status"] = "complete"
        self.record["finished"] = provenance.now()
        self._enter("report", parent=parent, fingerprint=parent, started=started)
        return path


def _swapped(path: Path) -> ArtifactError:
    return ArtifactError(
        given=f"the file {path}",
        expected="the artifact that run.json names",
        cause="the file comes from another run",
        remedy="put the right file back, or remove it to have it made again",
    )

"""A run from model to report: reused, refused, interrupted, resumed, and told in few lines."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

import synatlas as sa
from synatlas.cli import main
from synatlas.config import MapConfig
from synatlas.decompose.nulls import NULLS
from synatlas.errors import ArtifactError, RunFolderError
from synatlas.folder import FILES
from synatlas.run import Run, advance, map
from synatlas.summary import lines

LlamaFolder = Callable[..., Path]


def config(model: Path, prompts: Path, out: Path, **changes: object) -> MapConfig:
    settings = {
        "model": str(model),
        "prompts": str(prompts),
        "out": str(out),
        "tokens": 24,
        "prompt_style": "raw",
        "surrogates": 5,
        "batch_size": 2,
        "threads": 1,
    }
    return MapConfig.from_settings({**settings, **changes})


#: Files of a run to its report.
MADE = tuple(FILES[stage] for stage in ("recording", "atoms", "atlas", "report"))


def contents(folder: Path, names: tuple[str, ...] = MADE) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def calls() -> list[str]:
    """What the undisturbed run told of its progress."""
    return []


@pytest.fixture(scope="module")
def done(tiny: Path, tmp_path_factory: pytest.TempPathFactory, calls: list[str]) -> Run:
    """An undisturbed run."""
    base = tmp_path_factory.mktemp("undisturbed")
    path = base / "prompts.csv"
    path.write_text("id,prompt\na,One two\nb,Tell me\nc,Why is it so\nd,<b>bold</b>\n")
    return map(
        config(tiny, path, base / "run"), progress=lambda what, done, total: calls.append(what)
    )


@pytest.fixture(scope="module")
def prompts_of(done: Run) -> Path:
    return done.folder.parent / "prompts.csv"


def test_every_artifact_is_there_and_opens(done: Run) -> None:
    assert sorted(p.name for p in done.folder.iterdir()) == sorted([*MADE, "run.json"])
    for name in ("recording", "atoms", "atlas"):
        assert sa.open(done.folder / FILES[name]).identical(done.artifacts[name])
    record = json.loads((done.folder / "run.json").read_text())
    assert record["status"] == "complete"
    assert record["batch_size"] == 2
    assert record["stages"]["atoms"]["parent"] == done.recording.attrs["fingerprint"]


def test_no_path_of_the_machine_is_in_the_artifacts(done: Run) -> None:
    for content in contents(done.folder).values():
        assert str(done.folder.parent).encode() not in content


def test_a_complete_run_is_reused(done: Run, tiny: Path, prompts_of: Path) -> None:
    before = contents(done.folder)
    again = map(config(tiny, prompts_of, done.folder))
    assert again.reused == ("recording", "atoms", "atlas", "report")
    assert contents(done.folder) == before
    assert again.atlas.identical(done.atlas)


def test_another_run_is_refused_and_nothing_is_lost(
    done: Run, tiny: Path, prompts_of: Path
) -> None:
    before = contents(done.folder)
    with pytest.raises(RunFolderError, match="lag: 1 there, 2 now"):
        map(config(tiny, prompts_of, done.folder, lag=2))
    assert contents(done.folder) == before


def test_other_weights_in_the_same_folder_are_another_run(
    done: Run, tiny: Path, prompts_of: Path, llama_folder: LlamaFolder, tmp_path: Path
) -> None:
    other = tmp_path / tiny.name
    shutil.copytree(llama_folder(seed=1), other)
    with pytest.raises(RunFolderError, match="model_revision"):
        map(config(other, prompts_of, done.folder))


def test_other_prompts_under_the_same_name_are_another_run(
    done: Run, tiny: Path, tmp_path: Path
) -> None:
    (tmp_path / "prompts.csv").write_text("prompt\nsomething else\nand more\n")
    with pytest.raises(RunFolderError, match="prompts"):
        map(config(tiny, tmp_path / "prompts.csv", done.folder))


def test_force_replaces(done: Run, tiny: Path, prompts_of: Path, tmp_path: Path) -> None:
    shutil.copytree(done.folder, tmp_path / "run")
    run = advance(config(tiny, prompts_of, tmp_path / "run", lag=2, force=True), until="atoms")
    assert run.reused == ()
    assert run.atoms.attrs["lag"] == 2
    again = advance(config(tiny, prompts_of, tmp_path / "run", lag=2), until="atoms")
    assert again.reused == ("recording", "atoms")


def test_force_with_bad_input_loses_nothing(
    done: Run, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(done.folder, tmp_path / "run")
    before = contents(tmp_path / "run")
    (tmp_path / "long.csv").write_text(f"prompt\n{'word ' * 80}\n")
    arguments = ["--prompts", str(tmp_path / "long.csv"), "--out", str(tmp_path / "run")]
    assert main(["map", str(tiny), *arguments, "--force"]) == 2
    assert "context" in capsys.readouterr().err
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize("name", ["recording", "atoms", "atlas"])
def test_an_edited_artifact_is_refused(
    done: Run, tiny: Path, prompts_of: Path, tmp_path: Path, name: str
) -> None:
    shutil.copytree(done.folder, tmp_path / "run")
    path = tmp_path / "run" / FILES[name]
    with h5py.File(path, "r+") as file:
        variable = {"recording": "activity", "atoms": "tdmi", "atlas": "synergy"}[name]
        file[variable][0] = 3.0
    with pytest.raises(ArtifactError, match="edited"):
        map(config(tiny, prompts_of, tmp_path / "run"))


def test_a_truncated_artifact_is_refused_and_made_again_once_removed(
    done: Run, tiny: Path, prompts_of: Path, tmp_path: Path
) -> None:
    shutil.copytree(done.folder, tmp_path / "run")
    path = tmp_path / "run" / FILES["atoms"]
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ArtifactError, match="truncated"):
        map(config(tiny, prompts_of, tmp_path / "run"))
    path.unlink()
    run = map(config(tiny, prompts_of, tmp_path / "run"))
    assert "recording" in run.reused
    assert contents(tmp_path / "run") == contents(done.folder)


class Interrupt:
    """Progress that raises KeyboardInterrupt at the n-th call."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, what: str, done: int, total: int) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def test_interrupted_anywhere_and_resumed_is_bitwise_undisturbed(
    done: Run, tiny: Path, prompts_of: Path, tmp_path: Path, calls: list[str]
) -> None:
    assert len(set(calls)) >= 2
    for at in np.unique(np.linspace(1, len(calls), 5).astype(int)):
        folder = tmp_path / f"run{at}"
        with pytest.raises(KeyboardInterrupt):
            map(config(tiny, prompts_of, folder), progress=Interrupt(int(at)))
        advance(config(tiny, prompts_of, folder), until="atlas")
        assert contents(folder, MADE[:3]) == contents(done.folder, MADE[:3]), at
        assert sorted(p.name for p in folder.iterdir()) == sorted([*MADE[:3], "run.json"])
    # The report is made of the artifacts alone.
    map(config(tiny, prompts_of, folder))
    assert contents(folder) == contents(done.folder)


def test_a_resumed_run_keeps_its_batch_size(tiny: Path, prompts_of: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        map(config(tiny, prompts_of, tmp_path / "run", batch_size=3), progress=Interrupt(2))
    advance(config(tiny, prompts_of, tmp_path / "run", batch_size=1), until="recording")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["batch_size"] == 3


def test_killed_outright_and_resumed(
    done: Run, tiny: Path, prompts_of: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "map", str(tiny), "--prompts", str(prompts_of), "--out", str(tmp_path / "run"),
        "--tokens", "24", "--prompt-style", "raw", "--surrogates", "5", "--batch-size", "2",
        "--threads", "1",
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "synatlas.cli", *arguments],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "run.json").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    assert main(arguments) == 0
    assert contents(tmp_path / "run") == contents(done.folder)
    told = capsys.readouterr().out.splitlines()
    assert len(told) <= 15
    assert told[-1].endswith("report.html")


def test_stages_alone_equal_the_whole(
    done: Run, tiny: Path, prompts_of: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "run")
    options = ["--prompts", str(prompts_of), "--out", folder, "--tokens", "24"]
    options += ["--prompt-style", "raw", "--surrogates", "5", "--batch-size", "2"]
    assert main(["record", str(tiny), *options]) == 0
    for stage in ("decompose", "rank", "report"):
        assert main([stage, folder]) == 0
        assert len(capsys.readouterr().out.splitlines()) <= 15
    assert contents(Path(folder)) == contents(done.folder)


def test_the_last_lines_tell_the_excess_over_each_null_and_how_it_matches(done: Run) -> None:
    told = list(lines(done, 1.0))
    (nulls,) = [line for line in told if line.startswith("synergy over its nulls: ")]
    second, first = nulls.removeprefix("synergy over its nulls: ").split("; ")
    assert first.startswith("window_shift ")
    assert "self-information off by +0.0%" in first
    assert first.endswith(f"{NULLS['window_shift'].level})")
    error = float(done.atlas["null_same_step_error"].sel(null="cross_prompt"))
    assert second.startswith("cross_prompt ")
    assert second.endswith(f"same-step correlation by {error:+.3f})")


def test_the_last_lines_are_few_whatever_the_warnings(done: Run) -> None:
    warned = done.atlas.assign_attrs(warnings=json.dumps(["w"] * 9))
    run = replace(done, artifacts={**done.artifacts, "atlas": warned}, reused=("recording",))
    told = list(lines(run, 1.0))
    assert len(told) == 15
    assert "and 6 more warnings in the report" in told


def test_a_random_network_of_the_same_architecture(
    done: Run, tiny: Path, prompts_of: Path, tmp_path: Path
) -> None:
    one, two = (
        advance(
            config(tiny, prompts_of, tmp_path / str(seed), random_init=True, init_seed=seed),
            until="recording",
        )
        for seed in (3, 4)
    )
    assert not np.allclose(one.recording["activity"], done.recording["activity"])
    assert not np.allclose(one.recording["activity"], two.recording["activity"])


def test_the_report_shows_prompts_as_text(done: Run) -> None:
    page = (done.folder / "report.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    assert "<b>bold</b>" not in page


def test_nuisances_belong_to_the_run(done: Run, tiny: Path, prompts_of: Path) -> None:
    out = done.folder.parent / "without"
    arguments = ["--prompts", prompts_of, "--out", out, "--tokens", 24, "--batch-size", 2]
    names = ["--nuisance", "token", "--nuisance", "trend", "--nulls", "same_step"]
    names += ["--surrogates", "5"]
    assert main(["map", *map_text(tiny, *arguments, *names), "--prompt-style", "raw"]) == 0
    atoms = sa.open(out / FILES["atoms"])
    again = sa.decompose(
        done.recording, nuisance=("trend", "token"), nulls=("same_step",), surrogates=5
    )
    assert atoms.attrs["nuisance"] == "trend, token"
    assert again.identical(atoms)
    assert again.attrs["fingerprint"] != done.atoms.attrs["fingerprint"]
    assert not np.allclose(again["atom"], done.atoms["atom"])
    with pytest.raises(RunFolderError, match="nuisance"):
        map(config(tiny, prompts_of, out, nulls=["same_step"]))


def test_a_direction_belongs_to_the_run_by_its_values(
    tiny: Path, prompts_of: Path, tmp_path: Path
) -> None:
    rows = np.random.default_rng(0).normal(size=(6, 8))
    for name in ("one", "same"):
        np.save(tmp_path / f"{name}.npy", rows)
    np.save(tmp_path / "other.npy", rows[::-1])
    fixed = ["--prompts", prompts_of, "--out", tmp_path / "run", "--tokens", 8]
    for name, code in (("one", 0), ("same", 0), ("other", 2)):
        chosen = ["--reduce", "projection", "--direction", tmp_path / f"{name}.npy"]
        assert main(["record", *map_text(tiny, *fixed, *chosen)]) == code
    recording = sa.open(tmp_path / "run" / FILES["recording"])
    unit_length = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(recording["direction"], unit_length, rtol=1e-6)
    assert main(["decompose", str(tmp_path / "run")]) == 0
    assert sa.open(tmp_path / "run" / FILES["atoms"]).sizes["unit"] == 6


def test_the_estimator_belongs_to_the_run(
    done: Run, tiny: Path, prompts_of: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Binary series to the report, without the null that is in closed form for correlations."""
    out = done.folder.parent / "binary"
    arguments = ["--prompts", prompts_of, "--out", out, "--tokens", 24, "--batch-size", 2]
    names = ["--estimator", "binary", "--nulls", "same_step", "--prompt-style", "raw"]
    names += ["--surrogates", "5"]
    assert main(["map", *map_text(tiny, *arguments), *names]) == 0
    atoms = sa.open(out / FILES["atoms"])
    again = sa.decompose(done.recording, estimator="binary", nulls=("same_step",), surrogates=5)
    assert again.identical(atoms)
    assert "same_step" in json.loads(atoms.attrs["nulls_left_out"])
    assert np.isnan(sa.open(out / FILES["atlas"])["integration"]).all()
    printed = capsys.readouterr().out
    assert "(binary, mmi, lag 1)" in printed
    assert "The same_step null was left out: its closed form is one of correlations" in printed


def map_text(*arguments: object) -> list[str]:
    return [str(argument) for argument in arguments]

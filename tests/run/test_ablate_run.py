"""The command that ablates a run: resumed, reused, refused, and what its workers do."""

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

import synatlas as sa
from synatlas import ablation
from synatlas.ablation import Ablation, ablate_run
from synatlas.cli import main
from synatlas.errors import RunFolderError
from synatlas.intervene.settings import Settings

LlamaFolder = Callable[..., Path]

SETTINGS = Settings(
    orders=("rank_of_difference", "redundant_first", "single_unit"),
    draws=4,
    curve_draws=1,
    points=3,
    accuracy_draws=2,
    questions=0,
)


@pytest.fixture(scope="module")
def tiny(llama_folder: LlamaFolder) -> Path:
    """A tiny model with room for a question and a free reply."""
    return llama_folder(context=512)


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """A run folder that tests copy."""
    folder = tmp_path_factory.mktemp("mapped")
    prompts = folder / "prompts.csv"
    prompts.write_text("id,prompt,category\na,One two,x\nb,Why is it so,y\nc,Tell me,x\n")
    asked = ["--prompts", prompts, "--tokens", 10, "--surrogates", 3, "--nulls", "window_shift"]
    assert main(["map", str(tiny), "--out", str(folder / "run"), *map(str, asked)]) == 0
    return folder / "run"


@pytest.fixture
def folder(mapped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(mapped, tmp_path / "run"))


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tasks") / "tasks.jsonl"
    path.write_text('{"question": "2 + 2", "answer": "4"}\n{"question": "3 + 2", "answer": "5"}\n')
    return path


def asked(folder: Path, model: Path, **changes: object) -> Ablation:
    return Ablation(folder=folder, settings=SETTINGS, model=str(model), **changes)  # type: ignore


def test_a_run_is_ablated_reused_and_reported(
    folder: Path, tiny: Path, tasks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--orders", "norm", "--draws", 3, "--points", 2, "--model", tiny, "--tasks", tasks]
    command = ["ablate", folder, *options, "--jobs", 1]
    assert main([str(part) for part in command]) == 0
    told = capsys.readouterr().out
    assert "report:" in told
    assert "<script" not in told
    made = (folder / "divergence.nc").read_bytes()
    found = sa.open(folder / "divergence.nc")
    assert found["order"].values.tolist() == ["norm", "random", "random_depth_matched"]
    assert found.sizes["item"] == 2
    assert (found["correct"].sel(order="norm").isel(draw=0, n_ablated=0) >= 0).all()
    assert found.attrs["questions"] == tasks.name
    assert "Ablation" in (folder / "report.html").read_text()
    assert not (folder / ".parts").exists()
    assert main([str(part) for part in command]) == 0
    assert (folder / "divergence.nc").read_bytes() == made
    # A map that is asked for again keeps the section.
    assert main(["report", str(folder)]) == 0
    assert "Ablation" in (folder / "report.html").read_text()
    record = json.loads((folder / "run.json").read_text())
    assert str(tiny) not in json.dumps(record)
    assert main([*(str(part) for part in command), "--seed", "1"]) == 2
    assert "--force" in capsys.readouterr().err
    assert (folder / "divergence.nc").read_bytes() == made
    assert main([*(str(part) for part in command), "--seed", "1", "--force"]) == 0
    assert (folder / "divergence.nc").read_bytes() != made


def test_workers_do_the_pieces_that_the_process_would_do(
    folder: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    ablate_run(asked(other, tiny), jobs=1)

    done: list[int] = []

    class Here(Executor):
        def submit(self, fn: Any, /, *args: Any, **_: Any) -> Future[Any]:
            done.append(args[1])
            finished: Future[Any] = Future()
            finished.set_result(fn(*args))
            return finished

    @contextmanager
    def processes(count: int, *, begin: Any, given: tuple[Any, ...]) -> Iterator[Executor]:
        assert count == 2
        begin(*given)
        yield Here()

    monkeypatch.setattr(ablation, "processes", processes)
    ablate_run(asked(folder, tiny), jobs=2)
    assert len(done) == 6
    xr.testing.assert_identical(sa.open(folder / "divergence.nc"), sa.open(other / "divergence.nc"))


def test_an_interrupted_ablation_is_resumed(folder: Path, tiny: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    ablate_run(asked(other, tiny), jobs=1)

    def stop(what: str, done: int, total: int) -> None:
        if what == "ablating sets of units" and done == total - 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ablate_run(asked(folder, tiny), jobs=1, progress=stop)
    assert not (folder / "divergence.nc").exists()
    kept = sorted((folder / ".parts" / "ablation").iterdir())
    assert len(kept) == 5
    times = [path.stat().st_mtime_ns for path in kept]
    seen: list[int] = []

    def watch(what: str, done: int, total: int) -> None:
        del done, total
        if what.startswith("ablating"):
            seen.extend(path.stat().st_mtime_ns for path in kept)

    ablate_run(asked(folder, tiny), jobs=1, progress=watch)
    assert {*seen} == {*times}
    for name in ("divergence.nc", "report.html"):
        assert (folder / name).read_bytes() == (other / name).read_bytes()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--fractions", "1.5"], "1.5"),
        (["--fractions", "0"], "0"),
        (["--orders", "cleverness"], "cleverness"),
        (["--ablation", "spoil"], "spoil"),
        (["--draws", "0"], "draws"),
        (["--jobs", "-1"], "jobs"),
        (["--tasks", "{tmp}/empty.jsonl"], "empty"),
        (["--tasks", "{tmp}/none.jsonl"], "none.jsonl"),
        (["--recipe", "{tmp}/none.toml"], "none.toml"),
        (["--model", "bundled:reference"], "another model"),
        ([], "--model"),
    ],
)
def test_bad_input_is_one_message_and_nothing_changes(
    folder: Path,
    tiny: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    told: str,
) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    options = [option.format(tmp=tmp_path) for option in options]
    if "--model" not in options and told != "--model":
        options += ["--model", str(tiny)]
    before = {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    capsys.readouterr()
    assert main(["ablate", str(folder), *options]) == 2
    message = capsys.readouterr()
    assert "Traceback" not in message.err
    assert "What to do" in message.err
    assert told in message.err
    assert message.out == ""
    assert {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()} == before


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="no recording"):
        ablate_run(Ablation(folder=tmp_path))
    assert not any(tmp_path.iterdir())

"""Whatever is wrong with the input: one message, exit code 2, nothing written, nothing lost."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from synatlas.cli import main

Told = Callable[..., str]
LlamaFolder = Callable[..., Path]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Told:
    """Run the command line, expect exit code 2 and no new file, and return the message."""

    def run(*arguments: object, out: Path | None = None) -> str:
        out = out or tmp_path / "out"
        before = {p: p.stat().st_mtime_ns for p in sorted(out.rglob("*"))}
        capsys.readouterr()
        code = main(["map", *map(str, arguments), "--out", str(out)])
        told = capsys.readouterr()
        assert code == 2, told.err
        assert "Traceback" not in told.err
        assert "What to do" in told.err
        assert told.out == ""
        assert {p: p.stat().st_mtime_ns for p in sorted(out.rglob("*"))} == before
        return told.err

    return run


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_unknown_model_id(refused: Told) -> None:
    assert "no-such-owner/no-such-model" in refused("no-such-owner/no-such-model")


def test_unknown_bundled_model(refused: Told) -> None:
    assert "bundled:reference" in refused("bundled:none")


def test_folder_without_config(refused: Told, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "config.json" in refused(tmp_path / "empty")


def test_model_without_a_language_model_head(refused: Told, encoder_folder: Path) -> None:
    assert "vit" in refused(encoder_folder)


def test_heads_of_a_model_that_has_none(refused: Told, mamba_folder: Path) -> None:
    assert "recurrent" in refused(mamba_folder)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("empty.csv", b"", "empty"),
        ("header.csv", b"prompt\n", "prompt"),
        ("column.csv", b"question\nWhat?\n", "question"),
        ("latin.csv", "prompt\ncaf\xe9\n".encode("latin-1"), "UTF-8"),
        ("broken.csv", b'prompt,id\n"unclosed,1\n', ""),
        ("ragged.csv", b"prompt,id\na,1,2,3\n", ""),
        ("broken.jsonl", b'{"prompt": "a"}\n{"prompt": \n', "line 2"),
        ("number.jsonl", b'{"prompt": 5}\n', "5"),
        ("null.jsonl", b'{"prompt": null}\n', ""),
        ("list.jsonl", b'{"prompt": ["a"]}\n', ""),
        ("number.csv", b"prompt\n12\n13\n", "12"),
        ("blank.csv", b'id,prompt\na,"  "\n', "blank"),
        ("blank.jsonl", b'{"prompt": " "}\n', "blank"),
        ("twice.csv", b"id,prompt\na,x\na,y\n", "a"),
        ("rubbish.parquet", b"PAR1rubbish", "parquet"),
        ("prompts.txt", b"hello\n", ".csv"),
    ],
)
def test_prompt_file(
    refused: Told, tiny: Path, tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    (tmp_path / name).write_bytes(content)
    message = refused(tiny, "--prompts", tmp_path / name)
    assert name in message
    assert told in message


def test_prompt_file_missing(refused: Told, tiny: Path, tmp_path: Path) -> None:
    assert "none.csv" in refused(tiny, "--prompts", tmp_path / "none.csv")


def test_parquet_prompts_that_are_numbers(refused: Told, tiny: Path, tmp_path: Path) -> None:
    pd.DataFrame({"prompt": [1.5, 2.5]}).to_parquet(tmp_path / "n.parquet")
    assert "n.parquet" in refused(tiny, "--prompts", tmp_path / "n.parquet")


def test_nuisances_without_room(refused: Told, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("prompt\nWhy?\n")
    told = refused(tiny, "--prompts", tmp_path / "one.csv", "--nuisance", "position")
    assert "take the nuisance trend" in told
    names = ["trend", "surprisal", "differences"]
    told = refused(tiny, "--tokens", 8, *(a for name in names for a in ("--nuisance", name)))
    assert "leave 5 degrees of freedom of 8 steps" in told


def test_direction_of_another_shape(refused: Told, tiny: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.ones((3, 8)))
    told = refused(tiny, "--reduce", "projection", "--direction", tmp_path / "d.npy")
    assert "(6, 8) or (8,)" in told


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--tokens", "7"], "--tokens 7"),
        (["--tokens", "many"], "many"),
        (["--lag", "100"], "--lag 100"),
        (["--redundancy", "imin"], "mmi"),
        (["--estimator", "ksg"], "gaussian"),
        (["--prompt-style", "poem"], "question"),
        (["--nulls", "shuffle"], "cross_prompt"),
        (["--nuisance", "slope"], "trend"),
        (["--reduce", "pc2"], "pc1"),
        (["--reduce", "projection"], "--direction FILE"),
        (["--direction", "d.npy"], "with a direction"),
        (["--reduce", "projection", "--direction", "none.npy"], "no such file"),
        (["--units", "neurons"], "heads"),
        (["--tokenz", "9"], "--tokens"),
        (["--dtype", "float7"], "float32"),
        (["--device", "abacus"], "abacus"),
    ],
)
def test_options(refused: Told, tiny: Path, options: list[str], told: str) -> None:
    assert told in refused(tiny, *options)


def test_chat_style_without_a_template(refused: Told, tiny: Path) -> None:
    assert "template" in refused(tiny, "--prompt-style", "chat")


def test_prompt_longer_than_the_context(refused: Told, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "long.csv").write_text(f"id,prompt\nthe-long-one,{'word ' * 60}\n")
    message = refused(tiny, "--prompts", tmp_path / "long.csv")
    assert "the-long-one" in message
    assert "256" in message


def test_one_unit_only(refused: Told, llama_folder: LlamaFolder) -> None:
    assert "1 unit" in refused(llama_folder(layers=1, heads=1))


def test_output_folder_is_a_file(refused: Told, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "in the way" in refused(tiny, out=tmp_path / "file")


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mapp"]) == 2
    assert "map" in capsys.readouterr().err


def test_too_many_arguments(refused: Told, tiny: Path) -> None:
    assert "other" in refused(tiny, "other")


@pytest.mark.parametrize("stage", ["decompose", "rank", "report"])
def test_a_stage_without_a_recording(
    stage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([stage, str(tmp_path / "nothing")]) == 2
    assert "no recording" in capsys.readouterr().err
    assert not (tmp_path / "nothing").exists()


def test_debug_shows_where(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["map", "--debug", "--tokens", "3", "--out", str(tmp_path / "o")]) == 2
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert "--tokens 3" in told


def test_the_installed_command_exits_with_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "synatlas.cli", "map", "--tokens", "3"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("Given: --tokens 3\n")

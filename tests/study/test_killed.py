"""A study that is killed at random moments and started again is the undisturbed one."""

import os
import signal
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synatlas.study.recipe import Study, study_of
from synatlas.study.study import run_study
from tiny_models import tiny_network, tiny_tokenizer


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_network("llama", num_hidden_layers=3).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    prompts = folder.parent / "prompts.csv"
    prompts.write_text("prompt\nOne two\nWhy is it so\nTell me\n")
    settings = {"model": str(folder), "tokens": 10, "surrogates": 2, "nulls": ["window_shift"]}
    own = {"name": "own", "prompts": str(prompts), "prompt_style": "raw", "batch_size": 2}
    fed = {"name": "fed", "reads": "own", "random_init": True}
    return study_of({"map": settings, "cell": [own, fed]}, name="small")


def go(study: Study, folder: Path) -> Any:
    """The study in a process of its own; forked, because importing everything takes seconds."""
    process = get_context("fork").Process(
        target=run_study, args=(study, folder), kwargs={"until": "atlas"}
    )
    process.start()
    return process


def contents(folder: Path) -> dict[str, bytes]:
    files = [p for p in folder.rglob("*") if p.suffix in {".nc", ".parquet"}]
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def test_killed_at_random_moments(study: Study, tmp_path: Path) -> None:
    # In this process, so that those forked below have everything imported.
    run_study(replace(study, cells=study.cells[:1]), tmp_path / "warm", until="atlas")
    started = time.monotonic()
    run_study(study, tmp_path / "undisturbed", until="atlas")
    whole = time.monotonic() - started
    rng = np.random.default_rng(20261121)
    kills, lives, process = 0, 0, None
    while process is None or process.exitcode == -signal.SIGKILL:
        lives += 1
        process = go(study, tmp_path / "killed")
        # The last life is left alone, so that the test ends.
        process.join(rng.uniform(0.1, 0.7) * whole if lives <= 3 else None)
        if process.is_alive():
            kills += 1
            os.kill(process.pid, signal.SIGKILL)
            process.join()
    assert process.exitcode == 0
    assert kills >= 1
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")
    assert len(contents(tmp_path / "killed")) == 7
    # Nothing of a killed process is left.
    assert not list((tmp_path / "killed").rglob(".*"))

"""Constant, duplicated and non-finite series go through: NaN, a status, counted in the summary."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import synatlas as sa
from synatlas.cli import main

LlamaFolder = Callable[..., Path]


def mapped(folder: Path, prompts: Path, out: Path) -> None:
    options = ["--prompts", str(prompts), "--prompt-style", "raw", "--tokens", "24"]
    assert main(["map", str(folder), *options, "--surrogates", "5", "--out", str(out)]) == 0


def edit(folder: Path, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


def counts(atoms, layers: tuple[int, int]) -> set[str]:
    """Statuses of the pairs between two layers."""
    layer = dict(zip(atoms["unit"].values.tolist(), atoms["layer"].values.tolist(), strict=True))
    names = dict(
        zip(
            atoms["status"].attrs["flag_values"].tolist(),
            atoms["status"].attrs["flag_meanings"].split(),
            strict=True,
        )
    )
    return {
        names[int(status)]
        for a, b, status in zip(
            atoms["unit_a"].values, atoms["unit_b"].values, atoms["status"].values, strict=True
        )
        if (layer[a], layer[b]) == layers
    }


def test_constant_and_duplicated_heads(
    llama_folder: LlamaFolder, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = llama_folder(seed=5)

    def change(weights: dict[str, np.ndarray]) -> None:
        # Two query heads of one key/value group with the same rows have the same output.
        queries = weights["model.layers.1.self_attn.q_proj.weight"]
        queries[8:] = queries[:8]
        weights["model.layers.2.self_attn.v_proj.weight"][:] = 0

    edit(folder, change)
    mapped(folder, prompts, tmp_path / "run")
    told = capsys.readouterr().out
    atoms = sa.open(tmp_path / "run" / "atoms.nc")
    assert counts(atoms, (1, 1)) == {"duplicate"}
    assert counts(atoms, (2, 2)) == counts(atoms, (0, 2)) == {"constant"}
    assert counts(atoms, (0, 0)) == counts(atoms, (0, 1)) == {"ok"}
    # 15 pairs of 6 units: 9 with a unit of the constant layer, one duplicate.
    assert "pairs: 5 ok, 9 constant, 1 duplicate" in told
    values = atoms["atom"].values
    constant = atoms["status"].values == 1
    assert np.isnan(values[constant]).all()
    assert np.isfinite(values[~constant]).all()
    limit = atoms["atom"].values[atoms["status"].values == 2][0]
    assert limit[0, 0] == pytest.approx(float(atoms["tdmi"].values[atoms["status"].values == 2][0]))
    assert np.abs(limit.ravel()[1:]).max() < 1e-12
    atlas = sa.open(tmp_path / "run" / "atlas.nc")
    assert np.isnan(atlas["synergy"].values[atlas["unit_layer"].values == 2]).all()


def test_non_finite_heads(
    llama_folder: LlamaFolder, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = llama_folder(seed=6)

    def change(weights: dict[str, np.ndarray]) -> None:
        weights["model.layers.2.self_attn.v_proj.weight"][0, 0] = np.nan

    edit(folder, change)
    mapped(folder, prompts, tmp_path / "run")
    assert "9 nonfinite" in capsys.readouterr().out
    atoms = sa.open(tmp_path / "run" / "atoms.nc")
    assert counts(atoms, (2, 2)) == {"nonfinite"}
    assert np.isnan(atoms["atom"].values[atoms["status"].values == 5]).all()

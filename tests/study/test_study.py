"""Studies: every combination once, one table, resumed after a kill, and told what went wrong."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import synatlas as sa
from synatlas.cli import main
from synatlas.config import MapConfig
from synatlas.errors import ConfigError, RunFolderError
from synatlas.models.identity import content_revision
from synatlas.study.cells import grid
from synatlas.study.recipe import Study, read_recipe, study_of
from synatlas.study.study import run_study
from synatlas.study.table import profiles
from tiny_models import tiny_network, tiny_tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_network("llama", num_hidden_layers=3).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    (folder.parent / "prompts.csv").write_text("prompt\nOne two\nWhy is it so\nTell me\n")
    return folder


def tables(model: Path, **changes: Any) -> dict[str, Any]:
    settings = {
        "model": str(model),
        "prompts": str(model.parent / "prompts.csv"),
        "tokens": 12,
        "surrogates": 2,
        "nulls": ["window_shift"],
    }
    return {
        "question": "Do seeds differ?",
        "map": settings,
        "axes": {"init_seed": [3, 4], "random_init": [True]},
        "cell": [
            {"name": "trained", "labels": {"step": 100}},
            {"name": "fresh", "reads": "trained", "random_init": True, "prompts": ""},
        ],
    } | changes


@pytest.fixture(scope="module")
def study(model: Path) -> Study:
    return study_of(tables(model), name="seeds")


@pytest.fixture(scope="module")
def done(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run_study(study, tmp_path_factory.mktemp("study") / "one", until="atlas")


def test_a_grid_is_every_combination_once() -> None:
    axes = {"model": ["a/b", "c"], "revision": [None, "step1"], "seed": [0, 1, 2]}
    cells = grid(MapConfig(tokens=30), axes)
    assert len({cell.name for cell in cells}) == len(cells) == 12
    found = {(c.config.model, c.config.revision, c.config.seed) for c in cells}
    assert len(found) == 12
    assert {c.config.tokens for c in cells} == {30}
    assert cells[0].labels == {"model": "a/b", "revision": "", "seed": 0}
    assert all("/" not in cell.name for cell in cells)


def test_a_table_holds_what_the_atlases_do(done: Any) -> None:
    table = done.table
    assert not done.failed
    assert pd.read_parquet(done.folder / "table.parquet").equals(table)
    assert table["cell"].unique().tolist() == [c.name for c in done.study.cells]
    for name, rows in table.groupby("cell"):
        atlas = sa.open(done.folder / "cells" / str(name) / "atlas.nc")
        at = rows.set_index("score")
        np.testing.assert_array_equal(
            at["curvature"].loc[atlas["score"].to_numpy()], atlas["curvature"]
        )
        assert at.loc["synergy", "mean"] == pytest.approx(float(atlas["synergy"].mean()))
    assert set(table.loc[table["cell"] == "trained", "step"]) == {100}
    by_cell = table.drop_duplicates("cell").set_index("cell")
    # Fresh weights read the trained one's replies: fewer periods of their own, other likelihood.
    assert by_cell.loc["fresh", "periodic_replies"] == by_cell.loc["trained", "periodic_replies"]
    assert by_cell.loc["fresh", "mean_logprob"] < by_cell.loc["trained", "mean_logprob"]


def test_profiles_share_one_depth(done: Any) -> None:
    found = profiles(done.outcomes, "synergy")
    atlas = sa.open(done.folder / "cells" / "trained" / "atlas.nc")
    expected = atlas["profile"].sel(score="synergy").to_numpy()
    np.testing.assert_allclose(found.sel(cell="trained"), expected)
    np.testing.assert_array_equal(found["depth"], atlas["depth"])


def test_several_at_a_time_equal_one_by_one_and_are_reused(done: Any, tmp_path: Path) -> None:
    study = replace(done.study, cells=done.study.cells[:2])
    both = run_study(study, tmp_path / "two", jobs=2, until="atlas")
    expected = done.table[done.table["cell"].isin([c.name for c in study.cells])]
    pd.testing.assert_frame_equal(both.table, expected[both.table.columns], check_dtype=False)
    written = {p: p.stat().st_mtime_ns for p in (tmp_path / "two").rglob("*.nc")}
    again = run_study(study, tmp_path / "two", until="atlas")
    assert written == {p: p.stat().st_mtime_ns for p in written}
    pd.testing.assert_frame_equal(again.table, both.table)


def test_another_study_in_the_folder_is_refused(done: Any, model: Path) -> None:
    other = study_of(tables(model, question="Or not?"), name="seeds")
    with pytest.raises(RunFolderError, match="another run"):
        run_study(other, done.folder)


@pytest.mark.parametrize("after", [2, 5])
def test_interrupted_and_resumed_it_is_undisturbed(done: Any, tmp_path: Path, after: int) -> None:
    """Stopped while the first or the second cell decomposes; a killed run is tested elsewhere."""
    study = replace(done.study, cells=done.study.cells[:2])
    told = []

    def stop(what: str, done: int, total: int) -> None:
        if what not in told[-1:]:
            told.append(what)
        if len(told) > after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(study, tmp_path, until="atlas", progress=stop)
    assert not (tmp_path / "table.parquet").exists()
    table = run_study(study, tmp_path, until="atlas").table
    expected = done.table[done.table["cell"].isin(table["cell"])]
    pd.testing.assert_frame_equal(table, expected[table.columns], check_dtype=False)
    for cell in study.cells:
        files = [at / "cells" / cell.name / "atlas.nc" for at in (tmp_path, done.folder)]
        assert files[0].read_bytes() == files[1].read_bytes()


def as_toml(content: dict[str, Any]) -> str:
    def value(v: Any) -> str:
        if isinstance(v, dict):
            return f"{{{', '.join(f'{k} = {value(w)}' for k, w in v.items())}}}"
        if isinstance(v, list):
            return f"[{', '.join(map(value, v))}]"
        return json.dumps(v)

    return "\n".join(f"{key} = {value(v)}" for key, v in content.items())


def test_what_fails_is_told_and_the_rest_is_there(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "bad.toml"
    cells = [{"name": "none", "model": str(tmp_path)}, {"name": "after", "reads": "none"}]
    good = {"name": "good", "prompts": str(model.parent / "prompts.csv")}
    bad = tables(model, axes={}, cell=[*cells, good])
    bad["map"]["prompts"] = ""
    bad["map"]["tokens"] = 8
    recipe.write_text(as_toml(bad))
    assert main(["run", str(recipe), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr()
    assert "1 of 3 maps complete" in told.out
    assert "it has no config.json" in told.err
    table = pd.read_parquet(tmp_path / "out" / "table.parquet").set_index("cell")
    assert "whose replies it reads, failed" in table.loc["after", "status"]
    assert set(table.loc["good", "status"]) == {"complete"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"axis": {}}, "a recipe with axis"),
        ({"axes": {"colour": ["red"]}}, "an axis colour"),
        ({"axes": {"seed": [1, 1]}}, "each once"),
        ({"axes": {}, "cell": []}, "without cells"),
        ({"cell": [{"name": "a", "reads": "b"}], "axes": {}}, "which reads b"),
        ({"map": {"tokens": "many"}}, "tokens = 'many'"),
        ({"map": {"nulls": "window_shift"}}, "nulls = 'window_shift'"),
        ({"map": {"tokens": 4}}, "--tokens 4"),
        ({"map": {"colour": "red"}}, "settings colour"),
    ],
)
def test_recipes_that_cannot_be(model: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        study_of(tables(model, **changes), name="x")


RECIPES = sorted((Path(__file__).parents[2] / "recipes" / "studies").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_the_recipes_of_the_project_name_models_that_are_there(path: Path) -> None:
    study = read_recipe(path)
    assert study.question.endswith("?")
    assert len(study.cells) > 2
    for cell in study.cells:
        assert content_revision(cell.config.model, cell.config.revision)


def test_recipes_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("map = [")
    for name in ("broken.toml", "none.toml"):
        with pytest.raises(ConfigError, match="TOML"):
            read_recipe(tmp_path / name)

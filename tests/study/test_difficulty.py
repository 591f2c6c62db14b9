"""The study of difficulty: what is fed, what is said of planted rows, and the command."""

from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import synatlas as sa
from synatlas.cli import main
from synatlas.errors import ConfigError
from synatlas.simulate.graded import plant_order
from synatlas.study import difficulty_run
from synatlas.study.difficulty import (
    ABOVE,
    BASELINE,
    DIFFERENCE,
    Plan,
    asked_in,
    order_parameters,
    study_of,
    write_prompts,
)
from synatlas.study.difficulty_changes import SCORES, changes, find, sides
from synatlas.study.difficulty_page import write
from synatlas.study.difficulty_run import periodic_shares, sizes_of
from synatlas.study.difficulty_words import judged
from synatlas.study.sizes import compared
from synatlas.study.study import Held, run_held
from synatlas.tasks.graded import chosen, own_tasks, packed, task_source
from tiny_models import tiny_network, tiny_tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_network("llama", num_hidden_layers=3).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


#: Fewer random draws than a study makes.
FEW: Any = {"permutations": 199, "draws": 100}


def plan(*models: str, **changes: Any) -> Plan:
    settings = {"seeds": 2, "prompts": 4, "tokens": 12} | changes
    return Plan(models=models, tasks=chosen(own_tasks(), ("abstract",)), **settings)


def planted_rows(form: str, *, effect: float = 3.0, baseline: float = 0.0) -> pd.DataFrame:
    """A study whose order parameters are planted; fresh weights show none of it."""
    parts = []
    for i, category in enumerate(("abstract", "social")):
        for j, protocol in enumerate(("asked", "packed", "fresh")):
            rng = np.random.default_rng((7, i, j))
            shown = "constant" if protocol == "fresh" else form
            drawn = plant_order(shown, rng, levels=6, effect=effect)
            size = drawn.level.size
            # Lengths of questions follow their difficulty in one of the categories alone.
            length = 10.0 + 5 * drawn.level if i else rng.normal(20, 2, size)
            order = drawn[0][0]
            values = dict.fromkeys(SCORES, order)
            values[BASELINE] = baseline * order + rng.normal(0, 0.3, size)
            values[ABOVE] = values[DIFFERENCE] - values[BASELINE]
            right = (rng.random(size) < 0.5).astype(float)
            values["transfer"] = order + 2 * right
            parts.append(
                pd.DataFrame(
                    {
                        "model": "planted", "protocol": protocol, "seed": drawn.seed,
                        "category": category, "difficulty": drawn.level + 1,
                        "prompt_tokens": length, "answer_tokens": 5.0, "periodic": False,
                        "right": right if protocol == "asked" else np.nan, **values,
                    }
                )
            )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def test_what_is_planted_is_said() -> None:
    rows = planted_rows("step")
    found = changes(rows, **FEW)
    one = find(found, model="planted", view="packed", category="abstract")
    assert one.verdict in ("step", "step or sigmoid")
    assert one.rise_sd.excludes_zero
    words = judged(found, sides(rows), periodic_shares(rows), ())
    assert "sizes not compared" in words.headline
    assert [f.tone for f in words.findings] == ["yes", "yes"]
    apart = find(found, model="planted", view="asked, lengths out", category="social")
    assert apart.verdict == "no number"
    assert "not told apart from length: 100%" in apart.status
    known = find(found, model="planted", view="asked, lengths out", category="abstract")
    assert known.verdict in ("step", "step or sigmoid")
    assert any("social" in text for text in words.warnings)


def test_a_baseline_that_changes_as_much_is_a_doubt() -> None:
    rows = planted_rows("step", baseline=1.2)
    words = judged(changes(rows, **FEW), sides(rows), periodic_shares(rows), ())
    assert all("baseline changes as much or more" in f.why for f in words.findings)
    assert {f.tone for f in words.findings} == {"open"}


def test_nothing_planted_nothing_said() -> None:
    rows = planted_rows("constant")
    found = changes(rows, **FEW)
    words = judged(found, sides(rows), periodic_shares(rows), ())
    assert {f.holds for f in words.findings} == {"no change shown"}
    assert "No transition is shown" in words.headline


def test_right_and_wrong_answers_are_told_apart_within_difficulties() -> None:
    by_score = {s.score: s for s in sides(planted_rows("linear")) if s.category == "abstract"}
    assert by_score["transfer"].difference.low < 2.0 < by_score["transfer"].difference.high
    assert by_score["transfer"].difference.excludes_zero
    assert not by_score["synergy"].difference.low > 0.6
    none = planted_rows("linear").assign(right=1.0)
    told = sides(none)[0]
    assert np.isnan(told.difference).all()
    assert told.status
    assert told.accuracy.tolist() == [1.0] * 6


def test_a_change_sharpens_where_every_larger_model_is_narrower() -> None:
    rng = np.random.default_rng(1)
    drawn = [width + 0.1 * rng.random(50) for width in (1.0, 3.0, 2.0)]
    models, abrupt = ["large", "small", "middle"], ["step", "sigmoid", "sigmoid"]
    found = compared("social", models, [300, 100, 200], abrupt, drawn)
    assert found.models == ("small", "middle", "large")
    assert found.sharpens
    assert not compared("social", models, [300, 100, 200], ["linear", *abrupt[1:]], drawn).sharpens
    assert not compared("social", models, [100, 300, 200], abrupt, drawn).sharpens


def test_questions_and_texts_are_the_same_whenever_drawn(tmp_path: Path) -> None:
    study = study_of(plan("bundled:reference"), tmp_path / "a")
    for name in ("a", "b"):
        write_prompts(plan("bundled:reference"), tmp_path / name)
    assert len(study.cells) == 3 * 2
    read = {c.config.prompts or c.config.texts for c in study.cells}
    assert read == {str(file) for file in (tmp_path / "a" / "prompts").iterdir()}
    for file in (tmp_path / "a" / "prompts").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / "prompts" / file.name).read_bytes()
    asked = [list(asked_in(plan("x"), seed)) for seed in (0, 0, 1)]
    texts = [[a.question.prompt for a in one] for one in asked]
    assert texts[0] == texts[1] != texts[2]
    question = asked[0][0].question
    assert question.right(f" {question.answer}\nand more")
    assert not question.right(" something else")
    tasks = own_tasks()
    text = packed(tasks, "arithmetic", 6, 200, np.random.default_rng(0))
    assert len(text) >= 8 * 200
    assert text.count("Question:") == text.count("Answer:")


def test_the_study_is_made_and_another_one_refused(
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three of its cells: one asked, one packed and one of fresh weights."""

    def some(holding: Held, **options: Any) -> Any:
        cells = holding.study.cells
        study = replace(holding.study, cells=cells[:1] + cells[3:5])
        return run_held(replace(holding, study=study), **options)

    monkeypatch.setattr(difficulty_run, "run_held", some)
    studied = difficulty_run.difficulty(plan(str(model)), tmp_path)
    assert not studied.done.failed
    rows = studied.rows
    assert len(rows) == 3 * 4 * 4
    assert rows["right"].notna().sum() == rows["answer_tokens"].notna().sum() == 16
    assert {c.status for c in studied.found} == {"fewer than two seeds have a prompt"}
    assert studied.words is not None
    assert "has no number in 1 of 1 categories (abstract)" in studied.words.headline
    packed_rows = rows[rows["protocol"] == "packed"]
    cell = tmp_path / "cells" / "tiny_packed_1"
    atoms = sa.open(cell / "atoms.nc")
    profile = atoms["self_information"].to_numpy().reshape(16, 3, -1).mean(axis=2)
    expected = profile[:, 1] - (profile[:, 0] + profile[:, 2]) / 2
    np.testing.assert_allclose(order_parameters(atoms)["self_information"], expected)
    np.testing.assert_allclose(
        packed_rows.loc[packed_rows["seed"] == 1, "self_information"], expected
    )
    assert sa.open(cell / "recording.nc").sizes["step"] == 24
    verdicts = pd.read_parquet(tmp_path / "verdicts.parquet")
    assert set(verdicts["category"]) == {"abstract"}
    assert (tmp_path / "report.html").stat().st_size > 1e6
    assert sizes_of(plan(str(model)), rows, studied.found) == ()
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    few = ["--categories", "abstract", "--seeds", "2", "--prompts", "2"]
    assert main(["difficulty", str(model), *few, "--out", str(tmp_path)]) == 2
    assert "another run" in capsys.readouterr().err
    assert before == {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}


def test_the_page_shows_planted_rows(tmp_path: Path) -> None:
    rows = planted_rows("sigmoid")
    found, apart = changes(rows, **FEW), sides(rows)
    words = judged(found, apart, periodic_shares(rows), ())
    path = write(tmp_path / "report.html", found, apart, words, "planted")
    text = unescape(path.read_text("utf-8"))
    assert words.headline in text
    for name in ("order-0", "fresh", "susceptibility", "answers"):
        assert f'id="{name}"' in text or f"data-{name}" in text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--seeds", "1"], "--seeds 1"),
        (["--categories", "chess"], "among grammar"),
        (["--tasks", "chess:easy"], "--tasks chess:easy"),
        (["bundled:reference", "bundled:reference"], "each once"),
        (["bundled:none"], "bundled:none"),
    ],
)
def test_what_cannot_be_studied(
    arguments: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["difficulty", *arguments, "--out", str(tmp_path / "no")]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_a_category_needs_three_difficulties() -> None:
    tasks = own_tasks()
    with pytest.raises(ConfigError, match="at least 3"):
        chosen(type(tasks)(name="few", levels={"a": (1, 2)}, draw=tasks.draw), ())
    assert task_source("generators").levels == tasks.levels

"""Tasks of lm-eval on an ablated model: against its own run, and against answers counted here."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from synatlas.errors import ConfigError
from synatlas.intervene import harness
from synatlas.intervene.accuracy import correct
from synatlas.intervene.items import Items, generated
from synatlas.models.edits import at_projections, edit
from synatlas.models.load import LanguageModel, load
from tiny_models import TinyModel

pytestmark = pytest.mark.filterwarnings("ignore")


def masks(units: int) -> np.ndarray:
    drawn = np.random.default_rng(0).random(units)
    return np.stack([drawn >= share for share in (0.0, 0.15, 0.0)])


def run(model: LanguageModel, tasks: Any, **options: Any) -> pd.DataFrame:
    units = at_projections(model.found, model.units)
    keep = options.pop("keep", masks(len(units)))
    return harness.evaluate(
        model,
        units,
        keep,
        tasks,
        applied=lambda rows: edit(model.model, units, rows),
        orders=options.pop("orders", ["none", "random", "none"]),
        **options,
    )


def test_a_missing_package_is_told_in_one_message(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama")
    # What an import finds of a package that is not there.
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(ConfigError) as caught:
        run(model, ["gsm8k"])
    assert "pip install 'synatlas[eval]'" in str(caught.value)
    assert "lm_eval" in str(caught.value)


def test_masks_and_orders_are_of_one_length(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    with pytest.raises(ConfigError, match="1 orders for 3 sets"):
        run(model, ["x"], orders=["a"])
    with pytest.raises(ConfigError, match="masks of 2 units"):
        run(model, ["x"], keep=np.ones((3, 2), dtype=bool))


def test_results_are_laid_out_in_rows() -> None:
    found = {
        "results": {
            "sums": {
                "alias": "sums",
                "acc,none": 0.5,
                "acc_stderr,none": 0.1,
                "f1,strict": np.float64(0.25),
                "f1_stderr,strict": "N/A",
            }
        },
        "n-samples": {"sums": {"original": 9, "effective": 4}},
    }
    rows = list(harness.tidy(found))
    assert [(r["metric"], r["filter"], r["value"], r["items"]) for r in rows] == [
        ("acc", "none", 0.5, 4),
        ("f1", "strict", 0.25, 4),
    ]
    assert rows[0]["stderr"] == 0.1
    assert np.isnan(rows[1]["stderr"])


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    pytest.importorskip("lm_eval")
    return load("bundled:reference")


@pytest.fixture(scope="module")
def items() -> Items:
    return generated(3, seed=3, levels={"social": (1, 2), "abstract": (1,)})


@pytest.fixture(scope="module")
def folder(items: Items, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task of written answers, one of choices, and a group of both, from a local file."""
    where = tmp_path_factory.mktemp("tasks")
    rows = [
        {"question": q, "answer": a, "choices": [a, "no such answer"]}
        for q, a in zip(items.questions, items.answers, strict=True)
    ]
    (where / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = (
        f"dataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {where}/data.jsonl\n"
        'test_split: test\ndoc_to_text: "Question: {{question}}\\nAnswer:"\nnum_fewshot: 0\n'
    )
    written = (
        "task: written\noutput_type: generate_until\ndoc_to_target: answer\n"
        'generation_kwargs:\n  until: ["\\n"]\n  max_gen_toks: 24\n'
        "filter_list:\n  - name: stripped\n    filter:\n      - function: remove_whitespace\n"
        "      - function: take_first\n"
        "metric_list:\n  - metric: exact_match\n    aggregation: mean\n    higher_is_better: true\n"
    )
    chosen = (
        "task: chosen\noutput_type: multiple_choice\ndoc_to_choice: choices\ndoc_to_target: 0\n"
        "metric_list:\n  - metric: acc\n    aggregation: mean\n    higher_is_better: true\n"
    )
    (where / "written.yaml").write_text(written + common)
    (where / "chosen.yaml").write_text(chosen + common)
    (where / "both.yaml").write_text("group: both\ntask:\n  - written\n  - chosen\n")
    return where


def test_written_answers_are_counted_as_here(
    model: LanguageModel, items: Items, folder: Path
) -> None:
    torch.manual_seed(5)
    before = np.random.get_state()[1], torch.get_rng_state()  # noqa: NPY002 - what lm-eval seeds
    pad = model.tokenizer.pad_token
    table = run(model, ["both"], include=folder)
    assert list(table.columns) == list(harness.COLUMNS)
    assert set(table["task"]) >= {"written", "chosen"}
    assert model.tokenizer.pad_token == pad
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])
    units = at_projections(model.found, model.units)
    keep = masks(len(units))
    expected = correct(
        model, units, keep, items, applied=lambda rows: edit(model.model, units, rows)
    ).mean(axis=1)
    written = table.loc[table["task"] == "written"]
    np.testing.assert_allclose(written["value"], expected)
    assert expected[1] < expected[0] == expected[2]
    assert list(written["n_ablated"]) == (~keep).sum(axis=1).tolist()
    assert list(written["order"]) == ["none", "random", "none"]
    assert set(written["items"]) == {len(items)}
    assert written["stderr"].between(0, 0.5).all()
    chosen = table.loc[table["task"] == "chosen", "value"].to_numpy()
    assert chosen[0] == chosen[2] > 0.9


def test_a_task_is_a_file_or_a_configuration(model: LanguageModel, folder: Path) -> None:
    keep = masks(len(model.units))[:1]
    by_path = run(model, [str(folder / "written.yaml")], keep=keep, orders=["none"], limit=2)
    assert set(by_path["items"]) == {2}


def test_unknown_tasks_and_missing_data_are_told(model: LanguageModel, folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"did you mean .*written"):
        run(model, ["writen"], include=folder)
    with pytest.raises(ConfigError, match="no tasks"):
        run(model, [])
    text = (folder / "chosen.yaml").read_text().replace("data.jsonl", "gone.jsonl")
    (folder / "gone.yaml").write_text(text.replace("task: chosen", "task: gone"))
    with pytest.raises(ConfigError, match="without a network"):
        run(model, ["gone"], include=folder)

"""The trained models of the repository: whole, told by their cards, and made by their recipes."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from synatlas.models.identity import (
    BUNDLED,
    BUNDLED_FOLDER,
    FAMILY,
    FAMILY_FOLDER,
    bundled_models,
    resolve,
    snapshots,
)
from synatlas.models.load import load
from synatlas.tasks.card import markdown, sha256
from synatlas.tasks.training import Trainer

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    not FAMILY_FOLDER.is_dir(), reason="the models lie in a source checkout"
)
#: the member whose first steps are trained anew
CHEAPEST = "dense"
SAME_LOSS = 1e-3


def card_of(name: str) -> dict[str, Any]:
    return json.loads((FAMILY_FOLDER / name / "card.json").read_text())


@pytest.fixture
def recipes(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the recipes, from which modules can be imported."""
    monkeypatch.syspath_prepend(str(ROOT / "recipes"))
    return ROOT / "recipes"


@pytest.fixture
def trainer_recipe(recipes: Path) -> ModuleType:
    return importlib.import_module("train_model")


def test_every_member_is_there() -> None:
    there = sorted(path.parent.name for path in FAMILY_FOLDER.glob("*/config.json"))
    assert there == sorted(FAMILY)
    assert {f"{BUNDLED}{name}" for name in there} <= set(bundled_models())


@pytest.mark.parametrize("name", FAMILY)
def test_a_member_is_what_its_card_says(name: str, trainer_recipe: ModuleType) -> None:
    folder, card = FAMILY_FOLDER / name, card_of(name)
    assert (folder / "CARD.md").read_text() == markdown(card)
    assert sha256(folder / "model.safetensors") == card["weights_sha256"]
    settings = trainer_recipe.read_settings(ROOT / "recipes" / "family" / f"{name}.toml")
    assert json.loads(json.dumps(settings.tables)) == card["settings"]
    assert settings.train.steps == card["steps"]
    tokenizers = [
        (at / "tokenizer.json").read_bytes() for at in (folder, BUNDLED_FOLDER / "reference")
    ]
    assert tokenizers[0] == tokenizers[1]


@pytest.mark.parametrize("name", FAMILY)
def test_all_weights_load_and_none_is_left_over(name: str) -> None:
    for step in snapshots(f"{BUNDLED}{name}")[1:]:
        folder = Path(resolve(f"{BUNDLED}{name}", step).location)
        model, told = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
        assert not any(told[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        assert sum(p.numel() for p in model.parameters()) == card_of(name)["parameters"]
        with safe_open(folder / "model.safetensors", "pt") as stored:
            for key in stored.keys():  # noqa: SIM118
                tensor = stored.get_tensor(key)
                assert tensor.dtype == torch.float16
                assert tensor.isfinite().all()


@pytest.mark.parametrize("name", FAMILY)
def test_step_zero_is_the_trainers_first_model(name: str, trainer_recipe: ModuleType) -> None:
    settings = trainer_recipe.read_settings(ROOT / "recipes" / "family" / f"{name}.toml")
    loaded = load(f"{BUNDLED}{name}", revision="step0", device="cpu")
    assert loaded.revision.endswith(f"+random_init:{settings.model.init_seed}")
    config = trainer_recipe.model_config(settings.model, loaded.tokenizer)
    first = trainer_recipe.initial_model(config, settings.model.init_seed).state_dict()
    found = loaded.model.state_dict()
    assert first.keys() == found.keys()
    assert [key for key in first if not torch.equal(first[key], found[key])] == []


def test_the_first_steps_have_the_losses_of_the_card(
    trainer_recipe: ModuleType, bundled_tokenizer: PreTrainedTokenizerBase
) -> None:
    torch.set_num_threads(1)
    settings = trainer_recipe.read_settings(ROOT / "recipes" / "family" / f"{CHEAPEST}.toml")
    told = card_of(CHEAPEST)["first_losses"][:3]
    config = trainer_recipe.model_config(settings.model, bundled_tokenizer)
    first = trainer_recipe.initial_model(config, settings.model.init_seed)
    trainer = Trainer(first, bundled_tokenizer, settings.train, settings.stream)
    found = [row.loss for row in trainer.run(3)]
    assert found == pytest.approx(told, abs=SAME_LOSS)


def test_the_table_is_that_of_the_cards(recipes: Path) -> None:
    table = importlib.import_module("family_table")
    assert (FAMILY_FOLDER / "README.md").read_text() == table.page()


def test_all_weights_together_are_small() -> None:
    files = [*FAMILY_FOLDER.rglob("*"), *BUNDLED_FOLDER.rglob("*")]
    assert sum(path.stat().st_size for path in files if path.is_file()) <= 60e6
    package = sum(path.stat().st_size for path in BUNDLED_FOLDER.rglob("*") if path.is_file())
    assert package <= 20e6
    assert not FAMILY_FOLDER.is_relative_to(BUNDLED_FOLDER.parents[1])

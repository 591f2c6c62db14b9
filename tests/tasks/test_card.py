"""The bundled model is the one its card describes."""

from __future__ import annotations

from math import sqrt
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from synatlas.tasks.card import CARD_SPLITS, cell_items, has_room, markdown, sha256
from synatlas.tasks.generators import CATEGORIES, CHANCE, DIFFICULTIES, Split
from synatlas.tasks.score import score, score_samples

#: cells that are recomputed, on items of a seed the card did not use
SAMPLE: list[tuple[Split, str, int]] = [
    ("fresh", "tagging", 1),
    ("fresh", "social", 4),
    ("words", "grammar", 2),
    ("fresh", "common_sense", 6),
]
N_ITEMS = 50


def test_the_weights_are_those_of_the_card(bundled_folder: Path, card: dict[str, Any]) -> None:
    assert sha256(bundled_folder / "model.safetensors") == card["weights_sha256"]


def test_the_page_is_the_card(bundled_folder: Path, card: dict[str, Any]) -> None:
    assert (bundled_folder / "CARD.md").read_text() == markdown(card)


def test_the_model_has_the_shape_of_the_card(
    bundled_model: PreTrainedModel, card: dict[str, Any]
) -> None:
    shape = card["settings"]["model"]
    config = bundled_model.config
    assert sum(p.numel() for p in bundled_model.parameters()) == card["parameters"]
    assert config.num_hidden_layers == shape["n_layers"]
    assert config.num_attention_heads == config.num_key_value_heads == shape["n_heads"]
    assert config.head_dim == shape["head_dim"]
    assert card["init_seed"] == shape["init_seed"]
    assert all(torch.isfinite(p).all() for p in bundled_model.parameters())


def test_every_cell_is_on_the_card_once(card: dict[str, Any]) -> None:
    cells = [(cell["split"], cell["category"], cell["difficulty"]) for cell in card["accuracy"]]
    assert cells == [
        (split, category, difficulty)
        for split in CARD_SPLITS
        for category in CATEGORIES
        for difficulty in DIFFICULTIES[category]
    ]
    for cell in card["accuracy"]:
        assert cell["chance"] == round(CHANCE[cell["category"]][cell["difficulty"]], 4)
        assert cell["answer_tokens"] > 1
    assert card["items_per_seed"] >= 200
    assert len(card["evaluation_seeds"]) >= 3


@pytest.mark.parametrize(("split", "category", "difficulty"), SAMPLE)
def test_accuracies_hold_on_other_items(
    bundled_model: PreTrainedModel,
    bundled_tokenizer: PreTrainedTokenizerBase,
    card: dict[str, Any],
    split: Split,
    category: str,
    difficulty: int,
) -> None:
    stated = next(
        cell["mean"]
        for cell in card["accuracy"]
        if (cell["split"], cell["category"], cell["difficulty"]) == (split, category, difficulty)
    )
    items = cell_items(category, difficulty, split, 999, N_ITEMS)
    measured = fmean(score(bundled_model, bundled_tokenizer, items))
    # Four standard errors, at an accuracy pulled from the edge by one pseudo-item.
    pulled = (stated * N_ITEMS + 0.5) / (N_ITEMS + 1)
    assert abs(measured - stated) <= 4 * sqrt(pulled * (1 - pulled) / N_ITEMS)


def test_replies_do_not_depend_on_the_batch(
    bundled_model: PreTrainedModel, bundled_tokenizer: PreTrainedTokenizerBase
) -> None:
    items = [
        item for d in DIFFICULTIES["grammar"] for item in cell_items("grammar", d, "fresh", 1, 2)
    ]
    together = score(bundled_model, bundled_tokenizer, items, max_new_tokens=16)
    alone = score(bundled_model, bundled_tokenizer, items, max_new_tokens=16, batch_size=1)
    assert together == alone


def test_samples_are_seeded_keep_the_global_state_and_cool_to_the_greedy_answer(
    bundled_model: PreTrainedModel, bundled_tokenizer: PreTrainedTokenizerBase
) -> None:
    asked = (bundled_model, bundled_tokenizer, cell_items("social", 3, "fresh", 1, 8))
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    one, again, other = (
        score_samples(*asked, samples=4, seed=seed, max_new_tokens=10) for seed in (1, 1, 2)
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (one == again).all()
    assert (one != other).any()
    cold = score_samples(*asked, samples=2, temperature=1e-4, max_new_tokens=10)
    assert cold.tolist() == [[right] * 2 for right in score(*asked, max_new_tokens=10)]


def test_room_is_now_and_then_right_and_not_by_guessing() -> None:
    cell = {"pass_1": 0.4, "pass_8": 0.9, "chance": 0.1}
    assert has_room(cell)
    for change in ({"pass_1": 0.1}, {"pass_1": 0.7}, {"pass_8": 0.5}, {"chance": 0.5}):
        assert not has_room(cell | change)

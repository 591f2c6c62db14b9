"""The training stream: decided by seed and step, honest about its splits, weighted as stated."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerBase

from synatlas.tasks.battery import battery
from synatlas.tasks.generators import CATEGORIES, TRAINED_DIFFICULTIES, generate, render
from synatlas.tasks.stream import Batch, StreamConfig, _late_cell, batch_at
from synatlas.tasks.tokenizer import BOS_ID

CONFIG = StreamConfig(
    seed=1,
    story_share=0.05,
    prompt_weight=0.3,
    story_token_weight=0.03,
    easy_steps=600,
    copy_share=0.4,
    late_from=1000,
    late_shares={category: [1.0, 0.0, 0.0, 0.0] for category in CATEGORIES},
)


def batch(tokenizer: PreTrainedTokenizerBase, step: int, config: StreamConfig = CONFIG) -> Batch:
    return batch_at(step, config, tokenizer, n_sequences=6, length=128)


def questions(tokenizer: PreTrainedTokenizerBase, step: int) -> list[str]:
    """Prompts of a batch, as read from its text."""
    texts = tokenizer.batch_decode(batch(tokenizer, step).tokens)
    pieces = itertools.chain.from_iterable(text.split("Question: ")[1:] for text in texts)
    return [piece.split("\nAnswer:")[0] for piece in pieces]


def test_a_batch_depends_on_seed_and_step_alone(
    bundled_tokenizer: PreTrainedTokenizerBase,
) -> None:
    first = batch(bundled_tokenizer, 7)
    batch(bundled_tokenizer, 8)
    again = batch(bundled_tokenizer, 7)
    assert torch.equal(first.tokens, again.tokens)
    assert torch.equal(first.weights, again.weights)
    for other in (
        batch(bundled_tokenizer, 8),
        batch(bundled_tokenizer, 7, replace(CONFIG, seed=2)),
    ):
        assert not torch.equal(first.tokens, other.tokens)


def test_sequences_are_full_and_begin_with_their_token(
    bundled_tokenizer: PreTrainedTokenizerBase,
) -> None:
    made = batch(bundled_tokenizer, 0)
    assert made.tokens.shape == made.weights.shape == (6, 128)
    assert (made.tokens[:, 0] == BOS_ID).all()
    assert (made.tokens[:, 1:] >= 3).all()
    assert (made.weights[:, 0] == 0).all()
    assert (made.weights[:, 1:] > 0).all()


def test_each_answer_weighs_one_and_each_prompt_its_share(
    bundled_tokenizer: PreTrainedTokenizerBase,
) -> None:
    only_questions = replace(CONFIG, story_share=0.0, copy_share=0.0)
    made = batch(bundled_tokenizer, 900, only_questions)
    line_break, question, colon = (
        bundled_tokenizer.encode(text, add_special_tokens=False)[0]
        for text in ("\n", "Question", ":")
    )
    tokens, weights = made.tokens[0].tolist(), made.weights[0].tolist()
    start = 1
    assert tokens[start] == question
    prompt_end = tokens.index(line_break, start) + 2
    assert tokens[prompt_end] == colon
    answer_end = tokens.index(line_break, prompt_end)
    assert sum(weights[start : prompt_end + 1]) == pytest.approx(0.3)
    assert sum(weights[prompt_end + 1 : answer_end + 1]) == pytest.approx(1.0)


def test_nothing_kept_for_testing_is_in_the_stream(
    bundled_tokenizer: PreTrainedTokenizerBase,
) -> None:
    rng = np.random.default_rng(0)
    kept = set(battery().texts)
    for category, difficulty in itertools.product(CATEGORIES, TRAINED_DIFFICULTIES):
        kept |= {item.prompt for item in generate(category, difficulty, 3, rng, split="fresh")}
        kept |= {item.prompt for item in generate(category, difficulty, 10, rng, split="heldout")}
    for step in (0, 500, 1500):
        assert kept.isdisjoint(questions(bundled_tokenizer, step))


def test_the_stream_begins_with_copying(bundled_tokenizer: PreTrainedTokenizerBase) -> None:
    def n_copies(step: int) -> int:
        texts = bundled_tokenizer.batch_decode(batch(bundled_tokenizer, step).tokens)
        return sum(text.count("Say this again") + text.count("Repeat these") for text in texts)

    assert sum(n_copies(step) for step in range(4)) > sum(n_copies(600 + s) for s in range(4))


def test_late_shares_hold_from_their_step_on(
    bundled_tokenizer: PreTrainedTokenizerBase,
) -> None:
    only_sums = {category: [0.0] * 4 for category in CATEGORIES} | {
        "arithmetic": [0.0, 1.0, 0.0, 0.0]
    }
    config = replace(CONFIG, story_share=0.0, copy_share=0.0, late_shares=only_sums)
    early, late = (
        "".join(bundled_tokenizer.batch_decode(batch(bundled_tokenizer, step, config).tokens))
        for step in (999, 1000)
    )
    assert "Tag" in early or "sentence" in early or "verb" in early
    sums = late.split("Question: ")[1:]
    assert len(sums) > 6
    assert all(text.split("\n")[1].count("=") == 2 for text in sums)


def test_trained_prompts_look_like_rendered_ones(
    bundled_tokenizer: PreTrainedTokenizerBase,
) -> None:
    text = bundled_tokenizer.decode(batch(bundled_tokenizer, 3).tokens[0])
    for prompt in questions(bundled_tokenizer, 3)[:1]:
        assert render(prompt) in text


def test_shares_go_over_to_the_late_ones_without_a_jump() -> None:
    late = {category: [0.0, 0.0, 0.0, 0.0] for category in CATEGORIES} | {
        "social": [0.0, 0.0, 0.0, 1.0]
    }
    config = replace(CONFIG, late_from=100, late_over=200, late_shares=late)
    levels = np.array([0.4, 0.3, 0.2, 0.1])
    found = []
    for step in (100, 200, 300, 900):
        rng = np.random.default_rng(step)
        cells = [_late_cell(step, levels, config, rng) for _ in range(4000)]
        found.append(np.mean([cell == ("social", 4) for cell in cells]))
    expected = np.array([0.1 / 6, 0.5 + 0.05 / 6, 1.0, 1.0])
    error = np.sqrt(expected * (1 - expected) / 4000)
    assert (np.abs(found - expected) <= 4 * error).all()

"""The training stream of the bundled model: batches that depend on the seed and the step alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from synatlas.tasks.generators import CATEGORIES, TRAINED_DIFFICULTIES, generate, render, solved
from synatlas.tasks.generators.source import Item
from synatlas.tasks.stories import open_question, say_again, tell_story
from synatlas.tasks.tokenizer import BOS_ID

#: segments that fit nowhere before a batch counts as full; more would favour short segments
_MAX_MISSES = 4


@final
@dataclass(frozen=True, kw_only=True)
class StreamConfig:
    """What the stream is made of.

    Attributes
    ----------
    seed
        Seed of the whole stream.
    story_share
        Share of segments that are a story, and again the share that are an open question.
    prompt_weight
        Loss weight of a prompt, spread over its tokens; an answer has 1, spread over its own.
    story_token_weight
        Loss weight of each token of a story or of an answer to an open question.
    easy_steps
        Over this many steps the levels go from easy (4:3:2:1) to uniform.
    copy_share
        Share of segments at step 0 that ask to say random words again; falls to a tenth over
        `easy_steps`. Copying is part of most answers and is learned soonest by itself.
    late_from, late_shares
        From this step on, categories and levels are drawn in proportion to these numbers:
        category -> one number for each difficulty.
    late_over
        Over this many steps after `late_from` the shares go linearly from those before to these;
        0 changes them at once.
    """

    seed: int
    story_share: float
    prompt_weight: float
    story_token_weight: float
    easy_steps: int
    copy_share: float
    late_from: int
    late_shares: dict[str, list[float]]
    late_over: int = 0


@final
@dataclass(frozen=True)
class Batch:
    """Token ids and, for each, the loss weight of predicting it; both (sequence, position)."""

    tokens: torch.Tensor
    weights: torch.Tensor


@final
@dataclass(frozen=True)
class _Segment:
    tokens: list[int]
    weights: list[float]

    def extend(self, other: _Segment) -> None:
        self.tokens.extend(other.tokens)
        self.weights.extend(other.weights)


def batch_at(
    step: int,
    config: StreamConfig,
    tokenizer: PreTrainedTokenizerBase,
    *,
    n_sequences: int,
    length: int,
) -> Batch:
    """The batch of one training step.

    Parameters
    ----------
    step
        Training step, from 0.
    config
        What the stream is made of.
    tokenizer
        Turns segments into tokens.
    n_sequences, length
        Shape of the batch; every sequence starts with the beginning-of-sequence token.

    Returns
    -------
    Batch
        The same for the same arguments, whatever was drawn before.
    """
    rng = np.random.default_rng((config.seed, step))
    rows = _pack(step, config, tokenizer, rng, (n_sequences, length))
    return Batch(
        torch.tensor([row.tokens for row in rows]),
        torch.tensor([row.weights for row in rows], dtype=torch.float32),
    )


def sample_texts(count: int, seed: int) -> Iterator[str]:
    """Texts of every split and of the stories, from which the vocabulary is taken."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        for category in CATEGORIES:
            for difficulty in TRAINED_DIFFICULTIES:
                for item in generate(category, difficulty, 1, rng):
                    yield solved(item.prompt, item.answer)
        for item in (open_question(rng), say_again(rng)):
            yield solved(item.prompt, item.answer)
        for _ in range(8):
            yield tell_story(rng) + "\n"


def _pack(
    step: int,
    config: StreamConfig,
    tokenizer: PreTrainedTokenizerBase,
    rng: np.random.Generator,
    shape: tuple[int, int],
) -> list[_Segment]:
    """Sequences of whole segments, first fit; what is left of each is the start of a story."""
    n_sequences, length = shape
    rows = [_Segment([BOS_ID], [0.0]) for _ in range(n_sequences)]
    misses = 0
    while misses < _MAX_MISSES:
        segment = _segment(step, config, tokenizer, rng)
        room = length - len(segment.tokens)
        row = next((row for row in rows if len(row.tokens) <= room), None)
        if row is None:
            misses += 1
        else:
            row.extend(segment)
    for row in rows:
        while len(row.tokens) < length:
            row.extend(_story(config, tokenizer, rng))
    return [_Segment(row.tokens[:length], row.weights[:length]) for row in rows]


def _segment(
    step: int, config: StreamConfig, tokenizer: PreTrainedTokenizerBase, rng: np.random.Generator
) -> _Segment:
    kind = rng.random()
    if kind < config.story_share:
        return _story(config, tokenizer, rng)
    if kind < 2 * config.story_share:
        return _question(open_question(rng), config, tokenizer)
    easy = max(0.0, 1.0 - step / config.easy_steps) if config.easy_steps else 0.0
    if rng.random() < config.copy_share * (0.1 + 0.9 * easy):
        return _question(say_again(rng), config, tokenizer)
    levels = easy * np.array([0.4, 0.3, 0.2, 0.1]) + (1.0 - easy) * 0.25
    if step >= config.late_from:
        category, difficulty = _late_cell(step, levels, config, rng)
    else:
        category = tuple(CATEGORIES)[int(rng.integers(len(CATEGORIES)))]
        difficulty = TRAINED_DIFFICULTIES[int(rng.choice(len(TRAINED_DIFFICULTIES), p=levels))]
    return _question(generate(category, difficulty, 1, rng)[0], config, tokenizer)


def _late_cell(
    step: int, levels: np.ndarray, config: StreamConfig, rng: np.random.Generator
) -> tuple[str, int]:
    """Category and difficulty, drawn by their late shares and what is left of the early ones."""
    cells = [(category, level) for category in CATEGORIES for level in TRAINED_DIFFICULTIES]
    shares = np.array([config.late_shares[category][level - 1] for category, level in cells])
    shares = shares / shares.sum()
    if step < config.late_from + config.late_over:
        late = (step - config.late_from) / config.late_over
        shares = late * shares + (1.0 - late) * np.tile(levels, len(CATEGORIES)) / len(CATEGORIES)
    return cells[int(rng.choice(len(cells), p=shares))]


def _question(item: Item, config: StreamConfig, tokenizer: PreTrainedTokenizerBase) -> _Segment:
    prompt = _encode(render(item.prompt), tokenizer)
    answer = _encode(f" {item.answer}\n", tokenizer)
    per_answer_token = 1.0 / len(answer)
    if item.category == "open":
        per_answer_token = config.story_token_weight
    weights = [config.prompt_weight / len(prompt)] * len(prompt)
    return _Segment(prompt + answer, weights + [per_answer_token] * len(answer))


def _story(
    config: StreamConfig, tokenizer: PreTrainedTokenizerBase, rng: np.random.Generator
) -> _Segment:
    tokens = _encode(tell_story(rng) + "\n", tokenizer)
    return _Segment(tokens, [config.story_token_weight] * len(tokens))


def _encode(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)

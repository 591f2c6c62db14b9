"""Model cards of bundled models: what a model can do, measured on its exported weights."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, final

import numpy as np
import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from synatlas.tasks.generators import (
    CATEGORIES,
    CHANCE,
    DIFFICULTIES,
    SPLITS,
    Item,
    Split,
    generate,
    render,
)
from synatlas.tasks.score import score

#: the splits a card reports: nothing new but the prompt, new wordings, new words
CARD_SPLITS: tuple[Split, ...] = ("fresh", "templates", "words")
_LOSS_POINTS = 24


@final
@dataclass(frozen=True, kw_only=True)
class Cell:
    """Accuracy of one category and difficulty in one split.

    Attributes
    ----------
    split, category, difficulty
        Where the items come from.
    mean, sd
        Of the accuracy over evaluation seeds.
    chance
        Accuracy of the guesser described in the category's generator.
    prompt_tokens, answer_tokens
        Mean lengths; the prompt counts "Question:", "Answer:" and the first token.
    """

    split: str
    category: str
    difficulty: int
    mean: float
    sd: float
    chance: float
    prompt_tokens: float
    answer_tokens: float


def cell_items(category: str, difficulty: int, split: Split, seed: int, count: int) -> list[Item]:
    """The evaluation items of one cell and seed, the same wherever they are drawn."""
    key = (seed, list(CATEGORIES).index(category), difficulty, SPLITS.index(split))
    return list(generate(category, difficulty, count, np.random.default_rng(key), split=split))


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    seeds: Sequence[int],
    items_per_seed: int,
    splits: Sequence[Split] = CARD_SPLITS,
    categories: Sequence[str] = tuple(CATEGORIES),
) -> Iterator[Cell]:
    """Greedy accuracy of every split, category and difficulty.

    Parameters
    ----------
    model, tokenizer
        What is measured.
    seeds
        One accuracy is measured for each, on items of its own.
    items_per_seed
        Items of each accuracy.
    splits
        Where the items come from.
    categories
        Which categories are measured.

    Yields
    ------
    Cell
        In the order of splits, categories and difficulties.
    """
    for split in splits:
        for category in categories:
            for difficulty in DIFFICULTIES[category]:
                drawn = [
                    cell_items(category, difficulty, split, seed, items_per_seed) for seed in seeds
                ]
                accuracies = [fmean(score(model, tokenizer, items)) for items in drawn]
                items = [item for group in drawn for item in group]
                yield Cell(
                    split=split,
                    category=category,
                    difficulty=difficulty,
                    mean=round(fmean(accuracies), 4),
                    sd=round(stdev(accuracies), 4),
                    chance=round(CHANCE[category][difficulty], 4),
                    prompt_tokens=_mean_tokens(tokenizer, [render(i.prompt) for i in items], 1),
                    answer_tokens=_mean_tokens(tokenizer, [f" {i.answer}" for i in items], 0),
                )


def _mean_tokens(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], n_special: int) -> float:
    encoded = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return round(fmean(len(tokens) for tokens in encoded) + n_special, 2)


def sha256(path: Path) -> str:
    """Digest of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def loss_curve(log: pd.DataFrame) -> list[dict[str, float]]:
    """Training loss at log-spaced steps, each the mean of the steps since the one before."""
    steps = np.unique(np.geomspace(1, len(log), _LOSS_POINTS).round().astype(int))
    edges = [0, *steps.tolist()]
    return [
        {"step": end, "loss": round(float(log["loss"].iloc[start:end].mean()), 4)}
        for start, end in itertools.pairwise(edges)
    ]


def markdown(card: dict[str, Any]) -> str:
    """The card as a page.

    Parameters
    ----------
    card
        Content of card.json.

    Returns
    -------
    str
        Markdown.
    """
    parts = [
        f"# {card['name']}",
        card["summary"],
        "## What it is not",
        "\n".join(f"- {line}" for line in card["limits"]),
        "## Facts",
        "\n".join(f"- {key}: {card[key]}" for key in _FACTS),
        "## Accuracy",
        card["accuracy_method"],
    ]
    for split, title in _SPLIT_TITLES.items():
        cells = [Cell(**cell) for cell in card["accuracy"] if cell["split"] == split]
        parts += [f"### {title}", _table(cells)]
    parts += [
        "## Length of the questions",
        "Mean tokens of the prompt / of the answer, in-distribution items.",
        _length_table([Cell(**cell) for cell in card["accuracy"] if cell["split"] == "fresh"]),
        "## Training loss",
        "Weighted mean loss since the row before, in nats.",
        _rows(["step", "loss"], [[str(p["step"]), f"{p['loss']:.3f}"] for p in card["loss_curve"]]),
    ]
    return "\n\n".join(parts) + "\n"


_FACTS = (
    "parameters", "architecture", "vocabulary", "steps", "tokens_seen", "cpu_hours", "init_seed",
    "data_seed", "weights_sha256",
)  # fmt: skip
_SPLIT_TITLES = {
    "fresh": "In-distribution: prompts never in training, wordings and words known",
    "templates": "Held-out wordings",
    "words": "Held-out words",
}
_LEVELS = range(1, 1 + max(itertools.chain.from_iterable(DIFFICULTIES.values())))
_NO_LEVEL = "-"


def _table(cells: Sequence[Cell]) -> str:
    return _by_level(
        cells, lambda cell: f"{cell.mean:.3f} ± {cell.sd:.3f} ({_chance(cell.chance)})"
    )


def _length_table(cells: Sequence[Cell]) -> str:
    return _by_level(cells, lambda cell: f"{cell.prompt_tokens:.1f} / {cell.answer_tokens:.1f}")


def _by_level(cells: Sequence[Cell], shown: Callable[[Cell], str]) -> str:
    texts = {(cell.category, cell.difficulty): shown(cell) for cell in cells}
    rows = [
        [category, *(texts.get((category, level), _NO_LEVEL) for level in _LEVELS)]
        for category in CATEGORIES
    ]
    return _rows(["category", *(f"difficulty {level}" for level in _LEVELS)], rows)


def _chance(chance: float) -> str:
    return f"{chance:.2f}" if chance >= 0.01 else "< 0.01"


def _rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

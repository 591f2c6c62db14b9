"""Model cards of bundled models: what a model can do, measured on its exported weights."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
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
BATCH_SIZE = 200
_LOSS_POINTS = 24
#: pass@1, least pass@8 and greatest chance of a cell in which reinforcement learning has room
ROOM_PASS_1, ROOM_PASS_8, ROOM_CHANCE = (0.15, 0.6), 0.7, 0.2


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
                items = [
                    item
                    for seed in seeds
                    for item in cell_items(category, difficulty, split, seed, items_per_seed)
                ]
                right = score(model, tokenizer, items, batch_size=BATCH_SIZE)
                accuracies = np.reshape(right, (len(seeds), items_per_seed)).mean(axis=1).tolist()
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
    if "snapshots" in card:
        parts += _snapshots(card["snapshots"])
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
        {
            (c.category, c.difficulty): f"{c.mean:.3f} ± {c.sd:.3f} ({_chance(c.chance)})"
            for c in cells
        }
    )


def _length_table(cells: Sequence[Cell]) -> str:
    return _by_level(
        {
            (c.category, c.difficulty): f"{c.prompt_tokens:.1f} / {c.answer_tokens:.1f}"
            for c in cells
        }
    )


def _by_level(texts: dict[tuple[str, int], str]) -> str:
    rows = [
        [category, *(texts.get((category, level), _NO_LEVEL) for level in _LEVELS)]
        for category in CATEGORIES
    ]
    return _rows(["category", *(f"difficulty {level}" for level in _LEVELS)], rows)


def has_room(cell: dict[str, Any]) -> bool:
    """Whether reinforcement learning has something to do and to learn from in a cell.

    Parameters
    ----------
    cell
        ``pass_1`` and ``pass_8``: right now and then (0.15 to 0.6), and nearly always at least
        once in eight samples (0.7 and more); ``chance``: no more than one in five, because among
        few answers samples are right by themselves, and nothing is learned from that. Without
        samples there is none.
    """
    if "pass_1" not in cell:
        return False
    low, high = ROOM_PASS_1
    often = low <= cell["pass_1"] <= high and cell["pass_8"] >= ROOM_PASS_8
    return often and cell["chance"] <= ROOM_CHANCE


def _snapshots(snapshots: dict[str, Any]) -> list[str]:
    """Accuracy over training, and where there is room for more."""
    header = ["step", *CATEGORIES, "cells with room"]
    rows = []
    for row in snapshots["rows"]:
        means = [
            fmean(cell["greedy"] for cell in row["cells"] if cell["category"] == category)
            for category in CATEGORIES
        ]
        room = sum(has_room(cell) for cell in row["cells"])
        rows.append([str(row["step"]), *(f"{mean:.3f}" for mean in means), str(room)])
    chosen = next(r for r in snapshots["rows"] if f"step{r['step']}" == snapshots["most_room"])
    low, high = ROOM_PASS_1
    return [
        "## Snapshots of the training",
        snapshots["method"],
        "Greedy accuracy, mean over the trained levels, and the number of cells with room for "
        f"reinforcement learning: pass@1 from {low} to {high}, pass@8 of {ROOM_PASS_8} or more, "
        f"and a guesser right in no more than {ROOM_CHANCE} of cases.",
        _rows(header, rows),
        f"Revision `{snapshots['most_room']}`, the one before the last with such cells in the most "
        "categories, is kept as a start for reinforcement learning. Its greedy accuracy, pass@1 "
        "and pass@8 (cells with room are marked *):",
        _by_level({(c["category"], c["difficulty"]): _room(c) for c in chosen["cells"]}),
    ]


def _room(cell: dict[str, Any]) -> str:
    mark = " *" if has_room(cell) else ""
    if "pass_1" not in cell:
        return f"{cell['greedy']:.2f}"
    return f"{cell['greedy']:.2f}, {cell['pass_1']:.2f}, {cell['pass_8']:.2f}{mark}"


def _chance(chance: float) -> str:
    return f"{chance:.2f}" if chance >= 0.01 else "< 0.01"


def _rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

"""Verifiable questions: six categories, four to eight difficulties, one right answer each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from synatlas.errors import InputError
from synatlas.tasks.generators import (
    abstract,
    arithmetic,
    common_sense,
    grammar,
    social,
    tagging,
)
from synatlas.tasks.generators.source import SPLITS, Item, Source, Split, is_reserved

__all__ = [
    "CATEGORIES",
    "CHANCE",
    "DIFFICULTIES",
    "SPLITS",
    "TRAINED_DIFFICULTIES",
    "Generator",
    "Item",
    "Split",
    "first_line",
    "generate",
    "is_correct",
    "render",
    "solved",
]

Generator: TypeAlias = Callable[[int, Source], Item]

#: what the training stream draws from; it must not change with `DIFFICULTIES`
TRAINED_DIFFICULTIES = (1, 2, 3, 4)

#: category -> generator of one item
CATEGORIES: dict[str, Generator] = {
    "grammar": grammar.generate_grammar,
    "tagging": tagging.generate_tagging,
    "arithmetic": arithmetic.generate_arithmetic,
    "common_sense": common_sense.generate_common_sense,
    "abstract": abstract.generate_abstract,
    "social": social.generate_social,
}

#: category -> difficulty -> share of right answers of the guesser described in its module
CHANCE: dict[str, dict[int, float]] = {
    "grammar": grammar.CHANCE,
    "tagging": tagging.CHANCE,
    "arithmetic": arithmetic.CHANCE,
    "common_sense": common_sense.CHANCE,
    "abstract": abstract.CHANCE,
    "social": social.CHANCE,
}
#: category -> its difficulties; those of some categories go on where training stopped
DIFFICULTIES: dict[str, tuple[int, ...]] = {
    category: tuple(chance) for category, chance in CHANCE.items()
}


def generate(
    category: str,
    difficulty: int,
    count: int,
    rng: np.random.Generator,
    *,
    split: Split = "train",
) -> tuple[Item, ...]:
    """Draw questions of one category and difficulty.

    Parameters
    ----------
    category
        Key of `CATEGORIES`.
    difficulty
        One of `DIFFICULTIES[category]`; above 4 are questions longer than any in training.
    count
        Number of items; items may repeat where a level has few.
    rng
        Source of all randomness: the same state gives the same items.
    split
        "train": what the bundled model learns from.
        "fresh": the same wordings and words, prompts never in training.
        "templates": wordings never in training.
        "words": words the category never uses in training (see `lexicon.HELD_OUT`).
        "heldout": both.

    Returns
    -------
    tuple of Item
        `count` items.

    Raises
    ------
    InputError
        If the category, difficulty or split is unknown.

    Examples
    --------
    >>> item, = generate("arithmetic", 1, 1, np.random.default_rng(0))
    >>> is_correct(item, " " + item.answer)
    True
    """
    _check(category, difficulty, split)
    source = Source(rng, category, split)
    items: list[Item] = []
    while len(items) < count:
        item = CATEGORIES[category](difficulty, source)
        if split not in {"train", "fresh"} or is_reserved(item.prompt) == (split == "fresh"):
            items.append(item)
    return tuple(items)


def is_correct(item: Item, reply: str) -> bool:
    """Whether a reply's first line is the item's answer, whitespace aside.

    Parameters
    ----------
    item
        The question.
    reply
        What the model wrote after "Answer:"; only its first line that is not blank counts.

    Returns
    -------
    bool
        Exact match of the words.
    """
    return first_line(reply).split() == item.answer.split()


def first_line(reply: str) -> str:
    """The first line of a reply that is not blank, which is what is marked."""
    return reply.strip().split("\n", maxsplit=1)[0].strip()


def render(prompt: str) -> str:
    """The text given to a model for a prompt, as in the training stream."""
    return f"Question: {prompt}\nAnswer:"


def solved(prompt: str, answer: str) -> str:
    """A question with its answer, as the lines of the training stream."""
    return f"{render(prompt)} {answer}\n"


def _check(category: str, difficulty: int, split: str) -> None:
    for name, given, known in (
        ("category", category, tuple(CATEGORIES)),
        ("difficulty", difficulty, DIFFICULTIES.get(category, ())),
        ("split", split, SPLITS),
    ):
        if given not in known:
            raise InputError(
                given=f"{name} {given!r}",
                expected=f"one of {', '.join(str(value) for value in known)}",
                cause="the task generators know no such value",
                remedy=f"choose a {name} from that list",
            )

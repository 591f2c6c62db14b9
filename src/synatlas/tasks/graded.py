"""Questions of graded difficulty with one right answer, asked one by one or packed into texts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, final

import numpy as np

from synatlas.errors import ConfigError
from synatlas.tasks import generators

#: Characters of a packed text for each token that will be read of it: more than the words of any
#: usual tokenizer have.
CHARACTERS: Final = 8


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question, its answer, and what marks a reply."""

    prompt: str
    answer: str
    right: Callable[[str], bool]


#: Draws questions of a category and difficulty.
Draw = Callable[[str, int, int, np.random.Generator], tuple[Question, ...]]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Tasks:
    """A source of questions: each category with its difficulties, the easiest first."""

    name: str
    levels: Mapping[str, tuple[int, ...]]
    draw: Draw


def own_tasks() -> Tasks:
    """The project's six categories, with prompts that no bundled model was trained on."""
    return Tasks(name="generators", levels=generators.DIFFICULTIES, draw=_generated)


def _generated(
    category: str, level: int, count: int, rng: np.random.Generator
) -> tuple[Question, ...]:
    items = generators.generate(category, level, count, rng, split="fresh")
    return tuple(
        Question(prompt=item.prompt, answer=item.answer, right=partial(generators.is_correct, item))
        for item in items
    )


def task_source(name: str) -> Tasks:
    """The source of questions of a name: ``generators``, or ``PACKAGE:TASK`` of an adapter.

    Raises
    ------
    ConfigError
        There is no such source, or its package is not installed.
    """
    package, _, task = name.partition(":")
    if name == "generators":
        return own_tasks()
    from synatlas.tasks.adapters import ADAPTERS

    if package not in ADAPTERS or not task:
        raise ConfigError(
            given=f"--tasks {name}",
            expected=f"generators, or {', '.join(f'{p}:NAME' for p in ADAPTERS)}",
            remedy="choose one of these, such as reasoning-gym:chain_sum",
        )
    return ADAPTERS[package](task)


def chosen(tasks: Tasks, categories: Sequence[str]) -> Tasks:
    """Some categories of a source; all where none is named.

    Raises
    ------
    ConfigError
        A category is unknown, or has fewer than three difficulties.
    """
    for name in categories:
        if name not in tasks.levels:
            raise ConfigError(
                given=f"--categories {name}",
                expected=f"among {', '.join(tasks.levels)}",
                remedy="choose from these categories",
            )
    levels = {name: tasks.levels[name] for name in dict.fromkeys(categories or tasks.levels)}
    few = [name for name, known in levels.items() if len(known) < 3]
    if few:
        raise ConfigError(
            given=f"the category {few[0]} of {len(levels[few[0]])} difficulties",
            expected="at least 3",
            cause="with fewer a line and a step are the same",
            remedy="choose other categories",
        )
    return Tasks(name=tasks.name, levels=levels, draw=tasks.draw)


def packed(tasks: Tasks, category: str, level: int, tokens: int, rng: np.random.Generator) -> str:
    """Solved questions of one category and difficulty, one after the other.

    The text is longer than `tokens` tokens, so that it can be cut to exactly as many.
    """
    text = ""
    while len(text) < CHARACTERS * tokens:
        drawn = tasks.draw(category, level, 8, rng)
        text += "".join(generators.solved(question.prompt, question.answer) for question in drawn)
    return text

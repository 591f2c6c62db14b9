"""Letter-string analogies: see one change, make the same change elsewhere.

Difficulty is the set of rules: 1 change or drop the end of a run of letters, 2 the same on
letters in no order, 3 rules that move letters, 4 a rule that moves letters and one that changes
the end, one after the other.
What happened to the end can be told from the length of the example: one letter more is a doubling,
one less a drop, and with the length kept the last letter has stepped on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from synatlas.tasks.generators.source import Item, Source
from synatlas.tasks.lexicon import HELD_OUT, LETTERS

TEMPLATES = (
    "If {a} becomes {b}, what does {c} become?",
    "{a} goes to {b}. What does {c} go to?",
    "Follow the rule: {a} gives {b}. What does {c} give?",
    "Change {c} the way {a} changed to {b}.",
    "Finish the pattern: {a} to {b}, {c} to",
)
HELD_OUT_TEMPLATES = (
    "The rule is: {a} becomes {b}. What does {c} become?",
    "{a} gives {b}. By that rule, what does {c} give?",
)
LENGTH = 4

Rule: TypeAlias = Callable[[str], str]


def _next(letter: str) -> str:
    return LETTERS[LETTERS.index(letter) + 1]


END_RULES: dict[str, Rule] = {
    "step_last": lambda run: run[:-1] + _next(run[-1]),
    "double_last": lambda run: run + run[-1],
    "drop_last": lambda run: run[:-1],
}
MOVING_RULES: dict[str, Rule] = {
    "reverse": lambda run: run[::-1],
    "swap_ends": lambda run: run[-1] + run[1:-1] + run[0],
    "last_to_front": lambda run: run[-1] + run[:-1],
}
#: the rules of each difficulty, by name
RULES: dict[int, dict[str, Rule]] = {
    1: END_RULES,
    2: END_RULES,
    3: MOVING_RULES,
    4: {
        f"{first}_then_{second}": lambda run, move=move, end=end: end(move(run))
        for first, move in MOVING_RULES.items()
        for second, end in END_RULES.items()
    },
}
#: a guesser that knows the rules of the level but not which one the example shows
CHANCE = {level: 1 / len(rules) for level, rules in RULES.items()}


def generate_abstract(difficulty: int, source: Source) -> Item:
    """One analogy; the letters of example and question differ at least in their first."""
    rule = RULES[difficulty][source.pick(tuple(RULES[difficulty]))]
    reserved = HELD_OUT[source.category]
    wants_reserved = source.split in {"words", "heldout"}
    while True:
        target = _run(source) if difficulty == 1 else "".join(source.sample(LETTERS[:-1], LENGTH))
        answer = rule(target)
        if wants_reserved == bool(reserved & set(target)) and (
            wants_reserved or not reserved & set(answer)
        ):
            break
    shown = _run(source)
    while shown[0] == target[0]:
        shown = _run(source)
    a, b, c, d = (" ".join(letters) for letters in (shown, rule(shown), target, answer))
    prompt = source.template(TEMPLATES, HELD_OUT_TEMPLATES).format(a=a, b=b, c=c)
    return Item(prompt, d, source.category, difficulty)


def _run(source: Source) -> str:
    # The last letter keeps a successor, so that every rule applies to every run.
    start = int(source.rng.integers(len(LETTERS) - LENGTH))
    return "".join(LETTERS[start : start + LENGTH])

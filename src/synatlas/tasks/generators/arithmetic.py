"""Addition and subtraction with the column work spoken.

Difficulty is the number of digits of both operands.
The answer works from the last column to the first and ends with the result, for instance
"7+5=12, 4+2+1=7, so 72." for 47 plus 25 and "13-5=8, 4-2-1=1, so 18." for 43 minus 25.
"""

from __future__ import annotations

from synatlas.tasks.generators.source import Item, Source
from synatlas.tasks.lexicon import NAMES, OBJECTS, plural

PLUS_TEMPLATES = (
    "What is {a} plus {b}?",
    "How much is {a} plus {b}?",
    "Add {a} and {b}.",
    "{name} has {a} {things} and gets {b} more. How many now?",
    "There are {a} {things} here and {b} {things} there. How many in all?",
)
HELD_OUT_PLUS_TEMPLATES = (
    "How much would {a} plus {b} be?",
    "{name} finds {a} {things} and then {b} more. How many are there now?",
)
MINUS_TEMPLATES = (
    "What is {a} minus {b}?",
    "How much is {a} minus {b}?",
    "{name} has {a} {things} and loses {b}. How many are left?",
    "There are {a} {things} and {b} are taken. How many are left?",
)
HELD_OUT_MINUS_TEMPLATES = (
    "How much would {a} minus {b} be?",
    "{name} had {a} {things} and {b} are taken. How many are left now?",
)
SUBTRACTION_SHARE = 0.3
#: a guesser that knows the range of the result but nothing of the operands
CHANCE = {digits: 0.1**digits for digits in (1, 2, 3, 4, 5, 6)}


def generate_arithmetic(difficulty: int, source: Source) -> Item:
    """One sum or difference; a difference is never negative."""
    low = 10 ** (difficulty - 1) if difficulty > 1 else 0
    a, b = (int(source.rng.integers(low, 10**difficulty)) for _ in range(2))
    is_minus = source.chance(SUBTRACTION_SHARE)
    if is_minus:
        a, b = max(a, b), min(a, b)
        wordings = (MINUS_TEMPLATES, HELD_OUT_MINUS_TEMPLATES)
    else:
        wordings = (PLUS_TEMPLATES, HELD_OUT_PLUS_TEMPLATES)
    training, held_out = wordings
    if source.split in {"words", "heldout"}:
        training = tuple(text for text in training if "{things}" in text)
        held_out = tuple(text for text in held_out if "{things}" in text)
    prompt = source.template(training, held_out).format(
        a=a, b=b, name=source.word(NAMES), things=plural(source.word(OBJECTS))
    )
    work = _subtract(a, b, difficulty) if is_minus else _add(a, b, difficulty)
    return Item(prompt, work, source.category, difficulty)


def _columns(number: int, digits: int) -> list[int]:
    return [number // 10**place % 10 for place in range(digits)]


def _add(a: int, b: int, digits: int) -> str:
    carry, steps = 0, []
    for x, y in zip(_columns(a, digits), _columns(b, digits), strict=True):
        total = x + y + carry
        steps.append(f"{x}+{y}{'+1' if carry else ''}={total}")
        carry = total // 10
    return f"{', '.join(steps)}, so {a + b}."


def _subtract(a: int, b: int, digits: int) -> str:
    borrow, steps = 0, []
    for x, y in zip(_columns(a, digits), _columns(b, digits), strict=True):
        lent = 10 if x - y - borrow < 0 else 0
        steps.append(f"{x + lent}-{y}{'-1' if borrow else ''}={x + lent - y - borrow}")
        borrow = lent // 10
    return f"{', '.join(steps)}, so {a - b}."

"""Generators: seeded, right by independent solvers, split as promised, graded as documented."""

from __future__ import annotations

import hashlib
import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solvers import SOLVERS, letter_strings

from synatlas.errors import InputError
from synatlas.tasks.generators import (
    CATEGORIES,
    CHANCE,
    DIFFICULTIES,
    SPLITS,
    TRAINED_DIFFICULTIES,
    Item,
    Split,
    abstract,
    arithmetic,
    common_sense,
    generate,
    grammar,
    is_correct,
    social,
    tagging,
)
from synatlas.tasks.generators.source import is_reserved
from synatlas.tasks.lexicon import HELD_OUT, plural

CELLS = [(category, level) for category, levels in DIFFICULTIES.items() for level in levels]
#: digest of the items in the test below
TRAINED_ITEMS = "876d7a1f17b32bd174f67dd04ebd1cd245e19ea0a906b2067f2d9b95c329a465"
#: categories whose words change form
INFLECTED = {"grammar", "tagging", "arithmetic"}


@settings(deadline=None)
@given(cell=st.sampled_from(CELLS), split=st.sampled_from(SPLITS), seed=st.integers(0, 2**32 - 1))
def test_answers_agree_with_independent_solvers(
    cell: tuple[str, int], split: Split, seed: int
) -> None:
    category, difficulty = cell
    for item in generate(category, difficulty, 2, np.random.default_rng(seed), split=split):
        assert SOLVERS[category](item) == item.answer
        assert (item.category, item.difficulty) == (category, difficulty)


@pytest.mark.parametrize(("category", "difficulty"), CELLS)
def test_the_same_seed_gives_the_same_items(category: str, difficulty: int) -> None:
    first, second = (generate(category, difficulty, 20, np.random.default_rng(3)) for _ in range(2))
    other = generate(category, difficulty, 20, np.random.default_rng(4))
    assert first == second
    assert first != other


@pytest.mark.parametrize(("category", "difficulty"), CELLS)
def test_a_level_has_many_answers(category: str, difficulty: int) -> None:
    items = generate(category, difficulty, 40, np.random.default_rng(0))
    assert len({item.answer for item in items}) >= 5
    assert len({item.prompt for item in items}) >= 30


@pytest.mark.parametrize(("category", "difficulty"), CELLS)
def test_held_out_words_are_absent_from_training_and_present_in_their_split(
    category: str, difficulty: int
) -> None:
    reserved = HELD_OUT[category]
    forms = reserved | {plural(word) for word in reserved if category in INFLECTED}
    rng = np.random.default_rng(1)
    for item in generate(category, difficulty, 60, rng):
        assert not forms & _content(item)
    for split in ("words", "heldout"):
        for item in generate(category, difficulty, 10, rng, split=split):
            # Third persons of held-out verbs count as well ("dances").
            assert (forms | {word + "s" for word in forms}) & _content(item), item


def _content(item: Item) -> set[str]:
    if item.category == "abstract":
        return set(letter_strings(item)[2].split())
    return set(re.findall(r"\w+", item.prompt))


@pytest.mark.parametrize(("category", "difficulty"), CELLS)
def test_fresh_prompts_are_never_in_training(category: str, difficulty: int) -> None:
    rng = np.random.default_rng(2)
    assert not any(is_reserved(i.prompt) for i in generate(category, difficulty, 30, rng))
    fresh = generate(category, difficulty, 5, rng, split="fresh")
    assert all(is_reserved(item.prompt) for item in fresh)


TEMPLATES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "grammar": (grammar.TEMPLATES, grammar.HELD_OUT_TEMPLATES),
    "tagging": (tagging.TEMPLATES, tagging.HELD_OUT_TEMPLATES),
    "arithmetic": (
        arithmetic.PLUS_TEMPLATES + arithmetic.MINUS_TEMPLATES,
        arithmetic.HELD_OUT_PLUS_TEMPLATES + arithmetic.HELD_OUT_MINUS_TEMPLATES,
    ),
    "common_sense": (common_sense.TEMPLATES, common_sense.HELD_OUT_TEMPLATES),
    "abstract": (abstract.TEMPLATES, abstract.HELD_OUT_TEMPLATES),
    "social": (
        social.FEELING_TEMPLATES + social.BELIEF_TEMPLATES + social.PLACE_TEMPLATES,
        social.HELD_OUT_FEELING_TEMPLATES
        + social.HELD_OUT_BELIEF_TEMPLATES
        + social.HELD_OUT_PLACE_TEMPLATES,
    ),
}


@pytest.mark.parametrize(("category", "difficulty"), CELLS)
@pytest.mark.parametrize("split", SPLITS)
def test_wordings_belong_to_their_split(category: str, difficulty: int, split: Split) -> None:
    training, held_out = TEMPLATES[category]
    allowed, forbidden = (
        (held_out, training) if split in {"templates", "heldout"} else (training, held_out)
    )
    items = generate(category, difficulty, 8, np.random.default_rng(5), split=split)
    for item in items:
        assert any(_follows(item.prompt, template) for template in allowed), item.prompt
        assert not any(_follows(item.prompt, template) for template in forbidden), item.prompt


def _follows(prompt: str, template: str) -> bool:
    pattern = re.sub(r"\\\{\w*\\\}", ".+", re.escape(template))
    return re.search(rf"(^|\. ){pattern}$", prompt) is not None


@pytest.mark.parametrize("category", CATEGORIES)
def test_chance_is_a_share_that_never_rises(category: str) -> None:
    levels = [CHANCE[category][difficulty] for difficulty in DIFFICULTIES[category]]
    assert all(0 < level < 1 for level in levels)
    # The feelings of social 1 are another task than the places of social 2 to 4.
    start = 1 if category == "social" else 0
    assert levels[start:] == sorted(levels[start:], reverse=True)


def test_harder_chains_are_longer() -> None:
    rng = np.random.default_rng(0)
    for difficulty in DIFFICULTIES["common_sense"]:
        for item in generate("common_sense", difficulty, 20, rng):
            assert item.answer.count(" in ") == difficulty
            n_links = common_sense.N_LINKS[difficulty]
            assert n_links > difficulty
            assert n_links <= item.prompt.count(" in ") <= n_links + 1


def test_harder_sums_have_more_columns() -> None:
    rng = np.random.default_rng(0)
    for difficulty in DIFFICULTIES["arithmetic"]:
        for item in generate("arithmetic", difficulty, 20, rng):
            assert item.answer.count("=") == difficulty


def test_harder_sentences_have_more_ambiguous_words() -> None:
    rng = np.random.default_rng(0)
    for difficulty in DIFFICULTIES["tagging"]:
        for item in generate("tagging", difficulty, 20, rng):
            sentence = re.split(r"[:?] ", item.prompt)[-1].rstrip(".").lower()
            n_ambiguous = sum(len(tagging.READINGS[word]) > 1 for word in sentence.split())
            assert n_ambiguous <= tagging.AMBIGUOUS_WORDS[difficulty]
            assert n_ambiguous >= min(difficulty, 4) - 2
            assert len(sentence.split()) == 8 + 3 * max(0, difficulty - 4)


def test_grammar_beyond_training_adds_a_noun_at_each_level() -> None:
    rng = np.random.default_rng(0)
    for difficulty in (4, 5, 6):
        for item in generate("grammar", difficulty, 20, rng):
            assert item.answer.lower().split().count("the") == difficulty - 1


def test_trained_items_are_those_the_bundled_model_was_trained_on() -> None:
    """New difficulties must not move a random number of the trained ones."""
    digest = hashlib.sha256()
    for category, difficulty in itertools.product(CATEGORIES, TRAINED_DIFFICULTIES):
        for item in generate(category, difficulty, 20, np.random.default_rng(difficulty)):
            digest.update(f"{item.prompt} {item.answer}".encode())
    assert digest.hexdigest() == TRAINED_ITEMS


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("d e f", True),
        ("  d  e\tf \nQuestion: more", True),
        ("\nd e f", True),
        ("d e f g", False),
        ("d e", False),
        ("D E F", False),
        ("", False),
        ("def", False),
    ],
)
def test_only_the_first_line_counts_and_whitespace_does_not(reply: str, *, expected: bool) -> None:
    assert is_correct(Item("", "d e f", "abstract", 1), reply) is expected


@pytest.mark.parametrize(
    ("category", "difficulty", "shown"),
    [("spelling", 1, "social"), ("abstract", 5, "1, 2, 3, 4"), ("grammar", 0, "difficulty 0")],
)
def test_unknown_names_are_refused(category: str, difficulty: int, shown: str) -> None:
    with pytest.raises(InputError, match=shown):
        generate(category, difficulty, 1, np.random.default_rng(0))

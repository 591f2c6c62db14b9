"""The battery: size, order, length, and that the bundled model was not trained on it."""

from __future__ import annotations

import itertools

import numpy as np

from synatlas.tasks.battery import battery
from synatlas.tasks.generators import CATEGORIES, DIFFICULTIES, SPLITS, generate, render

MAX_RENDERED_CHARACTERS = 120

CELLS = [(category, level) for category, levels in DIFFICULTIES.items() for level in levels]


def test_ten_prompts_in_each_category_in_order() -> None:
    prompts = battery()
    groups = [(key, len(list(group))) for key, group in itertools.groupby(prompts.categories)]
    assert groups == [(category, 10) for category in CATEGORIES]
    expected = [f"{category}-{i:02d}" for category in CATEGORIES for i in range(1, 11)]
    assert list(prompts.ids) == expected


def test_prompts_are_short_plain_and_different() -> None:
    prompts = battery()
    assert len(set(prompts.texts)) == 60
    for text in prompts.texts:
        assert len(render(text)) <= MAX_RENDERED_CHARACTERS
        assert text.isascii()
        assert text == text.strip()
        assert "\n" not in text


def test_no_prompt_is_in_the_training_stream() -> None:
    texts = set(battery().texts)
    rng = np.random.default_rng(0)
    for (category, difficulty), split in itertools.product(CELLS, SPLITS):
        items = generate(category, difficulty, 4, rng, split=split)
        assert texts.isdisjoint(item.prompt for item in items)

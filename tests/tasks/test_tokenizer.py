"""The bundled tokenizer: whole words, single digits, and every text without loss."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from synatlas.tasks.battery import battery
from synatlas.tasks.generators import DIFFICULTIES, SPLITS, generate, render
from synatlas.tasks.lexicon import LETTERS, NAMES, NOUNS, plural
from synatlas.tasks.stories import open_question, say_again, tell_story
from synatlas.tasks.tokenizer import BOS_ID, EOS_ID, PAD_ID, SPECIAL_TOKENS

MAX_VOCABULARY = 1024
MAX_BATTERY_TOKENS = 90

CELLS = [(category, level) for category, levels in DIFFICULTIES.items() for level in levels]


@settings(deadline=None)
@given(text=st.text())
def test_any_text_comes_back(bundled_tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    tokens = bundled_tokenizer.encode(text, add_special_tokens=False)
    assert bundled_tokenizer.decode(tokens) == text


@pytest.mark.parametrize(
    "text",
    [
        "\r\n\t\x00",
        " a  b ",
        "日本語 🙂",
        "e\u0301 \u00e9",
        "<|bos|>",
        "2024-01-01, 3.14",
        "\ufeffx",
    ],
)
def test_awkward_texts_come_back(bundled_tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    tokens = bundled_tokenizer.encode(text, add_special_tokens=False)
    assert bundled_tokenizer.decode(tokens) == text


def test_words_letters_and_digits_are_single_tokens(
    bundled_tokenizer: PreTrainedTokenizerBase,
) -> None:
    words = [*NAMES, *NOUNS, *(plural(noun) for noun in NOUNS), *LETTERS]
    for word in words:
        assert len(bundled_tokenizer.encode(f" {word}", add_special_tokens=False)) == 1, word
    assert bundled_tokenizer.tokenize("4071") == list("4071")
    assert len(bundled_tokenizer) <= MAX_VOCABULARY


def test_a_text_begins_with_its_special_token(bundled_tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer = bundled_tokenizer
    assert tokenizer("What is red?")["input_ids"][0] == tokenizer.bos_token_id == BOS_ID
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (PAD_ID, EOS_ID)
    assert tokenizer.convert_ids_to_tokens([PAD_ID, BOS_ID, EOS_ID]) == list(SPECIAL_TOKENS)


def test_no_generated_text_contains_an_unknown_word(
    bundled_tokenizer: PreTrainedTokenizerBase,
) -> None:
    rng = np.random.default_rng(0)
    for (category, difficulty), split in itertools.product(CELLS, SPLITS):
        for item in generate(category, difficulty, 2, rng, split=split):
            tokens = bundled_tokenizer.tokenize(f"{render(item.prompt)} {item.answer}\n")
            assert not [
                token
                for token in tokens
                if len(token) == 1 and token.isalpha() and token not in "ĠĊ"
            ], item


@pytest.mark.parametrize(("category", "difficulty"), CELLS)
def test_answers_are_longer_than_one_token_and_prompts_hardly_vary(
    bundled_tokenizer: PreTrainedTokenizerBase, category: str, difficulty: int
) -> None:
    items = generate(category, difficulty, 20, np.random.default_rng(0))
    for item in items:
        assert len(bundled_tokenizer.encode(f" {item.answer}", add_special_tokens=False)) > 1
    lengths = [len(bundled_tokenizer(render(item.prompt))["input_ids"]) for item in items]
    assert max(lengths) - min(lengths) <= 14
    assert max(lengths) <= 64


def test_battery_prompts_are_short(bundled_tokenizer: PreTrainedTokenizerBase) -> None:
    for text in battery().texts:
        assert len(bundled_tokenizer(render(text))["input_ids"]) <= MAX_BATTERY_TOKENS


def test_stories_use_words_of_the_vocabulary(bundled_tokenizer: PreTrainedTokenizerBase) -> None:
    rng = np.random.default_rng(0)
    texts = [tell_story(rng) for _ in range(50)]
    for make in (open_question, say_again):
        items = [make(rng) for _ in range(50)]
        texts += [f"{render(item.prompt)} {item.answer}" for item in items]
    for text in texts:
        assert "\n" not in text.removeprefix("Question: ").replace("\nAnswer:", "")
        assert "{" not in text
        assert len(bundled_tokenizer.tokenize(text)) < 2 * len(text.split()) + 30

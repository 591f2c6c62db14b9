"""Answers under ablation: against plain generation of one question set at a time."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synatlas.errors import ConfigError
from synatlas.intervene.accuracy import correct
from synatlas.intervene.items import Items, generated
from synatlas.intervene.stopping import Answered, is_settled
from synatlas.models.batching import batching_of
from synatlas.models.edits import at_projections, edit
from synatlas.models.load import LanguageModel, load
from synatlas.record.generate import greedy
from synatlas.record.styles import render
from synatlas.tasks.generators import Item, is_correct
from tiny_models import TinyModel, tiny_tokenizer


@pytest.fixture(scope="module")
def bundled() -> LanguageModel:
    return load("bundled:reference")


@pytest.fixture(scope="module")
def items() -> Items:
    levels = {"grammar": (1,), "abstract": (1,), "social": (1,)}
    return generated(2, seed=3, levels=levels)


def plainly(model: LanguageModel, keep: np.ndarray, items: Items, tokens: int) -> np.ndarray:
    """Each set by itself, every reply to its end."""
    units = at_projections(model.found, model.units)
    prompts = [prompt.ids for prompt in render(model.tokenizer, items.questions, "question")]
    out = np.zeros((len(keep), len(items)), dtype=np.int8)
    for mask, kept in enumerate(keep):
        with edit(model.model, units, torch.from_numpy(kept)[None]):
            replies = greedy(model, prompts, tokens=tokens, stop_at_eos=True)
        texts = [model.tokenizer.decode(reply, skip_special_tokens=True) for reply in replies]
        out[mask] = [right(text) for right, text in zip(items.right, texts, strict=True)]
    return out


def measured(model: LanguageModel, keep: np.ndarray, items: Items, **options: Any) -> np.ndarray:
    units = at_projections(model.found, model.units)
    return correct(
        model, units, keep, items, applied=lambda rows: edit(model.model, units, rows), **options
    )


def some_masks(units: int) -> np.ndarray:
    """None, few and many units ablated."""
    drawn = np.random.default_rng(0).random(units)
    return np.stack([drawn >= share for share in (0.0, 0.15, 0.4)])


def test_answers_are_those_of_plain_generation(bundled: LanguageModel, items: Items) -> None:
    keep = some_masks(len(bundled.units))
    expected = plainly(bundled, keep, items, tokens=16)
    told: list[tuple[int, int]] = []
    found = measured(
        bundled, keep, items, progress=lambda what, done, total: told.append((done, total))
    )
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.int8
    assert 0.5 < found[0].mean() < 1.01
    assert found[2].mean() < found[0].mean()
    assert told[-1] == (found.size, found.size)
    # Rows of several sets in a batch, batches that cut a set, and sets by themselves.
    np.testing.assert_array_equal(measured(bundled, keep, items, batch_size=5), expected)
    np.testing.assert_array_equal(measured(bundled, keep[1:2], items), expected[1:2])


def test_a_set_that_keeps_all_units_is_the_clean_model(
    bundled: LanguageModel, items: Items
) -> None:
    keep = np.ones((1, len(bundled.units)), dtype=bool)
    clean = correct(bundled, bundled.units, keep, items, applied=lambda _: nullcontext())
    np.testing.assert_array_equal(measured(bundled, keep, items), clean)
    none = correct(bundled, bundled.units, keep[:0], items, applied=lambda _: nullcontext())
    assert none.shape == (0, len(items))


def free_items(texts: Sequence[str]) -> Items:
    """Questions of which a random model gets some right: half of all replies are."""
    return Items(
        ids=tuple(map(str, range(len(texts)))),
        questions=tuple(texts),
        answers=("b",) * len(texts),
        categories=("any",) * len(texts),
        difficulties=(1,) * len(texts),
        right=(lambda reply: reply == "b" or sum(reply.encode()) % 2 == 0,) * len(texts),
        marking="final",
        style="raw",
    )


@pytest.mark.parametrize(("name", "together"), [("llama", "padded"), ("rwkv", "alone")])
def test_batches_are_what_the_model_allows(tiny_model: TinyModel, name: str, together: str) -> None:
    model = tiny_model(name)
    kinds = "recurrent" if name == "rwkv" else "heads"
    assert batching_of(model.model).generate == together
    items = free_items(["one", "a longer text", "two", "of another length", "3"])
    units = model.found.select(kinds, "proj_in")
    keep = some_masks(len(units))

    def answered(sets: np.ndarray, items: Items, rows: int) -> np.ndarray:
        return correct(
            model,
            units,
            sets,
            items,
            applied=lambda kept: edit(model.model, units, kept),
            tokens=12,
            batch_size=rows,
        )

    found = answered(keep, items, 8)
    np.testing.assert_array_equal(found, answered(keep, items, 1))
    assert 0 < found.mean() < 1
    assert (found[0] != found[2]).any()


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"tokens": 0}, "tokens 0"),
        ({"batch_size": -1}, "batch_size -1"),
        ({"tokens": 10**6}, "the model's context"),
        ({"keep": np.ones((2, 3), dtype=bool)}, "masks of 3 units"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    bundled: LanguageModel, items: Items, options: dict[str, Any], shown: str
) -> None:
    keep = options.pop("keep", np.ones((1, len(bundled.units)), dtype=bool))
    with pytest.raises(ConfigError, match=shown):
        measured(bundled, keep, items, **options)


words = st.text("ab \n", max_size=8)


@settings(deadline=None, derandomize=True, max_examples=120)
@given(words, words, st.sampled_from(["a", "ab b", "ba a b"]))
def test_what_is_settled_stays_so_and_nothing_else_is(text: str, more: str, answer: str) -> None:
    item = Item("", answer, "social", 1)
    if is_settled(text, answer):
        assert is_correct(item, text + more) == is_correct(item, f"{text}\n")
    else:
        # Some continuation is right.
        ends = [answer[i:] for i in range(len(answer) + 1)]
        assert any(is_correct(item, text + gap + end) for gap in ("", " ") for end in ends)


def stopped(replies: Sequence[str], most: int = 0, **options: Any) -> list[int]:
    """Tokens, which are bytes, after which each reply is said to be done."""
    tokenizer = tiny_tokenizer()
    rows = [tokenizer(reply)["input_ids"] for reply in replies]
    longest = max(map(len, rows))
    ids = torch.tensor([[5, *row, *[2] * (longest - len(row))] for row in rows])
    limits = {"longest": [most or 10 * longest] * len(rows)}
    stop = Answered(tokenizer, prompt=1, **limits, **options)
    done = torch.stack([stop(ids[:, : 1 + n], None) for n in range(1, longest + 1)])
    return [int(row.float().argmax()) + 1 if bool(row.any()) else 0 for row in done.T]


def test_a_reply_ends_where_nothing_can_change() -> None:
    # Shorter rows go on with exclamation marks.
    replies = ["\n yes\nand", " yes or", " no", " yes", " ye \u00e9"]
    assert stopped(replies, first_line=True, answers=["yes"] * 5)[:4] == [6, 6, 2, 5]
    assert stopped(replies, first_line=True, answers=["yes"] * 5)[4] == 4
    # Of a letter of two bytes the first alone says nothing.
    assert stopped([" y\u00e9s", " yes"], first_line=True, answers=["y\u00e9s"] * 2) == [0, 3]
    assert stopped(["\n\n yes\nand", "no"], first_line=True) == [7, 0]
    text = "one\n\nanother\nQuestion: what?"
    assert stopped([text], first_line=False, end="\nQuestion:") == [len(text) - len(" what?")]
    assert stopped([text], first_line=False) == [0]
    assert stopped(["\n" * 9, " yes or"], most=5, first_line=True, answers=["no"] * 2) == [5, 2]

"""Batches that memory does not hold: fewer rows, and the values that fewer rows give."""

import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synatlas.errors import ConfigError
from synatlas.progress import silent
from synatlas.record.memory import with_fewer_rows
from synatlas.record.record import record, replay
from tiny_models import TinyModel

TEXTS = ["One two three", "Why?", "A rather longer prompt than the rest", "Tell me", "So"]
batches_module = sys.modules["synatlas.record.batches"]
captures_module = sys.modules["synatlas.record.captures"]

#: What torch says on a GPU, and on a CPU under Linux.
ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 4 bytes"),
]


def short_of_memory(stock: Callable[..., Any], most: int, error: RuntimeError) -> Any:
    def limited(model: Any, rows: Any, *args: Any, **options: Any) -> Any:
        if len(rows) > most:
            raise error
        return stock(model, rows, *args, **options)

    return limited


@pytest.mark.parametrize("error", ERRORS)
def test_the_recording_is_that_of_the_rows_that_fit(
    error: RuntimeError, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama")
    expected = record(model, TEXTS, tokens=8, batch_size=2)
    begun: list[int] = []
    told: list[str] = []
    for module in (batches_module, captures_module):
        limited = short_of_memory(module.replay_rows, 2, error)
        monkeypatch.setattr(module, "replay_rows", limited)
    found = record(
        model,
        TEXTS,
        tokens=8,
        batch_size=5,
        begin=begun.append,
        progress=lambda what, done, total: told.append(what),
    )
    assert begun == [5, 3, 2]
    assert [t for t in told if "memory" in t] == [
        "out of memory: 3 prompts at once",
        "out of memory: 2 prompts at once",
    ]
    np.testing.assert_array_equal(found["activity"], expected["activity"])
    rows = [[*range(3, 40)], [*range(5, 45)], [*range(7, 40)]]
    again = replay(model, rows, 4, batch_size=3)
    np.testing.assert_array_equal(
        again["activity"], replay(model, rows, 4, batch_size=2)["activity"]
    )


def test_live_capture_begins_anew_too(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama")
    expected = record(model, TEXTS, tokens=8, batch_size=2, capture="live")
    limited = short_of_memory(captures_module.continued, 2, ERRORS[0])
    monkeypatch.setattr(captures_module, "continued", limited)
    found = record(model, TEXTS, tokens=8, batch_size=5, capture="live")
    np.testing.assert_array_equal(found["activity"], expected["activity"])
    np.testing.assert_array_equal(found["logprob"], expected["logprob"])


@settings(derandomize=True, deadline=None, max_examples=30)
@given(rows=st.integers(1, 300), most=st.integers(0, 300))
def test_rows_are_halved_until_they_fit(rows: int, most: int) -> None:
    tried: list[int] = []

    def attempt(n: int) -> int:
        tried.append(n)
        if n > most:
            raise ERRORS[0]
        return n

    if most == 0:
        with pytest.raises(ConfigError, match="one prompt"):
            with_fewer_rows(attempt, rows, silent)
        return
    assert with_fewer_rows(attempt, rows, silent) <= most
    assert all(b == (a + 1) // 2 for a, b in pairwise(tried))


def test_another_error_stays_what_it_is() -> None:
    def broken(_: int) -> None:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        with_fewer_rows(broken, 4, silent)

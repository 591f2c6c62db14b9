"""The estimate of a batch's memory against what torch allocates for one."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from torch.profiler import ProfilerActivity, profile

from synatlas.models.batching import batching_of
from synatlas.models.reducers import norm
from synatlas.record import memory
from synatlas.record.captures import CAPTURE
from synatlas.record.memory import LOGIT_TENSORS, row_bytes, rows_at_once
from synatlas.record.replay import Reading, replay_rows
from tiny_models import as_language_model, tiny_network, tiny_tokenizer

ROWS, PROMPT, REPLY = 8, 40, 12


def most_allocated(run: Callable[[], Any]) -> int:
    """Bytes that torch held at once, beyond what it held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        run()
    assert seen.profiler is not None
    events: list[Any] = seen.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = [event for event in events if event.name() == "[memory]"]
    held = most = 0
    for change in sorted(changes, key=lambda event: event.start_ns()):
        held += change.nbytes()
        most = max(most, held)
    return most


@pytest.mark.parametrize(
    ("name", "changes", "units"),
    [
        ("llama", {}, "heads"),
        ("llama", {"vocab_size": 20_000}, "heads"),
        ("mixtral", {"num_experts_per_tok": 4, "intermediate_size": 200}, "experts"),
        ("qwen2_moe", {"num_experts": 16, "num_experts_per_tok": 8}, "experts"),
        ("llama4_text", {"num_local_experts": 8}, "experts"),
    ],
)
def test_the_estimate_holds_what_is_allocated(
    name: str, changes: dict[str, Any], units: str
) -> None:
    model = as_language_model(tiny_network(name, **changes), tiny_tokenizer())
    batching_of(model.model)
    reading = Reading(model.found.select(units), norm)
    prompts = [[5 + i % 100 for i in range(PROMPT)]] * ROWS
    vocabulary = model.model.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
    expected = ROWS * row_bytes(model, PROMPT + REPLY)
    given = {"tokens": REPLY, "stop_at_eos": False, "reading": reading}
    for way in CAPTURE:
        found = most_allocated(partial(CAPTURE[way], model, prompts, **given))
        assert found <= expected <= 4 * found, way
    # Of tokens that are given the logits of all steps are held.
    replies = [[7] * REPLY] * ROWS
    expected += LOGIT_TENSORS * 4 * ROWS * REPLY * vocabulary
    found = most_allocated(
        partial(replay_rows, model, prompts, replies, steps=REPLY, reading=reading)
    )
    assert found <= expected <= 4 * found


def test_experts_and_large_vocabularies_leave_fewer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CPU_BYTES", 2**24)
    models = [
        as_language_model(tiny_network(family, **changes), tiny_tokenizer())
        for family, changes in (
            ("llama", {}),
            ("llama", {"vocab_size": 20_000}),
            ("mixtral", {"num_experts_per_tok": 4}),
        )
    ]
    plain, wide, experts = (rows_at_once(model, [64] * 32) for model in models)
    assert plain == 32
    assert max(wide, experts) < 32
    fewer = as_language_model(tiny_network("mixtral"), tiny_tokenizer())
    twice = row_bytes(models[2], 64) - row_bytes(models[0], 64)
    assert twice == 2 * (row_bytes(fewer, 64) - row_bytes(models[0], 64))

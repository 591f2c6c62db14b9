"""The replayed pass: against the weights, against live capture, against itself."""

import sys
from typing import Any

import numpy as np
import pytest
import torch

from reference import attention
from synatlas.models.load import LanguageModel
from synatlas.models.reducers import REDUCERS
from synatlas.record.generate import greedy
from synatlas.record.replay import Reading, live_against_replay, replay_rows
from tiny_models import TinyModel

#: The package has a function of the same name, which hides the module from attribute access.
replay_module = sys.modules["synatlas.record.replay"]
PROMPTS = [[0, 40, 41, 90, 17, 33, 60, 61, 5], [70, 3, 200]]
REPLIES = [[9, 10, 120, 13, 50, 51, 52, 53], [100, 30, 2, 2, 8, 250, 7, 6]]

#: Attention with grouped heads, windows, soft caps, gates on logits, fused and own code, ALiBi.
FAMILIES = [
    "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "gpt2", "gpt_neox",
    "opt", "phi", "phi3", "olmo", "olmo2", "falcon", "bloom", "gptj", "gpt_neo", "codegen",
    "mpt", "xglm", "gpt_bigcode", "stablelm", "starcoder2", "cohere", "granite", "smollm3",
    "nemotron", "glm", "exaone4", "mixtral", "qwen3_moe", "gpt_oss", "deepseek_v2",
]  # fmt: skip


def norms(model: LanguageModel) -> Reading:
    return Reading(model.units, REDUCERS["norm"])


def weights(model: LanguageModel) -> dict[str, np.ndarray]:
    return {name: value.double().numpy() for name, value in model.model.state_dict().items()}


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox"])
def test_norms_are_those_computed_by_hand(name: str, tiny_model: TinyModel) -> None:
    model = tiny_model(name)
    found = replay_rows(model, PROMPTS, REPLIES, steps=8, reading=norms(model)).activity
    for row, (prompt, reply) in enumerate(zip(PROMPTS, REPLIES, strict=True)):
        ids = np.array(prompt + reply)
        if name == "llama":
            by_hand = attention.llama(weights(model), ids, layers=2, n_heads=4, n_groups=2)
        elif name == "gpt2":
            by_hand = attention.gpt2(weights(model), ids, layers=2, n_heads=4)
        else:
            by_hand = attention.gpt_neox(weights(model), ids, layers=2, n_heads=4)
        expected = by_hand[len(prompt) - 1 : len(ids) - 1]
        assert expected.shape == found[row].shape
        np.testing.assert_allclose(found[row], expected, rtol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_live_capture_equals_replay(name: str, tiny_model: TinyModel) -> None:
    model = tiny_model(name)
    assert live_against_replay(model, PROMPTS, reading=norms(model)).error <= 1e-5


def test_live_replay_error_sees_an_error(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replay of tokens that were not the generated ones is found out."""
    model = tiny_model("llama")

    def others(*args: Any, **options: Any) -> list[list[int]]:
        greedy(*args, **options)
        return REPLIES

    monkeypatch.setattr(replay_module, "greedy", others)
    assert live_against_replay(model, PROMPTS, reading=norms(model)).error > 1e-2


@pytest.mark.parametrize("name", FAMILIES)
def test_padding_and_company_change_nothing(name: str, tiny_model: TinyModel) -> None:
    model = tiny_model(name)
    together = replay_rows(model, PROMPTS, REPLIES, steps=8, reading=norms(model))
    for row in range(2):
        alone = replay_rows(model, [PROMPTS[row]], [REPLIES[row]], steps=8, reading=norms(model))
        np.testing.assert_allclose(together.activity[row], alone.activity[0], rtol=1e-5)
        np.testing.assert_allclose(together.logprob[row], alone.logprob[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "gemma2", "cohere"])
def test_logprob_is_that_of_the_plain_model(name: str, tiny_model: TinyModel) -> None:
    model = tiny_model(name)
    found = replay_rows(model, PROMPTS, REPLIES, steps=8, reading=norms(model)).logprob
    for row, (prompt, reply) in enumerate(zip(PROMPTS, REPLIES, strict=True)):
        with torch.no_grad():
            logits = model.model(input_ids=torch.tensor([prompt + reply])).logits[0].double()
        logp = torch.log_softmax(logits, dim=-1).numpy()
        expected = [logp[len(prompt) - 1 + t, token] for t, token in enumerate(reply)]
        np.testing.assert_allclose(found[row], expected, rtol=1e-5, atol=1e-5)


def test_small_logit_budget_changes_nothing(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama")
    whole = replay_rows(model, PROMPTS, REPLIES, steps=8, reading=norms(model))
    monkeypatch.setattr(replay_module, "LOGITS_AT_ONCE", 1)
    pieces = replay_rows(model, PROMPTS, REPLIES, steps=8, reading=norms(model))
    np.testing.assert_allclose(pieces.activity, whole.activity, rtol=1e-5)
    np.testing.assert_allclose(pieces.logprob, whole.logprob, rtol=1e-5, atol=1e-5)


def test_short_rows_end_in_nan(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    full = replay_rows(model, PROMPTS, REPLIES, steps=8, reading=norms(model))
    short = replay_rows(model, PROMPTS, [REPLIES[0], REPLIES[1][:3]], steps=8, reading=norms(model))
    np.testing.assert_allclose(short.activity[1, :3], full.activity[1, :3], rtol=1e-5)
    assert np.isnan(short.activity[1, 3:]).all()
    assert np.isnan(short.logprob[1, 3:]).all()
    assert np.isfinite(short.activity[0]).all()

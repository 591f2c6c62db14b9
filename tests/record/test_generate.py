"""Greedy continuation: the argmax, whatever the batch and whatever the model's own settings."""

import pytest
import torch
from transformers import GenerationConfig

from synatlas.models.load import LanguageModel
from synatlas.record.generate import end_ids, greedy
from tiny_models import TinyModel, as_language_model, tiny_network, tiny_tokenizer

PROMPTS = [[5, 6, 7, 8, 9, 10, 200], [40, 41], [77, 3, 99, 12]]


def by_hand(model: LanguageModel, prompt: list[int], tokens: int, banned: set[int]) -> list[int]:
    """The most likely allowed token, one full forward pass at a time."""
    ids = list(prompt)
    for _ in range(tokens):
        with torch.no_grad():
            logits = model.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
        logits[list(banned)] = -torch.inf
        ids.append(int(logits.argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "opt", "bloom", "falcon", "gpt_neox"])
def test_left_padded_batches_equal_plain_forward_passes(name: str, tiny_model: TinyModel) -> None:
    model = tiny_model(name)
    found = greedy(model, PROMPTS, tokens=12, stop_at_eos=False)
    assert found == [by_hand(model, p, 12, {1}) for p in PROMPTS]


def test_own_settings_are_set_aside_and_left_alone() -> None:
    network = tiny_network("llama")
    model = as_language_model(network, tiny_tokenizer())
    expected = greedy(model, PROMPTS, tokens=10, stop_at_eos=False)
    own = GenerationConfig(
        do_sample=True, temperature=9.0, top_k=2, repetition_penalty=5.0, eos_token_id=1
    )
    network.generation_config = own
    before = own.to_dict()
    assert greedy(model, PROMPTS, tokens=10, stop_at_eos=False) == expected
    assert network.generation_config is own
    assert own.to_dict() == before


def test_replies_end_with_an_end_token_only_where_asked() -> None:
    network = tiny_network("llama")
    free = as_language_model(network, tiny_tokenizer(eos_token=None))
    network.generation_config.eos_token_id = None
    assert end_ids(free) == ()
    replies = greedy(free, PROMPTS, tokens=20, stop_at_eos=True)
    assert [len(r) for r in replies] == [20, 20, 20]
    # Let a token that comes up on the way be an end.
    end = replies[0][6]
    network.generation_config.eos_token_id = [end, 10**6]
    assert end_ids(free) == (end,)
    stopped = greedy(free, PROMPTS, tokens=20, stop_at_eos=True)
    for whole, part in zip(replies, stopped, strict=True):
        stop = whole.index(end) + 1 if end in whole else 20
        assert part == whole[:stop]
    suppressed = greedy(free, PROMPTS, tokens=20, stop_at_eos=False)
    assert suppressed == [by_hand(free, p, 20, {end}) for p in PROMPTS]

"""Noise reaches the weights of chosen units, no others, and is gone afterwards."""

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from synatlas.errors import ConfigError, ModelError
from synatlas.intervene.weights import PUBLISHED, weight_noise
from synatlas.models.load import LanguageModel
from tiny_models import TinyModel, as_language_model, tiny_network, tiny_tokenizer

Entries = dict[str, tuple[Any, ...]]

#: Where the second layer's third head has its queries and output columns, by hand: heads of 12
#: features, of 20 where keys are grouped in pairs.
HEADS: dict[str, Entries] = {
    "llama": {
        "model.layers.1.self_attn.q_proj.weight": (slice(40, 60),),
        "model.layers.1.self_attn.o_proj.weight": (slice(None), slice(40, 60)),
    },
    "gpt2": {
        "transformer.h.1.attn.c_attn.weight": (slice(None), slice(24, 36)),
        "transformer.h.1.attn.c_attn.bias": (slice(24, 36),),
        "transformer.h.1.attn.c_proj.weight": (slice(24, 36),),
    },
    "gpt_neox": {
        "gpt_neox.layers.1.attention.query_key_value.weight": (slice(72, 84),),
        "gpt_neox.layers.1.attention.query_key_value.bias": (slice(72, 84),),
        "gpt_neox.layers.1.attention.dense.weight": (slice(None), slice(24, 36)),
    },
    "phi3": {
        "model.layers.1.self_attn.qkv_proj.weight": (slice(40, 60),),
        "model.layers.1.self_attn.o_proj.weight": (slice(None), slice(40, 60)),
    },
    "falcon": {
        # Two heads, their key and their value, then the next group.
        "transformer.h.1.self_attention.query_key_value.weight": (slice(48, 60),),
        "transformer.h.1.self_attention.dense.weight": (slice(None), slice(24, 36)),
    },
}
EXPERT = "L01E02"
EXPERTS: dict[str, Entries] = {
    "mixtral": {
        f"model.layers.1.mlp.experts.{name}": (2,) for name in ("gate_up_proj", "down_proj")
    },
    "gpt_oss": {
        f"model.layers.1.mlp.experts.{name}": (2,)
        for name in ("gate_up_proj", "gate_up_proj_bias", "down_proj", "down_proj_bias")
    },
}


@pytest.fixture
def made(tiny_model: TinyModel) -> TinyModel:
    """Models whose biases, where they have any, may take noise: they are not 0."""

    def make(name: str) -> LanguageModel:
        return _with_biases(name) if name in {"gpt2", "gpt_neox", "gpt_oss"} else tiny_model(name)

    return make


@cache
def _with_biases(name: str) -> LanguageModel:
    network = tiny_network(name)
    generator = torch.Generator().manual_seed(0)
    for parameter_name, parameter in network.named_parameters():
        if "bias" in parameter_name:
            parameter.normal_(0.0, 0.1, generator=generator)
    return as_language_model(network, tiny_tokenizer())


def copied(model: LanguageModel) -> dict[str, Tensor]:
    return {name: p.clone() for name, p in model.model.named_parameters()}


@pytest.mark.parametrize("name", [*HEADS, *EXPERTS])
def test_exactly_the_entries_of_the_unit_change(name: str, made: TinyModel) -> None:
    model = made(name)
    label, entries = ("L01H02", HEADS[name]) if name in HEADS else (EXPERT, EXPERTS[name])
    before = copied(model)
    assert set(entries) <= set(before)
    with weight_noise(model, [label], scale=0.5, seed=0):
        during = copied(model)
    for parameter, values in before.items():
        expected = torch.zeros_like(values, dtype=torch.bool)
        if parameter in entries:
            expected[entries[parameter]] = True
        assert torch.equal(during[parameter] != values, expected), parameter
    assert all(map(torch.equal, copied(model).values(), before.values()))


def test_the_noise_is_normal_in_the_spread_of_each_slice(made: TinyModel) -> None:
    model, before = made("mixtral"), copied(made("mixtral"))
    with weight_noise(model, [EXPERT, "L00H01"], scale=0.75, seed=1):
        during = copied(model)
    for parameter, at in EXPERTS["mixtral"].items():
        values = before[parameter][at]
        noise = (during[parameter][at] - values) / (0.75 * values.std(correction=0))
        assert abs(float(noise.mean())) < 4 / noise.numel() ** 0.5
        assert abs(float(noise.std()) - 1) < 4 / (2 * noise.numel()) ** 0.5
        assert abs(float((noise.abs() > 1).float().mean()) - 0.3173) < 2 / noise.numel() ** 0.5


def test_noise_depends_on_the_seed_and_the_slice_alone(made: TinyModel) -> None:
    model = made("llama")
    found = []
    for labels, seed in (
        (["L00H01", "L01H02"], 3),
        (["L01H02", "L00H03", "L00H01"], 3),
        (["L00H01", "L01H02"], 4),
    ):
        with weight_noise(model, labels, scale=1.0, seed=seed):
            found.append(copied(model))
    at, name = slice(20, 40), "model.layers.0.self_attn.q_proj.weight"
    assert torch.equal(found[0][name][at], found[1][name][at])
    assert not (found[0][name][at] == found[2][name][at]).any()
    assert not torch.equal(found[0][name], found[1][name])


def test_weights_are_back_after_an_exception_and_in_half_precision() -> None:
    network = tiny_network("llama").to(torch.bfloat16)
    model = as_language_model(network, tiny_tokenizer())
    before = copied(model)
    labels = [label for label in model.found.label if label[3] == "H"]
    everything = weight_noise(model, labels, scale=2.0, seed=0, roles=("query", "key", "output"))
    with pytest.raises(KeyboardInterrupt), everything:
        raise KeyboardInterrupt
    assert all(map(torch.equal, copied(model).values(), before.values()))
    with weight_noise(model, labels, scale=0.0, seed=0):
        assert all(map(torch.equal, copied(model).values(), before.values()))


def test_what_is_shared_changes_where_all_that_share_it_are_chosen(made: TinyModel) -> None:
    """Two heads have one key."""
    model, before = made("llama"), copied(made("llama"))
    name = "model.layers.0.self_attn.k_proj.weight"
    with weight_noise(model, ["L00H02"], scale=1.0, seed=0, roles=("query", "key")):
        assert torch.equal(copied(model)[name], before[name])
    with weight_noise(model, ["L00H02", "L00H03"], scale=1.0, seed=0, roles=("query", "key")):
        moved = (copied(model)[name] != before[name]).all(1)
    assert moved.tolist() == [False] * 20 + [True] * 20


def test_what_cannot_be_done(made: TinyModel) -> None:
    model = made("llama")
    for scale in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="a finite number"):
            weight_noise(model, ["L00H00"], scale=scale, seed=0).__enter__()
    with pytest.raises(ConfigError, match="none of this name"):
        weight_noise(model, ["L09H00"], scale=1.0, seed=0).__enter__()
    with pytest.raises(ConfigError, match="shares them with units that are not chosen"):
        weight_noise(model, ["L00H00"], scale=1.0, seed=0, roles=("key",)).__enter__()
    with pytest.raises(ConfigError, match="such as whole"):
        weight_noise(model, ["L00M00"], scale=1.0, seed=0).__enter__()
    mixed = made("diffllama")
    with pytest.raises(ModelError, match="no weight matrix after it has columns of it alone"):
        weight_noise(mixed, ["L00H00"], scale=1.0, seed=0).__enter__()
    with weight_noise(mixed, ["L00H00"], scale=1.0, seed=0, roles=("query",)):
        pass
    assert PUBLISHED == ("query", "output", "expert")

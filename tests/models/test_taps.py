"""Taps read and change nothing."""

from contextlib import AbstractContextManager

import pytest
import torch
from torch import nn
from transformers.modeling_utils import AttentionInterface

from synatlas.models.probe import find_units
from synatlas.models.reducers import REDUCERS
from synatlas.models.taps import capture, head_at
from tiny_models import TinyModel, tiny_network

IDS = torch.arange(3, 25).view(2, 11)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "bloom", "falcon", "mixtral"])
def test_logits_are_bit_identical_with_taps_on(name: str, tiny_model: TinyModel) -> None:
    model = tiny_model(name)
    with torch.no_grad():
        plain = model.model(input_ids=IDS).logits
        with capture(model.model, model.units) as taken:
            tapped = model.model(input_ids=IDS).logits
    assert torch.equal(plain, tapped)
    assert taken.passes == 1
    assert taken.units().shape == (2, 11, len(model.units))


def test_norm_is_that_of_the_vectors_and_positions_choose(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    positions = torch.tensor([[0, 4, 4], [10, 1, 0]])
    with torch.no_grad():
        with capture(model.model, model.units, reduce=REDUCERS["identity"]) as vectors:
            model.model(input_ids=IDS)
        with capture(model.model, model.units, positions=positions) as norms:
            model.model(input_ids=IDS)
    expected = torch.cat([z.double().pow(2).sum(-1).sqrt() for z in vectors.outputs()], dim=-1)
    expected = torch.stack([expected[0, [0, 4, 4]], expected[1, [10, 1, 0]]])
    assert torch.allclose(norms.units().double(), expected, rtol=1e-6, atol=0)


def test_norm_is_float32_in_a_bfloat16_model() -> None:
    z = torch.full((1, 1, 1, 256), 1.0078125, dtype=torch.bfloat16)
    found = REDUCERS["norm"](z)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(16 * 1.0078125, rel=1e-6)


def test_hooks_are_gone_after_an_exception(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    network = model.model
    taps = (capture(network, model.units), head_at(network, torch.zeros(2, 1, dtype=torch.long)))
    for tap in taps:
        with pytest.raises(KeyboardInterrupt):
            interrupted(network, tap)
        assert not any(m._forward_pre_hooks for m in network.modules())


def interrupted(network: nn.Module, tap: AbstractContextManager[object]) -> None:
    with tap:
        assert any(m._forward_pre_hooks for m in network.modules())
        raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["llama", "gemma2", "cohere", "granite", "gpt2", "opt", "bloom"])
def test_head_at_gives_the_logits_of_these_positions(name: str, tiny_model: TinyModel) -> None:
    """Soft caps and logit scales included."""
    model = tiny_model(name)
    positions = torch.tensor([[9, 2], [0, 5]])
    with torch.no_grad():
        full = model.model(input_ids=IDS).logits
        with head_at(model.model, positions):
            few = model.model(input_ids=IDS).logits
    expected = torch.stack([full[0, [9, 2]], full[1, [0, 5]]])
    assert torch.allclose(few, expected, rtol=1e-5, atol=1e-5)


def test_one_patch_of_the_attention_table_serves_all_layers() -> None:
    """Gated heads of every layer are read through one wrapper, not one inside another."""
    network = tiny_network("qwen3_next", num_hidden_layers=6, layer_types=["full_attention"] * 6)
    found = find_units(network).select("heads", "z")
    assert {source.at for source in found.sources} == {"attention"}
    stock = AttentionInterface.get_interface
    with capture(network, found) as taken:
        patched = AttentionInterface().get_interface("sdpa", None)
        assert patched.func.__name__ == "tapped"
        assert patched.args == (stock(AttentionInterface(), "sdpa", None),)
        with torch.no_grad():
            network(input_ids=IDS)
    assert (taken.passes, AttentionInterface.get_interface) == (1, stock)

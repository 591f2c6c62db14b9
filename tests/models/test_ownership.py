"""Slices of parameters that are a head's own: what is changed there changes that head alone."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from own_models import MIXINGS
from slices import IDS, changed, prepared, silenced
from synatlas.models.ownership import owned
from synatlas.models.probe import find_units
from synatlas.models.reducers import identity
from synatlas.models.taps import capture
from synatlas.models.units import UnitTable
from tiny_models import tiny_network

#: Single, grouped and one group of keys; latent; Conv1D; fused in blocks and head by head; gated;
#: norms before and after; keys of another layer; several widths; two attentions in a layer; sinks.
TYPES = (
    "opt", "llama", "gpt_bigcode", "deepseek_v3", "gpt2", "phi3", "gpt_neox", "bloom", "falcon",
    "codegen", "gptj", "qwen3_next", "gemma2", "gemma3n_text", "gemma4_text", "longcat_flash",
    "bert", "bitnet", "mimo_v2_flash", "gpt_oss",
)  # fmt: skip
_MOVING = ("query", "key", "value", "mixing")
OWN = tuple(f"own {mixing}" for mixing in MIXINGS)


def read(network: nn.Module, units: UnitTable, site: str) -> tuple[Tensor, list[Tensor]]:
    """Logits, and the vectors of all heads in order (row, position, feature)."""
    with torch.no_grad(), capture(network, units.select(site=site), reduce=identity) as taken:
        logits = network(input_ids=IDS).logits
    return logits, [z for output in taken.outputs() for z in output.unbind(2)]


def moved(before: list[Tensor], after: list[Tensor], units: UnitTable, unit: int) -> set[int]:
    """Heads of the same attention as `unit` whose vectors differ, beyond rounding."""
    modules = np.array(units.select().module)
    of_layer = np.flatnonzero(modules == modules[unit])
    size = max(float(before[i].abs().max()) for i in of_layer)
    return {int(i) for i in of_layer if float((before[i] - after[i]).abs().max()) > 1e-6 * size}


@pytest.mark.parametrize("name", [*TYPES, *OWN])
def test_every_slice_moves_its_own_heads_and_no_other(name: str) -> None:
    network, found, ownership = prepared(name)
    heads = found.select()
    labels = heads.label
    _, before = read(network, found, "z")
    assert not any(g.unit in labels for g in ownership.gaps)
    for unit in {0, 1, len(heads) - 1}:
        of_layer = np.flatnonzero(np.array(heads.module) == heads.module[unit])
        roles = {r: ownership.of(labels[unit], roles=[r]) for r in _MOVING}
        assert roles["query"][0].units == (labels[unit],)
        groups = {int(i) for i in of_layer if heads.kv_group[i] == heads.kv_group[unit]}
        for role, slices in roles.items():
            whose = {labels.index(u) for s in slices for u in s.units} & {*of_layer.tolist()}
            if role in {"key", "value"}:
                assert whose == groups
            if not slices or f".{heads.layer[unit]}." not in slices[0].parameter:
                # Keys of an earlier layer, which they change as well.
                assert role == "mixing" or name.startswith("gemma")
                continue
            with changed(network, slices, times=1.5):
                _, after = read(network, found, "z")
            assert moved(before, after, found, unit) == whose, role
            assert {s.leak for s in slices} == {0.0}
        gates = ownership.of(labels[unit], roles=["gate"])
        if gates:
            gated_before = read(network, found, "proj_in")[1]
            with changed(network, gates, times=1.5):
                _, after = read(network, found, "z")
                gated = read(network, found, "proj_in")[1]
            assert moved(before, after, found, unit) == set()
            if not any(s.leak for s in gates):
                assert moved(gated_before, gated, found, unit) == {unit}


@pytest.mark.parametrize("name", [*TYPES, "own sdpa"])
def test_output_columns_at_zero_are_the_head_at_zero(name: str) -> None:
    network, found, ownership = prepared(name)
    labels = found.select().label
    for unit in {1, len(labels) - 1}:
        with torch.no_grad(), silenced(network, found.select(site="proj_in"), unit):
            expected = network(input_ids=IDS).logits
        columns = ownership.of(labels[unit], roles=["output"])
        with torch.no_grad(), changed(network, columns, times=0.0):
            assert torch.equal(network(input_ids=IDS).logits, expected)


def test_a_packed_matrix_is_a_gap_with_its_reason() -> None:
    class Packed(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 3.0 * super().forward(x)

    network = tiny_network("llama")
    network.model.layers[0].self_attn.q_proj = Packed(48, 80).requires_grad_(False)
    ownership = owned(network, find_units(network))
    assert {(g.unit, g.role) for g in ownership.gaps} == {(f"L00H0{i}", "query") for i in range(4)}
    assert all("q_proj gives something else" in g.reason for g in ownership.gaps)


def test_a_norm_over_all_heads_leaks_and_says_so() -> None:
    """OLMo-2 normalises queries over the full width: every row moves every head."""
    network = tiny_network("olmo2")
    slices = owned(network, find_units(network)).slices
    leaks = {
        role: max(s.leak for s in slices if s.role == role)
        for role in ("query", "key", "value", "output")
    }
    assert 0 < leaks["query"] < 0.4
    assert 0 < leaks["key"] < 0.4
    assert leaks["value"] == leaks["output"] == 0


def test_what_all_heads_share_is_nobodys() -> None:
    slices = prepared("deepseek_v3").ownership.slices
    names = {s.parameter.split(".")[-2] for s in slices if s.units[0][3] == "H"}
    assert names == {"q_b_proj", "kv_b_proj", "o_proj"}
    paired = tiny_network("diffllama")
    ownership = owned(paired, find_units(paired))
    heads = [label for label in ownership.labels if label[3] == "H"]
    assert {s.role for s in ownership.of(*heads)} == {"query", "key"}
    assert {(g.unit, g.role) for g in ownership.gaps} == {
        (label, role) for label in heads for role in ("value", "output")
    }
    assert all("other units" in g.reason for g in ownership.gaps if g.role == "value")


def test_the_model_is_left_as_it_was() -> None:
    network = tiny_network("gpt_neox")
    stock = {name: p.clone() for name, p in network.named_parameters()}
    with torch.no_grad():
        ownership = owned(network, find_units(network))
    assert not ownership.gaps
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, stock[name])
        assert parameter.grad is None
        assert not parameter.requires_grad
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())

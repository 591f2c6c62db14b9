"""Slices of parameters that are a head's own: what is changed there changes that head alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from every_type import tiny_type
from own_models import MIXINGS, own_model
from synatlas.models.ownership import ROLES, Owned, owned
from synatlas.models.probe import find_units
from synatlas.models.reducers import identity
from synatlas.models.taps import capture
from synatlas.models.units import UnitTable
from tiny_models import tiny_network

IDS = torch.arange(3, 25).view(2, 11)

#: Single, grouped and one group of keys; latent; Conv1D; fused in blocks and head by head; gated;
#: norms before and after; keys of another layer; several widths; two attentions in a layer.
TYPES = (
    "opt", "llama", "gpt_bigcode", "deepseek_v3", "gpt2", "phi3", "gpt_neox", "bloom", "falcon",
    "codegen", "gptj", "qwen3_next", "gemma2", "gemma3n_text", "gemma4_text", "longcat_flash",
    "bert", "bitnet", "mimo_v2_flash",
)  # fmt: skip
OWN = tuple(f"own {mixing}" for mixing in MIXINGS)


def network_of(name: str) -> Any:
    if name.startswith("own "):
        return own_model(mixing=name.removeprefix("own "))
    return tiny_type(name)


def read(network: nn.Module, units: UnitTable, site: str) -> tuple[Tensor, list[Tensor]]:
    """Logits, and the vectors of all heads in order (row, position, feature)."""
    with torch.no_grad(), capture(network, units.select(site=site), reduce=identity) as taken:
        logits = network(input_ids=IDS).logits
    return logits, [z for output in taken.outputs() for z in output.unbind(2)]


@contextmanager
def scaled(network: nn.Module, slices: list[Owned], factor: float) -> Iterator[None]:
    """These slices times a factor, and afterwards as they were.

    Other factors than 0 are for every second index: norms of each head undo what is common.
    """
    stock = {s.parameter: network.get_parameter(s.parameter).clone() for s in slices}
    for s in slices:
        chosen: list[Any] = [slice(None)] * stock[s.parameter].ndim
        chosen[s.axis] = torch.as_tensor(s.indices[:: 2 if factor else 1].copy())
        with torch.no_grad():
            network.get_parameter(s.parameter)[tuple(chosen)] *= factor
    try:
        yield
    finally:
        for name, values in stock.items():
            with torch.no_grad():
                network.get_parameter(name).copy_(values)


def moved(before: list[Tensor], after: list[Tensor], units: UnitTable, unit: int) -> set[int]:
    """Heads of the same attention as `unit` whose vectors differ, beyond rounding."""
    modules = np.array(units.select().module)
    of_layer = np.flatnonzero(modules == modules[unit])
    size = max(float(before[i].abs().max()) for i in of_layer)
    return {int(i) for i in of_layer if float((before[i] - after[i]).abs().max()) > 1e-6 * size}


def by_role(slices: tuple[Owned, ...], unit: int) -> dict[str, list[Owned]]:
    return {role: [s for s in slices if (s.unit, s.role) == (unit, role)] for role in ROLES}


@pytest.mark.parametrize("name", [*TYPES, *OWN])
def test_every_slice_moves_its_own_heads_and_no_other(name: str) -> None:
    network = network_of(name)
    found = find_units(network)
    slices = owned(network, found)
    heads = found.select()
    _, before = read(network, found, "z")
    has_gates = found.select(site="proj_in").sources != heads.sources
    assert {s.unit for s in slices} == set(range(len(heads)))
    for unit in {0, 1, len(heads) - 1}:
        roles = by_role(slices, unit)
        assert all(roles[role] for role in ("query", "key", "value", "output"))
        for role in ("query", "key", "value"):
            if f".{heads.layer[unit]}." not in roles[role][0].parameter:
                # Keys of an earlier layer, which they change as well.
                assert name.startswith("gemma")
                assert role != "query"
                continue
            with scaled(network, roles[role], 1.5):
                _, after = read(network, found, "z")
            assert moved(before, after, found, unit) == set(roles[role][0].units), role
        assert set(roles["query"][0].units) == {unit}
        groups = {i for i in range(len(heads)) if heads.layer[i] == heads.layer[unit]}
        groups &= {i for i in groups if heads.kv_group[i] == heads.kv_group[unit]}
        assert set(roles["key"][0].units) == set(roles["value"][0].units) == groups
        if roles["gate"]:
            assert has_gates
            gated_before = read(network, found, "proj_in")[1]
            with scaled(network, roles["gate"], 1.5):
                _, after = read(network, found, "z")
                gated = read(network, found, "proj_in")[1]
            assert moved(before, after, found, unit) == set()
            assert moved(gated_before, gated, found, unit) == {unit}


@contextmanager
def silenced(network: nn.Module, units: UnitTable, unit: int) -> Iterator[None]:
    """What the output projection reads of this head is 0."""
    table = units.select(site="proj_in")
    features = slice(int(table.start[unit]), int(table.stop[unit]))

    def hook(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        del module
        x = args[0].clone()
        x[..., features] = 0.0
        return (x, *args[1:])

    handle = network.get_submodule(table.module[unit]).register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@pytest.mark.parametrize("name", [*TYPES, "own sdpa"])
def test_output_columns_at_zero_are_the_head_at_zero(name: str) -> None:
    network = network_of(name)
    found = find_units(network)
    slices = owned(network, found)
    for unit in {1, len(found.select()) - 1}:
        with torch.no_grad(), silenced(network, found, unit):
            expected = network(input_ids=IDS).logits
        with torch.no_grad(), scaled(network, by_role(slices, unit)["output"], 0.0):
            found_logits = network(input_ids=IDS).logits
        size = float(expected.abs().max())
        assert float((found_logits - expected).abs().max()) <= 1e-6 * size


def test_with_an_orthogonal_projection_a_head_changes_only_what_it_contributes() -> None:
    """A slice taken after the projection would be a mixture of all heads."""
    network = tiny_network("opt")
    found = find_units(network)
    projection = network.get_submodule(found.sources[0].module)
    rotation = torch.linalg.qr(torch.randn(48, 48, generator=torch.Generator().manual_seed(0))).Q
    with torch.no_grad():
        projection.weight.copy_(rotation)
    given: list[Tensor] = []
    projection.register_forward_hook(lambda module, args, out: given.append(out))
    head = by_role(owned(network, found), 2)["output"]
    given.clear()
    with torch.no_grad():
        network(input_ids=IDS)
        with scaled(network, head, 0.0):
            network(input_ids=IDS)
    change = ((given[1] - given[0]) @ rotation).unflatten(-1, (4, 12)).abs().amax((0, 1, 3))
    assert float(change[2]) > 1e-3
    assert float(change[[0, 1, 3]].max()) < 1e-6


def test_a_norm_over_all_heads_leaks_and_says_so() -> None:
    """OLMo-2 normalises queries over the full width: every row moves every head."""
    network = tiny_network("olmo2")
    slices = owned(network, find_units(network))
    leaks = {
        role: max(s.leak for s in slices if s.role == role) for role in ROLES if role != "gate"
    }
    assert 0 < leaks["query"] < 0.4
    assert 0 < leaks["key"] < 0.4
    assert leaks["value"] == leaks["output"] == 0


def test_what_all_heads_share_is_nobodys() -> None:
    latent = tiny_type("deepseek_v3")
    names = {s.parameter.split(".")[-2] for s in owned(latent, find_units(latent))}
    assert names == {"q_b_proj", "kv_b_proj", "o_proj"}
    paired = tiny_network("diffllama")
    slices = owned(paired, find_units(paired))
    assert {s.role for s in slices} == {"query", "key"}


def test_the_model_is_left_as_it_was() -> None:
    network = tiny_network("gpt_neox")
    stock = {name: p.clone() for name, p in network.named_parameters()}
    with torch.no_grad():
        slices = owned(network, find_units(network))
    assert len(slices) > 0
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, stock[name])
        assert parameter.grad is None
        assert not parameter.requires_grad
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())

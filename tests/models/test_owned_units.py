"""Slices of experts, recurrent units and sub-layers, and how they are asked for."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from slices import IDS, changed, prepared, silenced
from synatlas.errors import ConfigError
from synatlas.models.reducers import identity, norm
from synatlas.models.taps import capture
from synatlas.models.units import UnitTable
from tiny_models import TinyModel

#: Stacked weights as they come, transposed, with biases, without a gate, in one product; experts
#: that compute nothing.
MIXTURES = ("mixtral", "aria_text", "gpt_oss", "nemotron_h", "llama4_text", "longcat_flash")
#: With heads and a norm over all or each, without heads, with groups, with blocks of gates.
MIXERS = ("mamba2", "mamba", "qwen3_5", "xlstm", "recurrent_gemma", "minimax", "rwkv")


def logits(network: Any) -> Tensor:
    with torch.no_grad():
        return network(input_ids=IDS, use_cache=False).logits


def at(network: Any, units: UnitTable, *, norms: bool = False) -> list[Tensor]:
    """What the first source's units give, (row, position, ...) each."""
    with capture(network, units, reduce=norm if norms else identity) as taken:
        logits(network)
    return [*taken.outputs()[0].unbind(2)]


def differ(one: list[Tensor], other: list[Tensor], beyond: float = 0.0) -> set[int]:
    size = max(float(x.abs().max()) for x in one)
    both = enumerate(zip(one, other, strict=True))
    return {i for i, (a, b) in both if float((a - b).abs().max()) > beyond * size}


def mixture(name: str) -> UnitTable:
    """The experts of the first layer that has any, read as if all were routed."""
    found = prepared(name).found
    routed = next(s for s in found.sources if s.kind == "expert")
    policy = "contribution" if routed.at == "all_experts" else "dense"
    return replace(found, sources=(routed,), policy=policy)


@pytest.mark.parametrize("name", MIXTURES)
def test_every_slice_of_an_expert_moves_it_alone(name: str) -> None:
    network, _, ownership = prepared(name)
    units, plain = mixture(name), logits(network)
    with capture(network, replace(units, policy="contribution")):
        assert torch.equal(logits(network), plain)
    before = at(network, units, norms=True)
    for e in (0, len(units) - 1):
        slices = ownership.of(units.label[e])
        if not slices:
            assert name == "longcat_flash"
            reasons = [g.reason for g in ownership.gaps if g.unit == units.label[e]]
            assert reasons == [
                "it computes with no parameter: an expert that gives back what it reads"
            ]
            continue
        held = network.get_submodule(units.module[e]).named_parameters()
        assert {s.parameter.rpartition(".")[2] for s in slices} == {n for n, _ in held}
        for one in slices:
            with changed(network, [one], times=1.5, plus=0.1):
                assert differ(before, at(network, units, norms=True)) == {e}


@contextmanager
def passed_by(network: Any, units: UnitTable, e: int) -> Iterator[None]:
    """The choices of one expert weigh nothing, or what it gives is nothing."""

    def unweighted(module: Any, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        del module
        return None if len(args) == 1 else (*args[:2], args[2] * (args[1] != e))

    def nothing(module: Any, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        del module
        keep = torch.arange(len(units)).repeat_interleave(len(output) // len(units)) != e
        return output * keep[:, None] if len(args) == 1 else None

    module = network.get_submodule(units.module[e])
    handles = [
        module.register_forward_pre_hook(unweighted),
        module.register_forward_hook(nothing),
    ]
    yield
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("name", MIXTURES)
def test_an_expert_at_zero_is_the_expert_passed_by(name: str) -> None:
    """Bit for bit."""
    network, _, ownership = prepared(name)
    units = mixture(name)
    plain, effects = logits(network), 0
    for e in range(4):
        with passed_by(network, units, e):
            expected = logits(network)
        effects += not torch.equal(plain, expected)
        with changed(network, ownership.of(units.label[e]), times=0.0):
            assert torch.equal(logits(network), expected)
    assert effects


def test_a_shared_expert_is_its_module_and_its_gate() -> None:
    network, found, ownership = prepared("qwen2_moe")
    label, other = found.select("experts").label[4:6]
    assert (label, other[:4]) == ("L00S00", "L01E")
    slices = ownership.of(label)
    module = found.select("experts").module[4]
    names = {f"{module}.{name}.weight" for name in ("gate_proj", "up_proj", "down_proj")}
    assert {s.parameter for s in slices if s.role == "expert"} == names
    assert [s.parameter for s in slices if s.role == "gate"] == [f"{module}_gate.weight"]
    handle = network.get_submodule(module).register_forward_hook(lambda m, args, y: y * 0.0)
    expected = logits(network)
    handle.remove()
    with changed(network, ownership.of(label, roles=["expert"]), times=0.0):
        assert torch.equal(logits(network), expected)


@pytest.mark.parametrize("name", MIXERS)
def test_every_slice_of_a_recurrent_unit_moves_what_it_says(name: str) -> None:
    network, found, ownership = prepared(name)
    tables = {
        site: replace(table, sources=table.sources[:1])
        for site in ("z", "proj_in")
        for table in [found.select("recurrent", site)]
    }
    labels = tables["z"].label
    before = {site: at(network, table) for site, table in tables.items()}
    plain = logits(network)
    for unit in (0, len(labels) - 1):
        assert not any(g.unit == labels[unit] for g in ownership.gaps)
        for one in ownership.of(labels[unit], roles=["input", "gate"]):
            site, still = ("z", None) if one.role == "input" else ("proj_in", "z")
            with changed(network, [one], times=1.5, plus=0.05):
                moved = differ(before[site], at(network, tables[site]), 1e-6)
                if still:
                    assert not differ(before[still], at(network, tables[still]), 1e-6)
            own = {labels.index(u) for u in one.units}
            assert moved == own if one.leak == 0 else moved > own, one
            assert name in {"mamba", "mamba2"} or one.leak == 0
        with silenced(network, tables["proj_in"], unit):
            expected = logits(network)
        assert not torch.equal(plain, expected)
        with changed(network, ownership.of(labels[unit], roles=["output"]), times=0.0):
            assert torch.equal(logits(network), expected)


def test_heads_of_a_delta_net_share_what_makes_their_queries() -> None:
    """Four value heads on two key heads: rows of one or of two."""
    ownership = prepared("qwen3_5").ownership
    inputs = ownership.of("L00R00", roles=["input"])
    rows = {s.units: len(s.indices) for s in inputs if s.parameter.endswith("in_proj_qkv.weight")}
    assert rows == {("L00R00",): 12, ("L00R00", "L00R01"): 16}


def test_a_sub_layer_owns_every_parameter_in_it() -> None:
    network, _, ownership = prepared("gemma2")
    layer = network.model.layers[1]
    for label, module in (("L01A00", layer.self_attn), ("L01M00", layer.mlp), ("L01B00", layer)):
        found = {network.get_parameter(s.parameter) for s in ownership.of(label)}
        assert found == {*module.parameters()}
        assert all(s.at is ... for s in ownership.of(label))
    assert ownership.of("L01A00", "L01B00") == ownership.of("L01B00")


def test_what_several_units_share_is_given_once(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    assert model.owned is model.owned
    pair = model.owned.of("L00H00", "L00H01", roles=["key", "value"])
    assert [s.units for s in pair] == [("L00H00", "L00H01")] * 2
    assert [s.parameter.split(".")[-2] for s in pair] == ["k_proj", "v_proj"]
    assert model.model.get_parameter(pair[0].parameter)[pair[0].at].shape == (20, 48)
    for units, roles in ((["L09H00"], ["key"]), (["L00H00"], ["keys"])):
        with pytest.raises(ConfigError, match="none of this name"):
            model.owned.of(*units, roles=roles)

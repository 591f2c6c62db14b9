"""Experts are read choice by choice: against their weights, without changing a bit."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from every_type import tiny_type
from synatlas.errors import ConfigError
from synatlas.models.experts import check_experts
from synatlas.models.probe import find_units
from synatlas.models.reducers import norm
from synatlas.models.taps import capture
from synatlas.models.units import POLICIES, Source, UnitTable
from synatlas.record.generate import greedy
from synatlas.record.replay import Reading, live_against_replay
from tiny_models import TinyModel, as_language_model, tiny_network, tiny_tokenizer

IDS = torch.arange(3, 25).view(2, 11)
BACKENDS = ("grouped_mm", "batched_mm", "eager")

#: Families whose experts go through the interface of transformers.
FAMILIES = (
    "mixtral", "qwen3_moe", "qwen2_moe", "qwen3_next", "deepseek_v2", "gpt_oss", "olmoe",
    "granitemoe", "granitemoeshared", "glm4_moe", "ernie4_5_moe", "nemotron_h", "gemma4_text",
)  # fmt: skip
#: Those with an expert that every token passes, and its gate where there is one.
SHARED = {
    "qwen2_moe": "shared_expert_gate",
    "qwen3_next": "shared_expert_gate",
    "deepseek_v2": "",
    "glm4_moe": "",
    "ernie4_5_moe": "",
    "nemotron_h": "",
}


def experts_of(network: Any, policy: str = "contribution") -> UnitTable:
    return dataclasses.replace(find_units(network).select("experts"), policy=policy)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", [*FAMILIES, "llama4_text"])
def test_logits_are_bit_identical_with_taps_on(name: str, dtype: torch.dtype) -> None:
    """With every backend of transformers and every policy."""
    network = tiny_network(name).to(dtype)
    own = name == "llama4_text"
    for backend in ("eager",) if own else BACKENDS:
        network.set_experts_implementation(backend)
        with torch.no_grad():
            plain = network(input_ids=IDS).logits
            for policy in ("contribution",) if own else POLICIES:
                with capture(network, experts_of(network, policy)) as taken:
                    tapped = network(input_ids=IDS).logits
                assert torch.equal(plain, tapped), (backend, policy)
                assert torch.isfinite(taken.units()).all()
        assert network.get_experts_implementation()[""] == backend


class Seen(NamedTuple):
    """Inputs and output of a module in a plain pass, in float64 where they are numbers."""

    inputs: tuple[Tensor, ...]
    output: Tensor


@contextmanager
def watched(module: torch.nn.Module) -> Iterator[list[Seen]]:
    seen: list[Seen] = []

    def look(module: Any, args: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output
        seen.append(Seen(args, first.double()))

    handle = module.register_forward_hook(look)
    yield seen
    handle.remove()


def by_weights(module: Any, name: str) -> Callable[[Tensor, int], Tensor]:
    """One expert's function of a vector, written out from its weights."""
    weights = {k: v.double() for k, v in module.named_parameters()}

    def run(x: Tensor, e: int) -> Tensor:
        down = weights["down_proj"][e]
        if name == "gpt_oss":
            both = x @ weights["gate_up_proj"][e] + weights["gate_up_proj_bias"][e]
            gate, up = both[0::2].clamp(max=7.0), both[1::2].clamp(-7.0, 7.0)
            return ((up + 1) * gate * torch.sigmoid(1.702 * gate)) @ down + weights[
                "down_proj_bias"
            ][e]
        if name == "nemotron_h":
            return down @ torch.relu(weights["up_proj"][e] @ x).square()
        if name == "llama4_text":
            gate, up = (x @ weights["gate_up_proj"][e]).chunk(2)
            return (torch.nn.functional.silu(gate) * up) @ down
        gate, up = (weights["gate_up_proj"][e] @ x).chunk(2)
        kind = "tanh" if name == "gemma4_text" else ""
        act = torch.nn.functional.gelu(gate, approximate=kind) if kind else None
        return down @ ((torch.nn.functional.silu(gate) if act is None else act) * up)

    return run


def routed_source(units: UnitTable) -> tuple[Source, slice]:
    """The last source of routed experts, and its columns."""
    both = zip(units.sources, units.columns(), strict=True)
    return [(s, c) for s, c in both if s.kind == "expert"][-1]


@pytest.mark.parametrize("name", FAMILIES)
def test_activity_is_that_of_the_weights(name: str, tiny_model: TinyModel) -> None:
    network = tiny_model(name).model
    read: dict[str, Tensor] = {}
    for policy in POLICIES:
        units = experts_of(network, policy)
        with torch.no_grad(), capture(network, units) as taken:
            network(input_ids=IDS)
        source, columns = routed_source(units)
        read[policy] = taken.units()[..., columns].flatten(0, 1).double()
        routed = taken.routed()
        assert routed is not None
        mask = routed[..., columns].flatten(0, 1)
    module: Any = network.get_submodule(source.module)
    with torch.no_grad(), watched(module) as seen:
        network(input_ids=IDS)
    hidden, index, weight = (x.double() for x in seen[0].inputs)
    run = by_weights(module, name)
    dense = torch.stack(
        [torch.stack([run(x, e).norm() for e in range(source.count)]) for x in hidden]
    )
    factor = torch.zeros_like(dense).scatter_(1, index.long(), weight)
    assert torch.equal(mask, factor != 0)
    assert mask.sum(dim=1).tolist() == [2] * len(hidden)
    torch.testing.assert_close(read["dense"], dense, rtol=1e-5, atol=0)
    torch.testing.assert_close(read["unweighted"], dense * mask, rtol=1e-5, atol=0)
    torch.testing.assert_close(read["contribution"], dense * factor, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", SHARED)
def test_a_shared_expert_is_the_rest_of_its_block(name: str, tiny_model: TinyModel) -> None:
    network = tiny_model(name).model
    units = experts_of(network)
    source = next(s for s in units.sources if s.kind == "shared_expert")
    routed = next(s for s in units.sources if s.layer == source.layer and s.kind == "expert")
    column = units.label.index(f"L{source.layer:02d}S00")
    block = network.get_submodule(routed.module.rpartition(".")[0])
    shared = network.get_submodule(source.module)
    with (
        torch.no_grad(),
        watched(block) as whole,
        watched(network.get_submodule(routed.module)) as part,
        watched(shared) as alone,
    ):
        network(input_ids=IDS)
    rest = whole[0].output.flatten(0, -2) - part[0].output
    plain = alone[0].output.flatten(0, -2).norm(dim=-1)
    gated = bool(SHARED[name])
    assert torch.allclose(plain, rest.norm(dim=-1), rtol=1e-5) != gated
    for policy, expected in (("contribution", rest.norm(dim=-1)), ("unweighted", plain)):
        with torch.no_grad(), capture(network, experts_of(network, policy)) as taken:
            network(input_ids=IDS)
        found = taken.units()[..., column].flatten().double()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_experts_that_read_what_is_weighted_already(tiny_model: TinyModel) -> None:
    """Every expert of Llama 4 runs on every token, of which the router leaves some."""
    network = tiny_model("llama4_text").model
    units = experts_of(network)
    source, columns = routed_source(units)
    block = network.get_submodule(source.module.rpartition(".")[0])
    with (
        torch.no_grad(),
        watched(block) as seen,
        watched(block.router) as scores,
        capture(network, units) as taken,
    ):
        network(input_ids=IDS)
    hidden, score = seen[0].inputs[0].flatten(0, 1).double(), scores[0].output
    run = by_weights(network.get_submodule(source.module), "llama4_text")
    expected = [
        [run(x * s[e], e).norm() for e in range(4)] for x, s in zip(hidden, score, strict=True)
    ]
    found = taken.units()[..., columns].flatten(0, 1).double()
    torch.testing.assert_close(found, torch.tensor(expected).double(), rtol=1e-4, atol=0)
    routed = taken.routed()
    assert routed is not None
    assert torch.equal(routed[..., columns].flatten(0, 1), score != 0)
    for policy in ("unweighted", "dense"):
        with pytest.raises(ConfigError, match="weights multiply what its experts read"):
            check_experts(experts_of(network, policy), reduce="norm")


def test_experts_that_give_a_token_back() -> None:
    """LongCat-Flash has experts without weights; its loop cannot take one choice a token."""
    network = tiny_type("longcat_flash")
    source, columns = routed_source(experts_of(network))
    module: Any = network.get_submodule(source.module)
    with torch.no_grad(), watched(module) as seen:
        plain = network(input_ids=IDS).logits
    hidden, index, weight = (x.double() for x in seen[0].inputs)
    run = by_weights(module, "longcat_flash")
    held = module.num_routed_experts
    dense = torch.stack(
        [
            torch.stack([(run(x, e) if e < held else x).norm() for e in range(source.count)])
            for x in hidden
        ]
    )
    factor = torch.zeros_like(dense).scatter_(1, index.long(), weight)
    assert (index >= held).any()
    expected = {"dense": dense, "unweighted": dense * (factor != 0), "contribution": dense * factor}
    for policy, values in expected.items():
        with torch.no_grad(), capture(network, experts_of(network, policy)) as taken:
            assert torch.equal(network(input_ids=IDS).logits, plain)
        found = taken.units()[..., columns].flatten(0, 1).double()
        torch.testing.assert_close(found, values, rtol=1e-5, atol=0)


def test_positions_choose(tiny_model: TinyModel) -> None:
    network = tiny_model("qwen2_moe").model
    positions = torch.tensor([[0, 4, 4], [10, 1, 0]])
    for policy in POLICIES:
        units = experts_of(network, policy)
        with torch.no_grad():
            with capture(network, units) as everywhere:
                network(input_ids=IDS)
            with capture(network, units, positions=positions) as chosen:
                network(input_ids=IDS)
        rows = torch.arange(2)[:, None]
        torch.testing.assert_close(chosen.units(), everywhere.units()[rows, positions])
        both = everywhere.routed(), chosen.routed()
        assert both[0] is not None
        assert both[1] is not None
        assert torch.equal(both[1], both[0][rows, positions])


@pytest.mark.parametrize("name", [*FAMILIES, "llama4_text"])
def test_live_capture_equals_replay(name: str, tiny_model: TinyModel) -> None:
    model = tiny_model(name)
    reading = Reading(experts_of(model.model), norm)
    prompts = [[40, 41, 90, 17, 33, 60, 61, 5], [70, 3, 200]]
    found = live_against_replay(model, prompts, reading=reading)
    assert found.error <= 1e-5
    assert found.rerouted == 0.0


def test_live_capture_survives_another_backend_for_decoding() -> None:
    """On a GPU, generation decodes with batched_mm what grouped_mm began."""
    network = tiny_network("qwen2_moe")
    used: list[str] = []

    def switch(module: Any, args: Any, kwargs: Any) -> None:
        backend = "grouped_mm" if kwargs["input_ids"].shape[1] > 1 else "batched_mm"
        network.set_experts_implementation(backend)
        used.append(backend)

    model = as_language_model(network, tiny_tokenizer())
    plain = greedy(model, [[5, 6, 7]], tokens=8, stop_at_eos=False)
    network.register_forward_pre_hook(switch, with_kwargs=True)
    for policy in POLICIES:
        reading = Reading(experts_of(network, policy), norm)
        found = live_against_replay(model, [[5, 6, 7], [8, 9]], reading=reading)
        assert found.error <= 1e-5
    assert set(used) == {"grouped_mm", "batched_mm"}
    with capture(network, experts_of(network)):
        assert greedy(model, [[5, 6, 7]], tokens=8, stop_at_eos=False) == plain


def test_everything_is_as_it_was_after_an_exception(tiny_model: TinyModel) -> None:
    network: Any = tiny_model("qwen2_moe").model
    before = network.get_experts_implementation()
    forwards = [module.forward for module in network.modules()]
    for policy in POLICIES:
        with pytest.raises(KeyboardInterrupt), capture(network, experts_of(network, policy)):
            raise KeyboardInterrupt
    assert network.get_experts_implementation() == before
    assert [module.forward for module in network.modules()] == forwards
    hooks = ("_forward_pre_hooks", "_forward_hooks")
    assert not any(getattr(m, hook) for m in network.modules() for hook in hooks)


def test_models_without_experts_that_can_be_read(tiny_model: TinyModel) -> None:
    with pytest.raises(ConfigError, match="in a loop of its own"):
        tiny_model("llama").found.select("experts")


def test_labels(tiny_model: TinyModel) -> None:
    units = tiny_model("deepseek_v2").found.select("experts")
    assert units.label == ("L01E00", "L01E01", "L01E02", "L01E03", "L01S00")
    assert units.kind == ("expert",) * 4 + ("shared_expert",)
    assert set(units.kv_group.tolist()) == {-1}

"""Experts left out in three ways, against routers and experts written out from their weights."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import silu

from synatlas.errors import ModelError
from synatlas.models.edits import edit
from synatlas.models.experts import Routed
from synatlas.models.load import LanguageModel
from synatlas.models.taps import capture
from tiny_models import TinyModel, tiny_network

IDS = torch.arange(3, 25).view(2, 11)
#: Softmax before and after the choice, groups, sigmoids, biases, experts that all run.
FAMILIES = (
    "mixtral", "deepseek_v2", "gpt_oss", "granitemoe", "ernie4_5_moe",
    "nemotron_h", "gemma4_text", "llama4_text",
)  # fmt: skip


def logits(network: Any) -> Tensor:
    with torch.no_grad():
        return network(input_ids=IDS, use_cache=False).logits


def mask(model: LanguageModel, *left_out: list[int]) -> Tensor:
    """In each row these experts of every layer are left out."""
    units = model.found.select("experts")
    keep = torch.ones(len(left_out), len(units), dtype=torch.bool)
    for row, experts in enumerate(left_out):
        for unit, (kind, index) in enumerate(zip(units.kind, units.index, strict=True)):
            keep[row, unit] = kind != "expert" or index not in experts
    return keep


Weigh = Callable[[Tensor, Tensor], Tensor]


@contextmanager
def written_out(network: Any, keep: Tensor, weigh: Weigh) -> Iterator[None]:
    """Blocks of a Mixtral as loops over tokens, `keep` being (row, layer, expert).

    `weigh` makes the weights of all experts from the router's scores of one token and from what
    its row keeps.
    """

    def block_of(layer: int) -> Callable[..., Tensor]:
        def block(module: Any, args: tuple[Any, ...], output: Tensor) -> Tensor:
            result = torch.zeros_like(output)
            held = module.experts
            for row, position in [(r, p) for r in range(2) for p in range(output.shape[1])]:
                x = args[0][row, position]
                weights = weigh(module.gate.weight @ x, keep[row, layer])
                for e, weight in enumerate(weights):
                    gate, up = (held.gate_up_proj[e] @ x).chunk(2)
                    result[row, position] += weight * (held.down_proj[e] @ (silu(gate) * up))
            return result

        return block

    handles = [
        layer.mlp.register_forward_hook(block_of(i)) for i, layer in enumerate(network.model.layers)
    ]
    yield
    for handle in handles:
        handle.remove()


def chosen(scores: Tensor) -> Tensor:
    """Softmax, the two greatest, their sum 1."""
    values, index = scores.softmax(0).topk(2)
    return torch.zeros_like(scores).scatter(0, index, values / values.sum())


def zero(scores: Tensor, keep: Tensor) -> Tensor:
    return chosen(scores) * keep


def forbid(scores: Tensor, keep: Tensor) -> Tensor:
    return chosen(torch.where(keep, scores, -torch.inf))


def renormalise(scores: Tensor, keep: Tensor) -> Tensor:
    left = zero(scores, keep)
    return left / left.sum() if left.any() else left


@cache
def loud() -> Any:
    """A Mixtral whose experts add as much as its attention."""
    network = tiny_network("mixtral")
    for name, parameter in network.named_parameters():
        if ".experts." in name:
            parameter.mul_(8.0)
    return network


@pytest.mark.parametrize("weigh", [zero, forbid, renormalise])
def test_against_blocks_written_out(weigh: Weigh, tiny_model: TinyModel) -> None:
    """Two rows of one batch, each with its own experts left out, at most two of four."""
    network, units = loud(), tiny_model("mixtral").found.select("experts")
    keep = torch.tensor([[0, 1, 1, 1, 1, 0, 0, 1], [1, 0, 1, 0, 1, 1, 1, 1]]).bool()
    with written_out(network, keep.unflatten(1, (2, 4)), weigh):
        expected = logits(network)
    with edit(network, units, keep, experts=weigh.__name__):
        found = logits(network)
    size = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6 * size)
    assert float((found - logits(network)).abs().max()) > 0.1 * size


def routed(model: LanguageModel, keep: Tensor, experts: str) -> list[Routed]:
    """What each module of experts then does, in order of layers."""
    units = model.found.select("experts")
    with edit(model.model, units, keep, experts=experts), capture(model.model, units) as taken:
        logits(model.model)
    return [one for of in taken.per_source for one in of if isinstance(one, Routed)]


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_forbidden_is_not_chosen(name: str, tiny_model: TinyModel) -> None:
    """As many others are, by the same scores: choices that were allowed are made again."""
    model = tiny_model(name)
    keep, plain = mask(model, [1, 2], []), routed(model, mask(model, [], []), "zero")
    found = routed(model, keep, "forbid")
    for before, after in zip(plain, found, strict=True):
        assert not after.chosen()[0, :, 1:3].any()
        assert torch.equal(after.chosen().sum(-1), before.chosen().sum(-1))
        assert torch.equal(after.chosen()[1], before.chosen()[1])
    first, then = plain[0].chosen()[0], found[0].chosen()[0]
    assert not (first[:, [0, 3]] & ~then[:, [0, 3]]).any()
    assert first[:, 1:3].any()


def test_where_too_few_are_left_the_rest_adds_nothing(tiny_model: TinyModel) -> None:
    for one in routed(tiny_model("mixtral"), mask(tiny_model("mixtral"), [0, 1, 3], []), "forbid"):
        assert one.chosen()[0].sum(-1).max() == 1
        assert not one.chosen()[0, :, [0, 1, 3]].any()


def test_a_router_that_chooses_otherwise(tiny_model: TinyModel) -> None:
    """By sorting, say: it is told of, not passed over."""
    model = tiny_model("mixtral")
    network: Any = model.model
    gate = network.model.layers[0].mlp.gate

    def forward(hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scores = hidden.reshape(-1, hidden.shape[-1]) @ gate.weight.T
        values, index = scores.softmax(-1).sort(-1, descending=True)
        return scores, values[:, :2], index[:, :2]

    gate.forward = forward
    units = model.found.select("experts")
    forbidden = edit(network, units, mask(model, [0], []), experts="forbid")
    try:
        with forbidden, pytest.raises(ModelError, match="it still chose forbidden experts"):
            logits(network)
        with edit(network, units, mask(model, [], []), experts="forbid"):
            logits(network)
    finally:
        del gate.forward

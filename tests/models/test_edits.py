"""A unit that is left out is its output columns at 0, or its weights: bit for bit."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from own_models import own_model
from synatlas.errors import ConfigError, ModelError
from synatlas.models.edits import EDITORS, at_projections, edit
from synatlas.models.probe import find_units
from synatlas.models.reducers import identity
from synatlas.models.taps import READERS, capture
from synatlas.models.units import UnitTable
from synatlas.record.generate import greedy
from tiny_models import TinyModel, as_language_model, tiny_tokenizer

#: Heads by layout (separate, grouped, Conv1D, interleaved, fused) and in a user's own code,
#: recurrent units before norms and gates.
MIXERS = (
    "llama", "gpt2", "gpt_neox", "falcon", "bloom", "phi3", "own sdpa", "own einsum",
    "mamba2", "qwen3_5_text", "rwkv",
)  # fmt: skip
#: Also with latent or gated heads, and with experts that every token passes.
MIXTURES = (
    "mixtral", "qwen2_moe", "deepseek_v2", "granitemoe", "gpt_oss", "llama4_text",
    "qwen3_next",
)  # fmt: skip

IDS = torch.arange(3, 25).view(2, 11)


class Tiny(NamedTuple):
    """A tiny model, what is found of it, and its heads and experts as they are edited."""

    network: Any
    found: UnitTable
    units: UnitTable


@pytest.fixture
def tiny(tiny_model: TinyModel) -> "MakeTiny":
    """Whoever changes a model must change it back."""

    def make(name: str) -> Tiny:
        if name.startswith("own "):
            network = own_model(mixing=name.removeprefix("own "))
            found = find_units(network)
        else:
            network, found = tiny_model(name).model, tiny_model(name).found
        return Tiny(network, found, at_projections(found, found.select("all")))

    return make


MakeTiny = Callable[[str], Tiny]


def logits(network: Any, ids: Tensor = IDS) -> Tensor:
    with torch.no_grad():
        return network(input_ids=ids, use_cache=False).logits


def without(units: UnitTable, *left_out: int) -> Tensor:
    """One mask for all rows."""
    keep = torch.ones(1, len(units), dtype=torch.bool)
    keep[0, [*left_out]] = False
    return keep


def own_weights(network: Any, units: UnitTable, unit: int) -> list[Tensor]:
    """What makes the unit's output: its columns, the last matrix of its expert, or all of it."""
    module = network.get_submodule(units.module[unit])
    if units.kind[unit] == "expert":
        held = dict(module.named_parameters())
        return [held[n][units.index[unit]] for n in ("down_proj", "down_proj_bias") if n in held]
    if units.kind[unit] == "shared_expert":
        return [*module.parameters()]
    columns = slice(int(units.start[unit]), int(units.stop[unit]))
    return [module.weight[columns] if isinstance(module, Conv1D) else module.weight[:, columns]]


@contextmanager
def zeroed(network: Any, units: UnitTable, *chosen: int) -> Iterator[None]:
    own = [w for unit in chosen for w in own_weights(network, units, unit)]
    stock = [w.clone() for w in own]
    for w in own:
        w.zero_()
    yield
    for w, values in zip(own, stock, strict=True):
        w.copy_(values)


def first_and_last(units: UnitTable) -> list[int]:
    """Of each kind."""
    places: dict[str, list[int]] = {}
    for i, kind in enumerate(units.kind):
        places.setdefault(kind, []).append(i)
    return sorted({i for of_kind in places.values() for i in (of_kind[0], of_kind[-1])})


@pytest.mark.parametrize("name", [*MIXERS, *MIXTURES])
def test_a_unit_left_out_is_its_columns_or_its_expert_at_zero(name: str, tiny: MakeTiny) -> None:
    network, _, units = tiny(name)
    plain = logits(network)
    for unit in first_and_last(units):
        with zeroed(network, units, unit):
            expected = logits(network)
        with edit(network, units, without(units, unit)):
            assert torch.equal(logits(network), expected), units.label[unit]
        assert not torch.equal(expected, plain)
    assert torch.equal(logits(network), plain)


@pytest.mark.parametrize("name", ["llama", "qwen2_moe", "llama4_text", "mamba2"])
def test_each_row_has_its_own_mask(name: str, tiny: MakeTiny) -> None:
    """Masks in one batch are masks one by one; a row in which all is kept is the plain one."""
    network, _, units = tiny(name)
    ids = IDS[:1].expand(5, -1)
    keep = torch.rand(5, len(units), generator=torch.Generator().manual_seed(1)) > 0.3
    keep[0] = True
    with edit(network, units, keep):
        together = logits(network, ids)
    assert torch.equal(together[0], logits(network, ids)[0])
    for row in range(5):
        with edit(network, units, keep[row : row + 1]):
            assert torch.equal(logits(network, ids)[row], together[row])
            alone = logits(network, ids[:1])[0]
        torch.testing.assert_close(alone, together[row], rtol=0, atol=1e-6 * float(alone.max()))


def test_where_nothing_is_left_out_there_is_no_hook(tiny_model: TinyModel) -> None:
    network = tiny_model("qwen2_moe").model
    units = tiny_model("qwen2_moe").found.select("all")
    hooks = ("_forward_pre_hooks", "_forward_hooks")

    def hooked() -> list[str]:
        return [n for n, m in network.named_modules() if any(getattr(m, h) for h in hooks)]

    with edit(network, units, without(units)):
        assert not hooked()
    with edit(network, units, without(units, 0)):
        assert hooked() == ["", units.module[0]]
    with pytest.raises(KeyboardInterrupt), edit(network, units, without(units, 0)):
        raise KeyboardInterrupt
    assert not hooked()


@pytest.mark.parametrize("name", ["llama", "mixtral", "mamba2"])
def test_generation_is_that_of_a_model_without_the_columns(name: str, tiny: MakeTiny) -> None:
    network, _, units = tiny(name)
    model = as_language_model(network, tiny_tokenizer())
    prompts = [[40, 41, 90, 17], [70, 3, 20, 9]]
    keep = torch.stack([without(units, 1, len(units) - 1)[0], without(units)[0]])

    def said(rows: list[list[int]]) -> list[list[int]]:
        return greedy(model, rows, tokens=8, stop_at_eos=False)

    plain = said(prompts)
    with zeroed(network, units, 1, len(units) - 1):
        expected = said(prompts)
    with edit(network, units, keep):
        assert said(prompts) == [expected[0], plain[1]]
    assert expected[0] != plain[0]


@pytest.mark.parametrize("name", ["llama", "deepseek_v2", "llama4_text", "gemma2"])
def test_gradients_by_numbers_that_multiply(name: str, tiny: MakeTiny) -> None:
    """Against differences; and at 1 the plain model."""
    network, found, units = tiny(name)
    units = found.select("sublayers") if name == "gemma2" else units
    plain = logits(network)

    def loss(keep: Tensor) -> Tensor:
        with edit(network, units, keep):
            computed = network(input_ids=IDS[:1], use_cache=False).logits
        return computed.double().square().sum()

    keep = torch.ones(1, len(units), requires_grad=True)
    (slopes,) = torch.autograd.grad(loss(keep), keep)
    with edit(network, units, keep):
        assert torch.equal(logits(network), plain)
    for unit in first_and_last(units):
        step = torch.zeros_like(keep)
        step[0, unit] = 5e-3
        with torch.no_grad():
            difference = (loss(keep + step) - loss(keep - step)) / 1e-2
        assert abs(float(slopes[0, unit] - difference)) < 5e-3 * float(slopes.abs().max())


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("llama", "input"),
        ("qwen3_next", "attention"),
        ("diffllama", "attention"),
        ("own einsum", "mixing"),
        ("mamba2", "split_input"),
        ("recurrent_gemma", "output"),
    ],
)
def test_units_left_out_where_they_are_read(name: str, at: str, tiny: MakeTiny) -> None:
    """Read again they are 0, in every row its own, and others are what they were."""
    network, found, _ = tiny(name)
    source = next(s for s in found.select("mixers").sources if s.at == at)
    units = replace(found, sources=(source,))
    keep = torch.ones(2, len(units), dtype=torch.bool)
    keep[0, 0] = keep[1, 1] = False
    with capture(network, units, reduce=identity) as before:
        plain = logits(network)
    with edit(network, units, keep), capture(network, units, reduce=identity) as after:
        changed = logits(network)
    expected = before.outputs()[0] * keep[:, None, :, None]
    assert torch.equal(after.outputs()[0], expected)
    assert not torch.equal(plain, changed)


def test_sub_layers_left_out(tiny_model: TinyModel) -> None:
    """An MLP that gives 0; a block that gives what it reads."""
    model = tiny_model("llama")
    units = model.found.select("sublayers")
    network: Any = model.model
    layer = network.model.layers[1]
    with edit(network, units, without(units, units.label.index("L01M00"))):
        got = logits(network)
    handle = layer.mlp.register_forward_hook(lambda m, a, y: torch.zeros_like(y))
    assert torch.equal(got, logits(network))
    handle.remove()
    with edit(network, units, without(units, units.label.index("L01B00"))):
        got = logits(network)
    handle = layer.register_forward_hook(lambda m, a, y: a[0])
    assert torch.equal(got, logits(network))
    handle.remove()


def test_every_reader_has_its_editor() -> None:
    assert set(EDITORS) == set(READERS)


def test_what_cannot_be_done(tiny_model: TinyModel) -> None:
    network = tiny_model("llama4_text").model
    units = tiny_model("llama4_text").found.select("experts")
    keep = without(units, 0)
    with pytest.raises(ConfigError, match="a mask of 3 units"):
        edit(network, units, keep[:, :3]).__enter__()
    with pytest.raises(ConfigError, match="one of zero, forbid, renormalise"):
        edit(network, units, keep, experts="none").__enter__()
    with pytest.raises(ConfigError, match="a choice is made or not"):
        edit(network, units, keep.float(), experts="forbid").__enter__()
    with pytest.raises(ModelError, match="each by itself"):
        edit(network, units, keep, experts="renormalise").__enter__()
    three = edit(network, units, keep.expand(3, -1))
    with three, pytest.raises(ConfigError, match="masks for 3 rows and a batch of 2"):
        logits(network)
    assert not network._forward_pre_hooks

"""Units are found by running the model: counts, widths, groups, and what is refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.modeling_utils import AttentionInterface

from every_type import tiny_type
from synatlas.axes import unit_label
from synatlas.errors import ModelError
from synatlas.models.probe import find_units
from synatlas.models.reducers import REDUCERS
from synatlas.models.taps import capture
from tiny_models import TinyModel, tiny_network

GROUPED = (4, 20, (0, 0, 1, 1))
SINGLE = (4, 12, (0, 1, 2, 3))

#: Families with the module names of Llama.
LLAMA_LIKE = (
    "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "olmo", "olmo2",
    "cohere", "starcoder2", "phi3", "granite", "smollm3", "nemotron", "glm", "exaone4",
    "mixtral", "qwen3_moe", "gpt_oss",
)  # fmt: skip

#: Family -> projection of layer 1, heads, width, group of each head.
EXPECTED: dict[str, tuple[str, int, int, tuple[int, ...]]] = {
    **dict.fromkeys(LLAMA_LIKE, ("model.layers.1.self_attn.o_proj", *GROUPED)),
    "phi": ("model.layers.1.self_attn.dense", *GROUPED),
    "stablelm": ("model.layers.1.self_attn.o_proj", 4, 12, (0, 0, 1, 1)),
    "gpt_neox": ("gpt_neox.layers.1.attention.dense", *SINGLE),
    "gpt2": ("transformer.h.1.attn.c_proj", *SINGLE),
    "gpt_bigcode": ("transformer.h.1.attn.c_proj", 4, 12, (0, 0, 0, 0)),
    "opt": ("model.decoder.layers.1.self_attn.out_proj", *SINGLE),
    # The configuration's head_dim is 8 here, and queries are 18 wide.
    "deepseek_v2": ("model.layers.1.self_attn.o_proj", 4, 14, (0, 1, 2, 3)),
    # These have attention code of their own.
    "bloom": ("transformer.h.1.self_attention.dense", *SINGLE),
    "falcon": ("transformer.h.1.self_attention.dense", 4, 12, (0, 0, 1, 1)),
    "gptj": ("transformer.h.1.attn.out_proj", *SINGLE),
    "codegen": ("transformer.h.1.attn.out_proj", 4, 16, (0, 1, 2, 3)),
    "gpt_neo": ("transformer.h.1.attn.attention.out_proj", *SINGLE),
    "mpt": ("transformer.blocks.1.attn.out_proj", *SINGLE),
    "xglm": ("model.layers.1.self_attn.out_proj", *SINGLE),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_units_of_every_family(name: str, tiny_model: TinyModel) -> None:
    units = tiny_model(name).units
    module, heads, width, groups = EXPECTED[name]
    assert units.n_layers == 2
    assert len(units) == 2 * heads
    assert units.module == tuple(
        m for m in (module.replace(".1.", ".0."), module) for _ in range(heads)
    )
    assert units.label == tuple(unit_label(i, j) for i in range(2) for j in range(heads))
    assert units.layer.tolist() == [0] * heads + [1] * heads
    assert units.index.tolist() == [*range(heads)] * 2
    assert units.kv_group.tolist() == [*groups] * 2
    assert units.start.tolist() == [h * width for h in range(heads)] * 2
    assert (units.stop - units.start).tolist() == [width] * 2 * heads
    assert units.columns() == (slice(0, heads), slice(heads, 2 * heads))


def test_attention_that_transformers_does_not_look_up_in_a_table(tiny_model: TinyModel) -> None:
    network = tiny_network("gemma2", attn_implementation="eager")
    assert find_units(network).select() == tiny_model("gemma2").units


#: Rows (or, for gpt2, columns) of group g's values in the fused matrix of a layer.
Fused = Callable[[int, int], slice]
FUSED: dict[str, tuple[str, Fused]] = {
    "gpt2": ("c_attn", lambda g, d: slice(96 + g * d, 96 + (g + 1) * d)),
    "gpt_neox": ("query_key_value", lambda g, d: slice((3 * g + 2) * d, (3 * g + 3) * d)),
    "bloom": ("query_key_value", lambda g, d: slice((3 * g + 2) * d, (3 * g + 3) * d)),
    # Two groups of (two queries, key, value).
    "falcon": ("query_key_value", lambda g, d: slice((4 * g + 3) * d, (4 * g + 4) * d)),
    "phi3": ("qkv_proj", lambda g, d: slice((6 + g) * d, (7 + g) * d)),
}
SPLIT = "llama qwen3 gemma2 gemma3_text olmo2 cohere phi stablelm gptj gpt_neo opt xglm gpt_oss"


def perturb_values(network: Any, name: str, module: str, group: int, width: int) -> None:
    attention = network.get_submodule(module.rpartition(".")[0])
    matrix, rows = FUSED.get(name, ("v_proj", lambda g, d: slice(g * d, (g + 1) * d)))
    weight = attention.get_submodule(matrix).weight
    with torch.no_grad():
        (weight.T if name == "gpt2" else weight)[rows(group, width)] *= 2.0


@pytest.mark.parametrize("name", [*SPLIT.split(), *FUSED])
def test_a_slice_is_its_head(name: str) -> None:
    """Changing the values of one key/value group changes exactly the slices of its heads."""
    network = tiny_network(name)
    units = find_units(network).select()
    projection = units.sources[0]
    before = heads_of_first_layer(network, units)
    for group in sorted(set(projection.kv_groups)):
        changed = tiny_network(name)
        perturb_values(changed, name, projection.module, group, projection.width)
        moved = (heads_of_first_layer(changed, units) - before).abs().amax((0, 1, 3))
        belongs = torch.tensor([g == group for g in projection.kv_groups])
        assert torch.equal(moved > 1e-3, belongs)
        assert (moved[~belongs] == 0).all()


def heads_of_first_layer(network: Any, units: Any) -> Tensor:
    with torch.no_grad(), capture(network, units, reduce=REDUCERS["identity"]) as taken:
        network(input_ids=torch.arange(5, 14)[None], use_cache=False)
    return taken.outputs()[0]


def test_gated_heads_are_read_before_and_after_the_gate() -> None:
    """qwen3_next multiplies the heads by a sigmoid of a part of the query projection."""
    network = tiny_network("qwen3_next")
    found = find_units(network)
    assert [(s.module, s.at, s.sites) for s in found.sources if s.kind == "head"] == [
        place
        for i in range(2)
        for place in (
            (f"model.layers.{i}.self_attn", "attention", ("z",)),
            (f"model.layers.{i}.self_attn.o_proj", "input", ("proj_in", "resid")),
        )
    ]
    gates: list[Tensor] = []
    attention = network.model.layers[0].self_attn
    attention.q_proj.register_forward_hook(lambda *seen: gates.append(seen[2]))
    before = heads_of_first_layer(network, found.select(site="z"))
    after = heads_of_first_layer(network, found.select(site="proj_in"))
    assert before.shape == (1, 9, 4, 20)
    gate = gates[0].view(1, 9, 4, 40)[..., 20:].sigmoid()
    assert torch.allclose(after, before * gate, atol=1e-6)


def test_one_attention_in_two_calls() -> None:
    """diffllama mixes two halves of the values by the same weights: its heads hold both."""
    network = tiny_network("diffllama")
    found = find_units(network).select()
    assert [(s.at, s.calls, s.count, s.width) for s in found.sources] == [
        ("attention", 2, 4, 40)
    ] * 2
    calls: list[Tensor] = []
    norm = network.model.layers[0].self_attn.groupnorm
    norm.register_forward_pre_hook(lambda module, args: calls.append(args[0]))
    z = heads_of_first_layer(network, found)
    attention = network.model.layers[0].self_attn
    lambdas = [
        (getattr(attention, f"lambda_q{i}") * getattr(attention, f"lambda_k{i}")).sum().exp()
        for i in (1, 2)
    ]
    both = lambdas[0] - lambdas[1] + attention.lambda_init
    assert torch.allclose(calls[0], z[:, :, :2] - both * z[:, :, 2:], atol=1e-6)


def test_two_attentions_in_a_layer_are_counted_on() -> None:
    found = find_units(tiny_type("longcat_flash")).select()
    assert [(s.first, s.module[-9:]) for s in found.sources[:2]] == [
        (0, ".0.o_proj"),
        (4, ".1.o_proj"),
    ]
    assert found.index.tolist() == [*range(8)] * 2
    assert found.kv_group.tolist() == [*range(8)] * 2
    assert len(set(found.label)) == 16


def test_layers_without_attention_have_no_heads() -> None:
    found = find_units(tiny_network("lfm2")).select()
    assert (found.n_layers, found.layer.tolist()) == (2, [1] * 4)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("bert", "depends on later tokens"),
    ],
)
def test_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(ModelError) as caught:
        find_units(tiny_network(name))
    assert reason in caught.value.cause


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("jetmoe", "may mix experts"),
        ("hrm_text", "outside of its list of decoder layers"),
        ("prophetnet", "no language-model head"),
    ],
)
def test_types_that_could_be_read_wrong_are_refused(name: str, reason: str) -> None:
    with pytest.raises(ModelError) as caught:
        find_units(tiny_type(name))
    assert reason in caught.value.cause


def test_a_model_that_fails_is_refused_and_left_as_it_was() -> None:
    network = tiny_network("llama")
    stock = AttentionInterface.get_interface
    forward = network.model.layers[1].mlp.forward

    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("broken on purpose")

    network.model.layers[1].mlp.forward = broken
    with pytest.raises(ModelError, match="broken on purpose"):
        find_units(network)
    network.model.layers[1].mlp.forward = forward
    assert AttentionInterface.get_interface is stock
    assert all(not m._forward_pre_hooks for m in network.modules())
    assert len(find_units(network).select()) == 8

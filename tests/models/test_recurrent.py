"""Units of mixers without attention: which they are, that a slice is its unit, and how it is
read while generating.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from synatlas.errors import ConfigError, ModelError
from synatlas.models.mixers import heads_of
from synatlas.models.probe import find_units
from synatlas.models.recurrent import group_width
from synatlas.models.reducers import REDUCERS, norm
from synatlas.models.taps import capture
from synatlas.models.units import UnitTable
from synatlas.record.record import record
from synatlas.record.replay import Reading, live_against_replay
from tiny_models import TinyModel, tiny_network

IDS = torch.arange(5, 27).view(2, 11)
PROMPTS = ([*range(5, 17)], [*range(40, 47)])

#: Family -> where layer 0 is read at z and at the projection, units, width, layers that have any.
EXPECTED: dict[str, tuple[str, str, int, int, list[int]]] = {
    # Without heads: groups of channels.
    **dict.fromkeys(("mamba", "falcon_mamba"), ("mixer.out_proj", "mixer.out_proj", 2, 48, [0, 1])),
    "jamba": ("mamba.out_proj", "mamba.out_proj", 2, 48, [0]),
    "rwkv": ("attention.output", "attention.output", 2, 24, [0, 1]),
    "lfm2": ("conv.out_proj", "conv.out_proj", 2, 24, [0]),
    # Mamba-2 heads, before the gated normalisation of all of them where there is one.
    "mamba2": ("mixer.norm", "mixer.out_proj", 6, 16, [0, 1]),
    **dict.fromkeys(("bamba", "granitemoehybrid"), ("mamba.norm", "mamba.out_proj", 6, 16, [0])),
    "zamba2": ("mamba.norm", "mamba.out_proj", 6, 16, [0, 1, 2, 3]),
    "nemotron_h_mamba": ("mixer.norm", "mixer.out_proj", 6, 16, [0]),
    "falcon_h1": ("mamba.out_proj", "mamba.out_proj", 6, 16, [0, 1]),
    "zamba": ("mamba.out_proj", "mamba.out_proj", 2, 48, [0, 1, 2, 3]),
    # Value heads of delta nets, before the gated normalisation of each.
    "qwen3_5_text": ("linear_attn.norm", "linear_attn.out_proj", 4, 14, [0]),
    "olmo_hybrid": ("linear_attn.o_norm", "linear_attn.o_proj", 4, 14, [0]),
    "kimi_linear": ("self_attn.o_norm", "self_attn.o_proj", 4, 10, [0]),
    "xlstm": ("mlstm_layer.multihead_norm", "mlstm_layer.out_proj", 4, 32, [0, 1]),
    "minimax": ("self_attn.norm", "self_attn.out_proj", 4, 20, [0]),
    # As many units as its gates have blocks.
    "recurrent_gemma": ("temporal_block.rg_lru", "temporal_block.linear_out", 4, 12, [0]),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_units_of_every_family(name: str, tiny_model: TinyModel) -> None:
    found = tiny_model(name).found
    at_z, at_projection, count, width, layers = EXPECTED[name]
    for site, module in (("z", at_z), ("proj_in", at_projection)):
        units = found.select("recurrent", site)
        assert units.module[0].endswith(f".0.{module}")
        assert units.layer.tolist() == [layer for layer in layers for _ in range(count)]
        assert units.index.tolist() == [*range(count)] * len(layers)
        assert units.label[1] == "L00R01"
        assert {s.width for s in units.sources} == {width}


def vectors(network: Any, units: UnitTable) -> list[Tensor]:
    with torch.no_grad(), capture(network, units, reduce=REDUCERS["identity"]) as taken:
        network(input_ids=IDS, use_cache=False)
    return taken.outputs()


@pytest.mark.parametrize("name", EXPECTED)
def test_what_the_projection_makes_of_the_units_is_what_the_mixer_gives(
    name: str, tiny_model: TinyModel
) -> None:
    model = tiny_model(name)
    units = model.found.select("recurrent", "proj_in")
    given = vectors(model.model, units)[0]
    projection: Any = model.model.get_submodule(units.sources[0].module)
    made = torch.zeros(1)
    for unit in range(units.sources[0].count):
        columns = slice(int(units.start[unit]), int(units.stop[unit]))
        made = made + given[:, :, unit] @ projection.weight[:, columns].T
    made = made + (projection.bias if projection.bias is not None else 0.0)
    sublayers = model.found.select("sublayers")
    # Falcon-H1 has attention beside its mixer; the mixer's is the first.
    mixer = next(i for i, s in enumerate(sublayers.sources) if s.kind == "attention")
    expected = vectors(model.model, sublayers)[mixer][:, :, 0]
    assert torch.allclose(made, expected, atol=1e-5 * float(expected.abs().max()))


#: Family -> a parameter of layer 0 and the part of it that is unit 1's, and no other's.
OWN: dict[str, tuple[str, tuple[Any, ...]]] = {
    "mamba": ("backbone.layers.0.mixer.D", (slice(48, 96),)),
    "jamba": ("model.layers.0.mamba.D", (slice(48, 96),)),
    "zamba": ("model.layers.0.mamba.D", (1,)),
    "rwkv": ("rwkv.blocks.0.attention.time_first", (slice(24, 48),)),
    "lfm2": ("model.layers.0.conv.conv.weight", (slice(24, 48),)),
    "mamba2": ("backbone.layers.0.mixer.D", (1,)),
    "nemotron_h_mamba": ("model.layers.0.mixer.A_log", (1,)),
    "falcon_h1": ("model.layers.0.mamba.D", (1,)),
    "qwen3_5_text": ("model.layers.0.linear_attn.dt_bias", (1,)),
    "olmo_hybrid": ("model.layers.0.linear_attn.A_log", (1,)),
    "kimi_linear": ("model.layers.0.self_attn.forget_gate.dt_bias", (slice(10, 20),)),
    "xlstm": ("backbone.blocks.0.mlstm_layer.igate_preact.bias", (1,)),
    "minimax": ("model.layers.0.self_attn.qkv_proj.weight", (slice(60, 120),)),
    "recurrent_gemma": ("model.layers.0.temporal_block.rg_lru.input_gate_bias", (1,)),
}


@pytest.mark.parametrize("name", OWN)
def test_a_slice_is_its_unit(name: str, tiny_model: TinyModel) -> None:
    """Changing what one unit alone has changes its output and no other's."""
    model = tiny_model(name)
    units = model.found.select("recurrent")
    changed = tiny_network(name)
    parameter, own = OWN[name]
    with torch.no_grad():
        changed.get_parameter(parameter)[own] += 0.5
    moved = (vectors(changed, units)[0] - vectors(model.model, units)[0]).abs().amax((0, 1, 3))
    expected = torch.arange(units.sources[0].count) == 1
    # A scale that a kernel shares between channels is no coupling.
    assert torch.equal(moved > 1e-5, expected)
    assert (moved[~expected] <= 1e-6).all()


@pytest.mark.parametrize("name", EXPECTED)
def test_taps_change_nothing_and_live_is_replay(name: str, tiny_model: TinyModel) -> None:
    model = tiny_model(name)
    both = [model.found.select(units, "z") for units in ("all", "sublayers")]
    with torch.no_grad():
        plain = model.model(input_ids=IDS, use_cache=False).logits
        with capture(model.model, both[0]), capture(model.model, both[1]) as taken:
            tapped = model.model(input_ids=IDS, use_cache=False).logits
    assert torch.equal(plain, tapped)
    assert taken.passes == 1
    for units in (model.found.select("all"), model.found.select("all", "proj_in")):
        assert live_against_replay(model, PROMPTS, reading=Reading(units, norm)).error <= 1e-4


def test_units_of_several_kinds_stand_together(tiny_model: TinyModel) -> None:
    units = tiny_model("falcon_h1").found.select("all")
    names = [f"L{i:02d}{kind}{j:02d}" for i in range(2) for kind, n in (("H", 4), ("R", 6))
             for j in range(n)]  # fmt: skip
    assert units.label == tuple(names)
    assert set(units.kv_group[[kind == "recurrent" for kind in units.kind]]) == {-1}


@pytest.mark.parametrize("name", ["mamba", "mamba2"])
def test_a_stream_kept_in_float32_is_a_stream(name: str, tiny_model: TinyModel) -> None:
    """In half precision Mamba's layers read and give float32, and its mixers do not."""
    for dtype in (torch.bfloat16, torch.float16):
        assert find_units(tiny_network(name).to(dtype)) == tiny_model(name).found


def test_a_model_without_attention_has_no_heads(tiny_model: TinyModel) -> None:
    with pytest.raises(ConfigError) as caught:
        record(tiny_model("mamba2"), ["What?"], tokens=8)
    assert "units 'heads'" in caught.value.given
    assert "recurrent, mixers, all, sublayers" in caught.value.expected


def test_a_cached_step_that_is_another_computation_is_refused(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("rwkv")
    attention = type(model.model.get_submodule("rwkv.blocks.0.attention"))
    stock = attention.extract_key_value

    def forgetful(self: Any, hidden: Tensor, state: Any = None) -> Any:
        receptance, key, value, state = stock(self, hidden, state)
        return receptance, key, value * (2.0 if hidden.shape[1] == 1 else 1.0), state

    monkeypatch.setattr(attention, "extract_key_value", forgetful)
    with pytest.raises(ModelError, match="cached step") as caught:
        record(model, ["What is it?"], tokens=8, units="recurrent", prompt_style="raw")
    assert "L0" in caught.value.cause


@pytest.mark.parametrize(("width", "expected"), [(1536, 64), (96, 48), (48, 24), (80, 40), (7, 1)])
def test_groups_of_channels_divide_the_width(width: int, expected: int) -> None:
    assert group_width(width) == expected


def test_heads_are_counted_by_what_a_mixer_has_for_each() -> None:
    mixer = torch.nn.Module()
    mixer.norm = torch.nn.LayerNorm(3)
    mixer.project = torch.nn.Linear(12, 12)
    assert heads_of(mixer, 12) is None
    mixer.decay = torch.nn.Parameter(torch.zeros(1, 4, 1))
    mixer.channels = torch.nn.Parameter(torch.zeros(12))
    assert heads_of(mixer, 12) == 4

"""The self-test passes sound models, and each of its comparisons fails where it should."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import synatlas as sa
from every_type import tiny_type
from synatlas.cli import main
from synatlas.models.load import LanguageModel
from synatlas.models.taps import capture
from synatlas.rank.cautions import cautions
from synatlas.rank.controls import null_tests
from synatlas.record.doubts import BOUNDS, Figures, doubts, doubts_of
from synatlas.record.reading import options_for
from synatlas.record.replay import Reading
from synatlas.record.second_look import Fed, second_look
from synatlas.record.self_test import self_test
from synatlas.run import Run
from synatlas.summary import lines
from tiny_models import TinyModel, as_language_model, tiny_network, tiny_tokenizer

ROWS = [[0, 40, 41, 90, 17, 33, 60, 61, 5], [70, 3, 200, 8]]

#: Tiny model, units, site -> route by which each kind is computed again.
ROUTES = {
    ("llama", "heads", "z"): {"head": "attention_function"},
    ("llama", "heads", "resid"): {"head": "projection_columns"},
    ("gpt2", "heads", "resid"): {"head": "projection_columns"},
    ("bloom", "heads", "z"): {"head": "module_again"},
    ("diffllama", "heads", "z"): {"head": "no_second_route"},
    ("gpt_oss", "experts", "z"): {"expert": "expert_weights"},
    ("qwen2_moe", "all", "z"): {
        "head": "attention_function",
        "expert": "expert_weights",
        "shared_expert": "module_again",
    },
    ("nemotron_h", "experts", "z"): {"expert": "expert_weights", "shared_expert": "module_again"},
    ("llama4_text", "experts", "z"): {"expert": "expert_alone", "shared_expert": "module_again"},
    ("mamba", "recurrent", "z"): {"recurrent": "module_again"},
    ("mamba2", "recurrent", "z"): {"recurrent": "module_again"},
    ("recurrent_gemma", "all", "z"): {"recurrent": "module_again", "head": "attention_function"},
    ("llama", "sublayers", "z"): dict.fromkeys(("attention", "mlp", "block"), "module_again"),
}


def reading_of(
    model: LanguageModel, units: str = "heads", site: str = "z", policy: str = "contribution"
) -> Reading:
    options = options_for(
        model, units=units, site=site, reduce="norm", direction=None, policy=policy
    )
    reducers = options.reducers()
    assert reducers is not None
    return Reading(options.table, reducers)


def figures_for(model: LanguageModel, *options: str) -> Figures:
    reading = reading_of(model, *options)
    site = options[1] if len(options) > 1 else "z"
    return self_test(model, ROWS, reading, site=site, signed=False).figures(model, reading)


@pytest.mark.parametrize("case", ROUTES, ids="-".join)
def test_a_sound_model_passes_by_the_route_of_each_kind(
    case: tuple[str, str, str], tiny_model: TinyModel
) -> None:
    name, units, site = case
    found = figures_for(tiny_model(name), units, site)
    assert dict(zip(found.kind.tolist(), found.route.tolist(), strict=True)) == ROUTES[case]
    assert doubts(found) == []
    assert found.logits == found.repeat == 0.0
    has_route = found.route != "no_second_route"
    assert np.array_equal(np.isfinite(found.second), has_route)
    assert (found.second[has_route] <= 1e-5).all()


@pytest.mark.parametrize("policy", ["unweighted", "dense"])
def test_experts_pass_under_every_policy(policy: str, tiny_model: TinyModel) -> None:
    found = figures_for(tiny_model("qwen2_moe"), "experts", "z", policy)
    assert found.second.max() <= 1e-5


@pytest.mark.parametrize("case", ROUTES, ids="-".join)
def test_every_route_sees_values_of_another_position(
    case: tuple[str, str, str], tiny_model: TinyModel
) -> None:
    name, units, site = case
    network, reading = tiny_model(name).model, reading_of(tiny_model(name), units, site)
    fed = Fed(ids=torch.tensor(ROWS[:1]), mask=torch.ones(1, len(ROWS[0]), dtype=torch.long))
    with capture(network, reading.units, reduce=reading.reduce) as taken:
        fed.logits(network)
    moved = [values.roll(1, dims=1) for values in taken.outputs()]
    looks = second_look(network, reading, fed, moved, site=site, signed=False)
    for source, look in zip(reading.units.sources, looks, strict=True):
        assert look.route == ROUTES[case][source.kind]
        assert (look.errors > BOUNDS["float32"]).any() == (look.route != "no_second_route")


def test_a_projection_that_reads_something_else_is_seen(tiny_model: TinyModel) -> None:
    """A hook of the user's own between attention and projection, after the model was probed."""
    model = as_language_model(tiny_network("llama"), tiny_tokenizer())
    projection = model.model.get_submodule("model.layers.1.self_attn.o_proj")
    projection.register_forward_pre_hook(lambda _, args: (0.5 * args[0],))
    found = figures_for(model)
    np.testing.assert_allclose(found.second[:4], 0.0, atol=1e-6)
    np.testing.assert_allclose(found.second[4:], 0.5, rtol=1e-5)
    (told,) = doubts(found)
    assert told.startswith("Recomputed activity disagrees: 4 of 8 units of kind head differ")
    assert "L01H00 by 0.5" in told


class Sensitive(nn.Linear):
    """A matrix that gives something else while it is watched."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * (1.01 if self._forward_pre_hooks else 1.0)


def test_a_model_that_taps_change_is_seen() -> None:
    model = as_language_model(tiny_network("llama"), tiny_tokenizer())
    model.model.get_submodule("model.layers.0.self_attn.o_proj").__class__ = Sensitive
    found = figures_for(model)
    assert found.logits > 1e-3
    assert found.repeat == 0.0
    assert doubts(found)[0].startswith("Taps change the model: logits with and without differ by")


def test_a_model_that_differs_from_itself_is_not_blamed_on_taps() -> None:
    model = as_language_model(tiny_network("llama"), tiny_tokenizer())
    generator = torch.Generator().manual_seed(0)

    def noise(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        del module, args
        return output + 1e-5 * torch.randn(output.shape, generator=generator)

    model.model.get_submodule("lm_head").register_forward_hook(noise)
    found = figures_for(model)
    assert found.repeat > 0.0
    assert doubts(found) == []


def roberta() -> LanguageModel:
    return as_language_model(tiny_type("roberta"), tiny_tokenizer())


def test_generation_that_differs_reaches_the_warnings_of_the_atlas() -> None:
    """The cached steps of RoBERTa count positions otherwise than its plain pass."""
    recording = sa.record(roberta(), ["One two", "Tell me"], tokens=12, prompt_style="raw")
    (told,) = doubts_of(recording)
    assert re.match(r"Live against replay: 8 of 8 units differ by more than 0.001, L0\dH0\d", told)
    assert "Record with capture live" in told
    assert float(recording["live_replay_unit_error"].max()) == pytest.approx(
        recording.attrs["live_replay_error"]
    )
    atoms = sa.decompose(recording, nulls=())
    assert cautions(atoms, null_tests(atoms))[0] == told
    run = Run(
        folder=Path("x"), artifacts={"recording": recording}, report=None, reused=(), record={}
    )
    assert f"warning: {told}" in list(lines(run, 1.0))
    # Read live, the series are what the model did.
    live = sa.record(
        roberta(), ["One two", "Tell me"], tokens=12, prompt_style="raw", capture="live"
    )
    assert live.attrs["live_replay_error"] > 0.1
    assert doubts_of(live) == []


def test_a_recording_without_figures_has_no_doubts(tiny_model: TinyModel) -> None:
    recording = sa.record(tiny_model("llama"), ["One two"], tokens=8, prompt_style="raw")
    assert doubts_of(recording) == []
    names = ["live_replay_unit_error", "recomputed_unit_error", "second_route"]
    assert doubts_of(recording.drop_vars(names)) == []


def figures(**changes: Any) -> Figures:
    none = Figures(
        dtype="float32",
        capture="replay",
        label=np.array(["L00H00", "L00H01"]),
        kind=np.array(["head", "head"]),
        live=np.zeros(2),
        rerouted=None,
        logits=0.0,
        repeat=0.0,
        second=np.full(2, np.nan),
        route=np.array(["no_second_route"] * 2),
    )
    return none._replace(**changes)


@pytest.mark.parametrize("dtype", BOUNDS)
def test_a_bound_itself_is_allowed(dtype: str) -> None:
    bound = BOUNDS[dtype]
    for name in ("live", "second"):
        at, above = np.array([0.0, bound]), np.array([np.nan, 1.01 * bound])
        assert doubts(figures(dtype=dtype, **{name: at})) == []
        (told,) = doubts(figures(dtype=dtype, **{name: above}))
        assert f"{bound:g}, L00H01 by {1.01 * bound:.2g}" in told
    assert doubts(figures(dtype=dtype, logits=0.1, repeat=0.1)) == []


def test_rerouted_choices_are_said() -> None:
    found = figures(dtype="bfloat16", live=np.array([0.0, 0.3]), rerouted=0.012)
    (told,) = doubts(found)
    assert "1.2% of the choices of experts are other ones" in told
    assert "Record in float32, and where they differ there too, with capture live" in told


def test_the_command_fails_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, code in (("roberta", 2), ("mixtral", 0), ("mamba2", 0)):
        folder = tmp_path / name
        tiny_type(name).save_pretrained(folder)
        tiny_tokenizer().save_pretrained(folder)
        capsys.readouterr()
        assert main(["models", "--check", str(folder)]) == code
        told = capsys.readouterr()
        last = told.out.splitlines()[-1]
        assert last == ("failed: Live against replay" if code else "passed")
        assert ("with capture live" in told.err) == bool(code)
        if name == "mixtral":
            assert "8 experts in 2 layers (4 per layer), at z" in told.out
            assert "one expert at a time, from its weights" in told.out


def test_figures_of_a_recording_are_those_of_the_test(tiny_model: TinyModel) -> None:
    model = tiny_model("qwen2_moe")
    rows = [[5, 6, 7, 8], [9, 10, 11]]
    recording = sa.replay(model, [[*row, *range(20, 30)] for row in rows], [4, 3], units="experts")
    reading = reading_of(model, "experts")
    starts = [[*row, *range(20, 30)][:n] for row, n in zip(rows, (12, 7), strict=True)]
    found = self_test(model, starts, reading, site="z", signed=False)
    for name, values in found.by_unit().items():
        np.testing.assert_array_equal(recording[name], values)
    assert {k: recording.attrs[k] for k in found.attrs()} == found.attrs()
    assert dataclasses.asdict(found)["seconds"] > 0

"""Models from a modelling file that is not in transformers, probed like all others."""

import shutil
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import dynamic_module_utils

import own_models
import synatlas as sa
from own_models import HEADS, MIXINGS, WIDTH, Block, own_model
from synatlas.errors import ModelError
from synatlas.models.adopt import adopt
from synatlas.models.probe import find_units
from synatlas.models.reducers import identity, norm
from synatlas.models.taps import capture
from synatlas.record.replay import Reading, live_against_replay
from tiny_models import tiny_tokenizer

IDS = torch.arange(3, 25).view(2, 11)


def by_hand(block: Block, x: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs of the heads (row, position, head, feature), before and after the gate."""
    q, k, v, gate = block.all(block.norm(x)).chunk(4, dim=-1)
    q, k, v = (t.unflatten(-1, (HEADS, WIDTH)).transpose(1, 2) for t in (q, k, v))
    z = block.mix(q, k, v).transpose(1, 2)
    return z, z * gate.unflatten(-1, (HEADS, WIDTH)).sigmoid()


@pytest.mark.parametrize("mixing", MIXINGS)
def test_own_attention_with_a_gate_is_read_before_and_after_it(mixing: str) -> None:
    model = own_model(mixing=mixing)
    found = find_units(model)
    assert [(s.at, s.module, s.sites) for s in found.sources[:2]] == [
        ("mixing", "blocks.0", ("z",)),
        ("input", "blocks.0.out", ("proj_in", "resid")),
    ]
    with torch.no_grad():
        plain = model(IDS).logits
        with capture(model, found, reduce=identity) as taken:
            tapped = model(IDS).logits
        z, gated = by_hand(model.blocks[0], model.embed(IDS))
    assert torch.equal(plain, tapped)
    before, after = taken.outputs()[:2]
    assert torch.allclose(before, z, atol=1e-6)
    assert torch.allclose(after, gated, atol=1e-6)


@pytest.mark.parametrize("mixing", MIXINGS)
def test_own_attention_without_a_gate_is_read_at_its_projection(mixing: str) -> None:
    found = find_units(own_model(mixing=mixing, gated=False)).select()
    assert [(s.at, s.module, s.count, s.width) for s in found.sources] == [
        ("input", f"blocks.{i}.out", HEADS, WIDTH) for i in range(2)
    ]


def test_own_attention_live_and_replayed_without_a_cache() -> None:
    """Without masks and positions of its own, padding would change what such a model says."""
    model = adopt(own_model(mixing="bmm"), tiny_tokenizer())
    prompts = ([5, 9, 30, 4], [7, 40, 8, 21, 6, 33, 90])
    assert live_against_replay(model, prompts, reading=Reading(model.units, norm)).error < 1e-5


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a user has: a modelling file of their own beside the weights, named in config.json."""
    place = tmp_path / "own-model"
    model = own_model(mixing="einsum")
    model.config.auto_map = {
        "AutoConfig": "modelling.OwnConfig",
        "AutoModelForCausalLM": "modelling.OwnForCausalLM",
    }
    model.save_pretrained(place)
    tiny_tokenizer().save_pretrained(place)
    shutil.copy(own_models.__file__, place / "modelling.py")
    return place


def test_a_folder_with_code_of_its_own_goes_all_the_way(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(folder.parent / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(ModelError):
        sa.load(str(folder))
    model = sa.load(str(folder), trust_remote_code=True)
    assert type(model.model).__module__ != own_models.__name__
    assert model.found.sources == find_units(own_model(mixing="einsum")).sources
    heads = model.units.label
    assert not model.owned.gaps
    roles = {s.role for s in model.owned.of(heads[1])}
    assert roles == {"query", "key", "value", "gate", "output"}
    recording = sa.record(model, ["Why is the sky blue?"], tokens=8)
    tokens, n = recording["token"].values[0], int((recording["prompt_token"].values[0] >= 0).sum())
    ids = torch.tensor([[*recording["prompt_token"].values[0, :n], *tokens[:-1]]])
    with torch.no_grad():
        z, _ = by_hand(model.model.blocks[0], model.model.embed(ids))
    assert z.norm(dim=-1)[0, n - 1 :].numpy() == pytest.approx(
        recording["activity"].values[0, :, :HEADS], rel=1e-5
    )

"""Weights that are elsewhere until they are used: the same recording as with all of them here."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import cpu_offload, dispatch_model
from torch import nn

from synatlas.models.adopt import adopt, weights_digest
from synatlas.models.placement import device_of, input_device, weights_present
from synatlas.models.quiet import quiet
from synatlas.record.record import record
from tiny_models import tiny_network, tiny_tokenizer

PROMPTS = ["Why is the sky blue?", "Name two colours."]


def spread(network: Any, folder: Path) -> Any:
    """The second layer on the disk, all else on the CPU."""
    prefix = network.base_model_prefix
    places = dict.fromkeys((n for n, _ in network.named_children() if n != prefix), "cpu")
    for name, part in network.get_submodule(prefix).named_children():
        if isinstance(part, nn.ModuleList):
            places |= {f"{prefix}.{name}.{i}": "disk" if i else "cpu" for i in range(len(part))}
        else:
            places[f"{prefix}.{name}"] = "cpu"
    with quiet():
        return dispatch_model(
            network, places, offload_dir=folder, main_device="cpu", force_hooks=True
        )


@pytest.mark.parametrize("name", ["mixtral", "gpt_neox"])
@pytest.mark.parametrize("site", ["z", "resid"])
def test_a_model_spread_over_devices(name: str, site: str, tmp_path: Path) -> None:
    whole, parted = tiny_network(name), spread(tiny_network(name), tmp_path)
    layer = parted.get_submodule(f"{parted.base_model_prefix}.layers.1")
    assert all(p.is_meta for p in layer.parameters())
    assert weights_digest(parted) == weights_digest(whole)
    found = [
        record(adopt(n, tiny_tokenizer()), PROMPTS, tokens=8, site=site) for n in (whole, parted)
    ]
    np.testing.assert_array_equal(found[0]["activity"], found[1]["activity"])
    assert found[0].attrs["fingerprint"] == found[1].attrs["fingerprint"]


def test_all_weights_offloaded() -> None:
    """Every kind of unit, though no parameter of the model has a value outside of a call."""
    whole = tiny_network("nemotron_h_mamba")
    parted = cpu_offload(tiny_network("nemotron_h_mamba"), execution_device=torch.device("cpu"))
    assert all(p.is_meta for p in parted.parameters())
    assert input_device(parted) == torch.device("cpu")
    found = [
        record(adopt(n, tiny_tokenizer()), PROMPTS, tokens=8, units="all") for n in (whole, parted)
    ]
    np.testing.assert_array_equal(found[0]["activity"], found[1]["activity"])
    assert all(p.is_meta for p in parted.parameters())


def test_weights_come_for_a_while(tmp_path: Path) -> None:
    parted = spread(tiny_network("llama"), tmp_path)
    matrix = parted.model.layers[1].self_attn.q_proj
    assert device_of(matrix) == torch.device("cpu")
    with weights_present(matrix):
        there = matrix.weight.clone()
    assert matrix.weight.is_meta
    assert torch.equal(there, tiny_network("llama").model.layers[1].self_attn.q_proj.weight)


def test_slices_of_weights_that_are_elsewhere(tmp_path: Path) -> None:
    whole, parted = tiny_network("mixtral"), spread(tiny_network("mixtral"), tmp_path)
    found = [adopt(n, tiny_tokenizer()).owned for n in (whole, parted)]
    here, there = (
        [(s.parameter, s.role, s.axis, *s.indices, s.units) for s in of.slices] for of in found
    )
    experts = {label for label in found[0].labels if label.startswith("L01E")}
    assert there == [one for one in here if not experts.intersection(one[-1])]
    assert {g.unit for g in found[1].gaps} == experts
    assert {g.reason for g in found[1].gaps} == {
        "its weights are kept elsewhere until they are used"
    }

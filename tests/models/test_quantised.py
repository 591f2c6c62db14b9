"""Checkpoints with packed weights: read unpacked, and recorded like any other."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

import synatlas as sa
from synatlas.models.quiet import quiet
from tiny_models import tiny_network, tiny_tokenizer

PROMPTS = ["Why is the sky blue?", "Name two colours."]

#: The eight sizes of a four-bit float with two exponent bits and one of mantissa.
FP4 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])


def packed(shape: torch.Size, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Random MXFP4 blocks of 32 values along the input, for (expert, input, output)."""
    experts, inputs, outputs = shape
    of_blocks = (experts, outputs, inputs // 32)
    blocks = torch.randint(0, 256, (*of_blocks, 16), dtype=torch.uint8, generator=generator)
    scales = torch.randint(118, 124, of_blocks, dtype=torch.uint8, generator=generator)
    return {"blocks": blocks, "scales": scales}


def unpacked(blocks: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """Open Compute Project, Microscaling Formats v1.0: two codes a byte, lower first, 2^(s-127)."""
    codes = torch.stack([blocks & 15, blocks >> 4], dim=-1).flatten(-2).long()
    values = FP4[codes & 7] * (1.0 - 2.0 * (codes >> 3))
    scaled = values * torch.exp2(scales.float() - 127)[..., None]
    return scaled.flatten(-2).mT


def test_mxfp4_is_dequantised(tmp_path: Path) -> None:
    folder = tmp_path / "oss"
    tiny_network("gpt_oss", hidden_size=64, intermediate_size=32).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    generator, expected = torch.Generator().manual_seed(0), {}
    for name in [n for n in weights if n.endswith(("gate_up_proj", "down_proj"))]:
        parts = packed(weights.pop(name).shape, generator)
        expected[name] = unpacked(**parts)
        weights |= {f"{name}_{part}": tensor for part, tensor in parts.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    settings = json.loads((folder / "config.json").read_text())
    settings["quantization_config"] = {"quant_method": "mxfp4"}
    (folder / "config.json").write_text(json.dumps(settings))
    model = sa.load(str(folder))
    assert len(expected) == 4
    for name, values in expected.items():
        assert torch.equal(model.model.get_parameter(name), values)
    recording = sa.record(model, PROMPTS, tokens=8, units="all")
    assert {"head", "expert"} == set(recording["kind"].values.tolist())
    assert recording.attrs["live_replay_error"] < 1e-4


@pytest.mark.filterwarnings("ignore:MatMul8bitLt")
@pytest.mark.parametrize("bits", ["load_in_8bit", "load_in_4bit"])
def test_bitsandbytes(bits: str, tmp_path: Path) -> None:
    """Quantised while it is loaded, or stored so: the same recording, near that of the original."""
    plain, stored = tmp_path / "plain", tmp_path / "stored"
    tiny_network("llama", hidden_size=64, intermediate_size=128).save_pretrained(plain)
    options: dict[str, Any] = {"quantization_config": BitsAndBytesConfig(**{bits: True})}
    with quiet():
        network: Any = AutoModelForCausalLM.from_pretrained(plain, dtype=torch.float32, **options)
        network.eval().save_pretrained(stored)
    for folder in (plain, stored):
        tiny_tokenizer().save_pretrained(folder)
    adopted = sa.adopt(network, tiny_tokenizer())
    assert not adopted.model.get_parameter("model.layers.0.mlp.up_proj.weight").is_floating_point()
    gaps = {(g.unit[3], g.role) for g in adopted.owned.gaps if "packed" in g.reason}
    assert gaps == {("H", role) for role in ("query", "key", "value", "output")}
    one, again = (
        sa.record(m, PROMPTS, tokens=8, site="resid") for m in (adopted, sa.load(str(stored)))
    )
    np.testing.assert_array_equal(one["activity"], again["activity"])
    rows = [row[row >= 0].tolist() for row in one["prompt_token"].values]
    fed = [before + after for before, after in zip(rows, one["token"].values.tolist(), strict=True)]
    original = sa.replay(sa.load(str(plain)), fed, [len(row) for row in rows], site="resid")
    error = np.abs(one["activity"] - original["activity"]) / original["activity"]
    assert 0 < float(error.median()) < (0.02 if bits == "load_in_8bit" else 0.2)

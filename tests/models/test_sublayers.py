"""Sub-layers as units: what they give adds up to what a block does to the stream."""

import pytest
import torch

from synatlas.models.reducers import REDUCERS
from synatlas.models.taps import capture
from synatlas.record.record import record
from tiny_models import TinyModel, tiny_network

IDS = torch.arange(5, 27).view(2, 11)

#: Families that add nothing but what their sub-layers give: after another or side by side, with
#: the stream inside of the sub-layer (BLOOM, MPT), an MLP that is no module of its own (OPT,
#: XGLM), rows and positions in one axis (OPT), an addition in place (Falcon), experts (Mixtral),
#: and mixers without attention.
ADDING = (
    "llama qwen3 phi gpt_neox gpt2 gptj gpt_bigcode codegen gpt_neo opt bloom falcon mpt xglm "
    "mixtral gpt_oss deepseek_v2 rwkv xlstm recurrent_gemma jamba bamba "
    "qwen3_5_text lfm2"
)


@pytest.mark.parametrize("name", ADDING.split())
def test_what_sublayers_give_is_what_the_block_adds(name: str, tiny_model: TinyModel) -> None:
    model = tiny_model(name)
    units = model.found.select("sublayers")
    with torch.no_grad(), capture(model.model, units, reduce=REDUCERS["identity"]) as taken:
        model.model(input_ids=IDS, use_cache=False)
    outputs = [z[:, :, 0] for z in taken.outputs()]
    # RWKV normalises the stream itself in its first block.
    for layer in range(1 if name == "rwkv" else 0, model.n_layers):
        mine = [i for i, source in enumerate(units.sources) if source.layer == layer]
        block = next(outputs[i] for i in mine if units.sources[i].kind == "block")
        total = sum(outputs[i] for i in mine if units.sources[i].kind != "block")
        assert torch.allclose(block, total, atol=1e-5 * float(block.abs().max()))


def test_labels(tiny_model: TinyModel) -> None:
    units = tiny_model("llama").found.select("sublayers")
    assert units.label == tuple(f"L{i:02d}{kind}00" for i in range(2) for kind in "AMB")
    two = tiny_model("falcon_h1").found.select("sublayers")
    assert two.label[:4] == ("L00A00", "L00A01", "L00M00", "L00B00")
    # Layers of one sub-layer: the block would be the same again.
    alone = tiny_model("nemotron_h_mamba").found.select("sublayers")
    assert alone.label == ("L00A00", "L01A00", "L02M00")


def test_activity_is_the_norm_of_the_output(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    recording = record(model, ["Why?"], tokens=8, units="sublayers", prompt_style="raw")
    tokens = [*recording["prompt_token"].values[0], *recording["token"].values[0]]
    outputs: list[torch.Tensor] = []
    network = tiny_network("llama")
    mlp = network.model.layers[1].mlp
    mlp.register_forward_hook(lambda *seen: outputs.append(seen[2]))
    with torch.no_grad():
        network(input_ids=torch.tensor([tokens]))
    expected = outputs[0][0, len(tokens) - 9 : -1].norm(dim=-1)
    found = torch.from_numpy(recording["activity"].sel(unit="L01M00").values[0])
    assert torch.allclose(found, expected, rtol=1e-5)
    assert recording["kind"].values.tolist() == ["attention", "mlp", "block"] * 2

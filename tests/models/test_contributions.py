"""The norm of what a head adds, against the vector itself."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from synatlas.errors import ConfigError
from synatlas.models.contributions import contributions, gram
from synatlas.models.probe import find_units
from synatlas.models.reducers import identity
from synatlas.models.taps import capture
from synatlas.models.units import Source
from synatlas.record.record import replay
from tiny_models import TinyModel, tiny_network

IDS = torch.arange(3, 25).view(2, 11)


def columns_of(projection: Any) -> Tensor:
    """(output, head features), however it is stored."""
    is_transposed = type(projection).__name__ == "Conv1D"
    return (projection.weight.T if is_transposed else projection.weight).double()


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "bloom", "qwen3_next", "deepseek_v2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norm_is_that_of_the_vector(name: str, dtype: torch.dtype) -> None:
    network = tiny_network(name).to(dtype)
    units = find_units(network).select(site="resid")
    with torch.no_grad():
        with capture(network, units, reduce=identity) as vectors:
            network(input_ids=IDS)
        with capture(network, units, reduce=contributions(network, units)) as norms:
            network(input_ids=IDS)
    for source, z, found in zip(units.sources, vectors.outputs(), norms.outputs(), strict=True):
        columns = columns_of(network.get_submodule(source.module))
        by_head = columns.unflatten(1, (source.count, source.width))
        expected = torch.einsum("rphd,ohd->rpho", z.double(), by_head).norm(dim=-1)
        assert torch.allclose(found.double(), expected, rtol=1e-5, atol=0)


class Packed(nn.Module):
    """Whole numbers and a scale, as quantisers keep a matrix."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.scale = float(weight.abs().max()) / 127
        whole = (weight / self.scale).round().to(torch.int8).flatten()
        self.weight = nn.Parameter(whole, requires_grad=False)
        self.shape = weight.shape

    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.weight.view(self.shape).to(x.dtype) * self.scale).T


def test_packed_weights_are_asked_not_read() -> None:
    weight = torch.randn(7, 12, generator=torch.Generator().manual_seed(0))
    packed = Packed(weight)
    found = gram(packed, Source(module="", layer=0, count=3, width=4))
    dense = packed.weight.view(7, 12).double() * packed.scale
    expected = torch.stack([dense[:, i : i + 4].T @ dense[:, i : i + 4] for i in (0, 4, 8)])
    assert torch.allclose(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_a_recording_holds_it_and_other_reductions_are_refused(tiny_model: TinyModel) -> None:
    model = tiny_model("gpt2")
    recording = replay(model, [[*range(3, 14)]], [0], site="resid")
    units = model.found.select(site="resid")
    with (
        torch.no_grad(),
        capture(model.model, units, reduce=contributions(model.model, units)) as taken,
    ):
        model.model(input_ids=IDS[:1])
    found = torch.tensor(recording["activity"].to_numpy())
    assert recording.attrs["site"] == "resid"
    assert torch.allclose(found, taken.units(), rtol=1e-5)
    for reduce in ("mean", "pc1"):
        with pytest.raises(ConfigError, match="never built"):
            replay(model, [[*range(3, 14)]], [0], site="resid", reduce=reduce)

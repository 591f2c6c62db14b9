"""With an orthogonal output projection a head changes only what it contributes itself."""

from typing import Any

import pytest
import torch
from torch import Tensor

from slices import IDS, changed, prepared, silenced
from synatlas.models.contributions import contributions
from synatlas.models.reducers import identity
from synatlas.models.taps import capture
from synatlas.models.units import UnitTable

#: How heads are laid out -> a type with heads that fit in the stream side by side.
LAYOUTS = {
    "each its own keys": "opt",
    "grouped keys": "granite",
    "one group of keys": "gpt_bigcode",
    "latent": "deepseek_v3",
    "Conv1D": "gpt2",
    "fused head by head": "gpt_neox",
    "fused head by head, on the stream": "bloom",
    "fused group by group": "falcon",
    "fused in blocks": "phi3",
}


@pytest.mark.parametrize("name", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_zeroing_a_head_takes_away_what_it_contributes_and_nothing_else(name: str) -> None:
    """A slice taken after the projection would be a mixture of all heads."""
    network, found, ownership = prepared(name)
    units = found.select(site="resid")
    units = UnitTable(sources=units.sources[:1], n_layers=units.n_layers)
    source, labels = units.sources[0], units.label
    projection = network.get_submodule(source.module)
    weight = projection.weight
    conv = type(projection).__name__ == "Conv1D"
    stock, rotation = weight.clone(), rotated(weight.T if conv else weight)
    weight.data.copy_(rotation.T if conv else rotation)
    try:
        z, given, _ = passed(network, units)
        with (
            torch.no_grad(),
            capture(network, units, reduce=contributions(network, units)) as norms,
        ):
            network(input_ids=IDS)
        assert torch.allclose(norms.units(), z.norm(dim=-1), rtol=1e-4)
        for h in range(source.count):
            with changed(network, ownership.of(labels[h], roles=["output"]), times=0.0):
                _, without, logits = passed(network, units)
            change = ((given - without) @ rotation).unflatten(-1, (source.count, source.width))
            size = float(z.abs().max())
            assert float((change[..., h, :] - z[:, :, h]).abs().max()) < 1e-6 * max(1.0, size)
            change[..., h, :] = 0.0
            assert float(change.abs().max()) < 1e-6 * max(1.0, size)
            with silenced(network, units, h):
                _, hooked, other_logits = passed(network, units)
            assert torch.equal(without, hooked)
            assert torch.equal(logits, other_logits)
    finally:
        weight.data.copy_(stock)


def rotated(weight: Tensor) -> Tensor:
    """A matrix of this form with orthonormal columns."""
    generator = torch.Generator().manual_seed(0)
    return torch.linalg.qr(torch.randn(weight.shape, generator=generator)).Q


def passed(network: Any, units: UnitTable) -> tuple[Tensor, Tensor, Tensor]:
    """What the projection reads of every head, what it gives without its bias, and logits."""
    given: list[Tensor] = []
    projection = network.get_submodule(units.sources[0].module)
    handle = projection.register_forward_hook(lambda module, args, out: given.append(out))
    with torch.no_grad(), capture(network, units, reduce=identity) as taken:
        logits = network(input_ids=IDS).logits
    handle.remove()
    bias = getattr(projection, "bias", None)
    return taken.outputs()[0], given[0] - (0.0 if bias is None else bias), logits

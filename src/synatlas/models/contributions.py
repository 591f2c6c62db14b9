"""What heads add to the residual stream: the norm after the output projection."""

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from synatlas.models.placement import device_of
from synatlas.models.reducers import Reducer
from synatlas.models.units import Source, UnitTable


def contributions(model: nn.Module, units: UnitTable) -> list[Reducer]:
    """Reducers to the norm of what each head adds through its output projection.

    With W_h the projection's columns for head h and z_h what it reads of it, the norm is
    ||W_h z_h|| = sqrt(z_h' G_h z_h) with G_h = W_h' W_h, so that W_h z_h itself, as wide as the
    model, is never built. The projection's bias belongs to no head and is left out. A
    normalisation after the projection (Gemma 2, OLMo 2) is not part of it.

    Parameters
    ----------
    model : the model that `units` was found in.
    units : heads read at the input of their output projection, at site ``resid``.

    Returns
    -------
    list
        A reducer for each source; its matrices are float32 and take count * width^2 values.
    """
    return [through(gram(model.get_submodule(s.module), s)) for s in units.sources]


@torch.no_grad()
def gram(projection: nn.Module, source: Source) -> Float[Tensor, "head feature feature"]:
    """G_h = W_h' W_h of every head, from what the module makes of unit vectors.

    The module is asked rather than its weight, so that it does not matter how that is laid out
    (Conv1D), packed (quantised) or adapted (low-rank updates).
    """
    weight: Any = projection.weight
    if weight.is_floating_point() and weight.dtype != torch.float32:
        projection = copy.deepcopy(projection).float()
        weight = projection.weight
    kind = weight.dtype if weight.is_floating_point() else torch.get_default_dtype()
    size, where = source.count * source.width, device_of(projection)
    nothing = projection(torch.zeros(1, 1, size, dtype=kind, device=where))
    grams: list[Tensor] = []
    for head in range(source.count):
        units = torch.zeros(1, source.width, size, dtype=kind, device=where)
        units[0, :, head * source.width : (head + 1) * source.width].fill_diagonal_(1.0)
        rows = (projection(units) - nothing)[0].float()
        grams.append(rows @ rows.T)
    return torch.stack(grams)


def through(matrices: Float[Tensor, "head feature feature"]) -> Reducer:
    """Reducer to sqrt(z' G z) of each head, in float32."""
    held = matrices

    def contribution(
        z: Float[Tensor, "row position head feature"],
    ) -> Float[Tensor, "row position head"]:
        nonlocal held
        held = held.to(z.device)
        z = z.float()
        squared = (torch.einsum("rphd,hde->rphe", z, held) * z).sum(-1)
        return squared.clamp(min=0).sqrt()

    return contribution

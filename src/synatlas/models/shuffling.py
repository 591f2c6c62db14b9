"""Weights whose every tensor keeps its values and loses their order."""

import torch
from torch import nn

from synatlas.errors import ModelError


@torch.no_grad()
def shuffle(model: nn.Module, seed: int) -> None:
    """Permute the entries of every parameter of `model`, in place.

    Each tensor keeps its distribution of values, hence its norm, and loses all else that training
    put there: what is left shows what the sizes of the weights alone do. Parameters that are one
    tensor (tied embeddings) stay one; buffers are left alone.

    Parameters
    ----------
    model : of which every parameter is there and holds plain floating-point numbers.
    seed : of the permutations, drawn on the CPU in the order of the parameters.

    Raises
    ------
    ModelError
        A parameter is packed (quantised) or not in memory (offloaded).
    """
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        if parameter.is_meta or not parameter.is_floating_point():
            raise ModelError(
                given=f"weights to be shuffled, of which {name} is {parameter.dtype} on "
                f"{parameter.device}",
                expected="floating-point weights in memory",
                cause="packed numbers mean something only in their order, and offloaded weights "
                "are not at hand",
                remedy="load the model without quantisation, on one device",
            )
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters.values():
        order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
        parameter.copy_(parameter.reshape(-1)[order].reshape(parameter.shape))

"""From a unit's output vector to the number that is recorded."""

from collections.abc import Callable, Sequence
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

#: A function of the heads' outputs (row, position, head, feature) that keeps the first three axes.
Reducer = Callable[[Tensor], Tensor]

#: One reducer for all sources, or one for each of them.
Reducers = Reducer | Sequence[Reducer]


def norm(z: Float[Tensor, "row position head feature"]) -> Float[Tensor, "row position head"]:
    """L2 norm over a head's features, in float32 whatever the model computes in."""
    return torch.linalg.vector_norm(z, dim=-1, dtype=torch.float32)


def mean(z: Float[Tensor, "row position head feature"]) -> Float[Tensor, "row position head"]:
    """Mean over a head's features, in float32."""
    return z.mean(dim=-1, dtype=torch.float32)


def identity(
    z: Float[Tensor, "row position head feature"],
) -> Float[Tensor, "row position head feature"]:
    """The heads' outputs themselves."""
    return z.clone()


def project(direction: Float[Tensor, "head feature"]) -> Reducer:
    """Reducer to the product of each head's features with its `direction`, in float32."""

    def projected(
        z: Float[Tensor, "row position head feature"],
    ) -> Float[Tensor, "row position head"]:
        along = direction.to(device=z.device, dtype=torch.float32)
        return (z.float() * along).sum(dim=-1)

    return projected


#: Reducers that need nothing but the vector, by name.
REDUCERS: Final[dict[str, Reducer]] = {"norm": norm, "mean": mean, "identity": identity}

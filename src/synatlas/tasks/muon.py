"""Muon in float32, all matrices of one shape in one product.

torch.optim.Muon orthogonalises in bfloat16, matrix by matrix, which on processors without bfloat16
units costs more than the model's own forward and backward pass at this size.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

import torch

#: quintic of the Newton-Schulz iteration (Jordan et al. 2024, Muon)
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5


@final
class Muon:
    """Momentum, orthogonalised; for matrices only, with decoupled weight decay.

    Parameters
    ----------
    matrices
        The parameters to train: matrices, or stacks of them, each orthogonalised by itself.
    momentum
        Of the Nesterov average of gradients.
    weight_decay
        Share of each weight removed per update, times the learning rate.
    """

    def __init__(
        self, matrices: Iterable[torch.nn.Parameter], *, momentum: float, weight_decay: float
    ) -> None:
        self.matrices = list(matrices)
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.averages = [torch.zeros_like(matrix) for matrix in self.matrices]

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One update with the gradients at hand, which it then drops."""
        by_shape: dict[torch.Size, list[int]] = {}
        for index, matrix in enumerate(self.matrices):
            by_shape.setdefault(matrix.shape, []).append(index)
        for shape, indices in by_shape.items():
            rows, columns = shape[-2:]
            updates = torch.stack([self._nesterov(index) for index in indices])
            directions = orthogonalised(updates.reshape(-1, rows, columns)).reshape(updates.shape)
            # Tall and wide matrices then change by the same amount per entry (torch "original").
            scale = max(1.0, rows / columns) ** 0.5
            for index, direction in zip(indices, directions, strict=True):
                matrix = self.matrices[index]
                matrix.mul_(1.0 - lr * self.weight_decay).sub_(direction, alpha=lr * scale)
                matrix.grad = None

    def _nesterov(self, index: int) -> torch.Tensor:
        gradient = self.matrices[index].grad
        if gradient is None:
            gradient = torch.zeros_like(self.matrices[index])
        average = self.averages[index].lerp_(gradient, 1.0 - self.momentum)
        return gradient.lerp(average, self.momentum)


def orthogonalised(matrices: torch.Tensor) -> torch.Tensor:
    """Matrices with the singular vectors of the given ones and singular values near 1.

    Parameters
    ----------
    matrices
        A stack (matrix, row, column).

    Returns
    -------
    torch.Tensor
        The same shape; singular values between about 0.7 and 1.2.
    """
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if is_tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    return x.mT if is_tall else x

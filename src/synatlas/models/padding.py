"""Rows of tokens of several lengths as one batch."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor


class Padded(NamedTuple):
    """Token ids of rows, and 1 where a token is the row's own, 0 where it fills."""

    ids: Int[Tensor, "row place"]
    mask: Int[Tensor, "row place"]


def padded(
    rows: Sequence[Sequence[int]],
    *,
    side: Literal["left", "right"],
    device: torch.device,
    pad: int = 0,
) -> Padded:
    """Fill every row up to the longest, on the side that is named, with the token `pad`."""
    longest = max(map(len, rows))
    fill = [longest - len(row) for row in rows]
    if side == "left":
        ids = [[pad] * n + list(row) for row, n in zip(rows, fill, strict=True)]
        mask = [[0] * n + [1] * len(row) for row, n in zip(rows, fill, strict=True)]
    else:
        ids = [list(row) + [pad] * n for row, n in zip(rows, fill, strict=True)]
        mask = [[1] * len(row) + [0] * n for row, n in zip(rows, fill, strict=True)]
    return Padded(torch.tensor(ids, device=device), torch.tensor(mask, device=device))

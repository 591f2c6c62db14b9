"""First principal component of every unit's output vectors, over all recorded samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from synatlas.models.load import LanguageModel
from synatlas.models.reducers import Reducer, project
from synatlas.models.units import UnitTable
from synatlas.progress import Progress
from synatlas.record.batches import split
from synatlas.record.reductions import Directions
from synatlas.record.replay import Reading, replay_rows

#: Vectors that vary by less, relative to their size, are one vector and its rounding.
_ROUNDING: Final = float(np.finfo(np.float32).eps)


@final
@dataclass(slots=True)
class Moments:
    """Sums over samples of one source's units, in float64: number, vectors and products."""

    count: Float[Tensor, " head"]
    total: Float[Tensor, "head feature"]
    product: Float[Tensor, "head feature feature"]

    @classmethod
    def of(cls, heads: int, width: int, device: torch.device) -> "Moments":
        """No sample yet. Products take 8 bytes for every pair of features of every head."""

        def zeros(*shape: int) -> Tensor:
            # Apple's devices have no float64.
            where = "cpu" if device.type == "mps" else device
            return torch.zeros(shape, dtype=torch.float64, device=where)

        return cls(zeros(heads), zeros(heads, width), zeros(heads, width, width))

    def add(self, z: Float[Tensor, "row position head feature"]) -> None:
        """Add all samples; a vector that is not finite is no sample."""
        vectors = z.flatten(0, 1).to(self.total.device).double()
        finite = vectors.isfinite().all(dim=-1)
        vectors = torch.where(finite[..., None], vectors, 0.0)
        self.count += finite.sum(dim=0)
        self.total += vectors.sum(dim=0)
        by_head = vectors.transpose(0, 1)
        self.product += by_head.transpose(1, 2) @ by_head


def principal_directions(
    model: LanguageModel,
    before: Sequence[Sequence[int]],
    after: Sequence[Sequence[int]],
    *,
    units: UnitTable,
    rows: int,
    progress: Progress,
) -> Directions:
    """The direction along which each unit's vectors vary most, over all samples of all prompts.

    Of the two vectors of length 1 it is the one whose largest component, the first of equals, is
    positive. A unit that does not vary has direction 0.

    Parameters
    ----------
    model : the model.
    before, after : tokens before the series and of the series, as in
        :func:`synatlas.record.replay.replay_rows`.
    units : the units.
    rows : rows at once; it changes nothing but rounding.
    progress : told how many rows are done.
    """
    moments = [Moments.of(s.count, s.width, model.device) for s in units.sources]
    adding = [_adding(each) for each in moments]
    done = 0
    for chosen in split([len(b) + len(a) for b, a in zip(before, after, strict=True)], rows):
        # Rows of one length leave no padding, which would count as samples.
        for steps in sorted({len(after[i]) for i in chosen}):
            same = [i for i in chosen if len(after[i]) == steps]
            prompts, replies = [before[i] for i in same], [after[i] for i in same]
            replay_rows(model, prompts, replies, steps=steps, reading=Reading(units, adding))
        done += len(chosen)
        progress("components", done, len(after))
    fitted = [leading(each) for each in moments]
    return Directions(
        tuple(one.direction for one in fitted), np.concatenate([one.share for one in fitted])
    )


def projecting(directions: Directions) -> list[Reducer]:
    """Reducers to the projection on each unit's direction, one for every source."""
    return [project(torch.from_numpy(rows.copy())) for rows in directions.per_source]


def _adding(moments: Moments) -> Reducer:
    def add(
        z: Float[Tensor, "row position head feature"],
    ) -> Float[Tensor, "row position head"]:
        moments.add(z)
        return z[..., 0]

    return add


class Leading(NamedTuple):
    """Directions of length 1, or 0; the share of variance along them, NaN where there is none."""

    direction: Float[np.ndarray, "head feature"]
    share: Float[np.ndarray, " head"]


def leading(moments: Moments) -> Leading:
    """Eigenvector of the largest eigenvalue of each head's covariance."""
    count = np.maximum(moments.count.cpu().numpy(), 1)[:, None]
    mean = moments.total.cpu().numpy() / count
    second = moments.product.cpu().numpy() / count[..., None]
    value, vector = np.linalg.eigh(second - mean[:, :, None] * mean[:, None, :])
    largest = value[:, -1]
    direction = np.ascontiguousarray(vector[:, :, -1])
    at = np.abs(direction).argmax(axis=1)[:, None]
    direction *= np.sign(np.take_along_axis(direction, at, axis=1))
    varies = largest > _ROUNDING**2 * np.trace(second, axis1=1, axis2=2)
    share = largest / np.where(varies, value.sum(axis=1), 1.0)
    return Leading(
        np.where(varies[:, None], direction, 0.0),
        np.where(varies, np.minimum(share, 1.0), np.nan),
    )

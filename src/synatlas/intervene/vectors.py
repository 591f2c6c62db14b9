"""What units give over the replies that an ablation is fitted on: vectors, means and spreads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from synatlas.intervene.texts import Text
from synatlas.models.load import LanguageModel
from synatlas.models.quiet import quiet
from synatlas.models.reducers import identity
from synatlas.models.taps import capture, head_at
from synatlas.models.units import UnitTable

#: Fewest prompts over which the mean of a step is one.
LEAST_PROMPTS: Final = 2


def read_vectors(
    model: LanguageModel, units: UnitTable, text: Text
) -> list[Float[Tensor, "position unit feature"]]:
    """What the units of each source give in one plain pass over a text."""
    ids = torch.tensor([text.fed], device=model.device)
    network: Any = model.model
    # No more logits than one: nothing is to be predicted.
    last = torch.tensor([[ids.shape[1] - 1]])
    with (
        torch.no_grad(),
        quiet(),
        capture(network, units, reduce=identity) as taken,
        head_at(network, last),
    ):
        network(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    return [vectors[0] for vectors in taken.outputs()]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Moments:
    """Means and spreads of what the units of one source give.

    Parameters
    ----------
    mean, sd : over all samples of all texts; the sample at which a reply's first token is predicted
        is its first.
    steps : mean over texts of each sample; where fewer than :data:`LEAST_PROMPTS` texts have it,
        `mean`.
    before : mean over the positions before the first sample; `mean` where no text has any.
    """

    mean: Float[Tensor, "unit feature"]
    sd: Float[Tensor, "unit feature"]
    steps: Float[Tensor, "step unit feature"]
    before: Float[Tensor, "unit feature"]

    def by_position(
        self, steps: Int[Tensor, " position"]
    ) -> Float[Tensor, "position unit feature"]:
        """Mean of each position by its sample's number; below 0 it is before the first."""
        table = torch.cat([self.before[None], self.steps, self.mean[None]])
        return table[(steps + 1).clamp(0, len(table) - 1)]


def moments(model: LanguageModel, units: UnitTable, texts: Sequence[Text]) -> list[Moments]:
    """Means and spreads of each source, in float64 and then in float32.

    Sums are taken of differences from the first sample, so that the spread of what is constant
    is 0.
    """
    sums = [_Sums() for _ in units.sources]
    for text in texts:
        for one, vectors in zip(sums, read_vectors(model, units, text), strict=True):
            one.add(vectors.double(), text.first)
    return [one.moments() for one in sums]


class _Sums:
    """Running sums of one source's vectors, less the first of them."""

    def __init__(self) -> None:
        self.origin = self.before = self.steps = self.squares = torch.zeros(0)
        self.texts = torch.zeros(0)
        self.positions_before = 0

    def add(self, vectors: Float[Tensor, "position unit feature"], first: int) -> None:
        if not self.origin.numel():
            self.origin = vectors[first].clone()
            self.before = self.squares = torch.zeros_like(self.origin)
            self.steps = vectors.new_zeros(0, *self.origin.shape)
            self.texts = vectors.new_zeros(0)
        vectors = vectors - self.origin
        samples = vectors[first:]
        self.steps, self.texts = (
            torch.cat([x, x.new_zeros(max(0, len(samples) - len(x)), *x.shape[1:])])
            for x in (self.steps, self.texts)
        )
        self.steps[: len(samples)] += samples
        self.texts[: len(samples)] += 1
        self.squares = self.squares + samples.square().sum(0)
        self.before = self.before + vectors[:first].sum(0)
        self.positions_before += first

    def moments(self) -> Moments:
        count = self.texts.sum()
        mean = self.steps.sum(0) / count
        sd = (self.squares / count - mean.square()).clamp(min=0).sqrt()
        often = self.texts >= LEAST_PROMPTS
        steps = torch.where(often[:, None, None], self.steps / self.texts[:, None, None], mean)
        before = self.before / self.positions_before if self.positions_before else mean
        return Moments(
            mean=(mean + self.origin).float(),
            sd=sd.float(),
            steps=(steps + self.origin).float(),
            before=(before + self.origin).float(),
        )

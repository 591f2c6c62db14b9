"""What ablated units give instead of what they computed: ablations as small values.

An ablation is fitted once, on the prompts and replies of an experiment, and then applied with
masks: a unit's vectors are exchanged where its output projection reads them, see
:func:`synatlas.models.edits.at_projections`.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, final

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from synatlas.errors import ConfigError
from synatlas.intervene.texts import Text
from synatlas.intervene.vectors import LEAST_PROMPTS, Moments, moments, read_vectors
from synatlas.intervene.weights import PUBLISHED, check_scale, weight_noise
from synatlas.models.editors import Change, zero
from synatlas.models.edits import at_projections, edit
from synatlas.models.expert_editors import check_experts
from synatlas.models.load import LanguageModel
from synatlas.models.units import Source, UnitTable


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Zero:
    """Units give nothing.

    Parameters
    ----------
    experts : how routed experts are left out, a key of
        :data:`synatlas.models.expert_editors.EXPERTS`.
    """

    experts: str = "zero"

    def __post_init__(self) -> None:
        check_experts(self.experts)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """Units give their mean.

    Parameters
    ----------
    over : ``all`` samples, the same vector at every position; or ``position``: at each step of the
        reply the mean over prompts at that step, at positions before the reply that over all of
        these.
    """

    over: str = "all"

    def __post_init__(self) -> None:
        if self.over not in {"all", "position"}:
            raise ConfigError(
                given=f"a mean over {self.over!r}",
                expected="one of all, position",
                remedy="choose one of these names",
            )


@final
@dataclass(frozen=True, slots=True)
class Resample:
    """Units give what they gave for another prompt, drawn once for each prompt.

    Positions are counted from the start of the reply. Where the other text has no such position,
    its prompt, or its reply, is gone through again.
    """


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Units give what they computed, plus normal noise.

    Parameters
    ----------
    scale : its standard deviation in that of each feature over all samples.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        check_scale(self.scale)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class WeightNoise:
    """Units keep what they compute with, but for normal noise in it.

    Parameters
    ----------
    scale : its standard deviation in that of each slice of a parameter.
    roles : which slices, see :func:`synatlas.intervene.weights.weight_noise`.
    """

    # Of 0.5, 0.75 and 1 the one that moves accuracy as far as was published (Gemma-3-4B, MATH).
    scale: float = 0.75
    roles: tuple[str, ...] = PUBLISHED

    def __post_init__(self) -> None:
        check_scale(self.scale)


Ablation = Zero | Mean | Resample | Noise | WeightNoise

#: Ablations by name.
ABLATIONS: Final[Mapping[str, Ablation]] = MappingProxyType(
    {
        "zero": Zero(),
        "forbid": Zero(experts="forbid"),
        "renormalise": Zero(experts="renormalise"),
        "mean": Mean(),
        "mean_position": Mean(over="position"),
        "resample": Resample(),
        "noise": Noise(),
        "weight_noise": WeightNoise(),
    }
)


def check_anywhere(ablation: Ablation) -> None:
    """Refuse an ablation of the positions of given texts where others are to be read.

    Raises
    ------
    ConfigError
        It is one.
    """
    if isinstance(ablation, Resample) or ablation == Mean(over="position"):
        raise ConfigError(
            given=f"ablation {ablation}, in other texts than it was fitted on",
            expected="zero, a mean over all samples, or noise",
            cause="it exchanges vectors by their place in a prompt and its reply",
            remedy="choose another ablation, or leave out what is asked of other texts",
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fitted:
    """An ablation with what it needs to know of a model's units.

    Parameters
    ----------
    ablation : what is done.
    model : the model.
    units : its units, each where it is edited.
    texts : the prompts and replies that it was fitted on; none where it needs none.
    moments : of each source, where they are needed.
    seed : of what is drawn.
    held : vectors of the text that was last read, by its place.
    """

    ablation: Ablation
    model: LanguageModel = field(repr=False)
    units: UnitTable = field(repr=False)
    texts: tuple[Text, ...] = field(repr=False)
    moments: Mapping[Source, Moments] = field(repr=False)
    seed: int
    held: dict[int, list[Tensor]] = field(default_factory=dict, repr=False)

    def applied(
        self, keep: Bool[Tensor, "row unit"], *, prompt: int, masks: Sequence[int]
    ) -> AbstractContextManager[None]:
        """Ablate the units where `keep` is False, in rows of one prompt and its reply.

        Parameters
        ----------
        keep : for each row of the batch.
        prompt : place of the prompt among those fitted; every pass inside is over it and its
            reply together.
        masks : number of each row's mask in the experiment: the seeds of noise, so that what else
            is in a batch changes nothing.
        """
        if isinstance(self.ablation, WeightNoise):
            return self._in_weights(keep)
        change = _CHANGES[type(self.ablation)](self, keep, prompt, masks)
        return self._edit(keep, change)

    def anywhere(self, keep: Bool[Tensor, "row unit"]) -> AbstractContextManager[None]:
        """Ablate the units in any text, also in generation.

        Noise is drawn anew for every row and position; it is the same for the same batches.

        Raises
        ------
        ConfigError
            The ablation is of the positions of the texts that it was fitted on.
        """
        check_anywhere(self.ablation)
        if isinstance(self.ablation, WeightNoise):
            return self._in_weights(keep)
        if isinstance(self.ablation, Noise):
            seeds = [(self.seed, row) for row in range(len(keep))]
            return self._edit(keep, _Noisy(self, keep, seeds, goes_on=True))
        return self._edit(keep, _CHANGES[type(self.ablation)](self, keep, 0, ()))

    @property
    def rows_differ(self) -> bool:
        """Whether the rows of a batch may have masks of their own."""
        return not isinstance(self.ablation, WeightNoise)

    def _in_weights(self, keep: Tensor) -> AbstractContextManager[None]:
        """Noise in the weights of the units that the rows, which must be alike, do not keep."""
        assert bool((keep == keep[:1]).all()), "a batch has one set of weights"
        assert isinstance(self.ablation, WeightNoise)
        kept = keep[0].tolist()
        chosen = [label for label, k in zip(self.units.label, kept, strict=True) if not k]
        if not chosen:
            return nullcontext()
        return weight_noise(
            self.model, chosen, scale=self.ablation.scale, seed=self.seed, roles=self.ablation.roles
        )

    def _edit(self, keep: Tensor, change: Change) -> AbstractContextManager[None]:
        experts = self.ablation.experts if isinstance(self.ablation, Zero) else "zero"
        return edit(self.model.model, self.units, keep, change=change, experts=experts)


def fit(
    ablation: Ablation,
    model: LanguageModel,
    units: UnitTable,
    prompts: Sequence[Sequence[int]],
    replies: Sequence[Sequence[int]],
    *,
    seed: int = 0,
) -> Fitted:
    """Learn what an ablation needs: nothing, means, spreads, or where other vectors are had.

    Parameters
    ----------
    ablation : a value, such as those of :data:`ABLATIONS`.
    model : the model.
    units : its units, in the order of the masks.
    prompts, replies : token ids of every prompt and of the reply to it; an empty prompt makes the
        reply a document.
    seed : of what is drawn.

    Raises
    ------
    ConfigError
        Experts are to be exchanged; there are no texts, or one where others are needed.
    """
    edited = at_projections(model.found, units)
    if isinstance(ablation, Zero | WeightNoise):
        return Fitted(ablation=ablation, model=model, units=edited, texts=(), moments={}, seed=seed)
    if units.has_experts:
        raise ConfigError(
            given=f"ablation {ablation} of experts",
            expected="zero, forbid or renormalise, or noise in the weights",
            cause="experts that were not chosen for a token give nothing that could be exchanged",
            remedy="choose one of these, or ablate other units",
        )
    texts = tuple(Text(tuple(p), tuple(r)) for p, r in zip(prompts, replies, strict=True))
    least = 1 if isinstance(ablation, Noise) or ablation == Mean() else LEAST_PROMPTS
    if len(texts) < least:
        raise ConfigError(
            given=f"ablation {ablation} and {len(texts)} prompts",
            expected=f"at least {least}",
            cause="a unit would be given its own vectors" if least > 1 else "",
            remedy="use more prompts, or another ablation",
        )
    known = [] if isinstance(ablation, Resample) else moments(model, edited, texts)
    by_source = dict(zip(edited.sources, known, strict=False))
    return Fitted(
        ablation=ablation, model=model, units=edited, texts=texts, moments=by_source, seed=seed
    )


def _nothing(fitted: Fitted, keep: Tensor, prompt: int, masks: Sequence[int]) -> Change:
    del fitted, keep, prompt, masks
    return zero


def _mean(fitted: Fitted, keep: Tensor, prompt: int, masks: Sequence[int]) -> Change:
    del keep, masks

    def change(source: Source, features: slice, z: Tensor) -> Tensor:
        known = fitted.moments[source]
        if fitted.ablation == Mean():
            return known.mean[..., features].to(z)
        steps = _steps(fitted.texts[prompt], z)
        return known.by_position(steps.to(known.mean.device))[..., features].to(z)

    return change


def _resampled(fitted: Fitted, keep: Tensor, prompt: int, masks: Sequence[int]) -> Change:
    del keep, masks
    others = [i for i in range(len(fitted.texts)) if i != prompt]
    drawn = int(np.random.default_rng([fitted.seed, prompt]).choice(others))
    donor = fitted.texts[drawn]
    if drawn not in fitted.held:
        # One text's at a time: for a large model they are many.
        fitted.held.clear()
        fitted.held[drawn] = read_vectors(fitted.model, fitted.units, donor)
    vectors = dict(zip(fitted.units.sources, fitted.held[drawn], strict=True))

    def change(source: Source, features: slice, z: Tensor) -> Tensor:
        steps = _steps(fitted.texts[prompt], z)
        given = vectors[source]
        return given[_again(steps, donor).to(given.device)][..., features].to(z)

    return change


def _again(steps: Tensor, text: Text) -> Tensor:
    """Positions of a text at these steps from the start of its reply, gone through again where it
    is too short.
    """
    replied = text.first + steps % (len(text.fed) - text.first)
    if text.first == 0:
        return replied
    return torch.where(steps < 0, steps % text.first, replied)


def _noisy(fitted: Fitted, keep: Tensor, prompt: int, masks: Sequence[int]) -> Change:
    return _Noisy(fitted, keep, [(fitted.seed, prompt, mask) for mask in masks])


class _Noisy:
    """Adds noise to the ablated units, from a generator for each of them in each row.

    It goes on from pass to pass with `goes_on`; otherwise every pass has the same.
    """

    def __init__(
        self,
        fitted: Fitted,
        keep: Tensor,
        seeds: Sequence[tuple[int, ...]],
        *,
        goes_on: bool = False,
    ) -> None:
        assert isinstance(fitted.ablation, Noise)
        self.scale = fitted.ablation.scale
        self.moments, self.seeds = fitted.moments, seeds
        columns = zip(fitted.units.sources, fitted.units.columns(), strict=True)
        self.first = {source: of.start for source, of in columns}
        self.keep = keep.cpu().numpy()
        self.goes_on = goes_on
        self.generators: dict[tuple[int, ...], np.random.Generator] = {}

    def __call__(self, source: Source, features: slice, z: Tensor) -> Tensor:
        first = self.first[source]
        noise = np.zeros(z.shape, dtype=np.float32)
        for row in range(len(z)):
            # A row beyond the masks has the last one, and noise of its own.
            mask = min(row, len(self.keep) - 1)
            kept = self.keep[mask, first : first + source.count]
            for unit in np.flatnonzero(~kept).tolist():
                own = (*self.seeds[mask], row - mask, first + unit, features.start)
                form = (z.shape[1], z.shape[3])
                noise[row, :, unit] = self._generator(own).standard_normal(form, dtype=np.float32)
        sd = self.moments[source].sd[..., features]
        return z + (torch.from_numpy(noise).to(sd.device) * sd * self.scale).to(z)

    def _generator(self, own: tuple[int, ...]) -> np.random.Generator:
        if not self.goes_on:
            return np.random.default_rng(own)
        return self.generators.setdefault(own, np.random.default_rng(own))


def _steps(text: Text, z: Tensor) -> Tensor:
    """Number of each position's sample, below 0 before the first."""
    if z.shape[1] < len(text.fed):
        raise ConfigError(
            given=f"a pass over {z.shape[1]} tokens",
            expected=f"all {len(text.fed)} of the prompt and its reply in one pass",
            cause="another prompt, or generation with a cache",
            remedy="run the prompt that is named, with its reply",
        )
    return torch.arange(z.shape[1]) - text.first


#: Type of an ablation -> what ablated units give: of a fitted one, masks, a prompt's place and the
#: numbers of the masks.
_CHANGES: Final[Mapping[type, Callable[[Fitted, Tensor, int, Sequence[int]], Change]]] = (
    MappingProxyType({Zero: _nothing, Mean: _mean, Resample: _resampled, Noise: _noisy})
)

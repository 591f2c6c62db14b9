"""An ablation experiment as pieces of work, each done once and kept until all are there."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final, Literal, final

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from synatlas.intervene.ablations import ABLATIONS, Fitted, fit
from synatlas.intervene.accuracy import correct
from synatlas.intervene.divergence import (
    damage,
    gradient_importance,
    rows_of_a_pass,
)
from synatlas.intervene.items import Items
from synatlas.intervene.masks import Masks, grid, levels, masks_of
from synatlas.intervene.orders import (
    CONTROLS,
    Known,
    copied,
    draws_of,
    needed,
    order_of,
    resolve,
)
from synatlas.intervene.settings import Settings
from synatlas.intervene.texts import Text, texts_of
from synatlas.models.load import LanguageModel
from synatlas.models.units import UnitTable
from synatlas.record.batches import load_part, save_part

#: Sets that are asked questions in one piece of work.
SETS_AT_ONCE: Final = 16

#: What is measured, in this order: the first decides orders that the others follow.
Stage = Literal["alone", "sets", "questions"]
STAGES: Final[tuple[Stage, ...]] = ("alone", "sets", "questions")


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Experiment:
    """What is ablated, on what, and where finished pieces of work are kept.

    Parameters
    ----------
    model : the model.
    table : its units, in the recording's order.
    recording, atlas : of this model.
    settings : what is asked for.
    given : values of units for orders of the user's own.
    items : questions, or None.
    questions : where they come from, in words.
    parts : folder of finished pieces, or None to keep them in memory.
    fingerprint : of the experiment; it names the pieces.
    """

    model: LanguageModel
    table: UnitTable
    recording: xr.Dataset
    atlas: xr.Dataset
    settings: Settings
    given: Mapping[str, Float[np.ndarray, " unit"]]
    items: Items | None
    questions: str
    parts: Path | None
    fingerprint: str
    _kept: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    @cached_property
    def chosen(self) -> tuple[int, ...]:
        """Places of the prompts that are used: the first of each category."""
        return chosen_prompts(self.recording, self.settings.prompts)

    @cached_property
    def texts(self) -> tuple[Text, ...]:
        """What the model reads: these prompts and its replies."""
        return texts_of(self.recording, self.chosen)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Orders that are tried, without the controls."""
        return resolve(self.settings.orders, self.atlas, self.given)

    @cached_property
    def copied(self) -> str:
        """The order that depth-matched sets copy."""
        return copied(self.settings.matched_to, self.names)

    @cached_property
    def fitted(self) -> Fitted:
        """The ablation, with what it takes from the model's clean activity."""
        return fit(
            ABLATIONS[self.settings.ablation],
            self.model,
            self.table,
            [text.prompt for text in self.texts],
            [text.reply for text in self.texts],
            seed=self.settings.seed,
        )

    def pieces(self, stage: Stage) -> tuple[int, ...]:
        """Numbers of the pieces of work of a stage."""
        if stage == "alone":
            return tuple(range(len(self.chosen))) if needed(self.names) else ()
        if stage == "sets":
            return tuple(range(len(self.chosen)))
        if self.items is None:
            return ()
        return tuple(range(-(-len(self.asked) // SETS_AT_ONCE)))

    def do(self, stage: Stage, piece: int) -> None:
        """Do one piece of work, unless it is done."""
        if not self.is_done(stage, piece):
            made = _WORK[stage](self, piece)
            if self.parts is None:
                self._kept[self._name(stage, piece)] = made
            else:
                save_part(self.parts / self._name(stage, piece), made)

    def is_done(self, stage: Stage, piece: int) -> bool:
        """Whether a piece of work is done."""
        return self._stored(stage, piece) is not None

    def result(self, stage: Stage) -> Iterator[dict[str, np.ndarray]]:
        """What the pieces of a stage gave; all of them must be done."""
        for piece in self.pieces(stage):
            stored = self._stored(stage, piece)
            assert stored is not None, f"{stage} {piece} is not done"
            yield stored

    def _name(self, stage: Stage, piece: int) -> str:
        return f"{stage}-{self.fingerprint}-{piece:05d}.safetensors"

    def _stored(self, stage: Stage, piece: int) -> dict[str, np.ndarray] | None:
        name = self._name(stage, piece)
        return self._kept.get(name) if self.parts is None else load_part(self.parts / name)

    @cached_property
    def known(self) -> Known:
        """What orders are made from; the first stage must be done."""
        found = list(self.result("alone"))
        means = {
            name: np.mean([piece[name] for piece in found], axis=0)
            for name in ("single_kl", "gradient")
            if found and name in found[0]
        }
        return Known(atlas=self.atlas, recording=self.recording, given=self.given, **means)

    @cached_property
    def masks(self) -> Masks:
        """Sets of all orders; the first stage must be done."""
        settings, units = self.settings, len(self.table)
        orders = {name: order_of(name, self.known)[None] for name in self.names}
        first = orders[self.copied][0]
        for control in CONTROLS:
            orders[control] = draws_of(
                control, first, self.atlas, draws=settings.draws, seed=settings.seed
            )
        return masks_of(
            orders,
            counts=grid(units, settings),
            tested=levels(units, settings),
            curve_draws=settings.curve_draws,
        )

    @cached_property
    def which_asked(self) -> Int[np.ndarray, "order draw n_ablated"]:
        """Set of each cell that is asked questions, -1 elsewhere."""
        tested = np.isin(self.masks.counts, levels(len(self.table), self.settings))
        which = np.where(tested, self.masks.which, -1)
        is_control = np.isin(self.masks.names, CONTROLS)
        which[is_control, self.settings.accuracy_draws :] = -1
        return which

    @cached_property
    def asked(self) -> Int[np.ndarray, " set"]:
        """Numbers of the sets that are asked questions, ascending; -1, the clean model, first."""
        return np.unique(np.append(self.which_asked, -1))

    def keep_of(self, numbers: Int[np.ndarray, " set"]) -> np.ndarray:
        """What sets keep, by their numbers; all units for -1."""
        everything = np.ones((1, len(self.table)), dtype=bool)
        return np.concatenate([self.masks.keep, everything])[numbers]


def chosen_prompts(recording: xr.Dataset, per_category: int | None) -> tuple[int, ...]:
    """Places of the first prompts of each category, all of them where None."""
    seen: dict[str, int] = {}
    places = []
    for place, category in enumerate(recording["category"].values.tolist()):
        seen[category] = seen.get(category, 0) + 1
        if per_category is None or seen[category] <= per_category:
            places.append(place)
    return tuple(places)


def _alone(experiment: Experiment, piece: int) -> dict[str, np.ndarray]:
    """What ablating each unit alone does to one prompt's reply, and its gradient."""
    wanted = needed(experiment.names)
    made: dict[str, np.ndarray] = {}
    if "single_unit" in wanted:
        each = ~np.eye(len(experiment.table), dtype=bool)
        made["single_kl"] = _damage(experiment, piece, each)["kl"]
    if "gradient" in wanted:
        made["gradient"] = gradient_importance(
            experiment.model, experiment.table, experiment.texts[piece]
        )
    return made


def _sets(experiment: Experiment, piece: int) -> dict[str, np.ndarray]:
    """What every set does to one prompt's reply."""
    return _damage(experiment, piece, experiment.masks.keep)


def _damage(experiment: Experiment, piece: int, keep: np.ndarray) -> dict[str, np.ndarray]:
    text = experiment.texts[piece]
    found = damage(
        experiment.model,
        text,
        keep,
        lambda rows, numbers: experiment.fitted.applied(rows, prompt=piece, masks=numbers),
        rows=rows_of_a_pass(experiment.model, text) if experiment.fitted.rows_differ else 1,
    )
    return {
        "kl": found.kl,
        "reverse_kl": found.reverse_kl,
        "agreement": found.agreement,
        "noise_floor": np.array([found.noise_floor]),
    }


def _questions(experiment: Experiment, piece: int) -> dict[str, np.ndarray]:
    """Which questions are answered right under some of the sets."""
    assert experiment.items is not None
    numbers = experiment.asked[piece * SETS_AT_ONCE : (piece + 1) * SETS_AT_ONCE]
    keep = experiment.keep_of(numbers)
    together = [keep] if experiment.fitted.rows_differ else np.split(keep, len(keep))
    found = [
        correct(
            experiment.model,
            experiment.table,
            some,
            experiment.items,
            applied=experiment.fitted.anywhere,
        )
        for some in together
    ]
    return {"correct": np.concatenate(found)}


_WORK: Final[Mapping[Stage, Callable[[Experiment, int], dict[str, np.ndarray]]]] = {
    "alone": _alone,
    "sets": _sets,
    "questions": _questions,
}

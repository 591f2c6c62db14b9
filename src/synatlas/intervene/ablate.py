"""Stage 4, `ablate`: from a recorded model and its atlas to a Divergence."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float
from numpy.typing import ArrayLike

from synatlas.artifact import fingerprint_of, finish, require
from synatlas.errors import ConfigError
from synatlas.intervene.ablations import ABLATIONS, check_anywhere
from synatlas.intervene.accuracy import check_asked
from synatlas.intervene.experiment import STAGES, Experiment, Stage
from synatlas.intervene.items import Items
from synatlas.intervene.masks import Masks, levels
from synatlas.intervene.schema import DIVERGENCE
from synatlas.intervene.settings import ORDERS, Settings
from synatlas.models.edits import at_projections
from synatlas.models.load import LanguageModel, load
from synatlas.models.units import UnitTable
from synatlas.progress import Progress, silent
from synatlas.rank.atlas import ATLAS
from synatlas.record.recording import RECORDING
from synatlas.record.threads import fitting_threads


def ablate(
    model: LanguageModel | str,
    recording: xr.Dataset,
    atlas: xr.Dataset,
    *,
    orders: str | Sequence[str] | Mapping[str, ArrayLike] | None = None,
    ablation: str = "zero",
    draws: int = 199,
    points: int = 20,
    fractions: Sequence[float] = (0.1, 0.25, 0.5),
    items: Items | None = None,
    seed: int = 0,
    settings: Settings | None = None,
    parts: str | os.PathLike[str] | None = None,
    progress: Progress = silent,
) -> xr.Dataset:
    """Ablate units in several orders, and measure how far the model's predictions move.

    For every order and number of units, ``KL(clean || ablated) = sum p log(p / q)`` of the
    next-token distributions, over the clean model's own greedy reply and with that reply enforced,
    as a mean over its tokens, in nats. Units are ablated at every position, prompt included.
    Beside the orders stand random sets of as many units, drawn from all units (``random``) and
    of the layers of the published order's sets, or of the first order's where that is not
    among them (``random_depth_matched``).

    Parameters
    ----------
    model : the model that was recorded, or its name.
    recording, atlas : its recording and atlas.
    orders : names of orders: scores of the atlas (highest first), ``excess`` (of synergy over each
        null), ``redundant_first``, ``norm`` (mean activity), ``gradient`` (slope of the loss in
        the unit's size, arXiv 1905.10650), ``single_unit`` (what ablating it alone does; an oracle,
        because it is measured on the same prompts); or values of units, by names of your own, the
        highest first. :data:`synatlas.intervene.settings.ORDERS` where None.
    ablation : what a unit is replaced by, a key of
        :data:`synatlas.intervene.ablations.ABLATIONS`.
    draws : random sets of each kind at `fractions`; five of them are followed along the curve.
    points : numbers of units on the curve, up to all.
    fractions : shares of the units at which sets are tested.
    items : questions that are asked of some of the sets, see :mod:`synatlas.intervene.accuracy`.
    seed : seed of all draws.
    settings : all of this and more in one; the arguments above but `items` are then left aside.
    parts : folder where finished pieces of work are kept, for an interrupted experiment to be
        taken up; the caller removes it.
    progress : told how far it is.

    Returns
    -------
    xarray.Dataset
        A Divergence, :data:`synatlas.intervene.schema.DIVERGENCE`.

    Raises
    ------
    ConfigError
        An option is out of range; recording or atlas are not of this model.
    ModelError
        Units cannot be ablated so.

    References
    ----------
    arXiv 2601.06851, Fig 4a (the published experiment).
    """
    own = {} if orders is None or not isinstance(orders, Mapping) else dict(orders)
    if settings is None:
        named = (orders,) if isinstance(orders, str) else tuple(orders or ORDERS)
        settings = Settings(
            orders=named,
            ablation=ablation,
            draws=draws,
            points=points,
            fractions=tuple(fractions),
            seed=seed,
        ).fitted()
    model = load(model) if isinstance(model, str) else model
    experiment = prepare(
        model,
        recording,
        atlas,
        settings=settings,
        given=own,
        items=items,
        questions="given",
        parts=parts,
    )
    with fitting_threads(model):
        for stage in STAGES:
            run_stage(experiment, stage, progress)
    return assemble(experiment)


def prepare(
    model: LanguageModel,
    recording: xr.Dataset,
    atlas: xr.Dataset,
    *,
    settings: Settings,
    given: Mapping[str, ArrayLike],
    items: Items | None,
    questions: str = "",
    parts: str | os.PathLike[str] | None,
) -> Experiment:
    """The experiment, everything checked that can be before the model runs."""
    settings.check()
    require(recording, RECORDING)
    require(atlas, ATLAS)
    if settings.ablation not in ABLATIONS:
        raise ConfigError(
            given=f"ablation {settings.ablation!r}",
            expected=f"one of {', '.join(ABLATIONS)}",
            remedy="choose one of these names",
        )
    if items is not None:
        check_anywhere(ABLATIONS[settings.ablation])
        check_asked(model, items)
    _check_same_model(model, recording, atlas)
    table = table_of(model, recording)
    values = {name: _values(name, v, len(table)) for name, v in given.items()}
    experiment = Experiment(
        model=model,
        table=table,
        recording=recording,
        atlas=atlas,
        settings=settings,
        given=values,
        items=items,
        questions=questions if items is not None else "",
        parts=None if parts is None else Path(parts),
        fingerprint=fingerprint_of(
            stage=DIVERGENCE.name,
            version=DIVERGENCE.version,
            config={
                **settings.identity(),
                "given": {name: v.tolist() for name, v in values.items()},
                "items": "" if items is None else items.digest,
            },
            parents=(recording.attrs["fingerprint"], atlas.attrs["fingerprint"]),
        ),
    )
    # Names that do not exist are refused now.
    _ = experiment.copied
    return experiment


def table_of(model: LanguageModel, recording: xr.Dataset) -> UnitTable:
    """The units of a recording in its model, where each can be ablated.

    Raises
    ------
    ConfigError
        The model has other units.
    """
    found = model.found.of_kinds(set(recording["kind"].values.tolist()))
    table = at_projections(model.found, found)
    if list(table.label) != recording["unit"].values.tolist():
        raise ConfigError(
            given=f"a recording of {recording.sizes['unit']} units",
            expected=f"units of {model.name}, which has {len(table)} of these kinds",
            cause="the recording is of another model",
            remedy="pass the model that was recorded",
        )
    return table


def _check_same_model(model: LanguageModel, recording: xr.Dataset, atlas: xr.Dataset) -> None:
    for what, dataset in (("recording", recording), ("atlas", atlas)):
        if dataset.attrs["model_revision"] != model.revision:
            raise ConfigError(
                given=f"the {what} of {dataset.attrs['model']} at revision "
                f"{dataset.attrs['model_revision']}",
                expected=f"one of {model.name} at revision {model.revision}",
                cause=f"the {what} was made with another model, or other weights",
                remedy="pass the model that was recorded, or record this one",
            )
    if atlas["unit"].values.tolist() != recording["unit"].values.tolist():
        raise ConfigError(
            given=f"an atlas of {atlas.sizes['unit']} units",
            expected=f"one of the {recording.sizes['unit']} units of the recording",
            cause="they come from different runs",
            remedy="pass recording and atlas of one run",
        )


def _values(name: str, values: ArrayLike, units: int) -> Float[np.ndarray, " unit"]:
    column = np.asarray(values, dtype=np.float64)
    if column.shape != (units,) or not np.isfinite(column).all():
        raise ConfigError(
            given=f"values of shape {column.shape} for the order {name!r}",
            expected=f"{units} finite numbers, one for each unit",
            remedy="pass the values of all units in the order of the recording",
        )
    return column


def run_stage(experiment: Experiment, stage: Stage, progress: Progress) -> None:
    """Do every piece of work of a stage that is not done."""
    pieces = experiment.pieces(stage)
    if pieces:
        progress(PHASES[stage], 0, len(pieces))
    for done, piece in enumerate(pieces, 1):
        experiment.do(stage, piece)
        progress(PHASES[stage], done, len(pieces))


#: Stages as progress tells them.
PHASES = {
    "alone": "ablating units one by one",
    "sets": "ablating sets of units",
    "questions": "asking questions",
}


def assemble(experiment: Experiment) -> xr.Dataset:
    """Put what was measured into the form of :data:`DIVERGENCE`; every stage must be done."""
    masks, settings = experiment.masks, experiment.settings
    over = ("order", "draw", "n_ablated", "prompt")
    found = list(experiment.result("sets"))
    measured: dict[str, Any] = {
        name: (over, masks.spread(np.stack([one[name] for one in found], axis=1).astype("f4")))
        for name in ("kl", "reverse_kl", "agreement")
    }
    floors = np.concatenate([one["noise_floor"] for one in found])
    measured["noise_floor"] = (("prompt",), floors.astype("f4"))
    measured["place"] = (("order", "draw", "unit"), masks.places)
    alone = list(experiment.result("alone"))
    if alone and "single_kl" in alone[0]:
        each = np.stack([one["single_kl"] for one in alone], axis=1).astype("f4")
        measured["single_kl"] = (("unit", "prompt"), each)
    if experiment.known.gradient is not None:
        measured["gradient"] = (("unit",), experiment.known.gradient)
    prompts = experiment.recording.isel(prompt=list(experiment.chosen))
    units = experiment.recording
    answers = _answers(experiment, masks)
    dataset = xr.Dataset(
        {**measured, **answers["data"]},
        coords={
            "order": (("order",), np.array(masks.names)),
            "n_ablated": (("n_ablated",), np.array(masks.counts, dtype=np.int32)),
            "fraction": (("n_ablated",), np.array(masks.counts) / len(experiment.table)),
            "prompt": (("prompt",), prompts["prompt"].to_numpy()),
            "category": (("prompt",), prompts["category"].to_numpy()),
            **{name: (("unit",), units[name].to_numpy()) for name in ("unit", "layer", "index")},
            "kind": (("unit",), units["kind"].to_numpy()),
            **answers["coords"],
        },
        attrs={
            **{name: units.attrs[name] for name in ("model", "model_revision", "n_layers")},
            "ablation": settings.ablation,
            "matched_to": experiment.copied,
            "tested": np.array(levels(len(experiment.table), settings), dtype=np.int64),
            "draws": settings.draws,
            "accuracy_draws": settings.accuracy_draws,
            "seed": settings.seed,
            "settings": json.dumps(settings.identity(), sort_keys=True),
            "questions": experiment.questions,
            "marking": "" if experiment.items is None else experiment.items.marking,
            "questions_digest": "" if experiment.items is None else experiment.items.digest,
        },
    )
    return finish(dataset, DIVERGENCE, fingerprint=experiment.fingerprint)


def _answers(experiment: Experiment, masks: Masks) -> dict[str, dict[str, Any]]:
    """What questions were answered right, -1 where they were not asked."""
    items = experiment.items
    count = 0 if items is None else len(items)
    right = np.full((*masks.which.shape, count), -1, dtype=np.int8)
    clean = np.zeros(count, dtype=np.int8)
    accuracy = np.full(masks.which.shape, np.nan)
    if items is not None:
        found = np.concatenate([one["correct"] for one in experiment.result("questions")])
        clean = found[0]
        cells = experiment.which_asked
        place = np.searchsorted(experiment.asked, cells[cells >= 0])
        right[cells >= 0] = found[place]
        accuracy[cells >= 0] = found[place].mean(-1)
    return {
        "data": {
            "correct": (("order", "draw", "n_ablated", "item"), right),
            "clean_correct": (("item",), clean),
            "accuracy": (("order", "draw", "n_ablated"), accuracy),
        },
        "coords": {
            "item": (("item",), _text([] if items is None else items.ids)),
            "item_category": (("item",), _text([] if items is None else items.categories)),
            "difficulty": (
                ("item",),
                np.array([] if items is None else items.difficulties, dtype=np.int32),
            ),
        },
    }


def _text(values: Sequence[str]) -> np.ndarray:
    return np.array(list(values), dtype=str)

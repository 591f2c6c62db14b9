"""What tells models apart: their profiles against fresh weights and against each other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final, final

import numpy as np
import pandas as pd
import xarray as xr

from synatlas.artifact import open_artifact
from synatlas.errors import ConfigError
from synatlas.folder import FILES
from synatlas.inference import percentile_interval, rank_correlation
from synatlas.study.compare import COMMON, FRESH, OWN
from synatlas.study.shapes import (
    ABOVE_BASELINE,
    NUMBERS,
    aperiodic,
    at_depths,
    difference,
    shapes,
)
from synatlas.study.travel import Travelled

#: Scores that are compared; those that an atlas lacks are left out.
SCORES: Final = (
    "rank_of_difference",
    "difference_of_ranks",
    "synergy",
    ABOVE_BASELINE,
    "redundancy",
    "autocorrelation_baseline",
    "joint_prediction",
    "joint_prediction_interaction",
)

#: Layers below which two profiles have no rank correlation.
LEAST_LAYERS: Final = 4


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One run of a comparison: whose units read which tokens, and the shapes of its profiles.

    Parameters
    ----------
    model : as the study names it.
    role : replies of its own, common tokens, or fresh weights on its replies.
    seed : of fresh weights, else -1.
    group : number of its tokenizer.
    prompts, kept : prompts, and those whose reply is not periodic, over which shapes are taken.
    shapes : see :func:`synatlas.study.shapes.shapes`; None with a `reason`.
    """

    model: str
    role: str
    seed: int
    group: int
    prompts: int
    kept: int
    shapes: xr.Dataset | None
    reason: str = ""


def views(outcomes: Sequence[Travelled], *, seed: int = 0) -> tuple[View, ...]:
    """Shapes of every complete cell of a comparison, over replies that are not periodic."""
    return tuple(_view(o, seed) for o in outcomes if not o.failure)


def _view(outcome: Travelled, seed: int) -> View:
    atoms = open_artifact(outcome.folder / FILES["atoms"])
    kept = aperiodic(atoms)
    labels: Any = outcome.cell.labels
    found, reason = None, ""
    try:
        found = shapes(atoms, prompts=kept, scores=SCORES, seed=seed)
    except ConfigError as error:
        reason = error.cause or error.given
    return View(
        model=labels["compared"],
        role=labels["role"],
        seed=labels["init_seed"],
        group=labels["group"],
        prompts=kept.size,
        kept=int(kept.sum()),
        shapes=found,
        reason=reason,
    )


def one(found: Sequence[View], model: str, role: str, seed: int = -1) -> View | None:
    """The view of a model in a role, if it is there and has shapes."""
    for view in found:
        if (view.model, view.role, view.seed) == (model, role, seed) and view.shapes is not None:
            return view
    return None


def on_common_tokens(found: Sequence[View], model: str) -> View | None:
    """The view of a model that reads the first model's replies, which for the first are its own."""
    return one(found, model, COMMON) or one(found, model, OWN)


def models(found: Sequence[View]) -> list[str]:
    """Names of the models, in their order."""
    return list(dict.fromkeys(v.model for v in found))


def seeds(found: Sequence[View]) -> list[int]:
    """Seeds of fresh weights."""
    return sorted({v.seed for v in found if v.role == FRESH})


def numbers(found: Sequence[View]) -> pd.DataFrame:
    """A row for each view and score: the numbers of its shape, with intervals.

    Columns ``model``, ``role``, ``init_seed``, ``score``, ``prompts``, ``aperiodic``, ``status``
    (``complete`` or why nothing is known), and of each of :data:`synatlas.study.shapes.NUMBERS`
    the value, ``_low`` and ``_high``.
    """
    rows: list[dict[str, Any]] = []
    for view in found:
        about = {
            "model": view.model,
            "role": view.role,
            "init_seed": view.seed,
            "prompts": view.prompts,
            "aperiodic": view.kept,
            "status": view.reason or "complete",
        }
        if view.shapes is None:
            rows.append(about)
            continue
        for score in view.shapes["score"].to_numpy().tolist():
            at = view.shapes.sel(score=score)
            row = {**about, "score": score}
            for name in NUMBERS:
                low, high = at[f"{name}_interval"].to_numpy().tolist()
                row |= {name: float(at[name]), f"{name}_low": low, f"{name}_high": high}
            rows.append(row)
    return pd.DataFrame(rows)


def against_fresh(found: Sequence[View], number: str = "mid_minus_ends") -> pd.DataFrame:
    """Each model minus its architecture with fresh weights, on the same tokens.

    A row for each model, score and seed: ``difference``, ``low``, ``high``, ``effect`` (in
    standard deviations of its draws). Prompts are drawn alike on both sides; the interval holds
    for these fresh weights, and what others would give is seen from seed to seed.
    """
    rows = []
    for model in models(found):
        own = on_common_tokens(found, model)
        for seed in seeds(found):
            fresh = one(found, model, FRESH, seed)
            if own is not None and fresh is not None:
                rows += [
                    {"model": model, "init_seed": seed, **row} for row in _gap(own, fresh, number)
                ]
    columns = ["model", "init_seed", "score", "difference", "low", "high", "effect"]
    return pd.DataFrame(rows, columns=columns)


def _gap(first: View, second: View, number: str) -> Iterator[dict[str, Any]]:
    assert first.shapes is not None
    assert second.shapes is not None
    gap = difference(first.shapes, second.shapes, number)
    for score in gap["score"].to_numpy().tolist():
        at = gap.sel(score=score)
        low, high = at["interval"].to_numpy().tolist()
        yield {
            "score": score,
            "difference": float(at["difference"]),
            "low": low,
            "high": high,
            "effect": float(at["effect"]),
        }


def pairs(found: Sequence[View], number: str = "mid_minus_ends") -> pd.DataFrame:
    """Every two models: how their profiles differ, and how far their layers rank alike.

    A row for each pair and score. ``tokens`` says whether both read the same tokens, which they do
    where they have one tokenizer; else each has replies of its own. ``difference`` is the first
    minus the second. ``agreement`` is Spearman's correlation of the profiles over the depths of
    the model with fewer layers, with its interval over draws of prompts and units; layers are few
    and neighbours alike, so it is large by chance too.
    """
    rows: list[dict[str, Any]] = []
    for a, b in combinations(models(found), 2):
        left, right, same = _on_one_text(found, a, b)
        if left is None or right is None:
            continue
        for row in _gap(left, right, number):
            both = [v.shapes.sel(score=row["score"]) for v in (left, right) if v.shapes is not None]
            agreed = agreement(both[0], both[1])
            about = {"first": a, "second": b, "tokens": "the same" if same else "own"}
            rows.append({**about, **row, **agreed})
    columns = [
        "first", "second", "tokens", "score", "difference", "low", "high", "effect",
        "agreement", "agreement_low", "agreement_high",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def _on_one_text(found: Sequence[View], a: str, b: str) -> tuple[View | None, View | None, bool]:
    left, right = on_common_tokens(found, a), on_common_tokens(found, b)
    if left is not None and right is not None and left.group == right.group:
        return left, right, True
    return one(found, a, OWN), one(found, b, OWN), False


def agreement(first: xr.Dataset, second: xr.Dataset, *, ci_prob: float = 0.95) -> dict[str, float]:
    """Spearman's correlation of two profiles over common depths, with its interval over draws.

    Parameters
    ----------
    first, second : :func:`synatlas.study.shapes.shapes` at one score.
    ci_prob : probability of the interval.

    Returns
    -------
    dict
        ``agreement`` and its ``_low`` and ``_high``; NaN where the models share fewer than four
        depths, or one has a constant profile.
    """
    coarse = min((first, second), key=lambda s: s.sizes["layer"])["depth"].to_numpy()
    depths = [s["depth"].to_numpy() for s in (first, second)]
    profiles = [s["profile"].to_numpy()[None] for s in (first, second)]
    drawn = [s["profile_draw"].transpose("draw", "layer").to_numpy() for s in (first, second)]
    values = [at_depths(d, p, coarse) for d, p in zip(depths, profiles, strict=True)]
    draws = [at_depths(d, p, coarse) for d, p in zip(depths, drawn, strict=True)]
    low, high = np.nan, np.nan
    if coarse.size < LEAST_LAYERS:
        return {"agreement": np.nan, "agreement_low": low, "agreement_high": high}
    if len(draws[0]) and len(draws[1]):
        low, high = percentile_interval(rank_correlation(*draws), ci_prob).tolist()
    found = float(rank_correlation(*values)[0])
    return {"agreement": found, "agreement_low": low, "agreement_high": high}

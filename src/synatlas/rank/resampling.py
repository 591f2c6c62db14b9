"""Resampling of prompts and units: what every interval of the atlas is read from."""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from synatlas.inference import half_weights, rank_correlation, resampling_weights
from synatlas.rank.profile import layer_means, unit_counts
from synatlas.rank.unit_scores import scores_of_units

#: Values held at once per score, which bounds memory at any number of units.
_CHUNK_VALUES: Final = 250_000

#: Random splits of the prompts into halves.
SPLITS: Final = 100

PerPrompt = Mapping[str, Float[np.ndarray, "prompt unit"]]
Pooled = Mapping[str, Float[np.ndarray, "bootstrap unit"]]


class Resampled(NamedTuple):
    """Bootstrap draws. No draws (length 0) where there is one prompt.

    `profile` resamples prompts: how the same units would fare on other prompts. `shape_profile`
    resamples the units of every layer too, so that a shape is not read from a few odd units.
    `recurrence` is the share of draws in which a unit qualifies for the core, a lower bound.
    """

    profile: dict[str, Float[np.ndarray, "draw layer"]]
    shape_profile: dict[str, Float[np.ndarray, "draw layer"]]
    rank: Float[np.ndarray, "draw unit"]
    recurrence: Float[np.ndarray, " unit"]


def resample(
    per_prompt: PerPrompt,
    pooled: Pooled,
    *,
    excess: Float[np.ndarray, "null unit"],
    unit_layer: Int[np.ndarray, " unit"],
    layers: Int[np.ndarray, " layer"],
    draws: int,
    rng: np.random.Generator,
    progress: Callable[[str, int, int], None],
) -> Resampled:
    """Draw prompts with replacement `draws` times and recompute scores, ranks and profiles.

    A draw moves the excess over a null as far as it moves synergy: the nulls are stored as
    means over prompts, so their own share of that movement is not taken off, which makes
    `recurrence` cautious. Pooled scores come with their own draws; the two shares are joined
    by their least possible overlap.
    """
    prompts, units = per_prompt["synergy"].shape
    if prompts < 2:
        draws = 0
    rank = np.empty((draws, units))
    profiles: dict[str, list[np.ndarray]] = {}
    shapes: dict[str, list[np.ndarray]] = {}
    supports = np.zeros(units)
    synergy = scores_of_units(per_prompt, np.full((1, prompts), 1 / prompts))["synergy"][0]
    size = max(1, _CHUNK_VALUES // units)
    for start in range(0, draws, size):
        stop = min(start + size, draws)
        weights = resampling_weights(prompts, stop - start, rng)
        scores = scores_of_units(per_prompt, weights)
        counts = unit_counts(unit_layer, layers, stop - start, rng)
        _collect(profiles, shapes, scores, unit_layer, layers, counts)
        rank[start:stop] = scores["rank_of_difference"]
        supports += _supports(scores, excess, synergy).sum(axis=0)
        progress("bootstrap", stop, draws)
    for name, values in pooled.items():
        counts = unit_counts(unit_layer, layers, values.shape[0], rng)
        _collect(profiles, shapes, {name: values}, unit_layer, layers, counts)
    return Resampled(
        profile={name: np.concatenate(parts) for name, parts in profiles.items()},
        shape_profile={name: np.concatenate(parts) for name, parts in shapes.items()},
        rank=rank,
        recurrence=_recurrence(supports, draws, pooled["integration"]),
    )


def _collect(
    profiles: dict[str, list[np.ndarray]],
    shapes: dict[str, list[np.ndarray]],
    scores: Mapping[str, Float[np.ndarray, "draw unit"]],
    unit_layer: Int[np.ndarray, " unit"],
    layers: Int[np.ndarray, " layer"],
    counts: Float[np.ndarray, "draw unit"],
) -> None:
    for name, values in scores.items():
        profiles.setdefault(name, []).append(layer_means(values, unit_layer, layers))
        shapes.setdefault(name, []).append(layer_means(values, unit_layer, layers, counts))


def _supports(
    scores: Mapping[str, Float[np.ndarray, "draw unit"]],
    excess: Float[np.ndarray, "null unit"],
    synergy: Float[np.ndarray, " unit"],
) -> Bool[np.ndarray, "draw unit"]:
    above = scores["synergy"] - synergy + excess[:, None, :] > 0
    supports = np.logical_and.reduce(above, axis=0)
    if "synergy_ccs" in scores:
        supports &= scores["synergy_ccs"] > 0
    return supports


def _recurrence(
    supports: Float[np.ndarray, " unit"], draws: int, integration: Float[np.ndarray, "draw unit"]
) -> Float[np.ndarray, " unit"]:
    if draws == 0 or integration.shape[0] == 0:
        return np.full(supports.shape, np.nan)
    shared = supports / draws + (integration > 0).mean(axis=0) - 1
    undefined = ~np.isfinite(integration).all(axis=0)
    return np.where(undefined, np.nan, np.maximum(shared, 0.0))


def split_half(per_prompt: PerPrompt, rng: np.random.Generator) -> dict[str, float]:
    """Mean Spearman correlation over units between random halves of the prompts.

    100 splits. It is the reliability of half as many prompts: it is not raised to the full
    number by the Spearman-Brown formula. NaN with fewer than two prompts.
    """
    prompts, units = per_prompt["synergy"].shape
    names = scores_of_units(per_prompt, np.full((1, prompts), 1 / prompts)).keys()
    if prompts < 2:
        return dict.fromkeys(names, float("nan"))
    halves = half_weights(prompts, SPLITS, rng)
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    size = max(1, _CHUNK_VALUES // units)
    for start in range(0, SPLITS, size):
        first = scores_of_units(per_prompt, halves[0, start : start + size])
        second = scores_of_units(per_prompt, halves[1, start : start + size])
        for name in names:
            found[name].append(rank_correlation(first[name], second[name]))
    return {name: _defined_mean(np.concatenate(parts)) for name, parts in found.items()}


def _defined_mean(values: Float[np.ndarray, " split"]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")

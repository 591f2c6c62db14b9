"""Profiles and their shapes over chosen prompts, with the draws that their intervals come from."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int

from synatlas.errors import ConfigError
from synatlas.inference import percentile_interval, resampling_weights, weighted_mean
from synatlas.rank.cautions import PERIODIC
from synatlas.rank.profile import layer_means, middle_weights, shape_of, unit_counts
from synatlas.rank.unit_scores import predictions, scores_of_units, scores_per_prompt

#: Synergy minus what independent series as self-predictable would have (Varley, arXiv 2407.16601).
ABOVE_BASELINE: Final = "synergy_above_baseline"

#: Scores that are ranks: their profiles are divided by the number of units.
RANKS: Final = ("rank_of_difference", "difference_of_ranks")

#: Numbers of a profile that carry draws.
NUMBERS: Final = ("curvature", "mid_minus_ends", "mid_minus_ends_raw", "effect_size")

#: Draws of prompts and units where no number is given.
DRAWS: Final = 400


def aperiodic(atoms: xr.Dataset) -> Bool[np.ndarray, " prompt"]:
    """Prompts whose reply is not periodic: at most half of its tokens repeat one period earlier."""
    return ~(atoms["repetition"].to_numpy() > PERIODIC)


def shapes(
    atoms: xr.Dataset,
    *,
    prompts: Bool[np.ndarray, " prompt"] | None = None,
    scores: Sequence[str] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    ci_prob: float = 0.95,
) -> xr.Dataset:
    """Profiles of scores over chosen prompts, and the numbers that describe their shape.

    Parameters
    ----------
    atoms : an Atoms artifact.
    prompts : which of its prompts count; all where None.
    scores : which are described, in this order, as far as they are defined; all where None. The
        draws are the same whatever is chosen.
    draws : bootstrap draws.
    seed : of the draws; prompts are drawn alike for equal seeds and numbers of prompts, so that
        the draws of models asked the same prompts are paired.
    ci_prob : probability of the intervals.

    Returns
    -------
    xarray.Dataset
        (score, layer) ``profile`` and ``profile_interval`` over draws of prompts; (score)
        ``curvature`` and ``mid_minus_ends`` of the profile scaled to 0..1, and
        ``mid_minus_ends_raw`` in the score's unit (nat; ranks divided by the number of units), and
        ``effect_size``, Hedges' g of the units of the middle third of depth against the others,
        each with ``_interval`` and ``_draw`` (score, draw), drawn over prompts and the units of
        every layer, as ``profile_draw`` is. ``depth`` is layer / (layers - 1). Scores are those of
        :func:`synatlas.rank.unit_scores.scores_of_units`, ``synergy_above_baseline``, and joint
        prediction with its parts where all prompts count. With fewer than two prompts every
        interval is NaN.

    Raises
    ------
    ConfigError
        No prompt is chosen.

    References
    ----------
    Efron, Tibshirani (1993), An Introduction to the Bootstrap. Hedges (1981),
    https://doi.org/10.3102/10769986006002107 (effect size).
    """
    chosen = np.ones(atoms.sizes["prompt"], dtype=bool) if prompts is None else prompts
    if not chosen.any():
        raise ConfigError(
            given=f"none of {chosen.size} prompts",
            expected="at least one whose profile can be taken",
            cause="every reply is periodic" if not aperiodic(atoms).any() else "",
            remedy="choose other prompts, or feed replies of another model",
        )
    count = int(chosen.sum())
    rng = np.random.default_rng(seed)
    drawn = resampling_weights(count, draws if count > 1 else 0, rng)
    found = _scores(atoms, chosen, np.concatenate([np.full((1, count), 1 / count), drawn]))
    names = [name for name in (found if scores is None else scores) if name in found]
    layer = atoms["layer"].to_numpy().astype(np.int64)
    layers = np.unique(layer)
    last = max(int(atoms.attrs["n_layers"]) - 1, 1)
    units = unit_counts(layer, layers, len(drawn), rng)
    parts = [_described(found[name], layer, layers, units, last, ci_prob) for name in names]
    made = xr.concat(parts, dim=xr.DataArray(names, dims="score", name="score"))
    made.attrs = {"prompts": count, "units": atoms.sizes["unit"], "seed": seed, "draws": draws}
    return made


def prompt_scores(atoms: xr.Dataset) -> dict[str, Float[np.ndarray, "prompt unit"]]:
    """Scores per prompt as :func:`synatlas.rank.unit_scores.scores_per_prompt`, in nats.

    Beside them ``synergy_above_baseline``.
    """
    found = scores_per_prompt(atoms)
    found[ABOVE_BASELINE] = found["synergy"] - found["autocorrelation_baseline"]
    return found


def _scores(
    atoms: xr.Dataset, chosen: Bool[np.ndarray, " prompt"], weights: Float[np.ndarray, "draw kept"]
) -> dict[str, Float[np.ndarray, "draw unit"]]:
    """Scores of units: the first row over the chosen prompts, the others over draws of them."""
    found = scores_of_units({k: v[chosen] for k, v in prompt_scores(atoms).items()}, weights)
    found |= {name: found[name] / atoms.sizes["unit"] for name in RANKS}
    if chosen.all():
        found |= {k: weighted_mean(weights, v) for k, v in predictions(atoms).items()}
    return found


def _described(
    values: Float[np.ndarray, "draw unit"],
    unit_layer: Int[np.ndarray, " unit"],
    layers: Int[np.ndarray, " layer"],
    counts: Float[np.ndarray, "drawn unit"],
    last: int,
    ci_prob: float,
) -> xr.Dataset:
    depth = layers / last
    profile = layer_means(values[0], unit_layer, layers)
    by_prompts = layer_means(values[1:], unit_layer, layers)
    resampled = layer_means(values[1:], unit_layer, layers, counts)
    middle = _in_middle(profile, depth)[np.searchsorted(layers, unit_layer)]
    whole = _numbers(profile, depth) | {"effect_size": hedges_g(values[0], middle)}
    drawn = _numbers(resampled, depth) | {"effect_size": hedges_g(values[1:], middle, counts)}
    found = {
        "profile": ("layer", profile),
        "profile_interval": (("layer", "ci_bound"), _interval(by_prompts, ci_prob)),
        "profile_draw": (("draw", "layer"), resampled),
    }
    for name in NUMBERS:
        found[name] = ((), whole[name])
        found[f"{name}_draw"] = ("draw", drawn[name])
        found[f"{name}_interval"] = ("ci_bound", _interval(drawn[name], ci_prob))
    bounds = ("ci_bound", ["lower", "upper"])
    return xr.Dataset(found, coords={"depth": ("layer", depth), "ci_bound": bounds})


def _numbers(
    profile: Float[np.ndarray, "*draw layer"], depth: Float[np.ndarray, " layer"]
) -> dict[str, Float[np.ndarray, "*draw"]]:
    shape = shape_of(profile, depth)
    usable = np.isfinite(profile).any(axis=tuple(range(profile.ndim - 1)))
    raw = profile[..., usable] @ middle_weights(depth[usable])
    return {
        "curvature": shape.curvature,
        "mid_minus_ends": shape.mid_minus_ends,
        "mid_minus_ends_raw": raw,
    }


def _in_middle(
    profile: Float[np.ndarray, " layer"], depth: Float[np.ndarray, " layer"]
) -> Float[np.ndarray, " layer"]:
    """1 in the middle third of depth, -1 elsewhere, 0 where a layer has no value."""
    usable = np.isfinite(profile)
    found = np.zeros(depth.size)
    weights = middle_weights(depth[usable])
    found[usable] = np.sign(np.nan_to_num(weights))
    return found


def hedges_g(
    values: Float[np.ndarray, "*draw unit"],
    side: Float[np.ndarray, " unit"],
    counts: Float[np.ndarray, "*draw unit"] | None = None,
) -> Float[np.ndarray, "*draw"]:
    """Hedges' g: mean of one group less that of the other, in pooled standard deviations.

    ``g = (m1 - m2) / s * (1 - 3 / (4 df - 1))`` with ``s^2`` the squares within groups over
    ``df = n1 + n2 - 2``.

    Parameters
    ----------
    values : of units; undefined ones do not count.
    side : 1 for the first group, -1 for the second, 0 for neither.
    counts : how often each unit counts; once where None.

    Returns
    -------
    numpy.ndarray
        NaN where a group is empty, or nothing varies within the groups.
    """
    weight = np.isfinite(values) * (1.0 if counts is None else counts)
    filled = np.where(np.isfinite(values), values, 0.0)
    total, squares, means = np.zeros((3, *values.shape[:-1]))
    for sign in (1.0, -1.0):
        mine = weight * (side == sign)
        n = mine.sum(axis=-1)
        mean = np.divide((mine * filled).sum(axis=-1), n, out=np.full(n.shape, np.nan), where=n > 0)
        squares = squares + (mine * (filled - mean[..., None]) ** 2).sum(axis=-1)
        means, total = means + sign * mean, total + n
    freedom = total - 2
    enough = (freedom > 0) & (squares > 0)
    sd = np.sqrt(np.divide(squares, freedom, out=np.full(total.shape, np.nan), where=enough))
    return np.asarray(means / sd * (1 - 3 / (4 * freedom - 1)))


def _interval(
    draws: Float[np.ndarray, "draw *shape"], ci_prob: float
) -> Float[np.ndarray, "*shape 2"]:
    if not len(draws):
        return np.full((*draws.shape[1:], 2), np.nan)
    return percentile_interval(draws, ci_prob)


def difference(
    one: xr.Dataset, other: xr.Dataset, number: str, *, ci_prob: float = 0.95
) -> xr.Dataset:
    """A number of one set of shapes minus that of another, with the interval of its draws.

    Parameters
    ----------
    one, other : as :func:`shapes` returns them, with equal numbers of draws.
    number : one of :data:`NUMBERS`.
    ci_prob : probability of the interval.

    Returns
    -------
    xarray.Dataset
        Over the scores that both have: ``difference``, its ``interval`` (score, ci_bound), and
        ``effect``, the difference in standard deviations of its draws.
    """
    a, b = xr.align(one, other, join="inner", exclude=("layer", "draw", "ci_bound"))
    value = (a[number] - b[number]).to_numpy()
    rows = [a[f"{number}_draw"], b[f"{number}_draw"]]
    draws = np.subtract(*(row.transpose("draw", "score").to_numpy() for row in rows))
    spread = draws.std(axis=0, ddof=1) if len(draws) > 1 else np.full(value.shape, np.nan)
    effect = np.divide(value, spread, out=np.full(value.shape, np.nan), where=spread > 0)
    return xr.Dataset(
        {
            "difference": ("score", value),
            "interval": (("score", "ci_bound"), _interval(draws, ci_prob)),
            "effect": ("score", effect),
        },
        coords={"score": a["score"], "ci_bound": a["ci_bound"]},
    )


def at_depths(
    depth: Float[np.ndarray, " layer"],
    profiles: Float[np.ndarray, "draw layer"],
    wanted: Float[np.ndarray, " place"],
) -> Float[np.ndarray, "draw place"]:
    """Profiles at the wanted depths, linear between layers that have a value.

    NaN outside of these, and where fewer than two layers have one.
    """
    out = np.full((len(profiles), wanted.size), np.nan)
    for row, profile in zip(out, profiles, strict=True):
        known = np.isfinite(profile)
        if known.sum() > 1:
            row[:] = np.interp(wanted, depth[known], profile[known], left=np.nan, right=np.nan)
    return out

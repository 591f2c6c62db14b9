"""Findings: claims about an atlas, each with the numbers and the rule that decide it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, final

import numpy as np
import xarray as xr

from synatlas.errors import ConfigError
from synatlas.inference import FDR_LEVEL, rank_correlation
from synatlas.rank.cautions import FEW_LAYERS
from synatlas.rank.controls import CORE, INDEPENDENCE_NULLS, NOT_ASSESSABLE
from synatlas.rank.unit_scores import PREDICTION_PARTS

Holds = Literal["yes", "no", "cannot tell"]

#: An excess counts as absent when its whole interval is within this share of mean synergy.
EQUIVALENCE_MARGIN: Final = 0.10

#: Random-weight atlases needed for a band.
BAND_SEEDS: Final = 20

#: MMI and CCS agree when mean CCS synergy is positive and their Spearman is at least this.
AGREEMENT: Final = 0.5

#: What a negative excess does not mean; said wherever one is shown.
NOT_ABSENCE: Final = (
    "Under MMI coupling can itself lower synergy, so a negative excess is no evidence of absence."
)

#: What joint prediction is known to get wrong (docs/validity.md); said wherever it leads.
JOINT_CAUTION: Final = (
    "Uncoupled units are called as well where they are noisy copies of one source or share "
    "inputs, such as the tokens read, that one common course does not hold; coupling whose sign "
    "turns between prompts is missed."
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One claim, whether it holds, the numbers it rests on (None: undefined), and why."""

    name: str
    claim: str
    holds: Holds
    numbers: Mapping[str, float | None]
    why: str


def core_finding(atlas: xr.Dataset) -> Finding:
    """Whether some units pass every control, or a core of stated size is excluded."""
    core = atlas["core"].to_numpy()
    judged = int((core != NOT_ASSESSABLE).sum())
    passing = int((core == CORE).sum())
    margin = _margin(atlas)
    effect, integration = _largest_bounds(atlas)
    numbers = {
        "units": float(core.size),
        "units_judged": float(judged),
        "units_passing": float(passing) if judged else math.nan,
        "equivalence_margin_nat": margin,
        "largest_excess_bound_nat": effect,
        "largest_integration_bound_nat": integration,
        "minimum_detectable_excess_nat": _worst_detectable(atlas),
        "core_recurrence_max": _largest(atlas["core_recurrence"].to_numpy()),
    }
    missing = json.loads(atlas.attrs["core_missing"])
    holds: Holds
    if missing or not judged:
        holds = "cannot tell"
        why = "The call needs what is missing: " + "; ".join(missing or ["no unit is defined"])
        why += "."
    elif passing:
        holds = "yes"
        why = (
            "These units have integration above 0 and synergy above the cross-prompt null "
            f"(false discovery rate {FDR_LEVEL:.0%}), an excess over the window shift too, "
            "positive synergy under CCS, and recur in at least 80 % of prompt bootstraps."
        )
    elif effect < margin and integration < margin:
        holds = "no"
        why = (
            "No unit passes, every interval of synergy excess lies within "
            f"{EQUIVALENCE_MARGIN:.0%} of mean synergy on both sides, and every interval of "
            "integration ends below the same margin: a core of that size is excluded, a smaller "
            "one is not."
        )
    else:
        holds = "cannot tell"
        why = (
            "No unit passes, but intervals reach beyond the equivalence margin of "
            f"{EQUIVALENCE_MARGIN:.0%} of mean synergy, so absence is not shown. {NOT_ABSENCE}"
        )
    return _finding("core", "Some units form a synergistic core.", holds, numbers, why)


def _largest_bounds(atlas: xr.Dataset) -> tuple[float, float]:
    """Largest bound of synergy excess, on either side, and of integration, over judged units.

    NaN, which no margin admits, where an interval is undefined or no unit is judged.
    """
    judged = atlas["core"].to_numpy() != NOT_ASSESSABLE
    nulls = [name for name in INDEPENDENCE_NULLS if name in atlas["null"].to_numpy()]
    if not judged.any() or len(nulls) < len(INDEPENDENCE_NULLS):
        return math.nan, math.nan
    excess = np.abs(atlas["excess_interval"].sel(null=nulls).to_numpy()[:, judged])
    upper = atlas["integration_interval"].sel(ci_bound="upper").to_numpy()[judged]
    return float(excess.max()), float(upper.max())


def _worst_detectable(atlas: xr.Dataset) -> float:
    return _largest(atlas["null_minimum_detectable"].to_numpy())


def joint_prediction_finding(atlas: xr.Dataset) -> Finding:
    """Whether units predict each other's future jointly: q of any unit at most 5 %.

    There is no "no": how small a joint prediction counts as none is not settled, so the largest
    upper bound is given instead.
    """
    q = atlas["joint_prediction_q"].to_numpy()
    upper = atlas["joint_prediction_interval"].sel(ci_bound="upper").to_numpy()
    numbers: dict[str, float] = {}
    for name in ("joint_prediction", *PREDICTION_PARTS):
        part = name.removeprefix("joint_prediction").removeprefix("_")
        own = atlas[f"{name}_q"].to_numpy()
        told = float((own <= FDR_LEVEL).sum()) if np.isfinite(own).any() else math.nan
        numbers |= {
            "_".join(filter(None, ("mean", part, "nat"))): _mean(atlas[name]),
            "_".join(filter(None, ("units", part, "above_zero"))): told,
        }
    numbers["largest_upper_bound_nat"] = _largest(upper)
    passing = int((q <= FDR_LEVEL).sum())
    holds: Holds
    if not np.isfinite(q).any():
        holds, why = "cannot tell", "It needs three or more prompts of one length, and three units."
    elif passing:
        holds = "yes"
        why = (
            f"{passing} of {q.size} units lie above 0 at a false discovery rate of "
            f"{FDR_LEVEL:.0%} (jackknife over prompts): with a partner's past they tell more of a "
            f"future than the better past alone, and than what all units share. {JOINT_CAUTION}"
        )
    else:
        holds = "cannot tell"
        why = (
            "No unit lies above 0; means over partners above the largest upper bound are "
            f"excluded, smaller ones are not. {JOINT_CAUTION}"
        )
    return _finding(
        "joint_prediction", "Units predict each other's future jointly.", holds, numbers, why
    )


def integration_finding(atlas: xr.Dataset) -> Finding:
    """Whether units share lagged information beyond the same-step null."""
    q = atlas["integration_q"].to_numpy()
    bounds = atlas["integration_interval"].to_numpy()
    margin = _margin(atlas)
    passing = int((q <= FDR_LEVEL).sum())
    numbers = {
        "mean_nat": _mean(atlas["integration"]),
        "mean_bias_nat": _mean(atlas["integration_bias"]),
        "mean_transfer_nat": _mean(atlas["integration_transfer"]),
        "units_above_zero": float(passing) if np.isfinite(q).any() else math.nan,
        "largest_upper_bound_nat": float(bounds[:, 1].max()),
        "equivalence_margin_nat": margin,
    }
    holds: Holds
    if not np.isfinite(atlas["integration"].to_numpy()).any():
        holds, why = "cannot tell", "It is undefined: the same_step null was not run."
    elif not np.isfinite(q).any():
        holds, why = "cannot tell", "It has no interval: too few prompts or bootstrap draws."
    elif passing:
        holds = "yes"
        why = (
            f"{passing} of {q.size} units lie above 0 at a false discovery rate of "
            f"{FDR_LEVEL:.0%}: lagged coupling beyond same-step correlation and own memory, "
            "whether or not it is synergy."
        )
    elif float(bounds[:, 1].max()) < margin:
        holds = "no"
        why = f"Every unit's interval ends below {EQUIVALENCE_MARGIN:.0%} of mean synergy."
    else:
        holds, why = "cannot tell", "No unit lies above 0, and intervals pass the margin."
    claim = "Units share lagged information beyond same-step correlation and their own memory."
    return _finding("integration", claim, holds, numbers, why)


def over_null_finding(atlas: xr.Dataset, at: int) -> Finding:
    """Whether mean synergy exceeds the null at position `at`, with its matching errors."""
    null = atlas.isel(null=at)
    name = str(null["null"].item())
    lower, upper = map(float, null["null_effect_interval"].to_numpy())
    mean = _mean(atlas["synergy"])
    low, high = null["excess_interval"].to_numpy().T
    error = float(null["null_self_information_error"])
    numbers = {
        "effect_nat": float(null["null_effect"]),
        "lower_nat": lower,
        "upper_nat": upper,
        "effect_share_of_synergy": float(null["null_effect"]) / mean if mean > 0 else math.nan,
        "units_interval_above": float((low > 0).sum()),
        "units_interval_below": float((high < 0).sum()),
        "minimum_detectable_nat": float(null["null_minimum_detectable"]),
        "surrogates": float(null["null_surrogates"]),
        "self_information_error": error,
        "same_step_error": float(null["null_same_step_error"]),
    }
    margin = _margin(atlas)
    interval = f"{lower:.2g} to {upper:.2g} nat"
    holds: Holds
    if not int(null["null_accepted"]):
        holds, why = "cannot tell", f"The null is refused: self-information error {error:+.1%}."
    elif not math.isfinite(lower):
        holds, why = "cannot tell", "Too few surrogates for an interval."
    elif lower > 0:
        holds, why = "yes", f"The interval of the mean over units, {interval}, lies above 0."
    elif upper < 0:
        holds = "no"
        why = f"The interval of the mean over units, {interval}, lies below 0. {NOT_ABSENCE}"
    elif max(-lower, upper) < margin:
        holds = "no"
        why = f"The interval, {interval}, holds 0 within {EQUIVALENCE_MARGIN:.0%} of mean synergy."
    else:
        holds, why = "cannot tell", f"The interval of the mean over units, {interval}, holds 0."
    claim = f"Mean synergy exceeds what the {name} null gives on these prompts."
    return _finding(f"synergy_over_{name}", claim, holds, numbers, why)


def mmi_and_ccs_finding(atlas: xr.Dataset) -> Finding:
    """Whether synergy has the same sign and order under both redundancy functions."""
    claim = "Synergy shows the same under MMI and under CCS redundancy."
    if "synergy_ccs" not in atlas:
        why = "Only one of the two was computed."
        return _finding("mmi_and_ccs", claim, "cannot tell", {}, why)
    mmi, ccs = atlas["synergy"].to_numpy(), atlas["synergy_ccs"].to_numpy()
    over_units = float(rank_correlation(mmi, ccs))
    profile = atlas["profile"]
    over_layers = float(
        rank_correlation(
            profile.sel(score="synergy").to_numpy(), profile.sel(score="synergy_ccs").to_numpy()
        )
    )
    mean = _mean(atlas["synergy_ccs"])
    numbers = {
        "spearman_units": over_units,
        "spearman_layers": over_layers,
        "mean_ccs_nat": mean,
        "mean_mmi_nat": _mean(atlas["synergy"]),
        "units_ccs_positive": float((ccs > 0).sum()),
    }
    holds: Holds
    if not math.isfinite(over_units):
        holds, why = "cannot tell", "Their correlation over units is undefined."
    elif mean <= 0:
        holds = "no"
        why = "Mean synergy is positive under MMI and not under CCS: its sign rests on the choice."
    elif over_units >= AGREEMENT:
        holds, why = "yes", f"Both are positive, Spearman over units {over_units:.2f}."
    elif over_units <= 0:
        holds, why = "no", f"They order units differently, Spearman {over_units:.2f}."
    else:
        holds, why = "cannot tell", f"Weak agreement, Spearman over units {over_units:.2f}."
    return _finding("mmi_and_ccs", claim, holds, numbers, why)


def shape_finding(atlas: xr.Dataset, name: str, score: str, claim: str) -> Finding:
    """Whether the profile of `score` rises and then falls: curvature and two lines agree."""
    one = atlas.sel(score=score)
    profile = one["profile"].to_numpy()
    peak = math.nan
    if np.isfinite(profile).any():
        peak = float(atlas["depth"].to_numpy()[np.nanargmax(profile)])
    numbers: dict[str, float] = {"peak_depth": peak}
    bounds = {}
    for part in ("curvature", "rise", "fall", "mid_minus_ends"):
        lower, upper = map(float, one[f"{part}_interval"].to_numpy())
        bounds[part] = (lower, upper)
        numbers |= {part: float(one[part]), f"{part}_lower": lower, f"{part}_upper": upper}
    rho = float(one["correlation"].sel(control="self_information"))
    numbers |= {
        "turn": float(one["turn"]),
        "layer_permutation_p": float(one["layer_permutation_p"]),
        "split_half": float(one["split_half"]),
        "self_information_spearman": rho,
        "self_information_share": rho**2,
    }
    holds, why = _arch(bounds, int(np.isfinite(profile).sum()))
    return _finding(name, claim, holds, numbers, why)


def _arch(bounds: Mapping[str, tuple[float, float]], layers: int) -> tuple[Holds, str]:
    """Judge a rise and fall: curvature, first slope and second slope must all agree."""
    if not layers:
        return "cannot tell", "The score is undefined in every layer."
    if layers < FEW_LAYERS:
        return "cannot tell", f"{layers} layers are too few for a claim about depth."
    if not np.isfinite(list(bounds.values())).all():
        return "cannot tell", "The shape has no interval: the profile is flat or prompts are few."
    curvature, rise, fall = bounds["curvature"], bounds["rise"], bounds["fall"]
    if curvature[1] < 0 and rise[0] > 0 and fall[1] < 0:
        return "yes", (
            "The intervals over prompts and units hold a negative curvature, a rising first line "
            "and a falling second line. How layers of other models vary is not in them."
        )
    if curvature[0] > 0 or rise[1] < 0 or fall[0] > 0:
        return "no", (
            "An interval contradicts it: curvature is positive, the first line falls, or the "
            "second line rises."
        )
    return "cannot tell", "At least one interval (curvature, first line, second line) holds 0."


def random_weights_finding(atlas: xr.Dataset, random_init: Sequence[xr.Dataset]) -> Finding:
    """Whether the published profile arches more than a band of random-weight models."""
    name, claim = "random_weights", "The arch of the published ranking comes from training."
    given = len(random_init)
    for other in random_init:
        _check_comparable(atlas, other)
    if given < BAND_SEEDS:
        why = (
            f"{given} atlases of random weights were given; a band needs {BAND_SEEDS}. "
            "Nothing is said about what the architecture alone gives."
        )
        return _finding(name, claim, "cannot tell", {"seeds": float(given)}, why)
    score = "rank_of_difference"
    own = atlas.sel(score=score)
    curvature = np.array([float(a["curvature"].sel(score=score)) for a in random_init])
    profiles = np.stack([a["profile"].sel(score=score).to_numpy() for a in random_init])
    defined = curvature[np.isfinite(curvature)]
    p = (1 + int((defined <= float(own["curvature"])).sum())) / (1 + defined.size)
    lower, upper = np.quantile(profiles, [0.025, 0.975], axis=0)
    profile = own["profile"].to_numpy()
    numbers = {
        "seeds": float(given),
        "curvature": float(own["curvature"]),
        "curvature_random_median": float(np.median(defined)) if defined.size else math.nan,
        "p_curvature": p if defined.size >= BAND_SEEDS else math.nan,
        "layers_outside_band": float(((profile < lower) | (profile > upper)).sum()),
        "layers": float(profile.size),
    }
    holds: Holds
    if defined.size < BAND_SEEDS or not math.isfinite(numbers["curvature"]):
        holds, why = "cannot tell", "Curvature is undefined in some of the atlases."
    elif p <= FDR_LEVEL and _arch_shown(own):
        holds = "yes"
        why = f"It arches more than {given} random-weight models do (p = {p:.3f})."
    elif p >= 0.5:
        holds, why = "no", "At least half of the random-weight models arch as much."
    else:
        holds, why = "cannot tell", f"Random weights do not separate from it (p = {p:.2f})."
    return _finding(name, claim, holds, numbers, why)


def _arch_shown(own: xr.Dataset) -> bool:
    bounds = {
        part: tuple(map(float, own[f"{part}_interval"].to_numpy()))
        for part in ("curvature", "rise", "fall")
    }
    return bounds["curvature"][1] < 0 and bounds["rise"][0] > 0 and bounds["fall"][1] < 0


def _check_comparable(atlas: xr.Dataset, other: xr.Dataset) -> None:
    if not np.array_equal(atlas["unit"].to_numpy(), other["unit"].to_numpy()):
        raise ConfigError(
            given=f"a random-weight atlas with {other.sizes['unit']} units",
            expected=f"the {atlas.sizes['unit']} units of {atlas.attrs['model']}",
            cause="it was made from another architecture, or with other units",
            remedy="record the same model with random weights and the same options",
        )


def findings_beyond_this_run() -> tuple[Finding, ...]:
    """Return what one run of one model leaves open."""
    return (
        _finding(
            "sensitivity",
            "The findings hold at other lags, signals, detrending and seeds.",
            "cannot tell",
            {},
            "One atlas holds one setting of each.",
        ),
        _finding(
            "other_models",
            "The findings hold for other models.",
            "cannot tell",
            {"independent_models": 1.0},
            "One model and one seed is one observation.",
        ),
    )


def _finding(
    name: str, claim: str, holds: Holds, numbers: Mapping[str, float], why: str
) -> Finding:
    plain = {k: float(v) if math.isfinite(v) else None for k, v in numbers.items()}
    return Finding(name=name, claim=claim, holds=holds, numbers=plain, why=why)


def _margin(atlas: xr.Dataset) -> float:
    """NaN, which nothing lies within, where mean synergy is not positive."""
    mean = _mean(atlas["synergy"])
    return EQUIVALENCE_MARGIN * mean if mean > 0 else math.nan


def _mean(values: xr.DataArray) -> float:
    array = values.to_numpy()
    finite = array[np.isfinite(array)]
    return float(finite.mean()) if finite.size else math.nan


def _largest(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.max()) if finite.size else math.nan

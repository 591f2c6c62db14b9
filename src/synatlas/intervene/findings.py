"""Findings of an ablation experiment: each with the numbers and the rule that decide it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import xarray as xr

from synatlas.intervene.decline import CATASTROPHIC, DECLINES, GRADUAL, NOT_JUDGED
from synatlas.intervene.orders import DEPTH_MATCHED, RANDOM
from synatlas.intervene.tested import CALLED, LEVEL, NOT_RUN, level_of
from synatlas.rank.findings import Finding, Holds

#: Damages count as equal where the whole interval of their ratio lies between 1 / this and this.
EQUIVALENT: Final = 1.25

#: Share of the oracle's area above random from which on an order is as good as the oracle.
AS_ORACLE: Final = 0.8

#: Rank correlation from which on one order may stand for another.
STANDS_FOR: Final = 0.5

#: How controls and orders are spoken of.
SPOKEN: Final = {
    RANDOM: "random units",
    DEPTH_MATCHED: "random units of the same layers",
    "redundant_first": "the most redundant units",
    "norm": "the units of greatest norm",
    "gradient": "the units of greatest gradient importance",
    "single_unit": "the units that damage most alone",
    "autocorrelation_baseline": "the units of highest autocorrelation baseline",
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Tests of one experiment, read at the leading order."""

    tests: xr.Dataset

    @property
    def leading(self) -> str:
        """The order that was named before any damage was measured."""
        return str(self.tests.attrs["leading"])

    @property
    def counts(self) -> list[int]:
        """Tested numbers of units."""
        return self.tests["tested"].values.tolist()

    def has(self, dim: str, name: str) -> bool:
        """Whether `name` is a label of a dimension."""
        return name in self.tests[dim].values.tolist()

    def at(self, variable: str, **labels: Any) -> float:
        """A number, at the leading order and at kl unless other labels are given."""
        return float(self.array(variable, **labels))

    def array(self, variable: str, **labels: Any) -> np.ndarray:
        """As :meth:`at`, of a variable with dimensions left."""
        one = self.tests[variable]
        chosen = {"outcome": "kl", "order": self.leading} | labels
        return one.sel({k: v for k, v in chosen.items() if k in one.dims}).to_numpy()

    def with_interval(self, variable: str, name: str, **labels: Any) -> dict[str, float]:
        """A number and the bounds of its interval, as findings name them."""
        low, high = self.array(f"{variable}_interval", **labels).tolist()
        stem, unit = (name[:-4], "_nat") if name.endswith("_nat") else (name, "")
        value = self.at(variable, **labels)
        return {name: value, f"{stem}_lower{unit}": low, f"{stem}_upper{unit}": high}

    def called(self, control: str, *, outcome: str = "kl", level: float = CALLED) -> bool:
        """Whether the leading order damages more than a control."""
        return self.at("p_more", control=control, outcome=outcome) <= level


def finding(name: str, claim: str, holds: Holds, numbers: Mapping[str, float], why: str) -> Finding:
    """A finding, its undefined numbers None."""
    plain = {k: float(v) if math.isfinite(v) else None for k, v in numbers.items()}
    return Finding(name=name, claim=claim, holds=holds, numbers=plain, why=why)


def spoken(name: str) -> str:
    """An order or control as a reader says it."""
    return SPOKEN.get(name, f"units by {name.replace('_', ' ')}")


def among_finding(judged: Judged, control: str, *, outcome: str = "kl") -> Finding:
    """Whether the leading order's sets damage more than random ones, at 1 % (accuracy 5 %)."""
    level = level_of(outcome)
    labels = {"control": control, "outcome": outcome}
    more, less = (judged.at(f"p_{tail}", **labels) for tail in ("more", "less"))
    least = judged.at("least_p", **labels)
    numbers = {
        "p_more": more,
        "p_less": less,
        "adjusted_p_over_orders": judged.at("q_more", **labels),
        "effect_in_sd_of_draws": judged.at("effect", **labels),
        "draws": judged.at("draws", **labels),
    }
    if outcome == "kl":
        for n in judged.counts:
            numbers |= judged.with_interval("ratio_at", f"ratio_at_{n}_units", tested=n, **labels)
            numbers[f"called_from_ratio_at_{n}_units"] = judged.at(
                "ratio_called_at", tested=n, **labels
            )
    else:
        for n in judged.counts:
            numbers[f"lost_at_{n}_units"] = judged.at("damage", outcome=outcome, tested=n)
            numbers[f"draws_lose_at_{n}_units"] = judged.at("control_damage", tested=n, **labels)
    what = "lowers accuracy" if outcome == "lost_accuracy" else "moves predictions"
    holds, why = _among(judged, control, outcome, level)
    if not math.isfinite(more):
        holds, why = "cannot tell", "Not run: there are no such draws."
    elif least > level and holds != "no":
        holds = "cannot tell"
        why = f"Not resolvable: {numbers['draws']:.0f} draws give no p below {least:.3g}."
    name = f"more_than_{control}" if outcome == "kl" else f"{outcome}_more_than_{control}"
    claim = f"Ablating {spoken(judged.leading)} first {what} more than {spoken(control)}."
    return finding(name, claim, holds, numbers, why)


def _among(judged: Judged, control: str, outcome: str, level: float) -> tuple[Holds, str]:
    labels = {"control": control, "outcome": outcome}
    more, less = (judged.at(f"p_{tail}", **labels) for tail in ("more", "less"))
    bounds = judged.array("ratio_at_interval", **labels)
    if more <= level:
        return "yes", f"p = {more:.3g} over the sets, at {level:.0%}."
    if less <= level:
        return "no", f"It damages less than they do, p = {less:.3g} over the sets."
    if equivalent(bounds) and min(more, less) > LEVEL:
        return "no", (
            f"No difference: at every tested number of units the interval of its ratio to the mean "
            f"draw lies between {1 / EQUIVALENT:.2g} and {EQUIVALENT:.3g}."
        )
    return "cannot tell", (
        f"Not shown: p = {more:.3g}. Nor is a difference of {EQUIVALENT - 1:.0%} excluded: the "
        "intervals of the ratio pass that margin. The numbers say from which ratio on one would be "
        "called at one number of units."
    )


def equivalent(bounds: np.ndarray) -> bool:
    """Whether intervals of a ratio all lie within the margin of equivalence."""
    return bool((bounds > 1 / EQUIVALENT).all() and (bounds < EQUIVALENT).all())


def than_order_finding(judged: Judged, other: str) -> Finding:
    """Whether the leading order has the greater area than another, over prompts."""
    numbers = judged.with_interval("area_ratio_to", "area_ratio", reference=other)
    low, high = numbers["area_ratio_lower"], numbers["area_ratio_upper"]
    numbers["rank_correlation_of_orders"] = judged.at("order_correlation", reference=other)
    holds: Holds
    if not math.isfinite(low):
        holds, why = "cannot tell", "It has no interval: too few prompts or numbers of units."
    elif low > 1:
        holds, why = "yes", "The interval of the ratio of areas lies above 1."
    elif high < 1:
        holds, why = "no", "The interval of the ratio of areas lies below 1."
    elif equivalent(np.array([low, high])):
        holds, why = "no", f"No difference beyond a factor of {EQUIVALENT:.3g}."
    else:
        holds, why = "cannot tell", "Not shown: the interval of the ratio of areas holds 1."
    return finding(
        f"more_than_{other}",
        f"Ablating {spoken(judged.leading)} first moves predictions more than {spoken(other)}.",
        holds,
        numbers,
        f"{why} Two fixed orders are compared: the interval is over prompts alone.",
    )


def oracle_finding(judged: Judged) -> Finding:
    """How far the leading order is from that of single-unit damage."""
    numbers = judged.with_interval("oracle_share", "share")
    low, high = numbers["share_lower"], numbers["share_upper"]
    holds: Holds
    if not math.isfinite(low):
        holds, why = "cannot tell", "It has no number: the oracle was not run, or is not above 0."
    elif low >= AS_ORACLE:
        holds, why = "yes", f"It has {AS_ORACLE:.0%} or more of the oracle's area above random."
    elif high < 0:
        holds, why = "no", "It damages less than random units do: its share is negative."
    elif high < AS_ORACLE:
        holds, why = "no", f"It has less than {AS_ORACLE:.0%} of the oracle's area above random."
    else:
        holds, why = "cannot tell", f"The interval holds {AS_ORACLE:.0%}."
    return finding(
        "near_oracle",
        f"Ablating {spoken(judged.leading)} first is close to what ablating "
        f"{spoken('single_unit')} does.",
        holds,
        numbers,
        f"{why} The share is that of the area between the random curve and the oracle's; the "
        "worst set may be worse than the oracle's.",
    )


def depth_finding(more_than_random: Finding, more_than_matched: Finding) -> Finding:
    """Whether depth explains damage beyond random units."""
    holds: Holds
    if more_than_random.holds != "yes":
        holds, why = "cannot tell", "Nothing to explain: damage beyond random units is not shown."
    elif more_than_matched.holds == "yes":
        holds, why = "no", "Random units of the same layers damage less."
    elif more_than_matched.holds == "no":
        holds, why = "yes", "Random units of the same layers damage as much or more."
    else:
        holds = "cannot tell"
        why = "Neither more damage than units of the same layers nor equal damage is shown."
    claim = "Which layers the units are in explains what they damage beyond random units."
    return finding("depth_explains", claim, holds, {}, why)


def norm_finding(judged: Judged) -> Finding:
    """Whether units of great norm are the same, and damage as much."""
    numbers = judged.with_interval("area_ratio_to", "area_ratio", reference="norm")
    rho = judged.at("order_correlation", reference="norm")
    numbers["rank_correlation"] = rho
    low, high = numbers["area_ratio_lower"], numbers["area_ratio_upper"]
    holds: Holds
    if not math.isfinite(low):
        holds, why = "cannot tell", "It has no interval."
    elif low > 1:
        holds, why = "no", "Norm first damages less."
    elif rho >= STANDS_FOR and (high < 1 or equivalent(np.array([low, high]))):
        holds = "yes"
        why = f"Norm orders units alike (at least {STANDS_FOR}) and damages as much or more."
    elif rho < STANDS_FOR:
        holds = "no"
        why = f"Norm orders units otherwise (below {STANDS_FOR}), whatever it damages itself."
    else:
        holds, why = "cannot tell", "Norm orders units alike; whose damage is greater is not shown."
    claim = "The norm of the units can stand for the order."
    return finding("norm_explains", claim, holds, numbers, why)


def single_units_finding(judged: Judged) -> Finding:
    """Whether the set's damage follows from what its units do alone."""
    numbers = {
        "rank_correlation": judged.at("single_correlation"),
        "rank_correlation_within_layers": judged.at("single_correlation_in_layers"),
    }
    effects = judged.array("single_sum_effect")
    for n, effect in zip(judged.counts, effects.tolist(), strict=True):
        numbers[f"sum_at_{n}_units_in_sd"] = effect
    holds: Holds
    if not np.isfinite(effects).any():
        holds, why = "cannot tell", "It has no number: units were not ablated alone."
    elif not judged.has("control", DEPTH_MATCHED) or not judged.called(DEPTH_MATCHED):
        holds = "cannot tell"
        why = "Nothing to explain: damage beyond units of the same layers is not shown."
    elif np.nanmedian(effects) >= 2:
        holds = "yes"
        why = "Summed, its units damage more alone than units of the same layers by 2 SD or more."
    elif np.nanmedian(effects) <= 1:
        holds = "no"
        why = "Summed, its units damage alone what units of the same layers do, within 1 SD."
    else:
        holds, why = "cannot tell", "Summed, its units are between 1 and 2 SD above others alone."
    claim = "What its units damage alone can explain what they damage together."
    return finding("single_units_explain", claim, holds, numbers, why)


def decline_finding(judged: Judged) -> Finding:
    """Whether damage grows at once."""
    said = int(judged.at("decline"))
    numbers = {
        "largest_rise_share": judged.at("jump_share"),
        "units_after_it": judged.at("jump_at"),
        "support": judged.at("decline_support"),
    }
    for form, value in zip(
        judged.tests["form"].values.tolist(), judged.array("decline_aicc").tolist(), strict=True
    ):
        numbers[f"aicc_{form}"] = value
    if judged.has("control", RANDOM):
        share = judged.tests["control_jump_share"].sel(control=RANDOM)
        numbers["largest_rise_share_of_random_orders"] = float(share)
    holds: dict[int, Holds] = {CATASTROPHIC: "yes", GRADUAL: "no"}
    whys = {
        CATASTROPHIC: "A line with one jump fits better than every smooth form, one step of the "
        "grid adds a third or more of the damage, and prompt bootstraps agree.",
        GRADUAL: "A smooth form fits better, or no step of the grid adds a third of the damage, "
        "and prompt bootstraps agree.",
        NOT_JUDGED: "The curve has too few points.",
    }
    return finding(
        "catastrophic",
        f"Damage by {spoken(judged.leading)} first grows at once, not gradually.",
        holds.get(said, "cannot tell"),
        numbers,
        whys.get(said, f"It is {DECLINES[said]}: prompts do not agree, or no form is preferred."),
    )


def abstract_finding(judged: Judged) -> Finding:
    """Whether the excess over random sets is greater in abstract prompts."""
    control = DEPTH_MATCHED if judged.has("control", DEPTH_MATCHED) else RANDOM
    names = str(judged.tests.attrs["abstract"]).replace("_", " ")
    claim = f"The excess over {spoken(control)} is greater in {names} prompts than in others."
    if not judged.has("control", control) or not math.isfinite(
        judged.at("contrast", control=control)
    ):
        return finding("abstract", claim, "cannot tell", {}, "There are no such prompts or draws.")
    numbers = judged.with_interval("contrast", "difference_nat", control=control)
    numbers["p_over_prompts"] = judged.at("contrast_p", control=control)
    numbers |= judged.with_interval("contrast_log", "log_ratio", control=control)
    numbers["p_over_prompts_of_log_ratio"] = judged.at("contrast_log_p", control=control)
    numbers["p_over_sets"] = judged.at("contrast_p_sets", control=control)
    p = [numbers[k] for k in ("p_over_prompts_of_log_ratio", "p_over_sets")]
    log = numbers["log_ratio"]
    holds: Holds
    if not np.isfinite(p).all():
        holds, why = "cannot tell", "It has no p: too few prompts or draws."
    elif max(p) <= LEVEL and log > 0:
        holds, why = "yes", "Both p of the ratio are at most 5 %: over prompts and over sets."
    elif max(p) <= LEVEL:
        holds, why = "no", "It is smaller there, both p of the ratio at most 5 %."
    else:
        holds = "cannot tell"
        why = (
            "Not shown: a p of the ratio is above 5 %. The ratio decides, since prompts that any "
            "ablation damages more have a greater difference in nats too."
        )
    return finding("abstract", claim, holds, numbers, why)


def other_orders_finding(judged: Judged) -> Finding:
    """Which other orders damage more than random units."""
    claim = "Other orders damage more than random units too."
    others = [name for name in judged.tests["order"].values.tolist() if name != judged.leading]
    if not judged.has("control", RANDOM) or not others:
        return finding("other_orders", claim, "cannot tell", {}, "None was run.")
    q = {name: judged.at("q_more", order=name, control=RANDOM) for name in others}
    status = {name: judged.at("status", order=name, control=RANDOM) for name in others}
    named = [spoken_order(name) for name, value in q.items() if value <= LEVEL]
    run = [name for name in others if status[name] != NOT_RUN]
    holds: Holds = "yes" if named else "cannot tell"
    told = f"{len(named)} of {len(run)} do at a false discovery rate of {LEVEL:.0%}"
    return finding(
        "other_orders",
        claim,
        holds,
        {f"adjusted_p_{name}": value for name, value in q.items()},
        f"{told}: {', '.join(named)}." if named else f"{told}; for the others it is not shown.",
    )


def spoken_order(name: str) -> str:
    """The name of an order as words."""
    return name.replace("_", " ")

"""What an ablation experiment shows, in words that are computed from its numbers."""

import math
from typing import Final

import xarray as xr

from synatlas.artifact import require
from synatlas.intervene.findings import (
    AS_ORACLE,
    CALLED,
    EQUIVALENT,
    Judged,
    abstract_finding,
    among_finding,
    decline_finding,
    depth_finding,
    finding,
    norm_finding,
    oracle_finding,
    other_orders_finding,
    single_units_finding,
    spoken,
    spoken_order,
    than_order_finding,
)
from synatlas.intervene.measured import Measured, measured
from synatlas.intervene.orders import DEPTH_MATCHED, RANDOM
from synatlas.intervene.schema import DIVERGENCE
from synatlas.intervene.tested import ABLATION_TESTS, LAYERS_DIFFER
from synatlas.rank.findings import Finding
from synatlas.rank.verdict import Verdict

#: Orders that the leading one is compared with, where they were run.
COMPARED: Final = ("redundant_first", "norm", "gradient", "autocorrelation_baseline")

#: Orders that are made from damage in the same prompts.
MEASURED: Final = ("single_unit", "gradient")

#: Fewest prompts that speak for others.
FEW_PROMPTS: Final = 10

#: Damage at a tested number of units over that of ablating all, above which sets differ little.
SATURATED: Final = 0.8

#: The rules, in a sentence each, for the page.
CRITERIA: Final = (
    f"The leading order was named before any damage was measured; it is called more damaging "
    f"where at most {CALLED:.0%} of random sets of the same size damage as much, the set being "
    "what is sampled. Other orders are judged by p adjusted over all orders (Benjamini and "
    "Hochberg, 5 %).",
    f"No difference is said only where intervals of the ratio lie between {1 / EQUIVALENT:.2g} "
    f"and {EQUIVALENT:.3g}; everything else is not shown. An order is close to the oracle from "
    f"{AS_ORACLE:.0%} of its area above random.",
)


def verdict(divergence: xr.Dataset, tests: xr.Dataset) -> Verdict:
    """Judge an ablation experiment by rules that are fixed before its numbers are seen.

    Parameters
    ----------
    divergence : a Divergence artifact.
    tests : as :func:`synatlas.intervene.statistics.ablation_tests` makes them of it.

    Returns
    -------
    Verdict
        Findings: ``more_than_random``, ``more_than_random_depth_matched``, ``more_than_<order>``
        for each order of `COMPARED`, ``near_oracle``, ``depth_explains``, ``norm_explains``,
        ``single_units_explain``, ``other_orders``, ``catastrophic``, ``abstract``,
        ``lost_accuracy_more_than_<control>``, ``other_ablations``, ``other_models``; those whose
        order, control or questions were not run are left out.

    Raises
    ------
    ArtifactError
        One of them is another artifact.
    """
    judged = Judged(tests=require(tests, ABLATION_TESTS))
    found = measured(require(divergence, DIVERGENCE))
    controls = [c for c in (RANDOM, DEPTH_MATCHED) if judged.has("control", c)]
    findings = [among_finding(judged, control) for control in controls]
    by_name = {one.name: one for one in findings}
    findings += [than_order_finding(judged, o) for o in COMPARED if judged.has("reference", o)]
    if judged.has("reference", "single_unit"):
        findings.append(oracle_finding(judged))
    if len(controls) == 2:
        findings.append(depth_finding(*by_name.values()))
    if judged.has("reference", "norm"):
        findings.append(norm_finding(judged))
    findings += [
        single_units_finding(judged),
        other_orders_finding(judged),
        decline_finding(judged),
        abstract_finding(judged),
    ]
    if judged.has("outcome", "lost_accuracy"):
        findings += [among_finding(judged, c, outcome="lost_accuracy") for c in controls]
    findings += _beyond(str(tests.attrs["ablation"]))
    return Verdict(
        headline=_headline(judged, {one.name: one for one in findings}),
        findings=tuple(findings),
        warnings=_warnings(judged, divergence, found),
    )


def _beyond(ablation: str) -> list[Finding]:
    return [
        finding(
            "other_ablations",
            f"The findings hold for other ablations than {ablation!r}.",
            "cannot tell",
            {},
            "One experiment holds one. Zero and mean ablation can put a model where it never is.",
        ),
        finding(
            "other_models",
            "The findings hold for other models.",
            "cannot tell",
            {"independent_models": 1.0},
            "One model is one observation.",
        ),
    ]


def _headline(judged: Judged, findings: dict[str, Finding]) -> str:
    who = f"Ablating {spoken(judged.leading)} first"
    parts = [
        f"{_SAID[_outcome(one)]} than {spoken(control)} (p {one.numbers['p_more'] or math.nan:.3g})"
        for control in (RANDOM, DEPTH_MATCHED)
        if (one := findings.get(f"more_than_{control}")) is not None
    ]
    text = f"{who} {' and '.join(parts)}." if parts else f"{who}: no random sets were ablated."
    if _holds(findings, "depth_explains"):
        text += " Which layers they are in explains it."
    others = [
        f"{_SAID[_outcome(one)]} than {spoken(name)}"
        for name in ("redundant_first", "norm")
        if (one := findings.get(f"more_than_{name}")) is not None
    ]
    if others:
        text += f" Over prompts it {' and '.join(others)}."
    share = findings["near_oracle"].numbers["share"] if "near_oracle" in findings else None
    if share is not None and share >= 0:
        text += f" It has {share:.0%} of the oracle's damage above random."
    elif share is not None:
        text += " Random units damage more than it does."
    explained = [what for name, what in _EXPLAINS.items() if _holds(findings, name)]
    if explained and _holds(findings, f"more_than_{DEPTH_MATCHED}"):
        text += f" It can be put down to {' or to '.join(explained)}."
    return text


#: What is said of damage in a comparison.
_SAID: Final = {
    "yes": "damages predictions more",
    "less": "damages predictions less",
    "no": "damages predictions no more",
    "cannot tell": "is not shown to damage predictions more",
}

#: Findings that explain damage beyond units of the same layers, and what they name.
_EXPLAINS: Final = {
    "norm_explains": "norm",
    "single_units_explain": "what its units damage alone",
}


def _holds(findings: dict[str, Finding], name: str) -> bool:
    return name in findings and findings[name].holds == "yes"


def _outcome(one: Finding) -> str:
    """A key of `_SAID`."""
    less, high = (one.numbers.get(name) for name in ("p_less", "area_ratio_upper"))
    fewer = (less is not None and less <= CALLED) or (high is not None and high < 1)
    return "less" if one.holds == "no" and fewer else one.holds


def _warnings(
    judged: Judged, divergence: xr.Dataset, found: dict[str, Measured]
) -> tuple[str, ...]:
    tests, warnings = judged.tests, []
    prompts = found["kl"].values.shape[3]
    if prompts < FEW_PROMPTS:
        warnings.append(f"{prompts} prompts are few: intervals over prompts are too narrow.")
    if judged.leading in MEASURED:
        warnings.append(
            f"The leading order was made from what {spoken_order(judged.leading)} damages in these "
            "prompts: that it damages more than random units is no finding."
        )
    floor = float(tests["noise_floor"])
    least = float(tests["damage"].sel(outcome="kl").min())
    if floor > 0.1 * abs(least):
        warnings.append(
            f"The noise floor, {floor:.2g} nat of a row that keeps all units, is above a tenth of "
            f"the least damage tested, {least:.2g} nat."
        )
    if judged.has("control", DEPTH_MATCHED):
        warnings += _few_sets(judged)
    if judged.has("control", RANDOM):
        warnings += _saturated(judged, divergence)
    differ = [
        spoken_order(name)
        for name in tests["order"].values.tolist()
        if judged.has("control", DEPTH_MATCHED)
        and judged.at("status", order=name, control=DEPTH_MATCHED) == LAYERS_DIFFER
    ]
    if differ:
        warnings.append(
            f"Depth-matched draws have the layers of {spoken_order(judged.leading)}: other orders "
            f"take other layers and are not compared with them ({', '.join(differ)})."
        )
    if "lost_accuracy" in found:
        clean = float(divergence["clean_correct"].mean())
        if not 0.1 <= clean <= 0.999:
            warnings.append(
                f"The clean model answers {clean:.0%} of the questions right: little can be lost."
                if clean < 0.5
                else f"The clean model answers {clean:.0%} of the questions right: they are easy."
            )
        lost = tests["damage"].sel(outcome="lost_accuracy")
        if not (lost != 0).any():
            warnings.append("No set of units changes how many questions are answered right.")
    return tuple(warnings)


def _few_sets(judged: Judged) -> list[str]:
    sets = judged.array("distinct_sets", control=DEPTH_MATCHED).tolist()
    few = [f"{n} ({s:.0f})" for n, s in zip(judged.counts, sets, strict=True) if s * CALLED < 1]
    if not few:
        return []
    return [
        "Whole layers are among the first units: at these numbers of units there are so few "
        f"depth-matched sets that no p of {CALLED:.0%} can be reached: {', '.join(few)}."
    ]


def _saturated(judged: Judged, divergence: xr.Dataset) -> list[str]:
    counts = divergence["n_ablated"].to_numpy().tolist()
    if counts[-1] != divergence.sizes["unit"]:
        return []
    whole = float(divergence["kl"].isel(n_ablated=-1, draw=0).mean("prompt").max())
    drawn = judged.array("control_damage", control=RANDOM).tolist()
    full = [str(n) for n, kl in zip(judged.counts, drawn, strict=True) if kl > SATURATED * whole]
    if not full:
        return []
    return [
        f"Random sets of {', '.join(full)} units already do {SATURATED:.0%} or more of the damage "
        "of ablating all: sets of that size can hardly differ."
    ]

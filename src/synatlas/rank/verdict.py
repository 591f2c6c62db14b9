"""The verdict: what an atlas shows, does not show, or cannot tell, computed from its numbers."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import final

import xarray as xr

from synatlas.rank.findings import (
    EQUIVALENCE_MARGIN,
    Finding,
    core_finding,
    findings_beyond_this_run,
    integration_finding,
    joint_prediction_finding,
    mmi_and_ccs_finding,
    over_null_finding,
    random_weights_finding,
    shape_finding,
)
from synatlas.rank.profile import MIN_LAYERS


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A headline of one sentence, the findings behind it, and the atlas' warnings."""

    headline: str
    findings: tuple[Finding, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> str:
        """As JSON text, undefined numbers as null."""
        return json.dumps(asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Verdict":
        """Read back what :meth:`to_json` wrote."""
        stored = json.loads(text)
        return cls(
            headline=stored["headline"],
            findings=tuple(Finding(**finding) for finding in stored["findings"]),
            warnings=tuple(stored["warnings"]),
        )

    def finding(self, name: str) -> Finding:
        """The finding of that name; KeyError where there is none."""
        return {finding.name: finding for finding in self.findings}[name]


def judge(atlas: xr.Dataset, *, random_init: Sequence[xr.Dataset] = ()) -> Verdict:
    """Judge an atlas by rules that are fixed before its numbers are seen.

    A claim holds when every stated condition does; it fails only on evidence against it, and
    where power is lacking the answer is "cannot tell".

    Parameters
    ----------
    atlas : an Atlas (its ``verdict`` attribute is not read).
    random_init : atlases of the same architecture with random weights, one per seed.

    Returns
    -------
    Verdict
        Findings: ``joint_prediction``, ``joint_prediction_profile``, ``core``, ``integration``,
        one ``synergy_over_<null>`` per null, ``mmi_and_ccs``, ``published_profile``,
        ``text_profile``, ``integration_profile``, ``random_weights``, ``sensitivity``,
        ``other_models``.
    """
    joint = joint_prediction_finding(atlas)
    joint_profile = shape_finding(
        atlas,
        "joint_prediction_profile",
        "joint_prediction",
        "Joint prediction rises and then falls over depth.",
    )
    core = core_finding(atlas)
    published = shape_finding(
        atlas,
        "published_profile",
        "rank_of_difference",
        "The published ranking (rank of synergy minus redundancy, as the authors' code has it) "
        "rises and then falls over depth.",
    )
    findings = (
        joint,
        joint_profile,
        core,
        integration_finding(atlas),
        *(over_null_finding(atlas, i) for i in range(atlas.sizes["null"])),
        mmi_and_ccs_finding(atlas),
        published,
        shape_finding(
            atlas,
            "text_profile",
            "difference_of_ranks",
            "The difference of ranks (rank of synergy minus rank of redundancy, as the text of "
            "the paper has it) rises and then falls over depth.",
        ),
        shape_finding(
            atlas,
            "integration_profile",
            "integration",
            "Integration (revised Phi over its same-step null) rises and then falls over depth.",
        ),
        random_weights_finding(atlas, random_init),
        *findings_beyond_this_run(),
    )
    return Verdict(
        headline=f"{_joint(atlas, joint, joint_profile)}; {_core(atlas, core, published)}",
        findings=findings,
        warnings=tuple(json.loads(atlas.attrs["warnings"])),
    )


def _joint(atlas: xr.Dataset, joint: Finding, profile: Finding) -> str:
    model, passing = atlas.attrs["model"], joint.numbers["units_above_zero"]
    if passing is None:
        return f"This run cannot measure joint prediction in {model}"
    units = atlas.sizes["unit"]
    told = f"{passing:.0f} of {units} units of {model} predict each other's future jointly"
    peak = profile.numbers["peak_depth"]
    if joint.holds == "yes" and peak is not None and atlas.sizes["layer"] >= MIN_LAYERS:
        told += f", most at depth {peak:.2f}, by coupling or by inputs they share"
    return told


def _core(atlas: xr.Dataset, core: Finding, published: Finding) -> str:
    passing, units = core.numbers["units_passing"], atlas.sizes["unit"]
    if core.holds == "yes":
        first = f"{passing:.0f} of {units} units pass every control for a core"
    elif core.holds == "no":
        first = (
            f"none of {core.numbers['units_judged']:.0f} judged units passes the "
            f"controls for a synergistic core, and effects above {EQUIVALENCE_MARGIN:.0%} of "
            "mean synergy are excluded"
        )
    elif passing is None:
        missing = "; ".join(json.loads(atlas.attrs["core_missing"]))
        first = "this run cannot tell whether there is a synergistic core"
        first += f" ({missing})" if missing else ""
    else:
        first = "no synergistic core is shown, and the run cannot show that there is none"
    depth, share = published.numbers["peak_depth"], published.numbers["self_information_share"]
    if depth is None or share is None or atlas.sizes["layer"] < MIN_LAYERS:
        return f"{first}; one model and one seed is one observation."
    return (
        f"{first}; the published ranking (rank of synergy minus redundancy) peaks at depth "
        f"{depth:.2f}, and {share:.0%} of its variance over units follows self-information; "
        "one model and one seed is one observation."
    )

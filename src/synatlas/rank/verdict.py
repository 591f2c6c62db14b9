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
        Findings: ``core``, ``integration``, one ``synergy_over_<null>`` per null,
        ``mmi_and_ccs``, ``published_profile``, ``text_profile``, ``integration_profile``,
        ``random_weights``, ``sensitivity``, ``other_models``.
    """
    core = core_finding(atlas)
    published = shape_finding(
        atlas,
        "published_profile",
        "rank_of_difference",
        "The published ranking (rank of synergy minus redundancy, as the authors' code has it) "
        "rises and then falls over depth.",
    )
    findings = (
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
        headline=_headline(atlas, core, published),
        findings=findings,
        warnings=tuple(json.loads(atlas.attrs["warnings"])),
    )


def _headline(atlas: xr.Dataset, core: Finding, published: Finding) -> str:
    model = atlas.attrs["model"]
    passing, units = core.numbers["units_passing"], atlas.sizes["unit"]
    if core.holds == "yes":
        first = f"{passing:.0f} of {units} units of {model} pass every control for a core"
    elif core.holds == "no":
        first = (
            f"None of {core.numbers['units_judged']:.0f} judged units of {model} passes the "
            f"controls for a synergistic core, and effects above {EQUIVALENCE_MARGIN:.0%} of "
            "mean synergy are excluded"
        )
    elif passing is None:
        first = f"This run cannot tell whether {model} has a synergistic core"
    else:
        first = (
            f"No synergistic core is shown in {model}, and the run cannot show that there is none"
        )
    depth, share = published.numbers["peak_depth"], published.numbers["self_information_share"]
    if depth is None or share is None or atlas.sizes["layer"] < MIN_LAYERS:
        return f"{first}; one model and one seed is one observation."
    return (
        f"{first}; the published ranking (rank of synergy minus redundancy) peaks at depth "
        f"{depth:.2f}, and {share:.0%} of its variance over units follows self-information; "
        "one model and one seed is one observation."
    )

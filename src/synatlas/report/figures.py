"""Every figure of the report, for notebooks too: dataset in, plotly figure out.

>>> figures.profile(atlas, "synergy").show()                      # doctest: +SKIP
"""

from types import MappingProxyType
from typing import Final

from synatlas.rank.findings import JOINT_CAUTION
from synatlas.report.maps import block_size, matrices, unit_map
from synatlas.report.profiles import categories, comparison, nulls, profile
from synatlas.report.scatters import synergy_baseline, synergy_redundancy

__all__ = [
    "CAPTIONS",
    "block_size",
    "categories",
    "comparison",
    "matrices",
    "nulls",
    "profile",
    "synergy_baseline",
    "synergy_redundancy",
    "unit_map",
]

#: How to read each figure, in a sentence or two; the page prints it below the figure.
CAPTIONS: Final = MappingProxyType(
    {
        "profile": (
            "How to read it: the line is the mean over the units of a layer, the band its"
            " bootstrap interval over prompts."
        ),
        "joint_prediction": (
            "How to read it: what the pasts of two units tell of a future together, beyond the"
            " better one of them and beyond what all units share at a step; 0 where each unit"
            " follows its own past. Of all scores it found planted cores best. The band is a"
            f" bootstrap interval over prompts; thin lines are its two parts. {JOINT_CAUTION}"
        ),
        "rank_of_difference": (
            "How to read it: units are ranked by synergy minus redundancy (N is the most"
            " synergistic) and ranks averaged over each layer; the dotted line is what every layer"
            " has where depth does not matter. This definition is that of the published code and"
            " reproduces the published curves (arXiv:2601.06851); it mostly follows synergy alone."
        ),
        "difference_of_ranks": (
            "How to read it: units are ranked by synergy and by redundancy, the ranks subtracted"
            " and averaged over each layer; above the dotted line a layer ranks higher in synergy"
            " than in redundancy. This definition is that of the paper's text and of Luppi's"
            " gradient in brains."
        ),
        "synergy": (
            "How to read it: synergy counts as more than an artefact only where it differs from"
            " the dashed lines, which lie below it by its excess over each null: the same quantity"
            " with one dependence removed. The autocorrelation baseline is what independent series"
            " as self-predictable as these would show."
        ),
        "unit_map": (
            "How to read it: one cell per unit, its layer across and its index within the layer"
            " up; point at a cell for all numbers of that unit. Blank cells are undefined."
        ),
        "matrices": (
            "How to read it: every unit against every other, sorted by layer; bright blocks on the"
            " diagonal are layers whose units share lagged information among themselves. Colours"
            " end at the 1st and 99th percentile."
        ),
        "synergy_redundancy": (
            "How to read it: one point per unit; units above the cloud have more synergy than"
            " others of equal redundancy. Colour is depth."
        ),
        "synergy_baseline": (
            "How to read it: points near the dashed line have the synergy that their own"
            " autocorrelation produces without any interaction (Varley, arXiv:2407.16601); colour"
            " is depth."
        ),
        "nulls": (
            "How to read it: dots are units, the line is the mean of a layer's units with its"
            " interval for these prompts, 0 is no excess. cross_prompt and window_shift remove"
            " every dependence between two units; same_step keeps their same-step correlation and"
            " each one's memory and removes lagged coupling. Under minimum mutual information"
            " coupling can lower synergy, so a negative excess is not evidence of absence."
        ),
        "categories": (
            "How to read it: the line is the profile over the prompts of one category, the dashed"
            " grey line that over all prompts; equal shapes mean that the pattern does not depend"
            " on what is asked."
        ),
        "comparison": (
            "How to read it: one line per model with its bootstrap interval over prompts; ranks"
            " are divided by the number of units so that sizes compare."
        ),
    }
)

"""The vocabulary: names of dimensions, of the sixteen atoms, and what each word means."""

from functools import lru_cache
from types import MappingProxyType
from typing import Final

PROMPT: Final = "prompt"
STEP: Final = "step"
POSITION: Final = "position"
UNIT: Final = "unit"
PAIR: Final = "pair"
PAST: Final = "past"
FUTURE: Final = "future"
ROLE: Final = "role"
LAYER: Final = "layer"
SCORE: Final = "score"
NULL: Final = "null"
SURROGATE: Final = "surrogate"
BOOTSTRAP: Final = "bootstrap"
CI_BOUND: Final = "ci_bound"

#: Information roles, the labels of `role`, `past` and `future`: `un1` belongs to the pair's first
#: unit (or to the unit itself in a per-unit grid), `un2` to the second (or to its partners).
ROLES: Final = ("red", "un1", "un2", "syn")

#: Labels of `ci_bound`.
BOUNDS: Final = ("lower", "upper")

#: Short names of the atoms in the literature's order: past letter, `t`, future letter.
SHORT_NAMES: Final = tuple(f"{p}t{f}" for p in "rxys" for f in "rxys")

#: Short name -> (past, future) labels, so that `atom.sel(past=..., future=...)` finds it.
ATOM_LABELS: Final = MappingProxyType(
    {
        f"{p}t{f}": (past, future)
        for p, past in zip("rxys", ROLES, strict=True)
        for f, future in zip("rxys", ROLES, strict=True)
    }
)

#: What each word of the project means.
GLOSSARY: Final = MappingProxyType(
    {
        "unit": "one node of the analysis, for example attention head L07H03, recurrent head L07R03"
        " or expert L07E12",
        "activity": "scalar series of a unit: by default the L2 norm of its output vector",
        "step": "one generated token",
        "prompt": "one prompt; every prompt yields one series per unit",
        "pair": "two units, unordered, stored with unit_a before unit_b",
        "atom": "one of 16 terms of integrated information decomposition, a cell past x future",
        "synergy": "atom[past=syn, future=syn] (sts), in nats",
        "redundancy": "atom[past=red, future=red] (rtr), in nats",
        "tdmi": "time-delayed mutual information I(past pair; future pair), in nats",
        "synergy_per_tdmi": "mean synergy divided by mean tdmi: the share of tdmi that it is",
        "phi_wms": "whole-minus-sum Phi: tdmi less both self-informations, in nats",
        "phi_r": "revised Phi: phi_wms plus redundancy, which it counted twice, in nats",
        "self_information": "I(x_t; x_t+lag) of one series, in nats",
        "joint_prediction": "what two pasts tell of a future beyond the better one and beyond what"
        " all units share, mean over partners and both directions, in nats",
        "score": "a number per unit, from its pairs",
        "rank": "1..N of a score over units, N the highest score",
        "profile": "mean over the units of a layer, as a function of depth in [0, 1]",
        "core": "units that pass every control; the rule is stated where it is used",
        "null": "what the same pipeline yields when one named dependence is removed",
        "excess": "a quantity minus its null",
        "gateway": "unit whose synergy spreads over more layers, by rank, than its redundancy",
        "broadcaster": "unit whose redundancy spreads over more layers, by rank, than its synergy",
        "integration": "pooled revised Phi minus its same-step null, mean over partners, in nats",
    }
)


def unit_label(layer: int, index: int, kind: str = "H") -> str:
    """Label of a unit, such as ``L07H03``: `layer` and `index` count from 0, `kind` one letter."""
    return f"L{layer:02d}{kind}{index:02d}"


@lru_cache(maxsize=4)
def array_labels(count: int) -> tuple[str, ...]:
    """Labels ``u0000``, ``u0001`` ... of the columns of a plain array."""
    return tuple(f"u{i:04d}" for i in range(count))

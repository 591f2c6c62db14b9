"""Tests of an ablation experiment, as an artifact."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, final

import numpy as np
import xarray as xr

from synatlas.artifact import Schema, Variable
from synatlas.intervene.decline import DECLINES

#: Level at which the leading order is called more damaging than random sets: one test, of an order
#: that was named beforehand.
CALLED: Final = 0.01

#: Level for adjusted p, for accuracy (of which there are fewer draws) and for categories; a test
#: that cannot reach it is said to be not resolvable.
LEVEL: Final = 0.05

#: Why a comparison with draws has a number or none.
TESTED, TOO_FEW_DRAWS, TOO_FEW_SETS, LAYERS_DIFFER, NOT_RUN = range(5)
STATUSES: Final = MappingProxyType(
    {
        TESTED: "tested",
        TOO_FEW_DRAWS: "not_resolvable_with_these_draws",
        TOO_FEW_SETS: "not_resolvable_with_these_sets",
        LAYERS_DIFFER: "layers_differ",
        NOT_RUN: "not_run",
    }
)

_ORDER: Final = ("outcome", "order")


def level_of(outcome: str) -> float:
    """Level at which the leading order is called by an outcome."""
    return LEVEL if outcome == "lost_accuracy" else CALLED


_AMONG: Final = (*_ORDER, "control")


def _number(long_name: str, *dims: str, units: str = "1", dtype: str = "f8") -> Variable:
    return Variable(dims=dims, dtype=dtype, units=units, long_name=long_name)


def _with_interval(name: str, long_name: str, *dims: str) -> dict[str, Variable]:
    return {
        name: _number(long_name, *dims),
        f"{name}_interval": _number(f"interval of {name}", *dims, "ci_bound"),
    }


#: Damage is in nats for the outcomes kl and reverse_kl, a share for disagreement and
#: lost_accuracy. Variables without the dimension `tested` are over the tested numbers of units
#: together. Intervals are over samples (prompts or questions) and, where draws are averaged, over
#: the draws.
ABLATION_TESTS: Final = Schema(
    name="ablation_tests",
    version=1,
    variables={
        "damage": _number("mean damage", *_ORDER, "tested"),
        "damage_interval": _number("interval of damage", *_ORDER, "tested", "ci_bound"),
        "control_damage": _number("mean damage of the draws", "outcome", "control", "tested"),
        "control_quantile": _number(
            "5 % and 95 % quantile of the draws", "outcome", "control", "tested", "quantile"
        ),
        "draws": _number("draws compared with", *_AMONG, dtype="i4"),
        "status": Variable(
            dims=_AMONG, dtype="i1", units="1", long_name="what the comparison is",
            flags=STATUSES,
        ),
        "p_more": _number("p of damage as great among the draws", *_AMONG),
        "p_less": _number("p of damage as small among the draws", *_AMONG),
        "q_more": _number("p_more adjusted over the orders", *_AMONG),
        "q_less": _number("p_less adjusted over the orders", *_AMONG),
        "effect": _number("damage above the mean draw in SDs of the draws", *_AMONG),
        "p_more_at": _number("p_more at one number of units", *_AMONG, "tested"),
        "p_less_at": _number("p_less at one number of units", *_AMONG, "tested"),
        "effect_at": _number("effect at one number of units", *_AMONG, "tested"),
        "quantile_at": _number("share of draws that are less damaging", *_AMONG, "tested"),
        **_with_interval("ratio_at", "damage over that of the mean draw", *_AMONG, "tested"),
        "ratio_called_at": _number(
            "ratio to the mean draw above which a set of that size would be called",
            "outcome", "control", "tested",
        ),
        "distinct_sets": _number("sets that the control can draw", "order", "control", "tested"),
        **_with_interval("area", "area under damage over the share of units", *_ORDER),
        **_with_interval("area_ratio", "area over that of the mean draw", *_AMONG),
        **_with_interval("area_difference", "area less that of the mean draw", *_AMONG),
        **_with_interval(
            "area_ratio_to", "area over that of another order", *_ORDER, "reference"
        ),
        **_with_interval(
            "oracle_share", "share of the oracle's area above random that the order has", *_ORDER
        ),
        "decline": Variable(
            dims=("order",), dtype="i1", units="1", long_name="how kl grows", flags=DECLINES
        ),
        "decline_aicc": _number("AICc of the form", "order", "form"),
        "decline_support": _number("share of prompt bootstraps that agree", "order"),
        "jump_share": _number("largest rise in one step over the largest kl", "order"),
        "jump_at": _number("units ablated after the largest rise", "order", dtype="i4"),
        "control_jump_share": _number("jump_share, mean over draws", "control"),
        "order_correlation": _number(
            "Spearman correlation of places with those in another order", "order", "reference"
        ),
        "single_correlation": _number(
            "Spearman correlation of the order with damage of units alone", "order"
        ),
        "single_correlation_in_layers": _number(
            "the same within layers, ranks less the mean of their layer", "order"
        ),
        "single_sum_effect": _number(
            "sum of damage of the units alone above that of depth-matched sets, in their SDs",
            "order", "tested",
        ),
        "category_count": _number("samples of the category", "outcome", "category", dtype="i4"),
        **_with_interval(
            "category_excess", "damage of the leading order less that of the mean draw",
            "outcome", "control", "category",
        ),
        **_with_interval(
            "category_ratio", "damage of the leading order over that of the mean draw",
            "outcome", "control", "category",
        ),
        **_with_interval(
            "contrast", "excess in the abstract categories less that in the others",
            "outcome", "control",
        ),
        "contrast_p": _number("p of a permutation of prompts", "outcome", "control"),
        "contrast_p_sets": _number("two-sided p of the set among the draws", "outcome", "control"),
        **_with_interval(
            "contrast_log", "the same of the logarithm of the ratio", "outcome", "control"
        ),
        "contrast_log_p": _number("p of a permutation of prompts", "outcome", "control"),
        "noise_floor": _number("greatest kl of a row that keeps all units", units="nat"),
        "least_p": _number("smallest p that so many draws can give", "outcome", "control"),
    },
    coords={
        **{
            name: Variable(dims=(name,), dtype="str", units="", long_name=meaning)
            for name, meaning in {
                "outcome": "what is lost",
                "order": "order of units",
                "control": "random sets",
                "reference": "order that is compared with",
                "category": "category of prompts or questions",
                "form": "form of a curve",
                "ci_bound": "bound",
            }.items()
        },
        "tested": Variable(dims=("tested",), dtype="i4", units="1", long_name="units ablated"),
        "quantile": Variable(dims=("quantile",), dtype="f8", units="1", long_name="quantile"),
    },
    # leading: the order whose layers the depth-matched draws copy. abstract: categories that
    # `contrast` puts against the others. seed, resamples: of bootstraps and permutations.
    attrs=(
        "model", "model_revision", "ablation", "leading", "abstract", "seed", "resamples",
        "ci_prob",
    ),
)  # fmt: skip


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sheet:
    """The variables of the artifact as arrays, while they are filled in.

    Parameters
    ----------
    labels : of every dimension.
    values : of every variable.
    """

    labels: Mapping[str, Sequence[Any]]
    values: Mapping[str, np.ndarray]

    @classmethod
    def blank(cls, labels: Mapping[str, Sequence[Any]]) -> "Sheet":
        """Every variable undefined, every comparison not run."""
        values = {}
        for name, declared in ABLATION_TESTS.variables.items():
            shape = tuple(len(labels[dim]) for dim in declared.dims)
            empty = np.nan if declared.dtype.startswith("f") else 0
            values[name] = np.full(shape, empty, dtype=declared.dtype)
        values["status"][:] = NOT_RUN
        return cls(labels=labels, values=values)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.values[name]

    def dataset(self) -> xr.Dataset:
        """As a dataset, without attributes."""
        declared = ABLATION_TESTS.coords
        kinds = {name: None if one.dtype == "str" else one.dtype for name, one in declared.items()}
        coords = {
            name: (name, np.array(labels, dtype=kinds[name] or str))
            for name, labels in self.labels.items()
        }
        dims = {name: ABLATION_TESTS.variables[name].dims for name in self.values}
        return xr.Dataset({name: (dims[name], v) for name, v in self.values.items()}, coords=coords)

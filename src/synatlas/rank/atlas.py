"""Atlas: scores, ranks, profiles over depth, controls and the verdict."""

from collections.abc import Mapping
from types import MappingProxyType

from synatlas.artifact import Schema, Variable
from synatlas.inference import P_COUNTED, P_STUDENT, P_UNRESOLVED
from synatlas.rank import topology
from synatlas.rank.controls import CORE, NOT_ASSESSABLE, OUTSIDE


def _unit(
    units: str,
    long_name: str,
    *lead: str,
    dtype: str = "f8",
    required: bool = True,
    tail: tuple[str, ...] = (),
    flags: Mapping[int, str] = MappingProxyType({}),
) -> Variable:
    return Variable(
        dims=(*lead, "unit", *tail),
        dtype=dtype,
        units=units,
        long_name=long_name,
        required=required,
        flags=flags,
    )


def _null(
    dtype: str,
    units: str,
    long_name: str,
    *tail: str,
    flags: Mapping[int, str] = MappingProxyType({}),
) -> Variable:
    return Variable(
        dims=("null", *tail), dtype=dtype, units=units, long_name=long_name, flags=flags
    )


def _score(long_name: str, *tail: str, units: str = "1") -> Variable:
    return Variable(dims=("score", *tail), dtype="f8", units=units, long_name=long_name)


#: `score` lists every score for which a profile is given; a variable of the same name on `unit`
#: holds its values. `control` lists the three controls; the partial correlation with one holds
#: the other two constant. Intervals of profiles are over prompts; intervals of shape numbers
#: (curvature, rise, fall, mid_minus_ends) are over prompts and the units of every layer.
#: Pooled scores (integration ...) and joint prediction exist for all prompts together: no
#: split_half, no categories.
ATLAS = Schema(
    name="atlas",
    version=3,
    variables={
        "joint_prediction": _unit(
            "nat", "what two pasts tell of a future beyond the better one, mean over partners"
        ),
        "joint_prediction_linear": _unit("nat", "linear part of joint prediction"),
        "joint_prediction_interaction": _unit("nat", "interaction part of joint prediction"),
        "joint_prediction_interval": _unit(
            "nat", "jackknife interval of joint prediction", tail=("ci_bound",)
        ),
        "joint_prediction_q": _unit("1", "FDR-adjusted p of joint prediction > 0, over units"),
        "joint_prediction_linear_interval": _unit(
            "nat", "jackknife interval of its linear part", tail=("ci_bound",)
        ),
        "joint_prediction_linear_q": _unit(
            "1", "FDR-adjusted p of its linear part > 0, over units"
        ),
        "joint_prediction_interaction_interval": _unit(
            "nat", "jackknife interval of its interaction part", tail=("ci_bound",)
        ),
        "joint_prediction_interaction_q": _unit(
            "1", "FDR-adjusted p of its interaction part > 0, over units"
        ),
        "synergy": _unit("nat", "synergy (sts), mean over prompts and partners"),
        "redundancy": _unit("nat", "redundancy (rtr), mean over prompts and partners"),
        "tdmi": _unit("nat", "time-delayed mutual information, mean over prompts and partners"),
        "transfer": _unit("nat", "transfer (un1 to un2 and back), mean over prompts and partners"),
        "phi_r": _unit("nat", "revised Phi, mean over prompts and partners"),
        "phi_wms": _unit("nat", "TDMI less both self-informations: revised Phi minus redundancy"),
        "balance": _unit("1", "synergy / (synergy + redundancy)"),
        "synergy_per_tdmi": _unit("1", "mean synergy / mean tdmi; NaN where tdmi is not positive"),
        "redundancy_per_tdmi": _unit(
            "1", "mean redundancy / mean tdmi; NaN where tdmi is not positive"
        ),
        "synergy_ccs": _unit("nat", "synergy under CCS redundancy", required=False),
        "self_information": _unit("nat", "information of a series about itself one lag later"),
        "autocorrelation_baseline": _unit(
            "nat", "synergy expected of independent series: 2 min of the two self-informations"
        ),
        "integration": _unit("nat", "pooled revised Phi over its same-step null"),
        "integration_transfer": _unit("nat", "pooled transfer over its same-step null"),
        "integration_interval": _unit(
            "nat", "bootstrap interval of integration minus its bias", tail=("ci_bound",)
        ),
        "integration_bias": _unit(
            "nat", "bootstrap estimate of the bias of integration, not taken off it"
        ),
        "integration_q": _unit("1", "FDR-adjusted p of integration > 0, over units"),
        "rank_of_difference": _unit("1", "rank of (synergy - redundancy), N most synergistic"),
        "difference_of_ranks": _unit("1", "rank of synergy minus rank of redundancy"),
        "rank_interval": _unit("1", "bootstrap interval of rank_of_difference", tail=("ci_bound",)),
        "excess": _unit("nat", "synergy minus the mean of its null", "null"),
        "excess_redundancy": _unit("nat", "redundancy minus the mean of its null", "null"),
        "excess_z": _unit("1", "synergy excess in standard deviations of the null", "null"),
        "excess_p_greater": _unit("1", "p of synergy above its null", "null"),
        "excess_p_less": _unit("1", "p of synergy below its null", "null"),
        "excess_interval": _unit(
            "nat", "interval of the synergy excess, for these prompts", "null", tail=("ci_bound",)
        ),
        "excess_q": _unit("1", "FDR-adjusted p of synergy above every accepted null, over units"),
        "excess_q_less": _unit("1", "FDR-adjusted p of synergy below every accepted null"),
        "null_surrogates": _null("i4", "1", "surrogates of the null"),
        "null_p_method": _null(
            "i1",
            "1",
            "how p is obtained",
            flags={P_UNRESOLVED: "unresolved", P_COUNTED: "counted", P_STUDENT: "student"},
        ),
        "null_effect": _null("f8", "nat", "synergy excess, mean over units"),
        "null_effect_interval": _null(
            "f8", "nat", "interval of the mean excess, for these prompts", "ci_bound"
        ),
        "null_minimum_detectable": _null(
            "f8", "nat", "excess that a lone unit needs to be called with 80 % power"
        ),
        "null_self_information_error": _null("f8", "1", "matching error: self-information"),
        "null_same_step_error": _null("f8", "1", "matching error: same-step correlation"),
        "null_accepted": _null(
            "i1",
            "1",
            "self-information within 2 % of the data's",
            flags={0: "refused", 1: "accepted"},
        ),
        "core_recurrence": _unit(
            "1", "least share of prompt bootstraps in which the unit qualifies"
        ),
        "core": _unit(
            "1",
            "unit passes every control",
            dtype="i1",
            flags={NOT_ASSESSABLE: "not_assessable", OUTSIDE: "outside", CORE: "core"},
        ),
        "profile": _score("mean over the units of the layer", "layer"),
        "profile_interval": _score("bootstrap interval of the profile", "layer", "ci_bound"),
        "profile_null": _null("f8", "nat", "mean synergy of the layer under the null", "layer"),
        "profile_excess": _null("f8", "nat", "mean synergy excess of the layer", "layer"),
        "profile_excess_interval": _null(
            "f8", "nat", "interval of the layer's excess, for these prompts", "layer", "ci_bound"
        ),
        "category_profile": Variable(
            dims=("category", "score", "layer"),
            dtype="f8",
            units="1",
            long_name="profile over the prompts of one category",
        ),
        "curvature": _score("leading coefficient of a quadratic in depth, profile min-maxed"),
        "curvature_interval": _score("bootstrap interval of the curvature", "ci_bound"),
        "rise": _score("slope of the first of two lines, min-maxed profile per unit depth"),
        "rise_interval": _score("bootstrap interval of the first slope", "ci_bound"),
        "fall": _score("slope of the second of two lines"),
        "fall_interval": _score("bootstrap interval of the second slope", "ci_bound"),
        "turn": _score("depth where the two lines meet"),
        "mid_minus_ends": _score("mean of the middle third of depth minus mean of the ends"),
        "mid_minus_ends_interval": _score("bootstrap interval", "ci_bound"),
        "layer_permutation_p": _score("p of the curvature if layers were exchangeable"),
        "split_half": _score("Spearman correlation of the score between halves of the prompts"),
        "partial_correlation": _score("partial Spearman correlation with the control", "control"),
        "correlation": _score("Spearman correlation with the control", "control"),
        **topology.VARIABLES,
    },
    coords={
        "unit": Variable(dims=("unit",), dtype="str", units="", long_name="unit label"),
        "unit_layer": Variable(dims=("unit",), dtype="i4", units="1", long_name="layer, from 0"),
        "index": Variable(dims=("unit",), dtype="i4", units="1", long_name="index in the layer"),
        "kind": Variable(dims=("unit",), dtype="str", units="", long_name="kind of unit"),
        "kv_group": Variable(dims=("unit",), dtype="i4", units="1", long_name="key/value group"),
        "score": Variable(dims=("score",), dtype="str", units="", long_name="score"),
        "null": Variable(dims=("null",), dtype="str", units="", long_name="null"),
        "layer": Variable(dims=("layer",), dtype="i4", units="1", long_name="layer, from 0"),
        "depth": Variable(dims=("layer",), dtype="f8", units="1", long_name="layer / (layers - 1)"),
        "ci_bound": Variable(dims=("ci_bound",), dtype="str", units="", long_name="bound"),
        "control": Variable(dims=("control",), dtype="str", units="", long_name="control"),
        "category": Variable(dims=("category",), dtype="str", units="", long_name="category"),
        **topology.COORDS,
    },
    # verdict: JSON, see synatlas.rank.verdict. warnings: JSON list of sentences.
    # core_missing: JSON list of what the call of the core lacks; empty where it was made.
    attrs=(
        "model",
        "model_revision",
        "n_layers",
        "seed",
        "bootstrap",
        "ci_prob",
        "topology_draws",
        "topology_density",
        "core_missing",
        "verdict",
        "warnings",
    ),
)

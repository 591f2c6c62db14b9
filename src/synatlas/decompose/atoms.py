"""Atoms: the sixteen terms of every pair, of every unit per prompt, and of the nulls."""

from synatlas.artifact import Schema, Variable

_UNIT_GRID = ("unit", "past", "future")

#: Meaning of `status`. The values are stored with the artifact as CF flags.
STATUS = {
    0: "ok",
    1: "constant",
    2: "duplicate",
    3: "deterministic",
    4: "too_short",
    5: "nonfinite",
}


def _grid(*lead: str, long_name: str, required: bool = True) -> Variable:
    return Variable(
        dims=(*lead, *_UNIT_GRID), dtype="f8", units="nat", long_name=long_name, required=required
    )


#: Grids per unit are oriented: `un1` is the unit itself, `un2` its partner, and are means over
#: partners whose pair is defined. `null` lists the surrogate nulls that were run (may be empty).
#: Means over prompts of the pseudo-values of joint prediction are its estimates.
ATOMS = Schema(
    name="atoms",
    version=2,
    variables={
        "atom": Variable(
            dims=("pair", "past", "future"),
            dtype="f8",
            units="nat",
            long_name="atom, mean over prompts",
        ),
        "tdmi": Variable(
            dims=("pair",),
            dtype="f8",
            units="nat",
            long_name="time-delayed mutual information, mean over prompts",
        ),
        "status": Variable(
            dims=("pair",),
            dtype="i1",
            units="1",
            long_name="why a pair is undefined in any prompt",
            flags=STATUS,
        ),
        "n_defined": Variable(
            dims=("pair",), dtype="i4", units="1", long_name="prompts in which the pair is defined"
        ),
        "same_step_correlation": Variable(
            dims=("pair",),
            dtype="f8",
            units="1",
            long_name="correlation of the two series at the same step, mean over prompts",
        ),
        "unit_atom": _grid("prompt", long_name="atom, mean over partners"),
        "unit_atom_ccs": _grid(
            "prompt", long_name="atom under CCS redundancy, mean over partners", required=False
        ),
        "self_information": Variable(
            dims=("prompt", "unit"),
            dtype="f8",
            units="nat",
            long_name="I(x_t; x_t+lag) of the unit's own series",
        ),
        "unit_same_step": Variable(
            dims=("prompt", "unit"),
            dtype="f8",
            units="1",
            long_name="absolute same-step correlation, mean over partners",
        ),
        "unit_trend": Variable(
            dims=("prompt", "unit"),
            dtype="f8",
            units="1",
            long_name="share of the series' variance explained by a straight line over steps",
        ),
        "joint_prediction_linear": Variable(
            dims=("prompt", "unit"),
            dtype="f8",
            units="nat",
            long_name="linear part of joint prediction, jackknife pseudo-value",
        ),
        "joint_prediction_interaction": Variable(
            dims=("prompt", "unit"),
            dtype="f8",
            units="nat",
            long_name="interaction part of joint prediction, jackknife pseudo-value",
        ),
        "null_observed": _grid(
            "null", long_name="observed mean over prompts, prepared as the null"
        ),
        "null_draw": _grid("null", "surrogate", long_name="mean over prompts under the null"),
        "null_mean": _grid("null", long_name="mean over surrogates"),
        "null_sd": _grid("null", long_name="standard deviation over surrogates"),
        "null_self_information_error": Variable(
            dims=("null",),
            dtype="f8",
            units="1",
            long_name="mean self-information of the null divided by that of the data, minus 1",
        ),
        "null_same_step_error": Variable(
            dims=("null",),
            dtype="f8",
            units="1",
            long_name="mean absolute same-step correlation of the null minus that of the data",
        ),
        "pooled_atom": _grid(long_name="atom of correlations pooled over prompts"),
        "same_step_atom": _grid(
            long_name="atom of pooled correlations under the same-step null (closed form)"
        ),
        "pooled_excess_draw": _grid(
            "bootstrap",
            long_name="pooled atom minus same-step null, prompts drawn with replacement",
        ),
        "pooled_noise_draw": _grid(
            "bootstrap",
            long_name="the same where nothing is coupled, departures of prompts with random signs",
        ),
    },
    coords={
        "unit_a": Variable(dims=("pair",), dtype="str", units="", long_name="first unit"),
        "unit_b": Variable(dims=("pair",), dtype="str", units="", long_name="second unit"),
        "past": Variable(dims=("past",), dtype="str", units="", long_name="role in the past"),
        "future": Variable(dims=("future",), dtype="str", units="", long_name="role in the future"),
        "prompt": Variable(dims=("prompt",), dtype="str", units="", long_name="prompt id"),
        "category": Variable(dims=("prompt",), dtype="str", units="", long_name="category"),
        "repetition": Variable(
            dims=("prompt",),
            dtype="f8",
            units="1",
            long_name="share of steps whose token repeats the one a fixed period earlier",
        ),
        "unit": Variable(dims=("unit",), dtype="str", units="", long_name="unit label"),
        "layer": Variable(dims=("unit",), dtype="i4", units="1", long_name="layer, from 0"),
        "index": Variable(dims=("unit",), dtype="i4", units="1", long_name="index in the layer"),
        "kind": Variable(dims=("unit",), dtype="str", units="", long_name="kind of unit"),
        "kv_group": Variable(dims=("unit",), dtype="i4", units="1", long_name="key/value group"),
        "null": Variable(dims=("null",), dtype="str", units="", long_name="null"),
    },
    attrs=(
        "model",
        "model_revision",
        "n_layers",
        "lag",
        "redundancy",
        "estimator",
        "seed",
        "steps",
    ),
)

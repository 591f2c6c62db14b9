"""Recording: the scalar activity of every unit at every generated token of every prompt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import xarray as xr
from jaxtyping import Float, Int, Int8

from synatlas.artifact import Schema, Variable, finish
from synatlas.models.units import UnitTable
from synatlas.record.doubts import ROUTES
from synatlas.record.reductions import Directions

#: One series per (prompt, unit). `activity[t]` is taken at the position that produces `token[t]`,
#: so the first sample is the last prompt position ("producing" alignment).
RECORDING = Schema(
    name="recording",
    version=1,
    variables={
        "activity": Variable(
            dims=("prompt", "step", "unit"),
            dtype="f4",
            units="1",
            long_name="activity of the unit, NaN from n_steps on",
        ),
        "token": Variable(
            dims=("prompt", "step"),
            dtype="i4",
            units="1",
            long_name="generated token id, -1 from n_steps on",
        ),
        "logprob": Variable(
            dims=("prompt", "step"),
            dtype="f4",
            units="nat",
            long_name="log-probability of the token under the unmodified model",
        ),
        "token_end": Variable(
            dims=("prompt", "step"),
            dtype="i4",
            units="1",
            long_name="characters of reply up to the end of the token, -1 from n_steps on",
            required=False,
        ),
        "prompt_token": Variable(
            dims=("prompt", "position"),
            dtype="i4",
            units="1",
            long_name="prompt token id, -1 where there is none",
        ),
        "routed": Variable(
            dims=("prompt", "step", "unit"),
            dtype="i1",
            units="1",
            long_name="whether the unit was computed for the token",
            required=False,
            flags={-1: "no_step", 0: "passed_by", 1: "computed"},
        ),
        "n_steps": Variable(
            dims=("prompt",),
            dtype="i4",
            units="1",
            long_name="recorded steps of the prompt",
        ),
        "direction": Variable(
            dims=("unit", "feature"),
            dtype="f4",
            units="1",
            long_name="what activity is the projection on, of length 1, 0 for outputs that do not "
            "vary, NaN beyond a unit's width",
            required=False,
        ),
        "direction_share": Variable(
            dims=("unit",),
            dtype="f8",
            units="1",
            long_name="share of the variance of the unit's output along its fitted direction",
            required=False,
        ),
        "live_replay_unit_error": Variable(
            dims=("unit",),
            dtype="f4",
            units="1",
            long_name="self-test: greatest relative difference of activity, read while generating "
            "against replayed",
            required=False,
        ),
        "recomputed_unit_error": Variable(
            dims=("unit",),
            dtype="f4",
            units="1",
            long_name="self-test: greatest relative difference of activity from a second "
            "computation, NaN where there is none",
            required=False,
        ),
        "second_route": Variable(
            dims=("unit",),
            dtype="i1",
            units="1",
            long_name="self-test: how activity was computed again",
            required=False,
            flags=dict(ROUTES),
        ),
    },
    coords={
        "prompt": Variable(dims=("prompt",), dtype="str", units="", long_name="prompt id"),
        "unit": Variable(dims=("unit",), dtype="str", units="", long_name="unit label"),
        "layer": Variable(dims=("unit",), dtype="i4", units="1", long_name="layer, from 0"),
        "index": Variable(
            dims=("unit",), dtype="i4", units="1", long_name="index within the layer, from 0"
        ),
        "kind": Variable(dims=("unit",), dtype="str", units="", long_name="kind of unit"),
        "kv_group": Variable(
            dims=("unit",),
            dtype="i4",
            units="1",
            long_name="key/value group within the layer, -1 where there is none",
        ),
        "category": Variable(dims=("prompt",), dtype="str", units="", long_name="category"),
        "text": Variable(
            dims=("prompt",), dtype="str", units="", long_name="prompt as the user wrote it"
        ),
        "rendered": Variable(
            dims=("prompt",), dtype="str", units="", long_name="prompt as the model saw it"
        ),
        "reply": Variable(dims=("prompt",), dtype="str", units="", long_name="generated text"),
    },
    # model: name as given; model_revision: commit or content hash; n_layers: decoder layers.
    # alignment: "producing", or "document" where sample t is taken at the position of token t.
    # capture: "replay" where units were read in a pass over the tokens, "live" where they were read
    # while the model generated them; recordings without it were replayed.
    # live_replay_error: greatest relative difference of activities, live against replayed.
    # taps_logit_error: greatest absolute difference of logits with taps and without, and
    # repeat_logit_error: of two passes without; neither in recordings of earlier versions.
    # policy: what the activity of a routed expert is, and rerouted: the share of choices of experts
    # that differ, live against replayed; both where some unit is an expert.
    # non_finite_series: series (prompt, unit) with a value that is not finite before n_steps.
    attrs=(
        "model",
        "model_revision",
        "model_type",
        "n_layers",
        "site",
        "reduce",
        "alignment",
        "prompt_style",
        "end_of_sequence",
        "decoding",
        "dtype",
        "live_replay_error",
        "non_finite_series",
    ),
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Who each row is: ids, categories, and the texts before, as and after the model saw them.

    `ends` says where in its reply each token ends, see
    :func:`synatlas.record.decoded.token_ends`.
    """

    ids: Sequence[str]
    categories: Sequence[str]
    texts: Sequence[str]
    rendered: Sequence[str]
    replies: Sequence[str]
    ends: Sequence[Sequence[int]]


def assemble(
    *,
    activity: Float[np.ndarray, "prompt step unit"],
    logprob: Float[np.ndarray, "prompt step"],
    routed: Int8[np.ndarray, "prompt step unit"] | None,
    tokens: Sequence[Sequence[int]],
    prompt_tokens: Sequence[Sequence[int]],
    labels: Labels,
    units: UnitTable,
    directions: Directions | None,
    tested: Mapping[str, np.ndarray],
    attrs: Mapping[str, object],
    fingerprint: str,
) -> xr.Dataset:
    """Put what was recorded into the form of :data:`RECORDING`.

    Parameters
    ----------
    activity : NaN from a prompt's last step on.
    logprob : of each token, in nats; likewise.
    routed : whether each unit was computed, -1 from a prompt's last step on; None where no unit
        is routed.
    tokens : recorded tokens of each prompt.
    prompt_tokens : tokens before them.
    labels : texts; they must be free of NUL and lone surrogates.
    units : the columns of `activity`.
    directions : what `activity` is the projection on, if it is one.
    tested : figures of the self-test for each unit, by their names.
    attrs : the schema's attributes but for those that are counted here.
    fingerprint : of the recording.
    """
    n_steps = np.array([len(row) for row in tokens], dtype=np.int32)
    recorded = np.arange(activity.shape[1])[None, :, None] < n_steps[:, None, None]
    broken = (~np.isfinite(activity) & recorded).any(axis=1)
    dataset = xr.Dataset(
        data_vars={
            "activity": (("prompt", "step", "unit"), activity.astype(np.float32, copy=False)),
            "token": (("prompt", "step"), _filled(tokens, activity.shape[1])),
            "logprob": (("prompt", "step"), logprob.astype(np.float32, copy=False)),
            "token_end": (("prompt", "step"), _filled(labels.ends, activity.shape[1])),
            "prompt_token": (("prompt", "position"), _filled(prompt_tokens, 1)),
            "n_steps": (("prompt",), n_steps),
            **_directions(directions),
            **{name: (("unit",), values) for name, values in tested.items()},
            **({} if routed is None else {"routed": (("prompt", "step", "unit"), routed)}),
        },
        coords={
            "prompt": (("prompt",), _text(labels.ids)),
            "category": (("prompt",), _text(labels.categories)),
            "text": (("prompt",), _text(labels.texts)),
            "rendered": (("prompt",), _text(labels.rendered)),
            "reply": (("prompt",), _text(labels.replies)),
            "unit": (("unit",), _text(units.label)),
            "layer": (("unit",), units.layer),
            "index": (("unit",), units.index),
            "kind": (("unit",), _text(units.kind)),
            "kv_group": (("unit",), units.kv_group),
        },
        attrs={**attrs, "n_layers": units.n_layers, "non_finite_series": int(broken.sum())},
    )
    return finish(dataset, RECORDING, fingerprint=fingerprint)


def _directions(directions: Directions | None) -> dict[str, Any]:
    if directions is None:
        return {}
    variables: dict[str, Any] = {"direction": (("unit", "feature"), directions.table())}
    if directions.share is not None:
        variables["direction_share"] = (("unit",), directions.share)
    return variables


def _text(values: Sequence[str]) -> np.ndarray:
    return np.array(list(values), dtype=str)


def _filled(rows: Sequence[Sequence[int]], at_least: int) -> Int[np.ndarray, "prompt place"]:
    """Rows of different length in one array, -1 where a row has nothing."""
    filled = np.full((len(rows), max(at_least, *map(len, rows))), -1, dtype=np.int32)
    for row, values in zip(filled, rows, strict=True):
        row[: len(values)] = values
    return filled

"""Recording: the scalar activity of every unit at every generated token of every prompt."""

from synatlas.artifact import Schema, Variable

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
        "prompt_token": Variable(
            dims=("prompt", "position"),
            dtype="i4",
            units="1",
            long_name="prompt token id, -1 where there is none",
        ),
        "n_steps": Variable(
            dims=("prompt",),
            dtype="i4",
            units="1",
            long_name="recorded steps of the prompt",
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
    # live_replay_error: greatest relative difference of norms, live against replayed.
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
    ),
)

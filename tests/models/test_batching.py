"""Rows share a batch where that changes no value, and only there."""

import numpy as np
import pytest

from synatlas.models import batching
from synatlas.models.batching import Batching, batching_of, groups
from synatlas.record.record import record, replay
from tiny_models import TinyModel

PROMPTS = ["Why?", "Tell me of the sea.", "Who?", "What now, then?"]


@pytest.mark.parametrize(
    ("name", "generate"),
    [
        ("llama", "padded"),
        ("opt", "padded"),
        ("bloom", "padded"),
        ("mixtral", "padded"),
        ("mamba2", "padded"),
        ("qwen3_5_text", "padded"),
        # Its convolution reads the padding.
        ("recurrent_gemma", "equal"),
        # It knows no padding.
        ("xlstm", "equal"),
        # Its attention layers miss the mask once there is a cache.
        ("minimax", "equal"),
        # Its cached states mix the rows of a batch.
        ("rwkv", "alone"),
    ],
)
def test_which_rows_share_a_batch(name: str, generate: str, tiny_model: TinyModel) -> None:
    assert batching_of(tiny_model(name).model) == Batching(generate=generate, replay="padded")


@pytest.mark.parametrize("name", ["recurrent_gemma", "rwkv"])
def test_a_batch_is_what_each_prompt_is_alone(name: str, tiny_model: TinyModel) -> None:
    model = tiny_model(name)
    options = {"tokens": 8, "units": "all", "prompt_style": "raw"}
    together = record(model, PROMPTS, batch_size=4, **options)
    for i, prompt in enumerate(PROMPTS):
        alone = record(model, [prompt], batch_size=1, **options)
        assert together["reply"].values[i] == alone["reply"].values[0]
        assert np.allclose(together["activity"][i], alone["activity"][0], rtol=1e-5, atol=1e-7)
        assert np.allclose(together["logprob"][i], alone["logprob"][0], atol=1e-5)


def test_rows_of_given_tokens_keep_their_order(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("recurrent_gemma")
    rows = [[*range(5, 25)], [*range(40, 50)], [*range(60, 80)]]
    expected = replay(model, rows, 4, units="all")
    equal = Batching(generate="equal", replay="equal")
    monkeypatch.setitem(batching._KNOWN, model.model, equal)
    found = replay(model, rows, 4, units="all")
    assert np.allclose(found["activity"], expected["activity"], rtol=1e-5, equal_nan=True)
    assert np.allclose(found["logprob"], expected["logprob"], atol=1e-5, equal_nan=True)


def test_groups() -> None:
    lengths = [4, 2, 4, 3, 2]
    assert groups(lengths, "padded") == [[0, 1, 2, 3, 4]]
    assert groups(lengths, "equal") == [[1, 4], [3], [0, 2]]
    assert groups(lengths, "alone") == [[1], [4], [3], [0], [2]]

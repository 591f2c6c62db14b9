"""The stage as a whole: what a recording holds, and what does not change it."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from synatlas.artifact import open_artifact, save
from synatlas.errors import ConfigError
from synatlas.models.load import LanguageModel
from synatlas.record.batches import split
from synatlas.record.generate import continued, greedy
from synatlas.record.record import choose_batch_size, record, record_fingerprint, replay
from synatlas.tasks.prompts import Prompts
from tiny_models import TinyModel, as_language_model, tiny_network, tiny_tokenizer

PROMPTS = Prompts(
    ids=("a", "b", "c", "d", "e"),
    texts=("One two three", "Why?", "A rather longer prompt than the rest", "Tell me", "So"),
    categories=("x", "x", "y", "y", "y"),
)
captures_module = sys.modules["synatlas.record.captures"]


@pytest.fixture(scope="module")
def model(tiny_model: TinyModel) -> LanguageModel:
    return tiny_model("llama")


@pytest.fixture(scope="module")
def recording(model: LanguageModel) -> xr.Dataset:
    return record(model, PROMPTS, tokens=16, batch_size=2)


def same_values(one: xr.Dataset, other: xr.Dataset) -> None:
    """Equal to rounding, tokens exactly."""
    assert one.attrs["fingerprint"] == other.attrs["fingerprint"]
    np.testing.assert_array_equal(one["token"], other["token"])
    for name in ("activity", "logprob"):
        np.testing.assert_allclose(one[name], other[name], rtol=1e-5, atol=1e-6)


def test_contents(recording: xr.Dataset, model: LanguageModel) -> None:
    assert dict(recording.sizes) == {"prompt": 5, "step": 16, "unit": 8, "position": 54}
    assert recording["prompt"].values.tolist() == list(PROMPTS.ids)
    assert recording["text"].values.tolist() == list(PROMPTS.texts)
    assert recording["rendered"].values[1] == "Question: Why?\nAnswer:"
    ids = model.tokenizer("Question: Why?\nAnswer:")["input_ids"]
    stored = recording["prompt_token"].values[1]
    assert stored[: len(ids)].tolist() == ids
    assert (stored[len(ids) :] == -1).all()
    assert (
        recording["token"].values[1].tolist()
        == greedy(model, [ids], tokens=16, stop_at_eos=False)[0]
    )
    assert recording["reply"].values[1] == model.tokenizer.decode(recording["token"].values[1])
    ends = recording["token_end"].values
    assert (np.diff(ends, axis=1) >= 0).all()
    assert ends[:, -1].tolist() == [len(text) for text in recording["reply"].values]
    assert (recording["n_steps"] == 16).all()
    assert recording["kv_group"].values.tolist() == [0, 0, 1, 1] * 2
    assert recording.attrs["live_replay_error"] < 1e-5
    assert recording.attrs["non_finite_series"] == 0
    assert {k: recording.attrs[k] for k in ("prompt_style", "alignment", "end_of_sequence")} == {
        "prompt_style": "question",
        "alignment": "producing",
        "end_of_sequence": "suppressed",
    }


@pytest.mark.parametrize("batch_size", [1, 3, 5, None])
def test_batch_size_changes_nothing(
    recording: xr.Dataset, model: LanguageModel, batch_size: int | None
) -> None:
    same_values(record(model, PROMPTS, tokens=16, batch_size=batch_size), recording)


def test_order_of_prompts_changes_nothing(recording: xr.Dataset, model: LanguageModel) -> None:
    order = [3, 0, 4, 2, 1]
    shuffled = Prompts(
        **{
            f.name: tuple(getattr(PROMPTS, f.name)[i] for i in order)
            for f in dataclasses.fields(Prompts)
        }
    )
    found = record(model, shuffled, tokens=16, batch_size=2).sel(prompt=list(PROMPTS.ids))
    np.testing.assert_array_equal(found["token"], recording["token"])
    np.testing.assert_allclose(found["activity"], recording["activity"], rtol=1e-5)


def test_a_file_gives_it_back(recording: xr.Dataset, tmp_path: Path) -> None:
    path = save(recording, tmp_path / "recording.nc")
    assert open_artifact(path).identical(recording)


def test_odd_text_survives_a_file(model: LanguageModel, tmp_path: Path) -> None:
    texts = ["nul \x00 here", "half \ud83d of a pair", "trailing space \n", "👩‍🔬 ünïcode"]
    made = record(model, texts, tokens=8)
    assert open_artifact(save(made, tmp_path / "r.nc")).identical(made)
    assert made["text"].values[0] == "nul \ufffd here"


def test_fingerprint_needs_no_run_and_follows_what_matters(
    recording: xr.Dataset, model: LanguageModel
) -> None:
    same = record_fingerprint(model, PROMPTS, tokens=16, prompt_style="question")
    assert same == recording.attrs["fingerprint"]
    other = Prompts(ids=PROMPTS.ids, texts=("changed", *PROMPTS.texts[1:]), categories=("",) * 5)
    fresh = dataclasses.replace(model, revision="1" * 40)
    half = dataclasses.replace(model, dtype=torch.bfloat16)
    changed = {
        record_fingerprint(model, PROMPTS, tokens=17),
        record_fingerprint(model, PROMPTS, tokens=16, prompt_style="raw"),
        record_fingerprint(model, PROMPTS, tokens=16, stop_at_eos=True),
        record_fingerprint(model, other, tokens=16),
        record_fingerprint(fresh, PROMPTS, tokens=16),
        record_fingerprint(half, PROMPTS, tokens=16),
    }
    assert len(changed | {same}) == 7


class Killed(BaseException):
    """A process that ends in the middle."""


def test_an_interrupted_recording_resumes_bitwise(
    recording: xr.Dataset, model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def dies_in_the_third_batch(*args: Any, **options: Any) -> list[list[int]]:
        calls.append(len(args[1]))
        if len(calls) == 3:
            raise Killed
        return continued(*args, **options)

    monkeypatch.setattr(captures_module, "continued", dies_in_the_third_batch)
    with pytest.raises(Killed):
        record(model, PROMPTS, tokens=16, batch_size=2, parts=tmp_path)
    stored = sorted(p.name for p in tmp_path.iterdir())
    assert len(stored) == 2
    # What a killed writer leaves, and a part that was cut short, are made again.
    (tmp_path / stored[1]).write_bytes((tmp_path / stored[1]).read_bytes()[:100])
    calls.clear()
    calls.extend([0] * 9)
    resumed = record(model, PROMPTS, tokens=16, batch_size=2, parts=tmp_path)
    assert len(calls) == 11
    assert resumed.identical(recording)
    again = record(model, PROMPTS, tokens=16, batch_size=2, parts=tmp_path)
    assert len(calls) == 11
    assert again.identical(recording)
    record(model, PROMPTS, tokens=17, batch_size=2, parts=tmp_path)
    assert len(calls) == 14


def test_begin_comes_after_the_checks_and_progress_counts(model: LanguageModel) -> None:
    told: list[tuple[str, int, int]] = []
    record(
        model,
        PROMPTS,
        tokens=8,
        batch_size=3,
        begin=lambda rows: told.append(("begin", rows, 0)),
        progress=lambda *step: told.append(step),
    )
    assert told == [("begin", 3, 0), *(("recording", n, 5) for n in (0, 3, 5))]
    told.clear()
    with pytest.raises(ConfigError):
        record(model, PROMPTS, tokens=200, begin=lambda rows: told.append(("begin", rows, 0)))
    assert not told


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"tokens": 7}, "at least 8"),
        ({"units": "neurons"}, "one of heads, recurrent, mixers, experts, all, sublayers"),
        ({"units": "experts"}, "in a loop of its own"),
        ({"policy": "sparse"}, "one of contribution, unweighted, dense"),
        ({"site": "residual"}, "one of z"),
        ({"reduce": "identity"}, "one of norm"),
        ({"prompt_style": "story"}, "one of auto"),
        ({"prompt_style": "chat"}, "chat template"),
        ({"tokens": 90}, "prompt c of 54 tokens, and 90 to generate"),
    ],
)
def test_options_out_of_range(model: LanguageModel, options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        record(model, PROMPTS, **options)


@pytest.mark.parametrize("prompts", [[], "one text"])
def test_no_prompts(model: LanguageModel, prompts: Any) -> None:
    with pytest.raises(ConfigError, match="at least one text"):
        record(model, prompts)


def test_context_is_used_to_its_last_token(model: LanguageModel) -> None:
    text = "x" * (128 - 8)
    assert record(model, [text], tokens=8, prompt_style="raw").sizes["step"] == 8
    with pytest.raises(ConfigError, match="at most 128 tokens"):
        record(model, [text + "x"], tokens=8, prompt_style="raw")


def test_replies_may_end_early() -> None:
    network = tiny_network("llama")
    model = as_language_model(network, tiny_tokenizer())
    network.generation_config.eos_token_id = None
    full = record(model, PROMPTS, tokens=20)
    network.generation_config.eos_token_id = end = int(full["token"].values[0, 9])
    found = record(model, PROMPTS, tokens=20, stop_at_eos=True, batch_size=2)
    assert found.attrs["end_of_sequence"] == "kept"
    for row, whole in enumerate(full["token"].values.tolist()):
        steps = int(found["n_steps"][row])
        assert steps == (whole.index(end) + 1 if end in whole else 20)
        assert found["token"].values[row].tolist() == whole[:steps] + [-1] * (20 - steps)
        np.testing.assert_allclose(
            found["activity"][row, :steps], full["activity"][row, :steps], rtol=1e-5
        )
        assert np.isnan(found["activity"][row, steps:]).all()
        assert np.isnan(found["logprob"][row, steps:]).all()
    assert (found["n_steps"] < 20).any()


def test_series_that_are_not_numbers_are_kept_and_counted() -> None:
    network = tiny_network("llama")
    with torch.no_grad():
        # Head 3 of layer 1 belongs to group 1; its output passes on to nothing that is recorded.
        network.model.layers[1].self_attn.v_proj.weight[20:] = torch.nan
    found = record(as_language_model(network, tiny_tokenizer()), PROMPTS, tokens=8)
    assert np.isnan(found["activity"].sel(unit=["L01H02", "L01H03"])).all()
    assert np.isfinite(found["activity"].sel(unit="L01H01")).all()
    assert found.attrs["non_finite_series"] == 10


def test_replay_gives_the_recording_back(recording: xr.Dataset, model: LanguageModel) -> None:
    before = [row[row >= 0].tolist() for row in recording["prompt_token"].values]
    rows = [b + t for b, t in zip(before, recording["token"].values.tolist(), strict=True)]
    found = replay(model, rows, [len(b) for b in before], prompts=PROMPTS, batch_size=4)
    for name in ("activity", "logprob"):
        np.testing.assert_allclose(found[name], recording[name], rtol=1e-5, atol=1e-6)
    for name in ("token", "prompt_token", "reply", "category"):
        np.testing.assert_array_equal(found[name], recording[name])
    assert found.attrs["alignment"] == "producing"


def test_a_document_is_read_at_every_position(model: LanguageModel, tmp_path: Path) -> None:
    """Sample t of a document is taken where token t is read: one step after it is produced."""
    rows = [[5, 6, 7, 8, 9, 10, 11, 12], [50, 51, 52]]
    document = replay(model, rows, 0)
    reply = replay(model, rows, 1)
    np.testing.assert_allclose(document["activity"][0, :7], reply["activity"][0], rtol=1e-5)
    np.testing.assert_allclose(document["logprob"][0, 1:], reply["logprob"][0], rtol=1e-5)
    assert np.isnan(document["logprob"][:, 0]).all()
    assert document["token"].values[0].tolist() == rows[0]
    assert document["n_steps"].values.tolist() == [8, 3]
    assert np.isnan(document["activity"][1, 3:]).all()
    assert document.attrs["alignment"] == "document"
    assert open_artifact(save(document, tmp_path / "d.nc")).identical(document)


@pytest.mark.parametrize(
    ("rows", "lengths", "told"),
    [
        ([], 0, "at least one row"),
        ([[1, 2]], [1, 1], "one prompt length per row"),
        ([[1, 2], [3, 4]], [0, 1], "0 for every row"),
        ([[1, 2]], -1, "prompt lengths from -1"),
        ([[1, 2]], 2, "at least one token after"),
        ([[1, 258]], 1, "token 258"),
        ([[1, -1]], 1, "token -1"),
        ([[3] * 129], 1, "at most 128"),
    ],
)
def test_rows_that_cannot_be_replayed(
    model: LanguageModel, rows: list[list[int]], lengths: Any, told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        replay(model, rows, lengths)


def test_batch_size_is_bounded_and_even(model: LanguageModel) -> None:
    texts = ["some prompt"] * 70
    assert choose_batch_size(model, texts, tokens=16) == 24
    assert choose_batch_size(model, texts[:5], tokens=16) == 5


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 12))
def test_batches_hold_every_prompt_once(lengths: list[int], rows: int) -> None:
    batches = split(lengths, rows)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(len(batch) == rows for batch in batches[:-1])
    assert [lengths[i] for batch in batches for i in batch] == sorted(lengths)

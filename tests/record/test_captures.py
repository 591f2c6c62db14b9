"""Live capture: what a replay reads, from the passes that generate."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from synatlas.cli import main
from synatlas.errors import ConfigError, ModelError
from synatlas.folder import FILES
from synatlas.models import batching
from synatlas.models.batching import Batching
from synatlas.models.load import LanguageModel
from synatlas.models.taps import capture
from synatlas.record import live as live_module
from synatlas.record.captures import CAPTURE
from synatlas.record.reading import options_for
from synatlas.record.record import record, record_fingerprint
from synatlas.record.reductions import CAPTURES
from tiny_models import TinyModel, as_language_model, tiny_network, tiny_tokenizer

captures_module = sys.modules["synatlas.record.captures"]
TEXTS = ["One two three", "Why?", "A rather longer prompt than the rest", "Tell me"]
OPTIONS: dict[str, Any] = {"tokens": 10, "prompt_style": "raw", "batch_size": 3}


def both(model: LanguageModel, **options: Any) -> tuple[xr.Dataset, xr.Dataset]:
    options = OPTIONS | options
    return record(model, TEXTS, **options), record(model, TEXTS, capture="live", **options)


def agree(replayed: xr.Dataset, live: xr.Dataset) -> None:
    """All values to 1e-5, and everything else exactly."""
    scale = np.nanmax(np.abs(replayed["activity"].values), axis=1, keepdims=True)
    difference = np.abs(live["activity"].values - replayed["activity"].values)
    assert np.nanmax(difference / np.where(scale > 0, scale, 1)) <= 1e-5
    np.testing.assert_allclose(live["logprob"], replayed["logprob"], rtol=1e-5, atol=1e-5)
    for name in ("activity", "logprob"):
        np.testing.assert_array_equal(np.isnan(live[name]), np.isnan(replayed[name]))
    for name in set(replayed.variables) - {"activity", "logprob"}:
        assert replayed[name].identical(live[name]), name
    others = {"capture", "fingerprint", "live_replay_error"}
    assert {k: v for k, v in live.attrs.items() if k not in others} == {
        k: v for k, v in replayed.attrs.items() if k not in others
    }
    assert [one.attrs["capture"] for one in (replayed, live)] == ["replay", "live"]
    assert live.attrs["fingerprint"] != replayed.attrs["fingerprint"]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("llama", {"units": "sublayers"}),
        ("gpt2", {"reduce": "mean"}),
        # Own attention code; two calls in a layer; a gate after the heads.
        ("bloom", {}),
        ("diffllama", {}),
        ("qwen3_5_text", {"units": "all", "site": "proj_in"}),
        ("gemma2", {"site": "resid"}),
        ("mixtral", {"units": "all"}),
        ("qwen2_moe", {"units": "experts", "policy": "dense"}),
        ("gpt_oss", {"units": "experts", "policy": "unweighted"}),
        ("llama4_text", {"units": "experts"}),
        # Padded, of one length, and alone.
        ("mamba2", {"units": "recurrent"}),
        ("recurrent_gemma", {"units": "all"}),
        ("rwkv", {"units": "recurrent"}),
    ],
)
def test_live_equals_replay(name: str, options: dict[str, Any], tiny_model: TinyModel) -> None:
    agree(*both(tiny_model(name), **options))


@pytest.mark.parametrize("together", ["padded", "equal", "alone"])
def test_replies_may_end_early_in_every_group(
    together: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = tiny_network("mixtral")
    model = as_language_model(network, tiny_tokenizer())
    monkeypatch.setitem(batching._KNOWN, network, Batching(generate=together))
    network.generation_config.eos_token_id = None
    full = record(model, TEXTS, **OPTIONS)
    network.generation_config.eos_token_id = int(full["token"].values[2, 5])
    replayed, live = both(model, units="all", stop_at_eos=True)
    agree(replayed, live)
    assert (live["n_steps"] < 10).any()
    assert (full["n_steps"] == 10).all()


def test_the_end_is_suppressed_and_counts_in_the_logprob() -> None:
    network = tiny_network("llama")
    model = as_language_model(network, tiny_tokenizer())
    free = record(model, TEXTS, **OPTIONS)
    end = network.generation_config.eos_token_id = int(free["token"].values[2, 5])
    replayed, live = both(model)
    agree(replayed, live)
    assert not (live["token"] == end).any()


def test_projections_on_given_directions(tiny_model: TinyModel) -> None:
    model = tiny_model("qwen3")
    fitted = record(model, TEXTS, reduce="pc1", **OPTIONS)
    directions = fitted["direction"].values
    agree(*both(model, reduce="projection", direction=directions))
    with pytest.raises(ConfigError, match="capture 'replay'"):
        record(model, TEXTS, reduce="pc1", capture="live", **OPTIONS)
    with pytest.raises(ConfigError, match="one of replay, live"):
        record(model, TEXTS, capture="both", **OPTIONS)
    assert CAPTURE.keys() == CAPTURES.keys()


def test_finished_batches_are_taken_up(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("mixtral")
    options = OPTIONS | {"units": "all", "capture": "live"}
    expected = record(model, TEXTS, **options)
    assert record(model, TEXTS, parts=tmp_path, **options).identical(expected)
    assert len(list(tmp_path.iterdir())) == 2

    def ran(*args: Any, **options: Any) -> None:
        raise AssertionError

    record(model, TEXTS, parts=tmp_path, **options | {"capture": "replay"})
    assert len(list(tmp_path.iterdir())) == 4
    monkeypatch.setattr(captures_module, "continued", ran)
    assert record(model, TEXTS, parts=tmp_path, **options).identical(expected)


def test_what_a_replay_refuses_is_read_live(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recurrent units whose cached step is other code are as they were while generating."""
    model = tiny_model("mamba")
    monkeypatch.setattr(live_module, "GREATEST_ERROR", -1.0)
    with pytest.raises(ModelError, match="differ by at most"):
        record(model, TEXTS, units="recurrent", **OPTIONS)
    found = record(model, TEXTS, units="recurrent", capture="live", **OPTIONS)
    assert np.isfinite(found["activity"]).all()


def test_a_prompt_that_is_read_in_pieces_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny_network("llama")
    model = as_language_model(network, tiny_tokenizer())
    stock = network.generate

    def in_pieces(ids: torch.Tensor, **options: Any) -> torch.Tensor:
        options["generation_config"].prefill_chunk_size = 3
        return stock(ids, **options)

    monkeypatch.setattr(network, "generate", in_pieces)
    with pytest.raises(ModelError, match="one pass for each token"):
        record(model, TEXTS, capture="live", **OPTIONS)


def test_only_the_last_position_is_read(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    network: Any = model.model
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
    taken = []
    for positions in (slice(-1, None), torch.tensor([[3], [3]]), None):
        with torch.no_grad(), capture(network, model.units, positions=positions) as one:
            network(input_ids=ids)
        taken.append(one.units())
    assert taken[0].shape == (2, 1, 8)
    assert torch.equal(taken[0], taken[1])
    assert torch.equal(taken[0], taken[2][:, -1:])


def test_capture_is_part_of_the_options_and_of_the_command_line(
    tiny_model: TinyModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_model("llama")
    options = {"units": "heads", "site": "z", "reduce": "norm", "policy": "contribution"}
    assert "capture" not in options_for(model, direction=None, **options).config()
    prints = {record_fingerprint(model, TEXTS, capture=name) for name in CAPTURES}
    assert len(prints) == 2
    tiny_network("llama", max_position_embeddings=256).save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    (tmp_path / "prompts.csv").write_text("\n".join(["prompt", *TEXTS]))
    command = ["record", str(tmp_path / "model"), "--prompts", str(tmp_path / "prompts.csv")]
    command += ["--out", str(tmp_path / "run"), "--tokens", "8", "--prompt-style", "raw"]
    assert main([*command, "--capture", "live"]) == 0
    with xr.open_dataset(tmp_path / "run" / FILES["recording"]) as stored:
        assert stored.attrs["capture"] == "live"
    assert main([*command, "--capture", "replay"]) == 2
    assert "capture" in capsys.readouterr().err
    assert main([*command, "--capture", "later"]) == 2

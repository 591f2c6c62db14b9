"""Numbers other than the norm, against NumPy on the captured vectors."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from safetensors.numpy import save_file

from synatlas.artifact import open_artifact, save
from synatlas.errors import ConfigError
from synatlas.models.load import LanguageModel
from synatlas.models.reducers import REDUCERS
from synatlas.models.taps import capture
from synatlas.record.generate import greedy
from synatlas.record.record import record, record_fingerprint, replay
from synatlas.record.reductions import REDUCTIONS, as_directions, read_direction
from tiny_models import TinyModel, as_language_model, tiny_network, tiny_tokenizer

PROMPTS = ["One two three", "Why?", "A rather longer prompt than the rest", "Tell me", "So"]
batches_module = sys.modules["synatlas.record.batches"]


def vectors(model: LanguageModel, recording: xr.Dataset) -> list[np.ndarray]:
    """Heads' outputs (step, unit, feature) of every prompt, each fed by itself, in float64."""
    out = []
    for before, after in zip(recording["prompt_token"], recording["token"], strict=True):
        prompt, reply = (t.values[t.values >= 0].tolist() for t in (before, after))
        ids = torch.tensor([prompt + reply])
        with (
            torch.no_grad(),
            capture(model.model, model.units, reduce=REDUCERS["identity"]) as taken,
        ):
            model.model(input_ids=ids)
        z = torch.cat(taken.outputs(), dim=2)[0, len(prompt) - 1 : -1]
        out.append(z.double().numpy())
    return out


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal to 1e-5 of the size of each unit's series."""
    size = np.sqrt(np.nanmean(expected**2, axis=(0, 1)))
    error = np.nanmax(np.abs(found - expected), axis=(0, 1))
    assert (error <= 1e-5 * size).all()
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))


@pytest.fixture(scope="module")
def model(tiny_model: TinyModel) -> LanguageModel:
    return tiny_model("llama")


@pytest.fixture(scope="module")
def component(model: LanguageModel) -> xr.Dataset:
    return record(model, PROMPTS, tokens=16, reduce="pc1", batch_size=2)


@pytest.mark.parametrize("name", ["llama", "gpt2", "deepseek_v2"])
def test_pc1_is_the_first_right_singular_vector(name: str, tiny_model: TinyModel) -> None:
    model = tiny_model(name)
    found = record(model, PROMPTS, tokens=16, reduce="pc1", batch_size=2)
    z = np.stack(vectors(model, found))
    for unit in range(len(model.units)):
        flat = z[:, :, unit].reshape(-1, z.shape[-1])
        centred = flat - flat.mean(axis=0)
        _, size, right = np.linalg.svd(centred, full_matrices=False)
        direction = right[0] * np.sign(right[0][np.abs(right[0]).argmax()])
        np.testing.assert_allclose(found["direction"][unit], direction, atol=1e-5)
        share = size[0] ** 2 / np.sum(size**2)
        assert np.isclose(found["direction_share"][unit], share, rtol=1e-5)
    along = np.einsum("ptuf,uf->ptu", z, found["direction"].values.astype(float))
    assert_close(found["activity"].values, along)
    assert (np.abs(found["direction"]).max("feature") == found["direction"].max("feature")).all()
    assert found.attrs["reduce"] == "pc1"
    assert found.attrs["live_replay_error"] < 1e-5


def test_mean_and_projection_are_products_with_the_vectors(model: LanguageModel) -> None:
    direction = np.random.default_rng(0).normal(size=(8, 20))
    mean = record(model, PROMPTS, tokens=16, reduce="mean")
    z = np.stack(vectors(model, mean))
    assert_close(mean["activity"].values, z.mean(axis=-1))
    found = record(model, PROMPTS, tokens=16, reduce="projection", direction=direction)
    unit_length = direction / np.linalg.norm(direction, axis=1, keepdims=True)
    assert_close(found["activity"].values, np.einsum("ptuf,uf->ptu", z, unit_length))
    np.testing.assert_allclose(found["direction"], unit_length, rtol=1e-6)
    assert "direction_share" not in found
    flat = record(model, PROMPTS, tokens=16, reduce="projection", direction=np.ones(20))
    assert_close(flat["activity"].values, z.sum(axis=-1) / np.sqrt(20))


@pytest.mark.parametrize("reduce", sorted(REDUCTIONS))
def test_batch_size_changes_nothing(model: LanguageModel, reduce: str) -> None:
    options: dict[str, Any] = {"reduce": reduce, "tokens": 16}
    if reduce == "projection":
        options["direction"] = np.arange(1.0, 21)
    one, all_ = (record(model, PROMPTS, batch_size=n, **options) for n in (1, 5))
    assert one.attrs["fingerprint"] == all_.attrs["fingerprint"]
    np.testing.assert_array_equal(one["token"], all_["token"])
    assert_close(one["activity"].values.astype(float), all_["activity"].values.astype(float))
    np.testing.assert_allclose(one["logprob"], all_["logprob"], rtol=1e-5, atol=1e-6)
    assert one.attrs["live_replay_error"] < 1e-5


def test_projection_on_the_stored_component_is_the_component(
    model: LanguageModel, component: xr.Dataset, tmp_path: Path
) -> None:
    stored = open_artifact(save(component, tmp_path / "recording.nc"))
    assert stored.identical(component)
    again = record(model, PROMPTS, tokens=16, reduce="projection", direction=stored["direction"])
    assert_close(again["activity"].values, component["activity"].values.astype(float))


def test_replay_fits_the_same_component(model: LanguageModel, component: xr.Dataset) -> None:
    before = [row[row >= 0].tolist() for row in component["prompt_token"].values]
    rows = [b + t for b, t in zip(before, component["token"].values.tolist(), strict=True)]
    found = replay(model, rows, [len(b) for b in before], reduce="pc1", batch_size=3)
    assert_close(found["activity"].values, component["activity"].values.astype(float))
    np.testing.assert_allclose(found["direction"], component["direction"], atol=1e-5)
    assert found.attrs["live_replay_error"] < 1e-5


def test_replies_that_end_early_count_for_what_was_recorded() -> None:
    network = tiny_network("llama")
    model = as_language_model(network, tiny_tokenizer())
    network.generation_config.eos_token_id = None
    full = record(model, PROMPTS, tokens=20)
    network.generation_config.eos_token_id = int(full["token"].values[0, 9])
    found = record(model, PROMPTS, tokens=20, reduce="pc1", stop_at_eos=True, batch_size=3)
    assert len(set(found["n_steps"].values.tolist())) > 1
    assert found.sizes["step"] == 20
    z = vectors(model, found)
    flat = np.concatenate(z)
    for unit in range(8):
        centred = flat[:, unit] - flat[:, unit].mean(axis=0)
        right = np.linalg.svd(centred, full_matrices=False)[2][0]
        direction = found["direction"].values[unit].astype(float)
        assert np.isclose(abs(right @ direction), 1, atol=1e-9)
        for row, own in enumerate(z):
            np.testing.assert_allclose(
                found["activity"][row, : len(own), unit], own[:, unit] @ direction, atol=1e-5
            )
            assert np.isnan(found["activity"][row, len(own) :, unit]).all()


def test_units_without_variance_or_without_numbers() -> None:
    network = tiny_network("llama")
    with torch.no_grad():
        network.model.layers[1].self_attn.v_proj.weight[:20] = 0
        network.model.layers[1].self_attn.v_proj.weight[20:] = torch.nan
    found = record(as_language_model(network, tiny_tokenizer()), PROMPTS, tokens=8, reduce="pc1")
    still, broken = ["L01H00", "L01H01"], ["L01H02", "L01H03"]
    assert (found["activity"].sel(unit=still) == 0).all()
    assert np.isnan(found["activity"].sel(unit=broken)).all()
    assert (found["direction"].sel(unit=still + broken) == 0).all()
    assert np.isnan(found["direction_share"].sel(unit=still + broken)).all()
    assert np.isfinite(found["activity"].isel(unit=slice(4))).all()


class Killed(BaseException):
    """A process that ends in the middle."""


def test_an_interrupted_component_resumes_bitwise(
    component: xr.Dataset, model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generated = []

    def dies_once(*args: Any, **options: Any) -> list[list[int]]:
        generated.append(0)
        if len(generated) == 2:
            raise Killed
        return greedy(*args, **options)

    monkeypatch.setattr(batches_module, "greedy", dies_once)
    options: dict[str, Any] = {"tokens": 16, "reduce": "pc1", "batch_size": 2, "parts": tmp_path}
    with pytest.raises(Killed):
        record(model, PROMPTS, **options)
    assert record(model, PROMPTS, **options).identical(component)
    assert len(generated) == 4


def test_fingerprints_follow_the_direction(model: LanguageModel) -> None:
    def of(**options: Any) -> str:
        return record_fingerprint(model, PROMPTS, tokens=16, **options)

    direction = np.random.default_rng(1).normal(size=20)
    one = of(reduce="projection", direction=direction)
    rows = np.tile(direction, (8, 1))
    assert one == of(reduce="projection", direction=4 * rows)
    assert one == of(reduce="projection", direction=torch.tensor(rows))
    rows[3, 2] += 0.01
    others = {
        one,
        of(reduce="projection", direction=rows),
        of(reduce="pc1"),
        of(reduce="mean"),
        of(),
    }
    assert len(others) == 5


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"reduce": "pc2"}, "norm, mean, pc1, projection"),
        ({"reduce": "projection"}, "without a direction"),
        ({"reduce": "pc1", "direction": np.ones(20)}, "with a direction"),
        ({"reduce": "projection", "direction": np.ones(19)}, r"shape \(8, 20\) or \(20,\)"),
        ({"reduce": "projection", "direction": np.ones((7, 20))}, r"shape \(7, 20\)"),
        ({"reduce": "projection", "direction": np.ones((2, 4, 20))}, r"shape \(2, 4, 20\)"),
        ({"reduce": "projection", "direction": np.zeros(20)}, "0 or not finite"),
        ({"reduce": "projection", "direction": np.full(20, np.inf)}, "0 or not finite"),
        ({"reduce": "projection", "direction": ["a"] * 20}, "not real numbers"),
        ({"reduce": "projection", "direction": [[1.0], [1.0, 2.0]]}, "not real numbers"),
    ],
)
def test_directions_that_do_not_fit(
    model: LanguageModel, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        record(model, PROMPTS, **options)
    with pytest.raises(ConfigError, match=told):
        replay(model, [[5, 6, 7, 8]], 1, **options)


def test_heads_of_several_widths(model: LanguageModel) -> None:
    first, second = model.units.sources
    wider = dataclasses.replace(model.units, sources=(first, dataclasses.replace(second, width=24)))
    with pytest.raises(ConfigError, match="one width, not of 20, 24"):
        as_directions(np.ones(20), wider)


def test_direction_files(tmp_path: Path) -> None:
    rows = np.random.default_rng(2).normal(size=(3, 4)).astype(np.float32)
    np.save(tmp_path / "d.npy", rows)
    save_file({"anything": rows}, tmp_path / "d.safetensors")
    for name in ("d.npy", "d.safetensors"):
        np.testing.assert_array_equal(read_direction(tmp_path / name), rows)
    np.save(tmp_path / "object.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    save_file({"a": rows, "b": rows}, tmp_path / "two.safetensors")
    for name in ("d.npy", "d.safetensors"):
        short = tmp_path / f"short.{name[2:]}"
        short.write_bytes((tmp_path / name).read_bytes()[:-9])
    (tmp_path / "empty.npy").touch()
    (tmp_path / "d.pt").touch()
    for name, told in {
        "object.npy": "Python objects",
        "two.safetensors": "2 tensors",
        "short.npy": "damaged",
        "short.safetensors": "damaged",
        "empty.npy": "damaged",
        "d.pt": "another ending",
        "none.npy": "no such file",
    }.items():
        with pytest.raises(ConfigError, match=told):
            read_direction(tmp_path / name)

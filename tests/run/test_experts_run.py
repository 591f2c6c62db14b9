"""A mixture of experts from the command line to the report, seldom used experts and all."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import synatlas as sa
from synatlas.cli import main
from synatlas.decompose.windows import CODE
from synatlas.errors import ConfigError
from synatlas.folder import FILES
from synatlas.models.load import LanguageModel
from synatlas.record.record import record_fingerprint
from tiny_models import TinyModel, tiny_network, tiny_tokenizer

TEXTS = ["One two", "Tell me", "Why is it so", "Yes"]


@pytest.fixture(scope="module")
def model(tiny_model: TinyModel) -> LanguageModel:
    return tiny_model("qwen2_moe")


@pytest.fixture(scope="module")
def recording(model: LanguageModel) -> xr.Dataset:
    return sa.record(model, TEXTS, tokens=24, units="experts", batch_size=3)


def test_routed_steps_are_recorded(recording: xr.Dataset, model: LanguageModel) -> None:
    routed = recording["routed"]
    assert recording["unit"].values.tolist()[3:6] == ["L00E03", "L00S00", "L01E00"]
    assert (routed.sel(unit=["L00S00", "L01S00"]) == 1).all()
    experts = routed.isel(unit=recording["kind"].values == "expert")
    assert (experts.groupby("layer").sum() == 2).all()
    assert ((recording["activity"] > 0) == (routed == 1)).all()
    assert recording.attrs["policy"] == "contribution"
    assert recording.attrs["rerouted"] == 0.0
    before = [row[row >= 0].tolist() for row in recording["prompt_token"].values]
    rows = [b + t for b, t in zip(before, recording["token"].values.tolist(), strict=True)]
    rows[1] = rows[1][:-4]
    again = sa.replay(model, rows, [len(b) for b in before], units="experts", batch_size=2)
    expected = routed.values.copy()
    expected[1, -4:] = -1
    np.testing.assert_array_equal(again["routed"], expected)


def test_policies_belong_to_the_recording(recording: xr.Dataset, model: LanguageModel) -> None:
    same = record_fingerprint(model, TEXTS, tokens=24, units="experts")
    assert same == recording.attrs["fingerprint"]
    other = record_fingerprint(model, TEXTS, tokens=24, units="experts", policy="dense")
    heads = {record_fingerprint(model, TEXTS, policy=p) for p in ("contribution", "dense")}
    assert other != same
    assert len(heads) == 1
    for reduce in ("mean", "pc1"):
        with pytest.raises(ConfigError, match=f"reduce '{reduce}' of experts"):
            sa.record(model, TEXTS, tokens=24, units="experts", reduce=reduce)


@pytest.fixture(scope="module")
def seldom(recording: xr.Dataset) -> xr.Dataset:
    """The recording with one expert that is never used, and one four times in a prompt."""
    changed = recording.copy(deep=True)
    # Beside what the little model does by itself, which is made plentiful first.
    rng = np.random.default_rng(0)
    changed["activity"].values[:] = rng.random(changed["activity"].shape)
    changed["routed"].values[:] = 1
    changed["routed"].values[:, 0, :] = np.where(changed["kind"] == "expert", 0, 1)
    changed["routed"].loc[{"unit": "L00E03"}] = 0
    changed["routed"].values[2, 4:, 1] = 0
    changed["routed"].values[2, 10:14, 1] = 1
    changed["routed"].values[2, 1:4, 1] = 0
    changed["activity"].values[changed["routed"].values == 0] = 0.0
    return changed


@pytest.mark.parametrize("estimator", ["gaussian", "copula", "binary"])
def test_seldom_used_experts_count_as_constant(seldom: xr.Dataset, estimator: str) -> None:
    options: dict[str, Any] = {"estimator": estimator, "surrogates": 3, "nulls": ("window_shift",)}
    atoms = sa.decompose(seldom, **options)
    counts = {"units": 8, "never": 1, "series": 32, "seldom": 5}
    assert json.loads(atoms.attrs["routing"]) == counts
    undefined = np.isnan(atoms["self_information"].values)
    expected = np.zeros((4, 10), dtype=bool)
    expected[:, 3] = expected[2, 1] = True
    np.testing.assert_array_equal(undefined, expected)
    of_never = (atoms["unit_a"] == "L00E03") | (atoms["unit_b"] == "L00E03")
    assert (atoms["status"][of_never] == CODE["constant"]).all()
    assert (atoms["status"][~of_never] == CODE["ok"]).all()
    # Residuals from the mean over prompts are no activity of an expert that has none.
    for name in ("null_observed", "null_draw", "unit_atom"):
        assert np.isnan(atoms[name].sel(unit="L00E03")).all()
        assert np.isfinite(atoms[name].sel(past="syn", future="syn", unit="L00E00")).all()
    warnings = json.loads(sa.rank(atoms, graph_draws=5).attrs["warnings"])
    assert any("1 of 8 routed experts are never used, and 5 of their 32" in w for w in warnings)


def test_one_more_routed_step_is_enough(seldom: xr.Dataset) -> None:
    more = seldom.copy(deep=True)
    more["routed"].values[2, 15, 1] = 1
    more["activity"].values[2, 15, 1] = 0.5
    assert np.isfinite(sa.decompose(more, nulls=())["self_information"][2, 1])
    dense = seldom.assign_attrs(policy="dense")
    assert json.loads(sa.decompose(dense, nulls=()).attrs["routing"])["seldom"] == 0


def test_from_the_command_line_to_the_report(tmp_path: Path) -> None:
    network = tiny_network("qwen2_moe", max_position_embeddings=256)
    network.save_pretrained(tmp_path / "moe")
    tiny_tokenizer().save_pretrained(tmp_path / "moe")
    (tmp_path / "prompts.csv").write_text("\n".join(["prompt", *TEXTS]))
    options = ["--prompts", str(tmp_path / "prompts.csv"), "--out", str(tmp_path / "run")]
    options += ["--units", "experts", "--policy", "unweighted", "--tokens", "16"]
    options += ["--prompt-style", "raw", "--surrogates", "3", "--nulls", "window_shift"]
    assert main(["map", str(tmp_path / "moe"), *options]) == 0
    atlas = sa.open(tmp_path / "run" / FILES["atlas"])
    assert set(atlas["kind"].values.tolist()) == {"expert", "shared_expert"}
    page = (tmp_path / "run" / FILES["report"]).read_text(encoding="utf-8")
    assert "routed experts are never used" in page
    assert "L00S00" in page
    assert main(["map", str(tmp_path / "moe"), *options, "--policy", "dense"]) == 2

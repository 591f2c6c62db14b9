"""decompose against phiid, prompt by prompt, and what its artifact says."""

import json
from itertools import combinations

import numpy as np
import pytest
from time_series import recording_of, var_series

from synatlas.artifact import check, open_artifact, save
from synatlas.axes import SHORT_NAMES
from synatlas.decompose.atoms import ATOMS
from synatlas.decompose.groups import group_by_length
from synatlas.decompose.lattice import SWAP
from synatlas.decompose.pipeline import decompose, repetition, straight_share
from synatlas.decompose.prediction import joint_prediction
from synatlas.decompose.series import phiid
from synatlas.errors import ArtifactError, ConfigError

PAIRS = list(combinations(range(8), 2))


@pytest.fixture(scope="module")
def recording():
    rng = np.random.default_rng(0)
    activity = np.stack([var_series(rng, 40, 8) for _ in range(5)])
    activity[4, 30:] = np.nan
    activity[1, :, 2] = 4.0
    return recording_of(activity, n_steps=[40, 40, 40, 40, 30])


@pytest.fixture(scope="module")
def atoms(recording):
    return decompose(recording, surrogates=4, seed=1)


def test_pairs_are_those_of_phiid(recording, atoms):
    single = phiid(recording["activity"])
    assert np.allclose(atoms["atom"], single["atom"], atol=1e-14)
    assert np.allclose(atoms["tdmi"], single["tdmi"], atol=1e-13)
    assert np.array_equal(atoms["unit_a"], single["unit_a"])
    expected = [4 if 2 in pair else 5 for pair in PAIRS]
    assert atoms["n_defined"].values.tolist() == expected
    assert (atoms["status"] == 0).all()


@pytest.mark.parametrize("variable", ["unit_atom", "unit_atom_ccs"])
def test_units_are_oriented_means_over_partners(recording, atoms, variable):
    redundancy = "ccs" if variable.endswith("ccs") else "mmi"
    for prompt in range(5):
        steps = int(recording["n_steps"][prompt])
        one = phiid(recording["activity"].values[prompt, :steps], redundancy=redundancy)
        atom = one["atom"].values.reshape(-1, 16)
        for unit in range(8):
            mine = [
                atom[k] if pair[0] == unit else atom[k][SWAP]
                for k, pair in enumerate(PAIRS)
                if unit in pair and np.isfinite(atom[k]).all()
            ]
            found = atoms[variable].values[prompt, unit].ravel()
            if mine:
                assert np.allclose(found, np.mean(mine, axis=0), atol=1e-12)
            else:
                assert np.isnan(found).all()


def test_series_properties_match_their_definitions(recording, atoms):
    values = recording["activity"].values[4, :30].astype(float)
    for unit in range(8):
        r = np.corrcoef(values[:-1, unit], values[1:, unit])[0, 1]
        assert np.isclose(atoms["self_information"][4, unit], -0.5 * np.log(1 - r**2))
        trend = np.corrcoef(np.arange(30), values[:, unit])[0, 1] ** 2
        assert np.isclose(atoms["unit_trend"][4, unit], trend, atol=1e-6)
    same = [
        0.5
        * (
            np.corrcoef(values[:-1, 0], values[:-1, j])[0, 1]
            + np.corrcoef(values[1:, 0], values[1:, j])[0, 1]
        )
        for j in range(1, 8)
    ]
    assert np.isclose(atoms["unit_same_step"][4, 0], np.mean(np.abs(same)))
    assert np.isnan(atoms["self_information"][1, 2])


def test_joint_prediction_is_of_the_series_of_each_length(recording, atoms):
    values = recording["activity"].values.astype(float)
    groups = group_by_length(values, recording["n_steps"].values.astype(np.int64))
    for part, expected in joint_prediction(groups, 1)._asdict().items():
        np.testing.assert_array_equal(atoms[f"joint_prediction_{part}"], expected)
    assert np.isfinite(atoms["joint_prediction_linear"]).any()


def test_nulls_keep_self_information_and_say_how_well(atoms):
    assert atoms["null"].values.tolist() == ["cross_prompt", "window_shift"]
    assert np.abs(atoms["null_self_information_error"]).max() < 0.02
    assert abs(atoms["null_self_information_error"].sel(null="window_shift")) < 1e-12
    draws = atoms["null_draw"].values
    assert np.allclose(draws.mean(axis=1), atoms["null_mean"], equal_nan=True)
    assert np.allclose(draws.std(axis=1, ddof=1), atoms["null_sd"], equal_nan=True)


def test_seed_decides_the_draws_and_the_fingerprint_says_so(recording, atoms):
    again = decompose(recording, surrogates=4, seed=1, threads=2)
    other = decompose(recording, surrogates=4, seed=2)
    assert again.identical(atoms)
    assert other.attrs["fingerprint"] != atoms.attrs["fingerprint"]
    for name in ("null_draw", "pooled_excess_draw"):
        assert not np.array_equal(other[name], atoms[name], equal_nan=True)
    for name in ("atom", "unit_atom", "pooled_atom"):
        assert other[name].equals(atoms[name])


def test_fewer_draws_are_the_first_of_more(recording, atoms):
    fewer = decompose(recording, surrogates=2, seed=1)
    assert np.array_equal(fewer["null_draw"], atoms["null_draw"][:, :2], equal_nan=True)


def test_no_null_runs_none_and_the_file_comes_back(recording, tmp_path):
    atoms = decompose(recording, nulls=())
    assert atoms.sizes["null"] == 0
    assert np.isnan(atoms["pooled_excess_draw"]).all()
    path = save(atoms, tmp_path / "atoms.nc")
    assert check(open_artifact(path), ATOMS).equals(atoms)


def test_a_null_that_cannot_run_is_left_out_and_named(recording):
    one = decompose(recording.isel(prompt=[0]), surrogates=2)
    assert one["null"].values.tolist() == ["window_shift"]
    assert "prompts" in json.loads(one.attrs["nulls_left_out"])["cross_prompt"]
    assert np.isfinite(one["pooled_atom"]).all()
    assert np.isnan(one["pooled_excess_draw"]).all()


def test_one_prompt_pooled_is_its_own_atoms():
    noise = np.random.default_rng(0).normal(size=(1, 40, 8))
    one = decompose(recording_of(noise), nulls=("same_step",))
    assert one.attrs["same_step_pairs_left_out"] == 0
    assert np.allclose(one["pooled_atom"], one["unit_atom"][0], atol=1e-13)


def test_ccs_is_the_main_atom_where_it_is_asked_for(recording, atoms):
    ccs = decompose(recording, redundancy="ccs", nulls=())
    assert "unit_atom_ccs" not in ccs
    assert np.allclose(ccs["unit_atom"], atoms["unit_atom_ccs"], atol=1e-13, equal_nan=True)


def test_bad_input_is_refused(recording, atoms):
    with pytest.raises(ConfigError, match="two units"):
        decompose(recording.isel(unit=[0]))
    with pytest.raises(ConfigError, match="at least lag"):
        decompose(recording, lag=36)
    with pytest.raises(ConfigError, match="cross_prompt, window_shift, same_step"):
        decompose(recording, nulls=("circular",))
    with pytest.raises(ConfigError, match="0 or more"):
        decompose(recording, surrogates=-1)
    with pytest.raises(ArtifactError, match="recording"):
        decompose(atoms)


def test_the_artifact_is_labelled(atoms):
    assert check(atoms, ATOMS) is atoms
    assert atoms["unit_atom"].dims == ("prompt", "unit", "past", "future")
    assert len(SHORT_NAMES) == atoms.sizes["past"] * atoms.sizes["future"]


def test_a_straight_line_explains_everything_and_noise_little():
    line = np.arange(50.0)
    noise = np.random.default_rng(0).normal(size=50)
    share = straight_share(np.stack([line, -2 * line + 1, noise, np.ones(50)], axis=1)[None])[0]
    assert np.allclose(share[:2], 1.0)
    assert share[2] < 0.2
    assert np.isnan(share[3])


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ([5, 5, 5, 5, 5, 5], 1.0),
        ([1, 2, 3, 1, 2, 3, 1, 2, 3], 1.0),
        ([1, 2, 3, 4, 5, 6], 0.0),
        ([1, 2, 1, 2, 1, 9, 8, 7], 0.5),
        ([4], 0.0),
        ([9, *range(27)] + 3 * list(range(27)), 81 / 82),
    ],
)
def test_repetition_finds_the_period(reply, expected):
    padded = np.full((1, 120), -1)
    padded[0, : len(reply)] = reply
    assert np.isclose(repetition(padded, np.array([len(reply)]))[0], expected)

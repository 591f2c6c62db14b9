"""phiid against the slow reference, the theorems, and every way its input can be wrong."""

from itertools import combinations

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from time_series import ar_series, var_series

from reference.phiid_reference import mean_information, pair_atoms, windows_of
from synatlas.decompose.lattice import AGGREGATES, SWAP
from synatlas.decompose.series import phiid
from synatlas.errors import ConfigError

OK, CONSTANT, DUPLICATE, DETERMINISTIC, TOO_SHORT, NONFINITE = range(6)


@pytest.mark.parametrize("lag", [1, 2, 3, 5])
def test_mmi_matches_the_slow_reference(lag):
    """630 pairs in all, over four lags, of coupled series with a common drive."""
    series = var_series(np.random.default_rng(lag), 90 + lag, 18)
    atoms = phiid(series, lag=lag)["atom"].values
    for k, (i, j) in enumerate(combinations(range(18), 2)):
        reference = pair_atoms(series[:, i], series[:, j], lag)
        assert np.abs(atoms[k] - reference).max() < 1e-12


@pytest.mark.parametrize("lag", [1, 3])
def test_ccs_matches_the_slow_reference(lag):
    series = var_series(np.random.default_rng(lag), 80, 8)
    atoms = phiid(series, lag=lag, redundancy="ccs")["atom"].values
    for k, (i, j) in enumerate(combinations(range(8), 2)):
        reference = pair_atoms(series[:, i], series[:, j], lag, redundancy="ccs")
        assert np.abs(atoms[k] - reference).max() < 1e-12


@settings(derandomize=True, deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 2**32 - 1),
    steps=st.integers(12, 60),
    units=st.integers(2, 6),
    redundancy=st.sampled_from(["mmi", "ccs"]),
)
def test_theorems_hold_for_any_series(seed, steps, units, redundancy):
    """Marginal sums are informations, swapping units permutes atoms, scales do not matter."""
    rng = np.random.default_rng(seed)
    series = var_series(rng, steps, units)
    result = phiid(series, redundancy=redundancy)
    atom = result["atom"].values
    assert np.allclose(atom.sum((1, 2)), result["tdmi"], atol=1e-12)
    for k, (i, j) in enumerate(combinations(range(units), 2)):
        windows = windows_of(series[:, i], series[:, j], 1)
        known = mean_information(np.cov(windows))
        assert np.isclose(atom[k].sum(), known((0, 1), (2, 3)), atol=1e-10)
        assert np.isclose(atom[k, :2, :2].sum(), known((0,), (2,)), atol=1e-10)
        assert np.isclose(atom[k, ::2, ::2].sum() + 0, known((1,), (3,)), atol=1e-10)
        assert np.isclose(atom[k, :2].sum(), known((0,), (2, 3)), atol=1e-10)
        assert np.isclose(atom[k, :, ::2].sum(), known((0, 1), (3,)), atol=1e-10)
    turned = phiid(series[:, ::-1], redundancy=redundancy)["atom"].values[::-1]
    pairs = list(combinations(range(units), 2))
    order = [pairs.index((units - 1 - j, units - 1 - i)) for i, j in pairs]
    swapped = turned[::-1][order].reshape(len(pairs), 16)[:, SWAP].reshape(-1, 4, 4)
    assert np.allclose(swapped, atom, atol=1e-12)
    scaled = series * rng.choice([-1, 1], units) * rng.uniform(1e-3, 1e3, units) + rng.normal(
        size=units
    )
    assert np.allclose(phiid(scaled, redundancy=redundancy)["atom"], atom, atol=1e-9)


def test_time_reversal_transposes_past_and_future():
    series = var_series(np.random.default_rng(0), 70, 5)
    forward, backward = phiid(series, lag=2), phiid(series[::-1], lag=2)
    assert np.allclose(forward["atom"], backward["atom"].values.transpose(0, 2, 1), atol=1e-12)


def test_independent_series_have_synergy_of_twice_the_lesser_memory():
    """Sampled: within four standard errors of the population value at 20,000 steps."""
    rho = [0.5, 0.8]
    atom = phiid(ar_series(np.random.default_rng(0), 20_000, rho))["atom"].values[0]
    expected = 2 * -0.5 * np.log(1 - 0.5**2)
    assert abs(atom[3, 3] - expected) < 4 * 2 * 0.5 / np.sqrt(20_000)


def test_prompts_are_averaged_and_padding_is_cut():
    """The mean over prompts of different lengths is the mean of one-prompt results."""
    rng = np.random.default_rng(1)
    parts = [var_series(rng, steps, 4) for steps in (60, 40, 60)]
    padded = np.full((3, 60, 4), np.nan)
    for k, part in enumerate(parts):
        padded[k, : len(part)] = part
    single = np.mean([phiid(part)["atom"].values for part in parts], axis=0)
    assert np.allclose(phiid(padded)["atom"], single, atol=1e-13)


@pytest.mark.parametrize(
    ("column", "status"),
    [
        (np.full(40, 2.5), CONSTANT),
        (np.r_[np.zeros(39), 1.0], CONSTANT),
        (np.r_[np.nan, np.ones(39)], NONFINITE),
        (np.r_[np.ones(39), np.inf], NONFINITE),
        (np.arange(40.0), DETERMINISTIC),
        (2.0 ** -np.arange(40.0), DETERMINISTIC),
    ],
)
@pytest.mark.parametrize("redundancy", ["mmi", "ccs"])
def test_an_undefined_series_is_nan_with_its_reason(column, status, redundancy):
    noise = np.random.default_rng(0).normal(size=(40, 2))
    result = phiid(np.column_stack([noise[:, 0], column, noise[:, 1]]), redundancy=redundancy)
    assert result["status"].values.tolist() == [status, OK, status]
    assert np.isnan(result["atom"].values[[0, 2]]).all()
    assert np.isnan(result["phi_r"].values[[0, 2]]).all()
    alone = phiid(noise, redundancy=redundancy)["atom"].values[0]
    assert np.allclose(result["atom"].values[1], alone, atol=1e-14)


@pytest.mark.parametrize("factor", [1.0, -1.0, 3.7e-4])
@pytest.mark.parametrize("offset", [0.0, 1e5])
@pytest.mark.parametrize("redundancy", ["mmi", "ccs"])
def test_a_duplicate_is_its_limit(factor, offset, redundancy):
    x = ar_series(np.random.default_rng(2), 80, [0.7])[:, 0]
    result = phiid(np.column_stack([x, factor * x + offset]), redundancy=redundancy)
    memory = -0.5 * np.log(1 - np.corrcoef(x[:-1], x[1:])[0, 1] ** 2)
    expected = np.zeros((4, 4))
    expected[0, 0] = memory
    assert result["status"].item() == DUPLICATE
    assert np.allclose(result["atom"].values[0], expected, atol=1e-9)
    assert np.isclose(result["tdmi"].item(), memory)


def test_a_shifted_copy_is_deterministic():
    x = np.random.default_rng(3).normal(size=61)
    result = phiid(np.column_stack([x[1:], x[:-1]]))
    assert result["status"].item() == DETERMINISTIC
    assert np.isnan(result["atom"]).all()


def test_status_over_prompts_counts_what_is_defined():
    """One bad prompt of two leaves the mean of the other; one duplicate marks the pair."""
    rng = np.random.default_rng(4)
    series = rng.normal(size=(2, 50, 3))
    series[0, :, 0] = 1.0
    series[1, :, 2] = series[1, :, 1]
    result = phiid(series)
    assert result["status"].values.tolist() == [OK, OK, DUPLICATE]
    alone = phiid(series[1])["atom"].values
    assert np.allclose(result["atom"].values[0], alone[0], atol=1e-14)
    series[1, :, 0] = np.nan
    assert phiid(series)["status"].values[0] == CONSTANT


def test_prompts_too_short_do_not_count():
    rng = np.random.default_rng(5)
    series = rng.normal(size=(2, 30, 2))
    series[1, 5:] = np.nan
    assert np.allclose(phiid(series)["atom"], phiid(series[0])["atom"], atol=1e-15)


def test_a_result_that_is_edited_leaves_the_next_one_alone():
    series = np.random.default_rng(8).normal(size=(30, 3))
    first = phiid(series)
    expected = first.copy(deep=True)
    first["unit_a"].attrs["note"] = "mine"
    first["past"].attrs["note"] = "mine"
    first.coords["unit_a"] = first["unit_b"]
    first["atom"][:] = 0.0
    assert phiid(series).identical(expected)


def test_an_outlier_stays_finite():
    """Densities of a sample 60 standard deviations out underflow; log-determinants do not."""
    series = np.random.default_rng(6).normal(size=(3000, 2))
    series[100] = 60.0, -60.0
    for redundancy in ("mmi", "ccs"):
        assert np.isfinite(phiid(series, redundancy=redundancy)["atom"]).all()


def test_every_kind_of_input_gives_the_same_and_none_is_changed():
    values = np.random.default_rng(7).normal(size=(30, 3))
    expected = phiid(values)
    before = values.copy()
    frozen = values.copy()
    frozen.flags.writeable = False
    labelled = xr.DataArray(
        values.T, dims=("unit", "step"), coords={"unit": ["left", "mid", "right"]}
    )
    for given_series in (
        values,
        frozen,
        values.tolist(),
        np.asfortranarray(values),
        torch.tensor(values, requires_grad=True),
        labelled,
        labelled.to_dataset(name="bold"),
        values[None],
    ):
        assert np.array_equal(phiid(given_series)["atom"], expected["atom"])
    assert np.array_equal(values, before)
    assert phiid(values)["unit_a"].values.tolist() == ["u0000", "u0000", "u0001"]
    assert phiid(labelled)["unit_b"].values.tolist() == ["mid", "right", "right"]


@pytest.mark.parametrize(
    ("series", "options", "says"),
    [
        (np.ones(10), {}, "1 dimensions"),
        (np.ones((10, 1)), {}, "two units"),
        (np.ones((0, 10, 3)), {}, "0 prompts"),
        (np.ones((0, 3)), {}, "0 steps"),
        (np.ones((10, 3), dtype=complex), {}, "complex"),
        ([["a", "b"], ["c", "d"]], {}, "real numbers"),
        ([[1.0, 2.0], [3.0]], {}, "lengths"),
        ([[1.0, None], [3.0, 4.0]], {}, "real numbers"),
        (np.ones((5, 3)), {}, "at least lag"),
        (np.ones((50, 3)), {"lag": 46}, "at least lag"),
        (np.ones((50, 3)), {"lag": 0}, "1 or more"),
        (np.ones((50, 3)), {"lag": True}, "whole number"),
        (np.ones((50, 3)), {"redundancy": "broja"}, "mmi, ccs"),
        (np.ones((50, 3)), {"estimator": "ksg"}, "gaussian"),
        (np.ones((50, 3)), {"atoms": "sts"}, "all, rtr\\+sts"),
        (np.ones((50, 3)), {"null": "shuffle"}, "cross_prompt, window_shift, same_step"),
        (np.ones((50, 3)), {"null": "window_shift"}, "surrogates=199"),
        (np.ones((50, 3)), {"null": "window_shift", "surrogates": -1}, "0 or more"),
        (np.ones((50, 3)), {"null": "cross_prompt", "surrogates": 9}, "2 prompts"),
    ],
)
def test_bad_input_says_what_to_do(series, options, says):
    with pytest.raises(ConfigError, match=says):
        phiid(series, **options)


@pytest.mark.parametrize("redundancy", ["mmi", "ccs"])
@pytest.mark.parametrize("null", [None, "cross_prompt", "window_shift", "same_step"])
def test_the_two_extremes_alone_are_those_of_all_atoms(redundancy, null):
    series = np.stack([var_series(np.random.default_rng(k), 40, 5) for k in range(4)])
    series[1, :, 2], series[2, :, 3], series[:, :, 4] = 1.0, series[2, :, 0], series[:, :, 1]
    surrogates = 0 if null in (None, "same_step") else 5
    options = {"redundancy": redundancy, "null": null, "surrogates": surrogates}
    every, two = phiid(series, **options), phiid(series, atoms="rtr+sts", **options)
    ends = np.isin(np.arange(16).reshape(4, 4), [0, 15])
    assert set(every) - set(two) == {"tdmi", *AGGREGATES}
    assert two.attrs["atoms"] == "rtr+sts"
    assert np.array_equal(two["status"], every["status"])
    for name in set(two) - {"status"}:
        assert np.isnan(two[name].values[:, ~ends]).all()
        # A z of two rounding errors is none.
        tolerance = 1e-6 if name == "z" else 1e-12
        one, other = every[name].values[:, ends], two[name].values[:, ends]
        assert np.allclose(one, other, atol=tolerance, rtol=tolerance, equal_nan=True), name


def test_variables_are_labelled():
    result = phiid(np.random.default_rng(8).normal(size=(20, 3)))
    assert result["atom"].dims == ("pair", "past", "future")
    assert result["atom"].attrs["units"] == result["phi_r"].attrs["units"] == "nat"
    assert result["status"].dtype == np.int8
    assert result["status"].attrs["flag_meanings"].split()[DUPLICATE] == "duplicate"

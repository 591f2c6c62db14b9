"""Partial information decomposition against definitions by entropy, samples, and closed cases."""

from itertools import combinations

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from time_series import recording_of, var_series

from reference.phiid_reference import CommonChange, local_information, mean_information
from synatlas.decompose.target import pid
from synatlas.errors import ConfigError

OK, CONSTANT, DUPLICATE, DETERMINISTIC, TOO_SHORT, NONFINITE = range(6)
RULES = ("mmi", "ccs")
ONE, TWO, TARGET = (0,), (1,), (2,)


def slow(one, two, target, redundancy):
    """Red, un1, un2, syn of three series, from determinants or from densities of every sample."""
    rows = np.array([one, two, target], dtype=float)
    if redundancy == "mmi":
        known = mean_information(np.cov(rows))
        i_one, i_two, both = known(ONE, TARGET), known(TWO, TARGET), known(ONE + TWO, TARGET)
        red = min(i_one, i_two)
    else:
        known = local_information(rows)
        i_one, i_two, both = known(ONE, TARGET), known(TWO, TARGET), known(ONE + TWO, TARGET)
        red = CommonChange.single(i_one, i_two, both).mean()
        i_one, i_two, both = i_one.mean(), i_two.mean(), both.mean()
    return np.array([red, i_one - red, i_two - red, both - i_one - i_two + red])


def aimed(rng, steps, units):
    series = var_series(rng, steps, units)
    return series, series @ rng.normal(size=units) + rng.normal(size=steps)


@pytest.mark.parametrize("redundancy", RULES)
@pytest.mark.parametrize("lag", [0, 2])
def test_every_pair_matches_the_slow_reference(lag, redundancy):
    series, target = aimed(np.random.default_rng(lag), 60, 7)
    found = pid(series, target, lag=lag, redundancy=redundancy)
    past, future = series[: 60 - lag], target[lag:]
    for k, (i, j) in enumerate(combinations(range(7), 2)):
        expected = slow(past[:, i], past[:, j], future, redundancy)
        assert np.abs(found["atom"].values[k] - expected).max() < 1e-12


@settings(derandomize=True, deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), steps=st.integers(10, 50), redundancy=st.sampled_from(RULES))
def test_parts_sum_to_informations_whatever_the_scale(seed, steps, redundancy):
    rng = np.random.default_rng(seed)
    series, target = aimed(rng, steps, 4)
    found = pid(series, target, redundancy=redundancy)
    red, one, two, both = found["atom"].values.T
    known = mean_information(np.cov(np.column_stack([series, target]), rowvar=False))
    single = np.array([known((i,), (4,)) for i in range(4)])
    assert np.allclose(found["information"], single, rtol=1e-9, atol=1e-11)
    for k, (i, j) in enumerate(combinations(range(4), 2)):
        assert np.isclose(red[k] + one[k], single[i], rtol=1e-9, atol=1e-11)
        assert np.isclose(red[k] + two[k], single[j], rtol=1e-9, atol=1e-11)
        assert np.isclose(found["information_ab"][k], known((i, j), (4,)), rtol=1e-8, atol=1e-9)
    if redundancy == "mmi":
        assert min(red.min(), one.min(), two.min(), both.min()) > -1e-12
        assert np.minimum(one, two).max() < 1e-12
    turned = series * rng.choice([-1, 1], 4) * rng.uniform(0.01, 100, 4) + rng.normal(size=4)
    again = pid(turned, -3 * target + 1, redundancy=redundancy)["atom"]
    assert np.allclose(again, found["atom"], rtol=0, atol=1e-8)


def test_two_halves_of_a_sum_are_synergistic_and_two_copies_redundant():
    """Population values under MMI: t = x + y + noise, and two noisy copies of x about x."""
    x, y, noise, other = np.random.default_rng(0).normal(size=(4, 100_000))
    parts = pid(np.stack([x, y], axis=1), x + y + noise)["atom"].values[0]
    # I(x; t) = I(y; t) = 1/2 ln 3/2, I(xy; t) = 1/2 ln 3.
    expected = 0.5 * np.log([1.5, 1, 1, 3 / 1.5])
    assert np.allclose(parts, expected, atol=0.015)
    parts = pid(np.stack([x + 1e-3 * noise, x + 1e-3 * other], axis=1), x + y)["atom"].values[0]
    assert np.allclose(parts, [0.5 * np.log(2), 0, 0, 0], atol=0.015)


@pytest.mark.parametrize("redundancy", RULES)
def test_undefined_pairs_have_a_reason_and_duplicates_their_limit(redundancy):
    rng = np.random.default_rng(1)
    series, target = aimed(rng, 50, 6)
    series[:, 1] = 2 * series[:, 0] - 3
    series[:, 2] = 5.0
    series[9, 3] = np.nan
    series[:, 5] = target - series[:, 4]
    found = pid(series, target, redundancy=redundancy)
    expected = {(0, 1): DUPLICATE, (0, 4): OK, (4, 5): DETERMINISTIC, (0, 2): CONSTANT}
    expected |= {(0, 3): NONFINITE, (2, 3): NONFINITE}
    pairs = list(combinations(range(6), 2))
    for pair, status in expected.items():
        at = found.isel(pair=pairs.index(pair))
        assert at["status"] == status
        assert np.isfinite(at["atom"]).all() == (status in {OK, DUPLICATE})
        assert at["n_defined"] == (status in {OK, DUPLICATE})
    single = found["information"].values
    assert np.isnan(single[[2, 3]]).all()
    assert np.allclose(found["atom"][0], [single[0], 0, 0, 0], rtol=0, atol=1e-12)
    assert (pid(series, np.ones(50))["status"] == CONSTANT).sum() == 10


def test_thin_pairs_keep_their_digits():
    rng = np.random.default_rng(2)
    series, target = aimed(rng, 60, 2)
    series[:, 1] = series[:, 0] + 1e-5 * rng.normal(size=60)
    found = pid(series, target)["atom"].values[0]
    assert np.allclose(found, slow(*series.T, target, "mmi"), rtol=0, atol=1e-6)


def test_surprisal_of_a_recording_is_minus_its_logprob():
    rng = np.random.default_rng(3)
    series = np.stack([var_series(rng, 40, 4) for _ in range(2)])
    series[1, 30:] = np.nan
    recording = recording_of(series, n_steps=[40, 30])
    logprob = -rng.exponential(size=(2, 40)).astype(np.float32)
    logprob[1, 30:] = np.nan
    recording["logprob"] = recording["logprob"].copy(data=logprob)
    found = pid(recording, "surprisal", lag=1)
    held = recording["activity"].values.astype(float)
    expected = np.mean(
        [
            slow(held[p, : n - 1, 0], held[p, : n - 1, 1], -logprob[p, 1:n], "mmi")
            for p, n in ((0, 40), (1, 30))
        ],
        axis=0,
    )
    assert np.allclose(found["atom"][0], expected, rtol=0, atol=1e-12)
    assert found["unit_b"].values[0] == "L00H01"
    assert found.attrs["target"] == "surprisal"
    for same in (
        -logprob,
        torch.tensor(-logprob),
        xr.DataArray(-logprob.T, dims=("step", "prompt")),
    ):
        assert np.array_equal(pid(recording, same, lag=1)["atom"], found["atom"])


@pytest.mark.parametrize(
    "target", ["surprise", "surprisal", np.zeros(9), np.zeros((2, 20)), [[1, 2], [3]], 4.0]
)
def test_bad_targets_are_refused(target):
    with pytest.raises(ConfigError):
        pid(np.random.default_rng(0).normal(size=(20, 3)), target)


@pytest.mark.parametrize("lag", [-1, 18])
def test_bad_lags_are_refused(lag):
    with pytest.raises(ConfigError, match="lag"):
        pid(np.random.default_rng(0).normal(size=(20, 3)), np.arange(20.0), lag=lag)

"""Generators of uncoupled series: population correlations, stationarity, seeds, refusals."""

import numpy as np
import pytest

from synatlas import phiid
from synatlas.errors import ConfigError
from synatlas.simulate.uncoupled import (
    ar_per_prompt,
    common_drive,
    independent_ar,
    linear_trend,
    noisy_copies,
    onset,
    same_step_correlated,
    same_step_covariance,
    shared_drift,
)

RHO = np.array([-0.3, 0.0, 0.4, 0.8])
MANY = {"prompts": 3000, "steps": 12, "seed": 1}

GENERATORS = {
    "independent_ar": lambda seed: independent_ar(RHO, prompts=5, steps=20, seed=seed),
    "ar_per_prompt": lambda seed: ar_per_prompt(4, prompts=5, steps=20, seed=seed),
    "linear drift": lambda seed: shared_drift(RHO, prompts=5, steps=20, seed=seed),
    "walk": lambda seed: shared_drift(RHO, shape="walk", prompts=5, steps=20, seed=seed),
    "onset": lambda seed: onset(RHO, prompts=5, steps=20, seed=seed),
    "linear_trend": lambda seed: linear_trend(RHO, prompts=5, steps=20, seed=seed),
    "same_step": lambda seed: same_step_correlated(RHO, prompts=5, steps=20, seed=seed),
    "common_drive": lambda seed: common_drive(RHO, prompts=5, steps=20, seed=seed),
    "copies": lambda seed: noisy_copies(RHO[:2], copies=1, prompts=5, steps=20, seed=seed),
}


def moments(activity, lag):
    """Covariance over prompts of x[t] and x[t + lag], mean over t: the mean is known to be 0."""
    x = np.asarray(activity)
    steps = x.shape[1] - lag
    return np.einsum("ptu,ptv->uv", x[:, :steps], x[:, lag:]) / (x.shape[0] * steps)


@pytest.mark.parametrize("name", GENERATORS)
def test_a_seed_is_a_data_set_and_a_generator_moves_on(name):
    make = GENERATORS[name]
    one, again, other = make(3), make(3), make(4)
    assert one.identical(again)
    assert not np.allclose(one.activity, other.activity)
    rng = np.random.default_rng(3)
    assert make(rng).identical(one)
    assert not np.allclose(make(rng).activity, one.activity)
    assert not one.truth.any()
    assert np.isfinite(one.activity).all()
    assert one.activity.shape == (5, 20, 4)


def test_autoregressive_series_have_their_coefficients_from_the_first_step():
    x = independent_ar(RHO, **MANY).activity.to_numpy()
    assert np.allclose(x.var(axis=0), 1, atol=0.12)
    assert np.allclose(moments(x, 1), np.diag(RHO), atol=0.03)
    assert np.allclose(moments(x, 3), np.diag(RHO**3), atol=0.03)


def test_series_that_correlate_within_a_step_fulfil_the_same_step_null():
    data = same_step_correlated(RHO, correlation=0.6, **MANY)
    x = data.activity.to_numpy()
    covariance = same_step_covariance(RHO, 0.6)
    assert np.allclose(moments(x[:, :1], 0), covariance, atol=0.08)
    assert np.allclose(moments(x, 0), covariance, atol=0.03)
    assert np.allclose(moments(x, 1), covariance * RHO, atol=0.03)


def test_memory_per_prompt_is_one_number_for_all_units():
    x = ar_per_prompt(40, low=0.1, high=0.9, prompts=200, steps=60, seed=0).activity.to_numpy()
    r = np.einsum("ptu,ptu->pu", x[:, :-1], x[:, 1:]) / np.einsum("ptu,ptu->pu", x, x)
    prompt = r.mean(axis=1)
    assert 0.2 < np.std(prompt) < 0.26  # a uniform of width 0.8 has 0.23
    assert np.std(r - prompt[:, None]) < 0.13  # sampling error of 60 steps
    assert np.corrcoef(r[:, 0], r[:, 1])[0, 1] > 0.7


@pytest.mark.parametrize("shape", ["linear", "walk"])
def test_drift_is_shared_within_a_prompt_and_nowhere_else(shape):
    x = shared_drift(
        np.zeros(30), shape=shape, size=2.0, prompts=400, steps=50, seed=0
    ).activity.to_numpy()
    drift = x.mean(axis=2)
    assert np.isclose((drift**2).mean(), 4, rtol=0.2)
    assert np.isclose(moments(x, 0)[0, 1], 4, rtol=0.25)
    assert np.abs(np.mean(x[:-1] * x[1:])) < 0.5


def test_transients_and_trends_are_the_mean_over_prompts():
    at = np.arange(12)
    mean = onset(RHO, size=3.0, decay=4.0, **MANY).activity.mean("prompt").to_numpy()
    factor = mean[0] / 3
    assert np.allclose(mean, 3 * np.exp(-at / 4)[:, None] * factor, atol=0.1)
    assert ((factor > 0.4) & (factor < 1.6)).all()
    mean = linear_trend(RHO, size=2.0, **MANY).activity.mean("prompt").to_numpy()
    slope = (mean[-1] - mean[0]) / 11
    assert np.allclose(mean, slope * (at - 5.5)[:, None], atol=0.1)
    assert np.abs(slope).max() > 0.1


def test_a_common_drive_is_seen_by_all_units_at_once():
    x = common_drive(np.zeros(3), drive_rho=0.7, loading=0.6, **MANY).activity.to_numpy()
    expected = np.full((3, 3), 0.36)
    assert np.allclose(moments(x, 1), 0.7 * expected, atol=0.03)
    np.fill_diagonal(expected, 1)
    assert np.allclose(moments(x, 0), expected, atol=0.03)


@pytest.mark.parametrize("delay", [0, 1])
def test_copies_follow_their_original(delay):
    data = noisy_copies([0.5, 0.2], copies=2, noise=0.5, delay=delay, **MANY)
    x = data.activity.to_numpy()
    at_once = moments(x, delay)
    signal = 1 / np.hypot(1, 0.5)
    assert np.allclose(at_once[0, 1:3], signal, atol=0.03)
    assert np.allclose(at_once[3, 4:], signal, atol=0.03)
    assert np.allclose(at_once[:3, 3:], 0, atol=0.03)
    assert np.allclose(x.var(axis=(0, 1)), 1, atol=0.05)


def test_a_simulation_is_decomposed_as_it_is():
    atoms = phiid(same_step_correlated(np.full(3, 0.5), prompts=40, steps=100, seed=0))
    assert list(atoms.unit_a.to_numpy()) == ["L00H00", "L00H00", "L00H01"]
    assert float(atoms.phi_r.mean()) > 0


WRONG = {
    "unit root": lambda: independent_ar([0.5, 1.0]),
    "three dimensions": lambda: independent_ar(np.zeros((2, 2, 2))),
    "correlation of 1": lambda: same_step_correlated([0.5, 0.5], correlation=1.0),
    "unknown drift": lambda: shared_drift([0.5], shape="square"),
    "loading above 1": lambda: common_drive([0.5], loading=1.5),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_simulated_is_refused(what):
    with pytest.raises(ConfigError, match="Expected"):
        WRONG[what]()

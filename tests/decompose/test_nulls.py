"""Nulls: what each keeps exactly, what each removes, and that tests under it are calibrated."""

import numpy as np
import pytest
from time_series import ar_series, var_series

from synatlas.decompose.groups import group_by_length
from synatlas.decompose.lattice import aggregate
from synatlas.decompose.nulls import (
    NULLS,
    cross_prompt,
    prepare,
    residual_from_prompt_mean,
    window_shift,
)
from synatlas.decompose.series import phiid
from synatlas.decompose.windows import standardise


def prompts_of(rng, prompts, steps, units):
    return np.stack([var_series(rng, steps, units) for _ in range(prompts)])


def test_window_shift_keeps_every_self_correlation_and_the_set_of_samples():
    windows = standardise(prompts_of(np.random.default_rng(0), 4, 50, 6), 1)
    drawn = window_shift([windows], np.random.default_rng(1)).left[0]
    own = np.einsum("pus,pus->pu", drawn.values[:, 0], drawn.values[:, 1])
    assert np.abs(own - windows.self_correlation).max() < 1e-12
    assert np.array_equal(np.sort(drawn.values), np.sort(windows.values))
    assert not np.array_equal(drawn.values, windows.values)


def test_window_shift_rotates_past_and_future_together():
    windows = standardise(prompts_of(np.random.default_rng(0), 2, 30, 3), 1)
    drawn = window_shift([windows], np.random.default_rng(2)).left[0]
    for p in range(2):
        for u in range(3):
            joint = {tuple(v) for v in windows.values[p, :, u].T}
            assert {tuple(v) for v in drawn.values[p, :, u].T} == joint


@pytest.mark.parametrize("prompts", [2, 3, 7])
def test_cross_prompt_pairs_no_prompt_with_itself(prompts):
    windows = standardise(prompts_of(np.random.default_rng(0), prompts, 30, 3), 1)
    for seed in range(20):
        draw = cross_prompt([windows], np.random.default_rng(seed))
        left, right = draw.left[0], draw.right[0]
        assert not (left.self_correlation == right.self_correlation).any()
        kept = np.sort(left.self_information, axis=0), np.sort(right.self_information, axis=0)
        assert np.array_equal(*kept)


def test_residuals_have_no_mean_over_prompts_and_one_prompt_stays():
    values = prompts_of(np.random.default_rng(0), 5, 20, 3)
    values[2, 15:] = np.nan
    residual = residual_from_prompt_mean(values)
    assert np.abs(np.nanmean(residual, axis=0)).max() < 1e-12
    assert np.array_equal(np.isnan(residual), np.isnan(values))
    assert np.array_equal(residual_from_prompt_mean(values[:1]), values[:1])


def test_groups_that_are_too_small_take_no_part():
    values = prompts_of(np.random.default_rng(0), 3, 40, 3)
    groups = group_by_length(values, np.array([40, 30, 40]))
    assert len(prepare(NULLS["cross_prompt"], groups, standardise, 1).windows) == 1
    assert len(prepare(NULLS["window_shift"], groups, standardise, 1).windows) == 2


@pytest.mark.parametrize("null", ["window_shift", "cross_prompt"])
def test_surrogate_statistics_are_what_they_say(null):
    """p is never 0, mean and sd are those of the draws, and the seed decides everything."""
    series = prompts_of(np.random.default_rng(1), 4, 40, 4)
    result = phiid(series, null=null, surrogates=9, seed=3)
    assert result.equals(phiid(series, null=null, surrogates=9, seed=3))
    assert not result.equals(phiid(series, null=null, surrogates=9, seed=4))
    assert result["p"].min() >= 0.1
    assert result["p_greater"].values.min() >= 0.1
    both = result["p_greater"] + result["p_less"]
    assert (both.values >= 1.1 - 1e-12).all()
    z = (result["null_observed"] - result["null_mean"]) / result["null_sd"]
    assert np.allclose(result["z"].values, z.values, equal_nan=True)
    assert np.isfinite(result["z"].sel(past="syn", future="syn")).all()
    assert np.isfinite(result["z"].sel(past="red", future="red")).all()


def test_cross_prompt_observes_the_data_as_they_are_and_window_shift_residuals():
    series = prompts_of(np.random.default_rng(2), 4, 40, 3)
    crossed = phiid(series, null="cross_prompt", surrogates=2)
    shifted = phiid(series, null="window_shift", surrogates=2)
    assert np.allclose(crossed["null_observed"], crossed["atom"], atol=1e-13)
    residual = phiid(series - series.mean(axis=0))["atom"]
    assert np.allclose(shifted["null_observed"], residual, atol=1e-12)


def test_window_shift_is_calibrated_for_independent_series():
    """496 pairs of independent AR series: the share of p <= 0.05 is near 0.05, in both tails.

    Pairs share series, so the bounds are wide: four binomial standard errors of 496 / 4 pairs.
    """
    rng = np.random.default_rng(5)
    series = ar_series(rng, 100, rng.uniform(0.2, 0.8, 32))
    result = phiid(series, null="window_shift", surrogates=59, seed=0)
    for past, future in (("syn", "syn"), ("red", "red")):
        cell = result.sel(past=past, future=future)
        bound = 0.05 + 4 * np.sqrt(0.05 * 0.95 / 124)
        for tail in ("p_greater", "p_less"):
            assert float((cell[tail] <= 0.05).mean()) <= bound


def test_cross_prompt_is_calibrated_for_independent_series():
    """The same over 12 prompts, of which each draw pairs each with another."""
    rng = np.random.default_rng(8)
    rho = rng.uniform(0.2, 0.8, 32)
    series = np.stack([ar_series(rng, 100, rho) for _ in range(12)])
    result = phiid(series, null="cross_prompt", surrogates=59, seed=0)
    for past, future in (("syn", "syn"), ("red", "red")):
        cell = result.sel(past=past, future=future)
        bound = 0.05 + 4 * np.sqrt(0.05 * 0.95 / 124)
        for tail in ("p_greater", "p_less"):
            assert float((cell[tail] <= 0.05).mean()) <= bound
        assert 0.3 < float((cell["p_greater"] <= 0.5).mean()) < 0.7


def test_coupling_is_found_by_the_same_step_null_and_its_absence_is_not():
    """Lagged coupling raises pooled Φ_R; same-step correlation alone does not."""
    rng = np.random.default_rng(6)
    prompts, steps = 30, 80
    series = np.zeros((prompts, steps, 4))
    for t in range(1, steps):
        noise = rng.normal(size=(prompts, 4))
        noise[:, 3] = 0.6 * noise[:, 2] + 0.8 * noise[:, 3]
        series[:, t] = 0.4 * series[:, t - 1] + noise
        series[:, t, 1] += 0.4 * series[:, t - 1, 0]
    result = phiid(series, null="same_step", seed=1)
    excess = aggregate("phi_r", (result["null_observed"] - result["null_mean"]).values)
    assert excess[0] > 0.03
    assert np.abs(excess[1:]).max() < 0.01
    assert np.abs(result["z"].values[5]).max() < 4
    assert result["p"].values[0].min() == 2 / 200


def test_same_step_needs_prompts_for_its_spread():
    result = phiid(np.random.default_rng(0).normal(size=(60, 3)), null="same_step")
    assert np.isfinite(result["null_mean"]).all()
    assert np.isnan(result["null_sd"]).all()
    assert np.isnan(result["p"]).all()


def test_undefined_pairs_have_no_p():
    series = np.random.default_rng(0).normal(size=(3, 40, 3))
    series[:, :, 2] = 1.0
    for null, surrogates in (("window_shift", 5), ("cross_prompt", 5), ("same_step", 0)):
        result = phiid(series, null=null, surrogates=surrogates)
        assert np.isnan(result["p"].values[1:]).all()
        assert np.isfinite(result["p_greater"].values[0]).all()

"""Nulls: what each keeps exactly, what each removes, and that tests under it are calibrated."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats
from time_series import ar_series, var_series

from synatlas.decompose.gaussian import Correlations, closed_form
from synatlas.decompose.groups import group_by_length
from synatlas.decompose.lattice import aggregate
from synatlas.decompose.nulls import (
    NULLS,
    OWN_MEMORY,
    independence,
    own_memory,
    prepare,
)
from synatlas.decompose.rearrange import (
    by_memory,
    exchange,
    randomise_phases,
    rotate_windows,
    simulate_ar1,
    unmixed,
)
from synatlas.decompose.series import phiid
from synatlas.decompose.slow import without_line, without_prompt_mean
from synatlas.decompose.windows import standardise
from synatlas.errors import ConfigError
from synatlas.simulate.uncoupled import ar_per_prompt, independent_ar


def prompts_of(rng, prompts, steps, units):
    return np.stack([var_series(rng, steps, units) for _ in range(prompts)])


def prepared(values, null, category=None):
    steps = np.full(len(values), values.shape[1])
    return prepare(NULLS[null], group_by_length(values, steps), standardise, 1, category)


def test_window_shift_keeps_every_self_correlation_and_the_set_of_samples():
    data = prepared(prompts_of(np.random.default_rng(0), 4, 50, 6), "window_shift")
    windows, drawn = data.windows[0], rotate_windows(data, np.random.default_rng(1)).left[0]
    own = np.einsum("pus,pus->pu", drawn.values[:, 0], drawn.values[:, 1])
    assert np.abs(own - windows.self_correlation).max() < 1e-12
    assert np.array_equal(np.sort(drawn.values), np.sort(windows.values))
    assert not np.array_equal(drawn.values, windows.values)


def test_window_shift_rotates_past_and_future_together():
    data = prepared(prompts_of(np.random.default_rng(0), 2, 30, 3), "window_shift_raw")
    drawn = rotate_windows(data, np.random.default_rng(2)).left[0]
    for p in range(2):
        for u in range(3):
            joint = {tuple(v) for v in data.windows[0].values[p, :, u].T}
            assert {tuple(v) for v in drawn.values[p, :, u].T} == joint


def test_orders_within_sets_are_equally_likely():
    """Three prompts have six orders; each comes up as often as the others."""
    data = prepared(prompts_of(np.random.default_rng(0), 3, 30, 2), "cross_prompt_plain")
    key = data.windows[0].self_correlation[:, 0]
    orders = [
        tuple(np.searchsorted(np.sort(key), draw.right[0].self_correlation[:, 0]))
        for seed in range(600)
        for draw in [exchange(data, np.random.default_rng(seed))]
    ]
    count = np.unique(orders, axis=0, return_counts=True)[1]
    assert len(count) == 6
    assert stats.chisquare(count).pvalue > 0.001


def test_partners_are_exchanged_within_categories_and_lone_prompts_take_no_part():
    category = np.array(["one", "two", "one", "three", "two", "one"])
    values = prompts_of(np.random.default_rng(0), 6, 30, 2)
    data = prepared(values, "cross_prompt_category", category)
    assert data.windows[0].shape[0] == 5
    assert np.array_equal(data.series[0], values[[0, 1, 2, 4, 5]])
    kinds = category[[0, 1, 2, 4, 5]]
    own = dict(zip(data.windows[0].self_correlation[:, 0], kinds, strict=True))
    for seed in range(5):
        draw = exchange(data, np.random.default_rng(seed))
        assert [own[v] for v in draw.right[0].self_correlation[:, 0]] == list(kinds)
        assert draw.kept == pytest.approx(2 / 5)


def test_sets_by_memory_are_alike_in_self_information():
    values = independent_ar(
        np.repeat(np.linspace(0.1, 0.95, 20)[:, None], 6, axis=1), prompts=20, steps=400
    )["activity"].values
    windows = standardise(values, 1)
    sets = by_memory(windows, None)
    assert [len(rows) for rows in sets] == [5, 5, 5, 5]
    means = windows.self_information.mean(axis=1)
    assert all(means[a].max() <= means[b].min() for a, b in pairwise(sets))


def test_own_memory_is_the_closed_form_of_independent_series():
    """Population correlations of independent pairs give OWN_MEMORY, xtx and yty, no more."""
    xa, yb = np.array([0.3, 0.8, 0.5]), np.array([0.6, 0.2, 0.5])
    zero = np.zeros(3)
    atoms = closed_form(Correlations(zero, zero, xa, yb, zero, zero))
    s_x, s_y = -0.5 * np.log(1 - xa**2), -0.5 * np.log(1 - yb**2)
    expected = np.minimum(s_x, s_y)[:, None, None] * OWN_MEMORY
    expected[:, 1, 1] += s_x
    expected[:, 2, 2] += s_y
    assert np.abs(atoms - expected).max() < 1e-12


def test_own_memory_is_the_mean_over_prompts_of_the_smaller_one():
    windows = standardise(prompts_of(np.random.default_rng(3), 4, 40, 3), 1)
    found = own_memory([windows], [windows.take(np.array([1, 2, 3, 0]))])
    s = windows.self_information
    for a in range(3):
        for b in range(3):
            slow = np.mean([min(s[p, a], s[(p + 1) % 4, b]) for p in range(4)])
            assert found[a, b] == pytest.approx(slow)


@pytest.mark.parametrize("null", ["circular_shift", "block_shuffle"])
def test_series_are_made_of_the_same_values(null):
    values = prompts_of(np.random.default_rng(4), 2, 37, 3)
    seen = []

    def remake(series):
        seen.append(series)
        return standardise(series, 1)

    data = prepared(values, null)._replace(remake=remake)
    NULLS[null].draw(data, np.random.default_rng(0))
    assert np.allclose(np.sort(seen[0], axis=1), np.sort(values, axis=1))
    assert not np.allclose(seen[0], values)


@pytest.mark.parametrize("steps", [40, 41])
def test_phases_leave_the_power_spectrum(steps):
    values = prompts_of(np.random.default_rng(5), 2, steps, 3)
    seen = []

    def remake(series):
        seen.append(series)
        return standardise(series, 1)

    data = prepared(values, "phase_randomised")._replace(remake=remake)
    randomise_phases(data, np.random.default_rng(0))
    power = [np.abs(np.fft.rfft(v, axis=1)) for v in (seen[0], values)]
    assert np.allclose(*power)


def test_ar1_has_the_memory_that_was_fitted():
    values = independent_ar(np.array([0.2, 0.9]), prompts=40, steps=400)["activity"].values
    drawn = simulate_ar1(prepared(values, "ar1"), np.random.default_rng(0)).left[0]
    assert np.allclose(drawn.self_correlation.mean(axis=0), [0.2, 0.9], atol=0.03)


def test_a_surrogate_without_its_share_of_the_data():
    other, data = np.array([1.0, 3.0]), np.array([2.0, 3.0])
    mixed = 0.8 * other + 0.2 * data
    assert np.allclose(unmixed(mixed, data, 0.2), other)
    assert np.array_equal(unmixed(data + 1e-15, data, 0.2), data)
    assert np.allclose(unmixed(mixed, data, 1.0), mixed)


def test_residuals_have_no_mean_over_prompts():
    values = prompts_of(np.random.default_rng(0), 5, 20, 3)
    groups = group_by_length(values, np.array([20, 20, 15, 20, 20]))
    short, long = without_prompt_mean(groups)
    assert np.abs(short.sum(axis=0) + long[:, :15].sum(axis=0)).max() < 1e-12
    assert np.abs(long[:, 15:].mean(axis=0)).max() < 1e-12


def test_one_prompt_loses_lines_and_onsets_and_what_is_only_that_is_constant():
    steps = np.arange(60)
    line, onset = 3 + 0.2 * steps, np.exp(-steps / 3.0)
    noise = np.random.default_rng(1).normal(size=60)
    series = np.stack([noise, noise + 5 * onset - line, line + onset], axis=1)[None]
    left = without_prompt_mean(group_by_length(series, np.array([60])))[0][0]
    assert np.allclose(left[:, 0], left[:, 1])
    assert np.array_equal(left[:, 2], np.zeros(60))


def test_lines_are_taken_off_and_undefined_series_stay_undefined():
    values = prompts_of(np.random.default_rng(0), 2, 30, 3)
    values[1, 3, 2] = np.nan
    slope = np.arange(30)[None, :, None] * np.array([1.0, -2.0, 0.5])
    lengths = np.array([30, 30])
    plain, sloped = (without_line(group_by_length(v, lengths))[0] for v in (values, values + slope))
    assert np.allclose(plain, sloped, equal_nan=True)
    assert np.isnan(plain[1, :, 2]).all()
    assert np.isfinite(plain[0]).all()


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


def test_each_null_observes_the_data_as_it_prepares_them():
    series = prompts_of(np.random.default_rng(2), 4, 40, 3)
    plain = phiid(series, null="cross_prompt_plain", surrogates=2)
    assert np.allclose(plain["null_observed"], plain["atom"], atol=1e-13)
    shifted = phiid(series, null="window_shift", surrogates=2)
    residual = phiid(series - series.mean(axis=0))["atom"]
    assert np.allclose(shifted["null_observed"], residual, atol=1e-12)
    crossed = phiid(series, null="cross_prompt", surrogates=2)
    assert np.allclose(crossed["null_observed"], phiid(series, nuisance=("trend",))["atom"])


def test_memory_that_varies_over_prompts_is_not_taken_for_coupling():
    """Partners from any prompt are fooled by it in nearly every pair, partners alike are not."""
    series = ar_per_prompt(8, low=0.1, high=0.9, prompts=40, steps=100)["activity"].values
    fooled, fair = (
        phiid(series, null=null, surrogates=99, seed=1)["p"].sel(past="syn", future="syn")
        for null in ("cross_prompt_plain", "cross_prompt")
    )
    assert float((fooled <= 0.05).mean()) > 0.9
    assert float((fair <= 0.05).mean()) < 0.25


def test_the_default_call_takes_partners_where_there_are_enough_prompts():
    assert independence(np.full(60, 100)) == "cross_prompt"
    assert independence(np.array([100, 90, 80, 70, 60])) == "window_shift"
    series = prompts_of(np.random.default_rng(2), 6, 40, 3)
    for some, used in ((series, "cross_prompt"), (series[0], "window_shift")):
        call = phiid(some, null="independence", surrogates=9)
        named = phiid(some, null=used, surrogates=9)
        assert call.attrs["null_used"] == used
        assert np.array_equal(call["p"], named["p"], equal_nan=True)


def test_categories_are_asked_for():
    series = prompts_of(np.random.default_rng(2), 6, 40, 3)
    with pytest.raises(ConfigError, match="categories"):
        phiid(series, null="cross_prompt_category", surrogates=9)


def test_several_lags_are_single_ones_side_by_side():
    series = prompts_of(np.random.default_rng(2), 6, 40, 3)
    several = phiid(series, lag=[1, 3], null="cross_prompt", surrogates=5)
    for lag in (1, 3):
        alone = phiid(series, lag=lag, null="cross_prompt", surrogates=5)
        assert several.sel(lag=lag, drop=True).equals(alone)


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
    assert np.nanmax(np.abs(result["z"].values[5])) < 4
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

"""Common change in surprisal: the compiled loop against NumPy, which has a slow reference."""

from functools import partial

import numpy as np
import pytest
from time_series import ar_series, var_series

from synatlas.decompose import kernels_ccs
from synatlas.decompose.pairs import sum_pairs
from synatlas.decompose.redundancy import ccs, ccs_compiled
from synatlas.decompose.windows import standardise

compiled = partial(sum_pairs, redundancy=ccs_compiled)
plain = partial(sum_pairs, redundancy=ccs)


def assert_same_sums(left, right, **kinds):
    one, two = (engine(left, right, per_unit=True, **kinds) for engine in (compiled, plain))
    assert np.allclose(one.pair, two.pair, atol=1e-12, rtol=0)
    assert np.allclose(one.unit, two.unit, atol=1e-12 * len(left.reason[0]), rtol=0)


def windows_of(prompts, samples, units):
    rng = np.random.default_rng(samples)
    return standardise(np.stack([var_series(rng, samples + 1, units) for _ in range(prompts)]), 1)


@pytest.mark.parametrize("samples", [39, 40, 41, 43])
@pytest.mark.parametrize("only", ["all", "extremes"])
def test_compiled_sums_are_the_plain_sums(samples, only):
    """Any number of samples that padding adds, and first units of one data set with another's."""
    windows = windows_of(3, samples, 9)
    assert_same_sums(windows, windows, only=only)
    assert_same_sums(windows, windows.take(np.array([1, 2, 0])), only=only)


def test_partners_that_share_a_kept_row_are_told_apart(monkeypatch):
    windows = windows_of(2, 40, 12)
    monkeypatch.setattr(kernels_ccs, "_KEPT", 5 * 5 * 8 * 40)
    assert_same_sums(windows, windows)


def test_nearly_collinear_and_undefined_series_are_those_of_numpy():
    rng = np.random.default_rng(1)
    series = var_series(rng, 70, 8)
    series[:, 1] = series[:, 0] + 1e-3 * rng.normal(size=70)
    series[:, 2] = series[:, 0] + 1e-5 * rng.normal(size=70)
    series[:, 5] = 2.0
    series[1:, 6] = series[:-1, 7] + 1e-3 * rng.normal(size=69)
    series[3, 4] = np.nan
    windows = standardise(series[None], 1)
    one, two = (engine(windows, windows, per_unit=False) for engine in (compiled, plain))
    assert np.allclose(one.pair, two.pair, atol=1e-12, rtol=0)
    assert np.array_equal(one.tally, two.tally)


def test_an_outlier_in_3000_steps_is_no_underflow():
    series = np.random.default_rng(6).normal(size=(3000, 3))
    series[100] = 60.0, -60.0, 30.0
    windows = standardise(series[None], 1)
    assert np.isfinite(compiled(windows, windows, per_unit=False).pair).all()
    assert_same_sums(windows, windows)


def test_independent_series_share_nothing():
    """The synergy that MMI gives two memories is not there: within 0.01 nat at 20,000 steps."""
    series = ar_series(np.random.default_rng(0), 20_000, [0.5, 0.8])
    windows = standardise(series[None], 1)
    known = compiled(windows, windows, per_unit=False, only="extremes").pair[:2, 0]
    assert np.abs(known).max() < 0.01

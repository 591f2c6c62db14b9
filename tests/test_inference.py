"""Resampling, surrogate tests and rank correlation against loops, scipy and their own nulls."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from synatlas.inference import (
    P_COUNTED,
    P_STUDENT,
    P_UNRESOLVED,
    adjusted_p,
    half_weights,
    layer_orders,
    partial_rank_correlation,
    percentile_interval,
    rank_correlation,
    resampling_weights,
    student_holds,
    surrogate_test,
    weighted_mean,
)

FEW = settings(derandomize=True, deadline=None, max_examples=30)
P_VALUES = arrays(np.float64, st.integers(1, 12), elements=st.floats(0.0, 1.0))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_bootstrap_weights_give_the_standard_error_of_a_mean() -> None:
    values = rng(1).standard_normal((30, 1))
    draws = resampling_weights(30, 20_000, rng(2)) @ values
    assert draws.mean() == pytest.approx(values.mean(), abs=0.005)
    assert draws.std() == pytest.approx(values.std() / math.sqrt(30), rel=0.02)


@pytest.mark.parametrize("items", [2, 5, 8])
def test_halves_are_disjoint_and_equal(items: int) -> None:
    halves = half_weights(items, 50, rng())
    assert not ((halves[0] > 0) & (halves[1] > 0)).any()
    assert ((halves > 0).sum(axis=2) == items // 2).all()
    assert halves.sum(axis=2) == pytest.approx(1.0)


def test_weighted_mean_leaves_undefined_items_out() -> None:
    values = rng(3).standard_normal((6, 4))
    values[[0, 2], 1] = np.nan
    values[:, 3] = np.nan
    weights = resampling_weights(6, 7, rng(4))
    for row, weight in zip(weighted_mean(weights, values), weights, strict=True):
        for unit in range(4):
            ok = np.isfinite(values[:, unit]) & (weight > 0)
            if ok.any():
                assert row[unit] == pytest.approx(np.average(values[ok, unit], weights=weight[ok]))
            else:
                assert math.isnan(row[unit])


def test_percentile_interval_is_the_quantiles_of_the_defined_draws() -> None:
    draws = rng(5).standard_normal((200, 2, 3))
    draws[:50, 0, 1] = np.nan
    draws[:, 1, 2] = np.nan
    out = percentile_interval(draws, 0.9)
    assert out[0, 0] == pytest.approx(np.quantile(draws[:, 0, 0], [0.05, 0.95]))
    assert out[0, 1] == pytest.approx(np.quantile(draws[50:, 0, 1], [0.05, 0.95]))
    assert np.isnan(out[1, 2]).all()
    assert np.isnan(percentile_interval(draws[:0], 0.9)).all()


@FEW
@given(P_VALUES)
def test_adjusted_p_is_the_step_up_procedure(p: np.ndarray) -> None:
    order = np.argsort(p, kind="stable")
    expected, least = np.empty(p.size), 1.0
    for rank in range(p.size, 0, -1):
        least = min(least, p[order[rank - 1]] * p.size / rank)
        expected[order[rank - 1]] = least
    assert adjusted_p(p) == pytest.approx(expected)


def test_adjusted_p_ignores_undefined_entries() -> None:
    p = np.array([0.01, np.nan, 0.2])
    out = adjusted_p(p)
    assert math.isnan(out[1])
    assert out[[0, 2]] == pytest.approx(adjusted_p(p[[0, 2]]))


def test_counted_p_has_its_floor_and_counts_ties() -> None:
    draws = rng(6).standard_normal((199, 4))
    observed = np.array([99.0, -99.0, 0.0, draws[0, 3]])
    test = surrogate_test(observed, draws)
    assert test.method == P_COUNTED
    assert test.p_greater[0] == pytest.approx(1 / 200)
    assert test.p_less[1] == pytest.approx(1 / 200)
    for unit in range(4):
        count = sum(draw >= observed[unit] for draw in draws[:, unit])
        assert test.p_greater[unit] == pytest.approx((1 + count) / 200)
    assert test.p_greater[3] + test.p_less[3] == pytest.approx((200 + 2) / 200)


def test_student_p_is_uniform_under_the_null() -> None:
    values = rng(7).standard_normal((20, 20_000))
    test = surrogate_test(values[0], values[1:])
    assert test.method == P_STUDENT
    for level in (0.5, 0.05, 0.005):
        assert (test.p_greater <= level).mean() == pytest.approx(level, rel=0.25)
        assert (test.p_less <= level).mean() == pytest.approx(level, rel=0.25)
    assert (test.p_greater > 0).all()


def test_scale_is_that_of_a_new_draw_minus_the_mean() -> None:
    values = rng(8).standard_normal((12, 50_000))
    test = surrogate_test(values[0], values[1:])
    assert (test.excess / test.scale).std() == pytest.approx(math.sqrt(10 / 8), rel=0.03)
    assert test.z == pytest.approx(test.excess / values[1:].std(axis=0, ddof=1))


def test_too_few_or_heavy_tailed_surrogates_stay_unresolved() -> None:
    heavy = rng(9).standard_t(2, size=(60, 200))
    for draws in (rng(9).standard_normal((3, 200)), heavy):
        test = surrogate_test(np.full(200, 50.0), draws)
        assert test.method == P_UNRESOLVED
        assert test.p_greater.min() >= 1 / (1 + draws.shape[0])


def test_no_surrogates_give_no_numbers() -> None:
    test = surrogate_test(np.ones(3), np.empty((0, 3)))
    assert np.isnan(test.excess).all()
    assert np.isnan(test.p_greater).all()
    assert test.method == P_UNRESOLVED


def test_units_without_draws_are_undefined_and_do_not_disturb_the_others() -> None:
    draws = rng(10).standard_normal((30, 6))
    whole = surrogate_test(np.ones(6), draws)
    draws[:, 2] = np.nan
    test = surrogate_test(np.ones(6), draws)
    assert math.isnan(test.p_greater[2])
    assert math.isnan(test.z[2])
    others = [0, 1, 3, 4, 5]
    assert test.p_greater[others] == pytest.approx(whole.p_greater[others])


def test_leaving_one_out_has_a_closed_form() -> None:
    """The rule of `student_holds`, told as a loop."""
    for scale_of_tail in (1.0, 30.0):
        draws = rng(11).standard_normal((25, 40))
        draws[0] *= scale_of_tail
        t = np.empty_like(draws)
        for k, unit in itertools.product(range(25), range(40)):
            others = np.delete(draws[:, unit], k)
            spread = others.std(ddof=1) * math.sqrt(1 + 1 / 24)
            t[k, unit] = (draws[k, unit] - others.mean()) / spread
        beyond = max((t > stats.t.isf(0.01, 23)).mean(), (t < stats.t.ppf(0.01, 23)).mean())
        assert student_holds(draws) == (beyond <= 0.02)


@FEW
@given(
    arrays(np.float64, (3, 9), elements=st.integers(-3, 3).map(float)),
    arrays(np.float64, (3, 9), elements=st.integers(-3, 3).map(float)),
)
def test_rank_correlation_is_scipys(a: np.ndarray, b: np.ndarray) -> None:
    for x, y, found in zip(a, b, rank_correlation(a, b), strict=True):
        if np.ptp(x) == 0 or np.ptp(y) == 0:
            assert math.isnan(found)
        else:
            assert found == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


def test_rank_correlation_uses_what_is_defined_in_both() -> None:
    a, b = rng(12).standard_normal((2, 4, 20))
    a[0, :3] = np.nan
    b[2, 5] = np.nan
    for x, y, found in zip(a, b, rank_correlation(a, b), strict=True):
        ok = np.isfinite(x) & np.isfinite(y)
        assert found == pytest.approx(stats.spearmanr(x[ok], y[ok]).statistic)
    assert math.isnan(float(rank_correlation(a[0, :5], b[0, :5])))


def test_partial_correlation_with_one_control_is_the_textbook_formula() -> None:
    a, b, c = rng(13).standard_normal((3, 50)) + rng(14).standard_normal(50)
    ab, ac, bc = (stats.spearmanr(*pair).statistic for pair in ((a, b), (a, c), (b, c)))
    expected = (ab - ac * bc) / math.sqrt((1 - ac**2) * (1 - bc**2))
    assert partial_rank_correlation(a, b, c[None]) == pytest.approx(expected)


def test_partial_correlation_is_undefined_where_nothing_is_left() -> None:
    a, b = rng(15).standard_normal((2, 30))
    assert math.isnan(partial_rank_correlation(a, b, a[None]))
    assert math.isnan(partial_rank_correlation(a[:3], b[:3], a[None, :3]))
    assert math.isnan(partial_rank_correlation(a, np.ones(30), b[None]))


def test_orders_are_all_or_random_permutations() -> None:
    assert len({tuple(order) for order in layer_orders(5, 0, rng())}) == math.factorial(5)
    many = layer_orders(12, 300, rng())
    assert (many[0] == np.arange(12)).all()
    assert (np.sort(many, axis=1) == np.arange(12)).all()
    assert len({tuple(order) for order in many}) == 301

"""A set among random sets: exact p, counts of sets, sums under stratified sampling."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import permutation_test, ttest_ind

from synatlas.intervene.categories import contrast
from synatlas.intervene.sets import (
    among_draws,
    called_from,
    distinct_sets,
    layer_counts,
    over_counts,
    sum_among_matched,
)


@settings(derandomize=True, deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.integers(2, 30), st.integers(1, 4))
def test_p_of_exchangeable_sets_is_uniform(seed: int, sets: int, counts: int) -> None:
    """Whichever of the sets is the tested one, its p is each of 1/n ... 1 once."""
    damage = np.random.default_rng(seed).gamma(0.5, size=(sets, counts))
    expected = np.arange(1, sets + 1) / sets
    for compare in (over_counts, among_draws):
        found = [compare(damage[i], np.delete(damage, i, axis=0)) for i in range(sets)]
        for tail in ("p_more", "p_less"):
            p = np.stack([getattr(one, tail) for one in found])
            assert np.allclose(np.sort(p, axis=0), expected[:, None], rtol=1e-12)


def test_equal_damage_is_no_evidence_in_either_tail() -> None:
    equal = np.full((19, 3), 0.7)
    jitter = 1 + 1e-8 * np.random.default_rng(0).normal(size=equal.shape)
    found = among_draws(equal[0], equal * jitter)
    assert (found.p_more == 1).all()
    assert (found.p_less == 1).all()
    assert (found.quantile == 0.5).all()
    among = over_counts(equal[0], equal)
    assert among.p_more[0] == among.p_less[0] == 1
    assert np.isnan(among.effect[0])


def test_effect_and_ratio_are_those_of_the_draws() -> None:
    draws = np.array([[1.0], [2.0], [3.0]])
    found = among_draws(np.array([4.0]), draws)
    assert found.effect[0] == 2.0
    assert found.ratio[0] == 2.0
    assert found.p_more[0] == 1 / 4
    assert found.quantile[0] == 1


def test_a_set_is_called_just_above_the_ratio_that_is_given() -> None:
    draws = np.random.default_rng(0).gamma(2, size=199)
    bound = called_from(draws, 0.01) * draws.mean()
    for factor, called in ((1.001, True), (0.999, False)):
        p = among_draws(np.array([bound * factor]), draws[:, None]).p_more[0]
        assert (p <= 0.01) == called
    assert np.isnan(called_from(draws[:19], 0.01))


def test_sets_that_keep_layers_are_counted_and_summed_as_enumeration_does() -> None:
    rng = np.random.default_rng(3)
    layer = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])
    values, position = rng.normal(size=9), rng.permutation(9)
    counts = np.array([1, 4, 6, 9])
    taken = layer_counts(position, layer, counts)
    assert taken.sum(axis=1).tolist() == counts.tolist()
    found = sum_among_matched(values, position, layer, counts)
    for k, n in enumerate(counts.tolist()):
        alike = [
            s
            for s in itertools.combinations(range(9), n)
            if (np.bincount(layer[list(s)], minlength=3) == taken[k]).all()
        ]
        assert distinct_sets(taken[k : k + 1], np.bincount(layer))[0] == pytest.approx(len(alike))
        sums = np.array([values[list(s)].sum() for s in alike])
        own = values[position < n].sum()
        if len(alike) > 1:
            assert found[k] == pytest.approx((own - sums.mean()) / sums.std())
        else:
            assert np.isnan(found[k])


def test_contrast_is_the_permutation_test_of_welch() -> None:
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.normal(1.2, 2, size=4), rng.normal(0, 0.5, size=6)])
    group = np.arange(10) < 4
    found = contrast(values, group, draws=4000, rng=rng)

    def t(a: np.ndarray, b: np.ndarray) -> float:
        return abs(ttest_ind(a, b, equal_var=False).statistic)

    exact = permutation_test(
        (values[group], values[~group]), t, n_resamples=np.inf, alternative="greater"
    )
    assert found.p == pytest.approx(exact.pvalue, abs=3 * np.sqrt(exact.pvalue / 4000))
    assert found.difference == pytest.approx(values[:4].mean() - values[4:].mean())
    assert found.drawn.mean() == pytest.approx(found.difference, abs=0.1)
    nothing = contrast(np.ones(10), group, draws=9, rng=rng)
    assert np.isnan(nothing.p)

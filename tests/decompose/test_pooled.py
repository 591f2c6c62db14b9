"""Pooled correlations and their same-step null against loops and population values."""

import numpy as np
from time_series import var_covariance, var_series

from reference.phiid_reference import covariance_atoms
from synatlas.decompose.gaussian import Correlations, closed_form
from synatlas.decompose.lattice import SWAP
from synatlas.decompose.pooled import bootstrap_weights, pool
from synatlas.decompose.windows import standardise


def mean_correlation(series, i, j):
    """Mean over prompts of the correlation matrices of x, y, a, b."""
    return np.mean(
        [np.corrcoef([s[:-1, i], s[:-1, j], s[1:, i], s[1:, j]]) for s in series], axis=0
    )


def under_the_null(r):
    out = r.copy()
    out[0, 3] = out[3, 0] = r[1, 3] * r[0, 1]
    out[1, 2] = out[2, 1] = r[0, 2] * r[0, 1]
    return out


def test_pooling_matches_a_loop_over_pairs_and_prompts():
    rng = np.random.default_rng(0)
    series = np.stack([var_series(rng, 40, 4) for _ in range(6)])
    pooled = pool([standardise(series, 1)], bootstraps=3, seed=5)
    weights = bootstrap_weights(6, 3, 5)
    for i in range(4):
        partners = [j for j in range(4) if j != i]
        loops = [mean_correlation(series, i, j) for j in partners]
        observed = np.mean([covariance_atoms(r) for r in loops], axis=0)
        null = np.mean([covariance_atoms(under_the_null(r)) for r in loops], axis=0)
        assert np.allclose(pooled.observed[i], observed, atol=1e-12)
        assert np.allclose(pooled.null[i], null, atol=1e-12)
        for draw in range(3):
            again = np.repeat(np.arange(6), weights[draw + 1].astype(int))
            loops = [mean_correlation(series[again], i, j) for j in partners]
            excess = [covariance_atoms(r) - covariance_atoms(under_the_null(r)) for r in loops]
            assert np.allclose(pooled.excess_draw[draw, i], np.mean(excess, axis=0), atol=1e-12)


def test_without_lagged_coupling_the_excess_vanishes_in_the_population():
    """Independent memories driven by correlated noise: the null is exact."""
    covariance = var_covariance(np.diag([0.3, 0.7]), np.array([[1.0, 0.5], [0.5, 1.0]]))
    scale = np.sqrt(np.diag(covariance))
    r = covariance / np.outer(scale, scale)
    cells = [(0, 1), (2, 3), (0, 2), (1, 3), (0, 3), (1, 2)]
    real = Correlations(*(np.asarray(r[cell]) for cell in cells))
    model = real._replace(xb=real.yb * real.xy, ya=real.xa * real.xy)
    assert np.allclose(closed_form(real), closed_form(model), atol=1e-12)


def test_an_undefined_series_leaves_the_others_as_they_are():
    rng = np.random.default_rng(1)
    series = np.stack([var_series(rng, 40, 4) for _ in range(5)])
    bad = np.concatenate([series, np.full((5, 40, 1), 2.0)], axis=2)
    bad[1, :, 3] = np.nan
    pooled = pool([standardise(bad, 1)], bootstraps=2, seed=0)
    assert np.isnan(pooled.observed[4]).all()
    kept = [0, 2, 3, 4]
    expected = np.mean(
        [
            covariance_atoms(mean_correlation(series, 0, 1)),
            covariance_atoms(mean_correlation(series, 0, 2)),
            covariance_atoms(mean_correlation(series[kept], 0, 3)),
        ],
        axis=0,
    )
    assert np.allclose(pooled.observed[0], expected, atol=1e-12)


def test_pairs_are_oriented_for_both_units():
    series = np.stack([var_series(np.random.default_rng(k), 50, 2) for k in range(3)])
    pooled = pool([standardise(series, 1)], bootstraps=0, seed=0)
    first, second = pooled.observed.reshape(2, 16)
    assert np.allclose(first[SWAP], second, atol=1e-14)
    assert pooled.excess_draw.shape == (0, 2, 4, 4)


def test_a_pair_that_no_uncoupled_pair_can_be_is_left_out_and_counted():
    """Nearly equal pasts fix r_ab; futures that differ contradict the null."""
    rng = np.random.default_rng(2)
    x = np.cumsum(rng.normal(size=(3, 400)), axis=1)
    y = x + 0.3 * rng.normal(size=(3, 400))
    y[:, 1:] -= 0.8 * x[:, :-1]
    series = np.stack([x, y, rng.normal(size=(3, 400))], axis=2)
    beyond = [
        np.linalg.eigvalsh(under_the_null(mean_correlation(series, i, j))).min() < 0
        for i, j in ((0, 1), (0, 2), (1, 2))
    ]
    pooled = pool([standardise(series, 1)], bootstraps=0, seed=0)
    assert pooled.left_out == sum(beyond)
    assert np.isfinite(pooled.observed).all()

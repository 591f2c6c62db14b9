"""Columns under the copula: ranks decide, and measures of them follow."""

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata
from time_series import var_series

from synatlas.decompose.columns import COLUMNS
from synatlas.decompose.target import pid
from synatlas.decompose.triplets import o_information


def scores(series):
    """Normal scores by scipy, equal values at their mean rank."""
    return ndtri(rankdata(series, axis=0) / (len(series) + 1))


def test_copula_measures_are_gaussian_ones_of_normal_scores():
    rng = np.random.default_rng(0)
    series, target = var_series(rng, 61, 5), rng.normal(size=61)
    target += series[:, 0] * series[:, 1]
    series[:, 2] = np.round(series[:, 2])
    found = o_information(series, estimator="copula")["o_information"]
    assert np.allclose(found, o_information(scores(series))["o_information"], rtol=0, atol=1e-10)
    parts = pid(series, target, lag=1, estimator="copula", redundancy="ccs")["atom"]
    expected = pid(scores(series[:-1]), scores(target[1:]), redundancy="ccs")["atom"]
    assert np.allclose(parts, expected, rtol=0, atol=1e-10)


def test_increasing_changes_of_scale_and_outliers_do_not_matter():
    series = var_series(np.random.default_rng(1), 50, 4)
    bent = np.exp(3 * series)
    bent[np.argmax(bent, axis=0), range(4)] = 1e200
    for measure in (o_information, lambda s, estimator: pid(s, s[:, 0] * 2, estimator=estimator)):
        one, other = (measure(s, estimator="copula") for s in (series, bent))
        assert one.identical(other)


def test_reasons_are_kept_and_rare_values_are_constant():
    series = np.random.default_rng(2).normal(size=(1, 30, 5))
    series[0, :, 1] = 4.0
    series[0, 3, 2] = np.inf
    series[0, :, 3] = np.arange(30) > 25
    series[0, :, 4] = np.arange(30) > 24
    columns = COLUMNS["copula"](series)
    assert columns.reason.tolist() == [[0, 1, 5, 1, 0]]
    assert not columns.values[0, 1:4].any()
    assert np.allclose(np.square(columns.values[0, [0, 4]]).sum(axis=1), 1)
    assert COLUMNS["copula"](series[:, :4]).reason.tolist() == [[4] * 5]

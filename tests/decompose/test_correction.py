"""The correction against Monte Carlo, a formula of entropies, and the algebra of the atoms."""

import sys

import numpy as np
import pytest
from scipy.special import digamma
from time_series import ar_series

from synatlas.decompose.correction import wishart_bias
from synatlas.decompose.estimators import ESTIMATORS
from synatlas.decompose.gaussian import Correlations, informations, variances
from synatlas.decompose.lattice import AGGREGATE_NAMES, aggregate, moebius
from synatlas.decompose.series import phiid
from synatlas.errors import ConfigError


def entropy_bias(variables, samples):
    """Bias of the plug-in entropy of a Gaussian, in nats: half the expected ln|S| - ln|Σ|."""
    j = np.arange(1, variables + 1)
    return (variables * np.log(2 / (samples - 1)) + digamma((samples - j) / 2).sum()) / 2


@pytest.mark.parametrize("samples", [5, 8, 20, 99, 1000])
def test_bias_is_that_of_three_entropies(samples):
    bias = wishart_bias(samples)
    for found, (one, other) in zip(bias, ((1, 1), (1, 2), (2, 2)), strict=True):
        parts = entropy_bias(one, samples) + entropy_bias(other, samples)
        assert np.isclose(found, parts - entropy_bias(one + other, samples), rtol=1e-9)
    assert np.allclose(wishart_bias(10**6), np.array([1, 2, 4]) / 2e6, rtol=1e-4)


@pytest.mark.parametrize("samples", [6, 12, 99])
def test_nine_informations_of_independent_samples_become_unbiased(samples):
    rng = np.random.default_rng(0)
    root = rng.normal(size=(4, 4)) * 0.4 + np.eye(4)
    draws = 1_200_000 // samples
    values = rng.normal(size=(draws, samples, 4)) @ root.T
    values -= values.mean(axis=1, keepdims=True)
    covariance = np.einsum("dsi,dsj->dij", values, values)

    def nine(covariance):
        scale = np.sqrt(np.einsum("...ii->...i", covariance))
        r = covariance / scale[..., :, None] / scale[..., None, :]
        order = ((0, 1), (2, 3), (0, 2), (1, 3), (0, 3), (1, 2))
        return np.array(informations(variances(Correlations(*(r[..., i, j] for i, j in order)))))

    plug_in, true = nine(covariance), nine((root @ root.T)[None])
    b11, b12, b22 = wishart_bias(samples)
    bias = np.array([b11] * 4 + [b12] * 4 + [b22])[:, None]
    error = (plug_in - bias - true).mean(axis=1)
    standard = plug_in.std(axis=1) / np.sqrt(draws)
    assert (np.abs(error) < 4 * standard).all()
    assert (bias[:, 0] > 4 * standard).all()


def test_white_noise_has_no_information_left():
    series = np.random.default_rng(1).normal(size=(400, 100, 8))
    plug_in = phiid(series)
    corrected = phiid(series, correction="wishart")
    assert np.isclose(plug_in["tdmi"].mean(), 0.0205, atol=4e-4)
    assert np.isclose(corrected["tdmi"].mean(), -0.0005, atol=4e-4)
    assert plug_in.attrs["correction"] == "none"
    assert corrected.attrs["correction"].startswith("wishart, exact for")
    heavy = phiid(np.exp(2 * series), estimator="copula", correction="wishart")
    assert np.isclose(heavy["tdmi"].mean(), -0.0005, atol=6e-4)
    assert heavy.attrs["correction"].startswith("wishart, approximate")


@pytest.mark.parametrize("engine", ["plain", "compiled"])
def test_four_atoms_alone_differ_and_aggregates_follow(engine, monkeypatch):
    chosen = ESTIMATORS["gaussian"].engines["mmi"]
    one = chosen.compiled(1) if engine == "compiled" else chosen.plain
    monkeypatch.setattr(sys.modules[phiid.__module__], "choose_engine", lambda *_, **__: one)
    rng = np.random.default_rng(2)
    series = np.stack([ar_series(rng, 60, [0.2, 0.4, 0.6, 0.8]) for _ in range(3)])
    series[2, 31:] = np.nan
    series[1, :, 3] = 1.0
    plug_in, found = phiid(series), phiid(series, correction="wishart")
    long, short = wishart_bias(59), wishart_bias(30)
    with_last = found["unit_b"].values == "u0003"
    # Means over the prompts in which a pair is defined.
    b11, b12, b22 = (
        np.where(with_last, (one + other) / 2, (2 * one + other) / 3)
        for one, other in zip(long, short, strict=True)
    )
    expected = {
        ("red", "red"): b11,
        ("red", "syn"): b12 - b11,
        ("syn", "red"): b12 - b11,
        ("syn", "syn"): b22 - 2 * b12 + b11,
    }
    change = plug_in["atom"] - found["atom"]
    for past in ("red", "un1", "un2", "syn"):
        for future in ("red", "un1", "un2", "syn"):
            taken = change.sel(past=past, future=future)
            assert np.allclose(taken, expected.get((past, future), 0.0), atol=1e-14)
    assert np.allclose(plug_in["tdmi"] - found["tdmi"], b22, atol=1e-14)
    assert np.allclose(found["atom"].sum(("past", "future")), found["tdmi"], atol=1e-14)
    for name in AGGREGATE_NAMES:
        taken = aggregate(name, change.values)
        assert np.allclose(plug_in[name] - found[name], taken, atol=1e-14)
    assert np.allclose(plug_in["phi_r"] - found["phi_r"], b22 - b11, atol=1e-14)
    two = phiid(series, correction="wishart", atoms="rtr+sts")
    for role in ("red", "syn"):
        here = {"past": role, "future": role}
        assert np.allclose(two["atom"].sel(here), found["atom"].sel(here), atol=1e-14)


def test_bias_of_the_four_atoms_is_the_moebius_inverse():
    bias = wishart_bias(40)
    atoms = np.array(moebius(list(bias.knowns())))
    assert np.allclose(atoms[[0, 15]], bias.extremes())
    assert np.allclose(np.delete(atoms, [0, 3, 12, 15]), 0, atol=1e-17)
    assert np.isclose(atoms.sum(), bias.b22)


@pytest.mark.parametrize("atoms", ["all", "rtr+sts"])
def test_a_duplicate_has_the_bias_of_one_series(atoms):
    series = np.random.default_rng(3).normal(size=(2, 50, 3))
    series[:, :, 1] = 3 - 2 * series[:, :, 0]
    series[1, :, 1] += np.random.default_rng(4).normal(size=50)
    plug_in = phiid(series, atoms=atoms)
    found = phiid(series, correction="wishart", atoms=atoms)
    assert found["status"].values.tolist() == [2, 0, 0]
    change = plug_in["atom"] - found["atom"]
    b11, b12, b22 = wishart_bias(49)
    assert np.allclose(change.sel(past="red", future="red"), b11)
    synergy = b22 - 2 * b12 + b11
    taken = change.sel(past="syn", future="syn")
    # One of two prompts is a duplicate, whose synergy is 0 and stays so.
    assert np.allclose(taken, [synergy / 2, synergy, synergy])
    if atoms == "all":
        assert np.allclose(plug_in["tdmi"] - found["tdmi"], [(b11 + b22) / 2, b22, b22])


def test_white_regressors_cost_lagged_informations_no_sample():
    rng = np.random.default_rng(5)
    series, covariates = rng.normal(size=(300, 100, 6)), rng.normal(size=(300, 100, 20))
    left = phiid(series, covariates=covariates, correction="wishart")["tdmi"].mean()
    assert abs(left) < 1.5e-3


def test_a_sampled_null_is_corrected_alike():
    series = np.random.default_rng(6).normal(size=(6, 40, 4))
    options = {"null": "window_shift", "surrogates": 9}
    plug_in, found = phiid(series, **options), phiid(series, **options, correction="wishart")
    for name in ("z", "p", "p_greater", "p_less", "null_sd"):
        for role in ("red", "syn"):
            one, other = (each[name].sel(past=role, future=role) for each in (plug_in, found))
            assert np.allclose(one, other, atol=1e-9)
    change = (plug_in["null_mean"] - found["null_mean"]).sel(past="red", future="red")
    assert np.allclose(change, wishart_bias(39).b11)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"correction": "bonferroni"}, "one of wishart"),
        ({"correction": "wishart", "redundancy": "ccs"}, "redundancy 'mmi'"),
        ({"correction": "wishart", "estimator": "binary"}, "'gaussian' or 'copula'"),
    ],
)
def test_a_correction_that_does_not_hold_is_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        phiid(np.random.default_rng(0).normal(size=(30, 3)), **options)

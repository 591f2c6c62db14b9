"""O-information of triplets against entropies, known systems, symmetry and simulation."""

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import digamma
from time_series import recording_of, var_series

from synatlas.decompose.triplets import o_information
from synatlas.errors import ConfigError

OK, CONSTANT, DUPLICATE, DETERMINISTIC, TOO_SHORT, NONFINITE = range(6)


def slow(values):
    """O-information, TC and DTC of three columns as they are defined, by entropies."""
    covariance = np.cov(values, rowvar=False)

    def entropy(*some):
        part = covariance[np.ix_(some, some)]
        return 0.5 * np.linalg.slogdet(2 * np.pi * np.e * part)[1]

    alone = [entropy(i) for i in range(3)]
    others = [entropy(*(j for j in range(3) if j != i)) for i in range(3)]
    joint = entropy(0, 1, 2)
    omega = joint + sum(alone) - sum(others)
    return omega, sum(alone) - joint, sum(others) - 2 * joint


def test_every_triplet_matches_the_definition_by_entropies():
    series = var_series(np.random.default_rng(0), 80, 9, drive=1.0)
    found = o_information(series)
    assert found.sizes["triplet"] == 84
    for k, some in enumerate(combinations(range(9), 3)):
        omega, total, dual = slow(series[:, some])
        assert [found[f"unit_{c}"].values[k] for c in "abc"] == [f"u{i:04d}" for i in some]
        assert np.isclose(found["o_information"][k], omega, rtol=0, atol=1e-12)
        assert np.isclose(found["total_correlation"][k], total, rtol=0, atol=1e-12)
        assert np.isclose(found["dual_total_correlation"][k], dual, rtol=0, atol=1e-12)


@settings(derandomize=True, deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), steps=st.integers(8, 60))
def test_order_scale_and_sign_of_units_do_not_matter(seed, steps):
    rng = np.random.default_rng(seed)
    series = rng.normal(size=(steps, 3)) @ rng.normal(size=(3, 3))
    turned = series * rng.choice([-1, 1], 3) * rng.uniform(0.01, 100, 3) + rng.normal(size=3)
    one = o_information(series)["o_information"].values
    every = o_information(turned, list(permutations(range(3))))["o_information"].values
    assert np.allclose(every, one, rtol=1e-7, atol=1e-9)


def test_a_sum_is_synergistic_and_a_common_drive_redundant():
    """Population values: Ω of z = x + y + noise, and of three copies of a drive with noise."""
    x, y, noise, *copies = np.random.default_rng(1).normal(size=(6, 200_000))
    summed = o_information(np.stack([x, y, x + y + noise], axis=1))["o_information"].item()
    # I(x; y) = 0 and I(x; y | z) = -1/2 ln(1 - 1/4)
    assert np.isclose(summed, 0.5 * np.log(3 / 4), atol=0.01)
    driven = o_information(np.stack([x + copy for copy in copies], axis=1))["o_information"].item()
    # Equal correlations of 1/2: det R = 1/2.
    assert np.isclose(driven, 0.5 * np.log(0.5 / 0.75**3), atol=0.01)
    assert summed < 0 < driven


def test_independent_series_have_the_bias_that_is_stated():
    steps, prompts = 12, 2000
    noise = np.random.default_rng(2).normal(size=(prompts, steps, 3))
    found = o_information(noise)
    single = np.array([slow(part)[0] for part in noise])
    assert np.isclose(found["o_information"].item(), single.mean(), rtol=0, atol=1e-12)
    half = [digamma((steps - k) / 2) for k in (1, 2, 3)]
    bias = 0.5 * (half[0] - 2 * half[1] + half[2])
    assert abs(single.mean() - bias) < 4 * single.std() / np.sqrt(len(single))


def test_thin_triplets_keep_their_digits_and_undefined_ones_have_a_reason():
    rng = np.random.default_rng(3)
    series = np.stack([var_series(rng, 60, 8) for _ in range(2)])
    series[:, :, 1] = series[:, :, 0] + 1e-5 * rng.normal(size=(2, 60))
    series[0, :, 3] = 4 - 2 * series[0, :, 2]
    series[:, :, 5] = 1.0
    series[:, 7, 6] = np.nan
    series[:, :, 7] = series[:, :, 0] + series[:, :, 4]
    found = o_information(series, [(0, 1, 2), (2, 3, 4), (0, 2, 5), (0, 6, 2), (0, 4, 7)])
    assert found["status"].values.tolist() == [OK, DUPLICATE, CONSTANT, NONFINITE, DETERMINISTIC]
    assert found["n_defined"].values.tolist() == [2, 1, 0, 0, 0]
    assert np.isnan(found["o_information"].values[2:]).all()
    exact = np.mean([slow(part[:, :3])[0] for part in series])
    assert np.isclose(found["o_information"][0], exact, rtol=0, atol=1e-5)
    short = o_information(series[:, :4])
    assert set(short["status"].values.tolist()) <= {TOO_SHORT, NONFINITE}


def test_means_are_over_prompts_of_their_own_length():
    rng = np.random.default_rng(4)
    series = np.stack([var_series(rng, 50, 4) for _ in range(3)])
    series[1, 33:] = np.nan
    recording = recording_of(series, n_steps=[50, 33, 50])
    found = o_information(recording, [("L00H03", "L00H00", 1)])
    held = recording["activity"].values[:, :, [3, 0, 1]].astype(float)
    expected = np.mean([slow(held[0])[0], slow(held[1, :33])[0], slow(held[2])[0]])
    assert np.isclose(found["o_information"].item(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("triplets", [[], [(0, 1)], [(0, 0, 1)], [(0, 1, 9)], ["abc"]])
def test_bad_triplets_are_refused(triplets):
    with pytest.raises(ConfigError, match="triplets"):
        o_information(np.zeros((20, 3)), triplets)


@pytest.mark.parametrize("units", [2, 400])
def test_too_few_and_too_many_units_are_refused(units):
    with pytest.raises(ConfigError, match="triplet"):
        o_information(np.zeros((20, units)))

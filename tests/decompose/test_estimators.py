"""Copula and binary estimators against slow references, invariances and series with known atoms."""

from functools import partial
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from time_series import ar_series, recording_of, var_series

from reference.phiid_reference import binary_atoms, copula_atoms
from synatlas.decompose.binary_tiles import sum_binary_tiles
from synatlas.decompose.copula import doubled_ranks, normal_scores
from synatlas.decompose.discrete import binarise, binary_ccs, binary_mmi, sum_binary
from synatlas.decompose.estimators import ESTIMATORS
from synatlas.decompose.groups import mean_atoms
from synatlas.decompose.lattice import SWAP
from synatlas.decompose.pipeline import decompose
from synatlas.decompose.series import phiid
from synatlas.decompose.windows import LEAST_SAMPLES, Windows
from synatlas.errors import ConfigError

OK, CONSTANT, DUPLICATE, DETERMINISTIC, TOO_SHORT, NONFINITE = range(6)

#: Binary engines by redundancy: in NumPy and compiled.
COUNTED = {
    "mmi": (
        partial(sum_binary, rule=binary_mmi),
        partial(sum_binary_tiles, common_change=False, threads=1),
    ),
    "ccs": (
        partial(sum_binary, rule=binary_ccs),
        partial(sum_binary_tiles, common_change=True, threads=1),
    ),
}

REDUNDANCIES = pytest.mark.parametrize("redundancy", ["mmi", "ccs"])


def zero_inflated(rng, steps, units, active):
    """Independent series of zeros and, at `active` random steps each, positive values."""
    values = np.zeros((steps, units))
    values[:active] = rng.exponential(size=(active, units))
    return rng.permuted(values, axis=0)


@REDUNDANCIES
@pytest.mark.parametrize("lag", [1, 3])
def test_copula_matches_the_slow_reference(redundancy, lag):
    """Ties included: some series are rounded to a few values."""
    series = var_series(np.random.default_rng(lag), 70, 8)
    series[:, 4:] = np.round(series[:, 4:])
    atoms = phiid(series, lag=lag, redundancy=redundancy, estimator="copula")["atom"].values
    for k, (i, j) in enumerate(combinations(range(8), 2)):
        reference = copula_atoms(series[:, i], series[:, j], lag, redundancy)
        assert np.abs(atoms[k] - reference).max() < 1e-12


@REDUNDANCIES
@pytest.mark.parametrize("steps", [17, 64, 66, 131])
def test_binary_matches_the_slow_reference(redundancy, steps):
    """From one word to three, with whole numbers that equal their mean and independent cells."""
    series = var_series(np.random.default_rng(steps), steps, 7)
    series[:, 5:] = np.round(series[:, 5:])
    windows = binarise(series[None], 1)
    for engine in COUNTED[redundancy]:
        atoms = mean_atoms(engine(windows, windows, per_unit=False).pair)
        for k, (i, j) in enumerate(combinations(range(7), 2)):
            reference = binary_atoms(series[:, i], series[:, j], 1, redundancy)
            assert np.abs(atoms[k] - reference).max() < 1e-12


@REDUNDANCIES
@pytest.mark.parametrize("only", ["all", "extremes"])
@pytest.mark.parametrize("units", [9, 70])
def test_compiled_binary_sums_are_the_plain_sums(redundancy, only, units):
    """Statuses, tile borders, two data sets and sums per unit."""
    rng = np.random.default_rng(units)
    series = np.stack([var_series(rng, 40, units) for _ in range(3)])
    series[0, :, 1] = 2.0
    series[1, :, 3] = -series[1, :, 2]
    series[1, 3, 5] = np.nan
    windows = binarise(series, 1)
    plain, compiled = COUNTED[redundancy]
    for other in (windows, windows.take(np.array([1, 2, 0]))):
        one, two = (e(windows, other, per_unit=True, only=only) for e in (plain, compiled))
        assert np.allclose(one.pair, two.pair, atol=1e-12)
        assert np.allclose(one.unit, two.unit, atol=1e-12)
        assert np.array_equal(one.tally, two.tally)


def test_threads_change_no_digit():
    windows = binarise(np.random.default_rng(0).normal(size=(3, 30, 140)), 1)
    one, three = (
        sum_binary_tiles(windows, windows, common_change=True, per_unit=True, threads=threads)
        for threads in (1, 3)
    )
    assert np.array_equal(one.pair, three.pair)
    assert np.array_equal(one.unit, three.unit)


@settings(derandomize=True, deadline=None, max_examples=12)
@given(
    seed=st.integers(0, 2**32 - 1),
    steps=st.integers(12, 80),
    estimator=st.sampled_from(["copula", "binary"]),
    redundancy=st.sampled_from(["mmi", "ccs"]),
)
def test_theorems_hold_for_any_series(seed, steps, estimator, redundancy):
    """Sums of atoms are informations, swapping units permutes atoms, scale does not matter."""
    rng = np.random.default_rng(seed)
    series = var_series(rng, steps, 3)
    ask = partial(phiid, redundancy=redundancy, estimator=estimator)
    result = ask(series)
    atom = result["atom"].values
    own = ESTIMATORS[estimator].windows(series[None], 1).self_information[0]
    assert np.allclose(atom.sum((1, 2)), result["tdmi"], atol=1e-12)
    assert np.allclose(atom[:, :2, :2].sum((1, 2)), own[[0, 0, 1]], atol=1e-12)
    assert np.allclose(atom[:, ::2, ::2].sum((1, 2)), own[[1, 2, 2]], atol=1e-12)
    turned = ask(series[:, ::-1])["atom"].values.reshape(3, 16)[::-1, SWAP].reshape(3, 4, 4)
    assert np.allclose(turned, atom, atol=1e-12)
    scaled = series * rng.uniform(1e-3, 1e3, 3) + rng.normal(size=3)
    assert np.allclose(ask(scaled)["atom"], atom, atol=1e-12)


@REDUNDANCIES
def test_increasing_functions_leave_the_copula_alone(redundancy):
    """To the last digit for those that order values alike, and under a change of sign by 1e-12."""
    series = var_series(np.random.default_rng(3), 90, 4)
    ask = partial(phiid, redundancy=redundancy, estimator="copula")
    changed = series.copy()
    changed[:, 0] = np.exp(20 * series[:, 0])
    changed[:, 1] = series[:, 1] ** 3
    changed[series[:, 2].argmax(), 2] = 1e300
    assert np.array_equal(ask(changed)["atom"], ask(series)["atom"])
    assert np.allclose(ask(-changed)["atom"], ask(series)["atom"], atol=1e-12)


@REDUNDANCIES
@pytest.mark.parametrize("estimator", ["copula", "binary"])
def test_an_outlier_in_3000_steps_is_no_underflow(redundancy, estimator):
    series = np.random.default_rng(6).normal(size=(3000, 2))
    series[100] = 1e300, -1e300
    atoms = phiid(series, redundancy=redundancy, estimator=estimator)["atom"]
    assert np.isfinite(atoms).all()
    if estimator == "copula":
        assert np.abs(atoms).max() < 0.02


def test_equal_values_share_the_mean_of_their_ranks():
    ranks = doubled_ranks(np.array([[3.0, 0.0, -0.0, 7.0, 0.0, 3.0]]))
    assert ranks.doubled.tolist() == [[9, 4, 4, 12, 4, 9]]
    assert ranks.most_frequent.tolist() == [3]


def test_too_few_samples_off_the_mode_are_constant():
    rng = np.random.default_rng(0)
    series = zero_inflated(rng, 60, 3, LEAST_SAMPLES + 1)
    series[:, 1] = 0.0
    series[10 : 10 + LEAST_SAMPLES - 1, 1] = rng.normal(size=LEAST_SAMPLES - 1)
    result = phiid(series, estimator="copula")
    assert result["status"].values.tolist() == [CONSTANT, OK, CONSTANT]
    assert phiid(series)["status"].values.tolist() == [OK, OK, OK]


@pytest.mark.parametrize("active", [6, 12, 30])
def test_independent_zero_inflated_series_have_the_bias_of_normal_ones(active):
    """Mean I(xy; ab) is 2 / n within 10 %, as for any margins: 5,600 pairs, no inflation."""
    rng = np.random.default_rng(active)
    series = np.stack([zero_inflated(rng, 100, 8, active) for _ in range(200)])
    tdmi = phiid(series, estimator="copula")["tdmi"].values
    assert np.isfinite(tdmi).all()
    assert abs(tdmi.mean() - 2 / 99) < 0.1 * 2 / 99


def test_independent_copulas_have_synergy_of_twice_the_lesser_memory():
    """Within four standard errors at 20,000 steps, margins far from normal."""
    series = np.exp(ar_series(np.random.default_rng(0), 20_000, [0.5, 0.8]))
    atom = phiid(series, estimator="copula")["atom"].values[0]
    expected = 2 * -0.5 * np.log(1 - 0.5**2)
    assert abs(atom[3, 3] - expected) < 4 * 2 * 0.5 / np.sqrt(20_000)


def test_exactly_independent_bits_have_synergy_of_twice_the_lesser_memory():
    """Every (past, future) of one unit with every one of the other: the population identity."""
    rng = np.random.default_rng(1)
    one, two = rng.random((2, 2, 16)) < 0.5
    one[1] ^= one[0] & (rng.random(16) < 0.8)
    two[1] = two[0] ^ (rng.random(16) < 0.2)
    bits = np.stack([np.repeat(one, 16, axis=1), np.tile(two, 16)], axis=1)
    values = np.where(bits, 1.0, -1.0)[None]
    own = ESTIMATORS["binary"].self_information(values)
    none = np.zeros((1, 2))
    windows = Windows(
        values=values,
        self_correlation=none,
        self_information=own,
        reason=none.astype(np.int8),
        resolution=none,
    )
    least, most = np.sort(own[0])
    expected = np.zeros((4, 4))
    # Neither tells about the other, so each source's information is unique to it or synergistic.
    expected[3, 3] = 2 * least
    expected[0, 3] = expected[3, 0] = least
    lesser = int(own[0].argmin())
    greater = 2 - lesser
    expected[greater, greater] = most
    expected[1 + lesser, 1 + lesser] = least
    expected[0, 3] = expected[3, 0] = least
    expected[1 + lesser, 3] = expected[3, 1 + lesser] = -least
    expected[greater, 3] = expected[3, greater] = -least
    for engine in COUNTED["mmi"]:
        atoms = mean_atoms(engine(windows, windows, per_unit=False).pair)[0]
        assert np.allclose(atoms, expected, atol=1e-12)


@REDUNDANCIES
@pytest.mark.parametrize("factor", [1.0, -2.0])
def test_a_binary_duplicate_is_its_limit_by_the_formula(redundancy, factor):
    x = ar_series(np.random.default_rng(2), 80, [0.7])[:, 0]
    windows = binarise(np.column_stack([x, factor * x + 3.0])[None], 1)
    expected = np.zeros((4, 4))
    expected[0, 0] = windows.self_information[0, 0]
    for engine in COUNTED[redundancy]:
        sums = engine(windows, windows, per_unit=False)
        assert sums.tally[:, 0].tolist() == [0, 0, 1, 0, 0, 0]
        assert np.allclose(mean_atoms(sums.pair)[0], expected, atol=1e-12)


@REDUNDANCIES
def test_binary_informations_of_deterministic_series_are_finite(redundancy):
    """An alternating series tells its next step: ln 2; a shifted copy tells the other's past."""
    x = np.random.default_rng(3).normal(size=61)
    alternating = np.arange(60) % 2
    result = phiid(
        np.column_stack([x[1:], x[:-1], alternating]), redundancy=redundancy, estimator="binary"
    )
    assert (result["status"] == OK).all()
    assert np.isfinite(result["atom"]).all()
    own = binarise(alternating[None, :, None].astype(float), 1).self_information.item()
    assert np.isclose(own, np.log(2), atol=1e-3)


@pytest.mark.parametrize("estimator", ["copula", "binary"])
def test_an_undefined_series_is_nan_with_its_reason(estimator):
    noise = np.random.default_rng(0).normal(size=(40, 2))
    bad = [np.full(40, 2.5), 1e9 + 1e-9 * noise[:, 0], np.r_[np.nan, np.ones(39)]]
    for column, status in zip(bad, [CONSTANT, CONSTANT, NONFINITE], strict=True):
        series = np.column_stack([noise[:, 0], column, noise[:, 1]])
        result = phiid(series, estimator=estimator)
        assert result["status"].values.tolist() == [status, OK, status]
        assert np.isnan(result["atom"].values[[0, 2]]).all()
        alone = phiid(noise, estimator=estimator)["atom"].values[0]
        assert np.allclose(result["atom"].values[1], alone, atol=1e-14)
    short = np.full((2, 30, 2), np.nan)
    short[0], short[1, :5] = noise[:30], noise[:5]
    assert np.allclose(
        phiid(short, estimator=estimator)["atom"], phiid(noise[:30], estimator=estimator)["atom"]
    )


def test_copula_statuses_are_those_of_ranks():
    """Increasing and decreasing functions are duplicates, a monotone series is deterministic."""
    x = ar_series(np.random.default_rng(2), 80, [0.7])[:, 0]
    result = phiid(np.column_stack([x, np.exp(x), -(x**3)]), estimator="copula")
    assert (result["status"] == DUPLICATE).all()
    assert np.allclose(result["atom"][:, 0, 0], result["tdmi"])
    trend = phiid(np.column_stack([x, np.arange(80.0) ** 2]), estimator="copula")
    assert trend["status"].item() == DETERMINISTIC


def test_windows_of_the_copula_are_standardised():
    """Ties would otherwise leave a mean."""
    series = zero_inflated(np.random.default_rng(4), 50, 4, 20)[None]
    values = normal_scores(series, 2).values
    assert np.allclose(values.mean(axis=-1), 0, atol=1e-15)
    assert np.allclose((values**2).sum(axis=-1), 1)


@pytest.mark.parametrize("estimator", ["copula", "binary"])
def test_a_recording_is_decomposed_with_its_nulls(estimator):
    """Rotated windows keep their self-information whatever the estimator."""
    rng = np.random.default_rng(0)
    recording = recording_of(np.stack([var_series(rng, 40, 8) for _ in range(4)]))
    atoms = decompose(recording, estimator=estimator, surrogates=2, seed=1)
    assert atoms["null"].values.tolist() == ["cross_prompt", "window_shift"]
    assert abs(atoms["null_self_information_error"].sel(null="window_shift")) < 1e-12
    single = phiid(recording["activity"], estimator=estimator)
    assert np.allclose(atoms["atom"], single["atom"], atol=1e-13)
    ccs = decompose(recording, estimator=estimator, redundancy="ccs", nulls=())
    assert np.allclose(ccs["unit_atom"], atoms["unit_atom_ccs"], atol=1e-13)
    closed = np.isfinite(atoms["pooled_atom"]).all()
    assert closed == (estimator == "copula")
    assert ("same_step" in atoms.attrs["nulls_left_out"]) == (estimator == "binary")


def test_what_is_of_correlations_alone_is_refused():
    noise = np.random.default_rng(0).normal(size=(3, 30, 3))
    with pytest.raises(ConfigError, match="gaussian, copula"):
        phiid(noise, estimator="binary", null="same_step")
    assert np.isfinite(phiid(noise, estimator="copula", null="same_step")["null_mean"]).all()

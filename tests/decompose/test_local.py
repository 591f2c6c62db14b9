"""Local atoms against the slow reference, their means against phiid and unit_atom."""

from itertools import combinations, permutations

import numpy as np
import pytest
import xarray as xr
from time_series import recording_of, var_series

from reference.phiid_reference import local_atoms, windows_of
from synatlas.axes import SHORT_NAMES
from synatlas.decompose.lattice import SWAP
from synatlas.decompose.local import local_phiid
from synatlas.decompose.local_units import local_units
from synatlas.decompose.pipeline import decompose
from synatlas.decompose.series import phiid
from synatlas.errors import ConfigError

OK, CONSTANT, DUPLICATE, DETERMINISTIC, TOO_SHORT, NONFINITE = range(6)
RULES = ("mmi", "ccs")
ESTIMATORS = ("gaussian", "copula", "binary")


def ragged(rng, prompts=3, steps=40, units=5):
    """Prompts of different lengths, NaN at their ends."""
    series = np.stack([var_series(rng, steps, units) for _ in range(prompts)])
    for prompt in range(1, prompts):
        series[prompt, steps - 4 * prompt :] = np.nan
    return series


def awkward(rng):
    """Thin pairs, a duplicate, a constant, a non-finite series, and a prompt too short."""
    series = ragged(rng, prompts=4, steps=50, units=9)
    series[0, :, 1] = series[0, :, 0] + 1e-3 * rng.normal(size=50)
    series[0, :, 3] = 2 * series[0, :, 2] - 1
    series[0, :, 5] = 7.0
    series[1, 4, 6] = np.inf
    series[0, 1:, 8] = series[0, :-1, 7]
    series[3, 4:] = np.nan
    return series


@pytest.mark.parametrize("redundancy", RULES)
@pytest.mark.parametrize("lag", [1, 3])
def test_every_sample_matches_the_slow_reference(lag, redundancy):
    series = var_series(np.random.default_rng(lag), 70, 6)
    found = local_phiid(series, lag=lag, redundancy=redundancy)
    assert found["step"].values.tolist() == list(range(lag, 70))
    for k, (i, j) in enumerate(combinations(range(6), 2)):
        reference = local_atoms(series[:, i], series[:, j], lag, redundancy)
        assert np.abs(found["atom"].values[k] - reference).max() < 1e-12


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("redundancy", RULES)
def test_means_over_steps_are_the_atoms_of_each_prompt(redundancy, estimator):
    series = ragged(np.random.default_rng(0))
    found = local_phiid(series, redundancy=redundancy, estimator=estimator)
    for prompt in range(3):
        part = series[prompt, : 40 - 4 * prompt]
        alone = phiid(part, redundancy=redundancy, estimator=estimator)["atom"]
        mean = found["atom"][prompt].mean("step")
        assert np.allclose(mean, alone, rtol=0, atol=1e-12)
        assert np.isfinite(found["atom"][prompt]).all(("pair", "past", "future")).sum() == (
            39 - 4 * prompt
        )


@pytest.mark.parametrize("redundancy", RULES)
def test_binary_samples_are_logarithms_of_shares(redundancy):
    series = var_series(np.random.default_rng(7), 60, 3)
    found = local_phiid(series, redundancy=redundancy, estimator="binary")["atom"]
    for k, (i, j) in enumerate(combinations(range(3), 2)):
        windows = windows_of(series[:, i], series[:, j], 1)
        bits = windows > windows.mean(axis=1, keepdims=True)

        def surprisal(rows, bits=bits):
            some = bits[list(rows)]
            equal = (some[:, :, None] == some[:, None, :]).all(axis=0)
            return -np.log(equal.mean(axis=1))

        past, future = (0, 1), (2, 3)
        local = surprisal(past) + surprisal(future) - surprisal(past + future)
        assert np.allclose(found[k].sum(("past", "future")), local, rtol=0, atol=1e-12)
        alone = surprisal((0,)) + surprisal((2,)) - surprisal((0, 2))
        assert np.allclose(found[k, :, :2, :2].sum(("past", "future")), alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("redundancy", RULES)
def test_undefined_pairs_have_the_status_and_atoms_of_phiid(redundancy, estimator):
    series = awkward(np.random.default_rng(1))
    found = local_phiid(series, redundancy=redundancy, estimator=estimator)
    # Of three samples nothing can be said; a series that is not finite says so first.
    assert set(found["status"].values[3].tolist()) <= {TOO_SHORT, NONFINITE}
    assert np.isnan(found["atom"].values[3]).all()
    for prompt, steps in enumerate((50, 46, 42)):
        alone = phiid(series[prompt, :steps], redundancy=redundancy, estimator=estimator)
        assert np.array_equal(found["status"][prompt], alone["status"])
        mean = found["atom"][prompt].mean("step")
        assert np.allclose(mean, alone["atom"], rtol=0, atol=1e-9, equal_nan=True)
    first = {OK, CONSTANT, DUPLICATE} | ({DETERMINISTIC} if estimator != "binary" else set())
    assert first == set(found["status"].values[0].tolist())


def test_pairs_are_found_by_label_or_position_and_keep_their_order():
    series = xr.DataArray(
        var_series(np.random.default_rng(2), 30, 4)[None],
        dims=("prompt", "step", "unit"),
        coords={"unit": list("abcd"), "prompt": ["only"]},
    )
    every = local_phiid(series)["atom"].values[0]
    found = local_phiid(series, [("d", "b"), (0, "c")])
    assert found["unit_a"].values.tolist() == ["d", "a"]
    assert found["unit_b"].values.tolist() == ["b", "c"]
    assert found["prompt"].values.tolist() == ["only"]
    order = list(combinations(range(4), 2))
    turned = every[order.index((1, 3))].reshape(-1, 16)[:, SWAP].reshape(-1, 4, 4)
    assert np.allclose(found["atom"].values[0, 0], turned, rtol=0, atol=1e-12)
    assert np.array_equal(found["atom"].values[0, 1], every[order.index((0, 2))])


@pytest.mark.parametrize(
    ("redundancy", "estimator"), [("mmi", "gaussian"), ("ccs", "gaussian"), ("ccs", "binary")]
)
def test_units_are_means_over_partners_of_their_oriented_pairs(redundancy, estimator):
    """Every ordered pair, so that the unit comes first in all of its own."""
    series = awkward(np.random.default_rng(3))
    pairs = list(permutations(range(9), 2))
    how = {"redundancy": redundancy, "estimator": estimator}
    local = local_phiid(series, pairs, **how)["atom"].values
    rows = local.reshape(4, 9, 8, 49, 16)
    defined = np.isfinite(rows).any(axis=(3, 4))
    with np.errstate(invalid="ignore"):
        mean = np.nansum(rows, axis=2) / defined.sum(axis=2)[..., None, None]
    mean[np.isnan(rows).all(axis=2)] = np.nan
    found = local_units(series, atoms=SHORT_NAMES, **how)
    assert np.array_equal(found["partners"], defined.sum(axis=2))
    got = found["local"].transpose("prompt", "unit", "step", "atom").values
    assert np.allclose(got, mean, rtol=0, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize(
    ("redundancy", "estimator"),
    [("mmi", "gaussian"), ("ccs", "gaussian"), ("mmi", "copula"), ("mmi", "binary")],
)
def test_means_over_steps_are_the_unit_atoms_of_decompose(redundancy, estimator):
    """More units than one tile holds."""
    rng = np.random.default_rng(4)
    recording = recording_of(np.stack([var_series(rng, 30, 68) for _ in range(2)]))
    how = {"redundancy": redundancy, "estimator": estimator}
    atoms = decompose(recording, nulls=(), **how)["unit_atom"]
    found = local_units(recording, atoms=("sts", "rtr", "xty"), **how)
    for name, past, future in (("sts", "syn", "syn"), ("rtr", "red", "red"), ("xty", "un1", "un2")):
        mean = found["local"].sel(atom=name).mean("step")
        assert np.allclose(mean, atoms.sel(past=past, future=future), rtol=0, atol=1e-11)
    assert np.array_equal(found["layer"], recording["layer"])
    assert np.array_equal(found["category"], recording["category"])


@pytest.mark.parametrize("nuisance", [("trend", "position"), ("trend", "differences")])
def test_nuisances_are_taken_out_of_all_prompts_and_steps_keep_their_numbers(nuisance):
    rng = np.random.default_rng(6)
    recording = recording_of(np.stack([var_series(rng, 40, 5) for _ in range(4)]))
    recording.attrs["alignment"] = "producing"
    atoms = decompose(recording, nulls=(), nuisance=nuisance)["unit_atom"]
    found = local_units(recording, prompts=[2, 0], nuisance=nuisance)
    assert found["prompt"].values.tolist() == ["p02", "p00"]
    mean = found["local"].sel(atom="sts").mean("step")
    expected = atoms.sel(past="syn", future="syn").isel(prompt=[2, 0])
    assert np.allclose(mean, expected, rtol=0, atol=1e-11)
    assert found["step"].values.tolist() == list(range(1 + ("differences" in nuisance), 40))
    pairs = local_phiid(recording, [(0, 1)], nuisance=nuisance)
    assert np.array_equal(pairs["step"], found["step"])
    other = local_phiid(recording, [(0, k) for k in (1, 2, 3, 4)], nuisance=nuisance)["atom"]
    first = other.sel(past="syn", future="syn").mean("pair")
    got = local_units(recording, nuisance=nuisance)["local"].sel(atom="sts", unit="L00H00")
    assert np.allclose(first, got.transpose("prompt", "step"), rtol=0, atol=1e-11)


def test_a_single_matrix_has_no_prompts_and_stays_as_it_is():
    series = var_series(np.random.default_rng(5), 30, 3)
    before = series.copy()
    assert local_phiid(series)["atom"].dims == ("pair", "step", "past", "future")
    assert local_units(series)["local"].dims == ("atom", "step", "unit")
    assert np.array_equal(series, before)


@pytest.mark.parametrize(
    "pairs", [[], ["ab"], [(0, 0)], [(0, 9)], [(0, "nobody")], [(0, 1, 2)], [(0, True)], [0]]
)
def test_bad_pairs_are_refused(pairs):
    with pytest.raises(ConfigError, match="pair"):
        local_phiid(np.random.default_rng(0).normal(size=(20, 3)), pairs)


@pytest.mark.parametrize("atoms", ["sts", [], ["synergy"]])
def test_unknown_atoms_are_refused(atoms):
    with pytest.raises(ConfigError, match="sts"):
        local_units(np.random.default_rng(0).normal(size=(20, 3)), atoms=atoms)


@pytest.mark.parametrize("prompts", [[], [1], [-1]])
def test_prompts_that_are_not_there_are_refused(prompts):
    with pytest.raises(ConfigError, match="prompts"):
        local_units(np.random.default_rng(0).normal(size=(20, 3)), prompts=prompts)


def test_results_beyond_memory_are_refused_before_they_are_made():
    with pytest.raises(ConfigError, match="local_units"):
        local_phiid(np.zeros((60, 100, 1000)))

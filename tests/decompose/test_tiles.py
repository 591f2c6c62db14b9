"""The compiled sums against the NumPy ones: same cases, other code."""

from functools import partial

import numpy as np
import pytest
from time_series import var_series

from reference.phiid_reference import pair_atoms
from synatlas.decompose.groups import mean_atoms
from synatlas.decompose.kernels import add_tile
from synatlas.decompose.lattice import AGGREGATES, aggregate, grid
from synatlas.decompose.pairs import pair_index, panels, sum_pairs
from synatlas.decompose.redundancy import mmi
from synatlas.decompose.tiles import measure_tiles, sum_tiles, tiles
from synatlas.decompose.windows import standardise

compiled = partial(sum_tiles, redundancy=mmi, threads=1)
plain = partial(sum_pairs, redundancy=mmi)


def windows_of(prompts, steps, units, seed=0):
    rng = np.random.default_rng(seed)
    series = np.stack([var_series(rng, steps, units) for _ in range(prompts)])
    series[0, :, 1] = 2.0
    series[1, :, 3] = series[1, :, 2]
    series[1, 3, 5] = np.nan
    series[2, :, 7] = series[2, :, 6] + 1e-6 * rng.normal(size=steps)
    return standardise(series, 1)


def assert_same_sums(one, two):
    assert np.allclose(one.pair, two.pair, atol=1e-12, rtol=1e-13)
    assert np.array_equal(one.tally, two.tally)
    if one.unit is not None:
        assert np.allclose(one.unit, two.unit, atol=1e-12, rtol=1e-13)


@pytest.mark.parametrize("only", ["all", "extremes"])
@pytest.mark.parametrize("units", [9, 64, 65, 150])
def test_compiled_sums_are_the_plain_sums(units, only):
    """Statuses, near-collinear pairs and tile borders included."""
    windows = windows_of(4, 50, units)
    assert_same_sums(
        compiled(windows, windows, per_unit=True, only=only),
        plain(windows, windows, per_unit=True, only=only),
    )


@pytest.mark.parametrize("only", ["all", "extremes"])
def test_compiled_sums_of_two_data_sets_are_the_plain_sums(only):
    windows = windows_of(5, 40, 70)
    other = windows.take(np.array([1, 2, 3, 4, 0]))
    assert_same_sums(
        compiled(windows, other, per_unit=False, only=only),
        plain(windows, other, per_unit=False, only=only),
    )


@pytest.mark.parametrize("engine", [compiled, plain])
def test_extremes_are_the_ends_of_all_atoms(engine):
    windows = windows_of(4, 50, 20)
    every, two = (engine(windows, windows, per_unit=True, only=k) for k in ("all", "extremes"))
    for whole, part in ((every.pair, two.pair), (every.unit, two.unit)):
        atoms, ends = mean_atoms(whole), mean_atoms(part)
        for cell in (0, 0), (3, 3):
            assert np.allclose(atoms[..., *cell], ends[..., *cell], atol=1e-12, equal_nan=True)
        assert np.isnan(ends).sum() >= 14 * ends.size // 16
        assert np.allclose(whole[..., -3:, :], part[..., -3:, :], atol=1e-13)
    assert np.array_equal(every.tally, two.tally)


def test_threads_change_no_digit():
    windows = windows_of(20, 30, 140)
    one = compiled(windows, windows, per_unit=True)
    three = sum_tiles(windows, windows, mmi, per_unit=True, threads=3)
    assert np.array_equal(one.pair, three.pair)
    assert np.array_equal(one.unit, three.unit)


def test_compiled_atoms_match_the_slow_reference():
    rng = np.random.default_rng(3)
    series = var_series(rng, 100, 70)
    windows = standardise(series[None], 1)
    atoms = mean_atoms(compiled(windows, windows, per_unit=False).pair)
    first, second = rng.integers(0, 35, 40), rng.integers(35, 70, 40)
    for i, j, pair in zip(first, second, pair_index(first, second, 70), strict=True):
        reference = pair_atoms(series[:, i], series[:, j])
        assert np.abs(atoms[pair] - reference).max() < 1e-12


@pytest.mark.parametrize("prompts", [1, 6, 60])
@pytest.mark.parametrize("units", [2, 3, 64, 65, 130, 260])
def test_tiles_and_panels_hold_every_pair_once(units, prompts):
    expected = [(i, j) for i in range(units) for j in range(i + 1, units)]
    held = [
        (i, j)
        for tile in tiles(units, prompts)
        for i in range(units)[tile.rows]
        for j in range(units)[tile.columns]
        if not tile.diagonal or i < j
    ]
    assert sorted(held) == expected
    listed = [pair for p in panels(units) for pair in zip(p.first, p.second, strict=True)]
    assert listed == expected
    first, second = np.array(expected).T
    assert np.array_equal(pair_index(first, second, units), np.arange(len(expected)))


def test_results_do_not_depend_on_which_other_units_there_are():
    """A pair keeps its sums whatever panel or tile it falls in."""
    series = var_series(np.random.default_rng(5), 60, 100)[None]
    whole = standardise(series, 1)
    chosen = np.array([3, 20, 63, 64, 65, 99])
    part = standardise(series[:, :, chosen], 1)
    first, second = np.triu_indices(chosen.size, 1)
    where = pair_index(chosen[first], chosen[second], 100)
    for engine in (compiled, plain):
        many, few = (engine(w, w, per_unit=False).pair for w in (whole, part))
        assert np.allclose(many[:, where], few, atol=1e-13)


def test_one_kernel_is_compiled_whatever_the_shapes():
    for prompts, units in ((1, 9), (3, 9), (1, 70), (3, 70)):
        windows = windows_of(4, 30, units).take(np.arange(prompts))
        for per_unit, only in ((False, "all"), (True, "extremes")):
            compiled(windows, windows, per_unit=per_unit, only=only)
    assert len(add_tile.signatures) == 1


def test_measures_are_those_of_the_sums():
    """Atoms, I(xy; ab) and aggregates on the way, and after sums."""
    windows = standardise(var_series(np.random.default_rng(6), 50, 150)[None], 1)
    rows = measure_tiles(windows, threads=2)
    sums = plain(windows, windows, per_unit=False).pair
    atoms = mean_atoms(sums)
    assert np.allclose(grid(rows[:16]), atoms, atol=1e-12)
    assert np.allclose(rows[16], sums[15], atol=1e-12)
    for name, row in zip(AGGREGATES, rows[17:], strict=True):
        assert np.allclose(row, aggregate(name, atoms), atol=1e-12), name
    assert np.array_equal(rows, measure_tiles(windows, threads=1))


def test_measures_leave_flagged_pairs_to_the_sums():
    assert measure_tiles(windows_of(4, 50, 9).take(np.array([1])), threads=1) is None

"""Shapes over chosen prompts: those of the atlas where all count, and paired across models."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from planted_atoms import make_atoms
from synatlas.errors import ConfigError
from synatlas.rank.rank import rank
from synatlas.study.shapes import (
    ABOVE_BASELINE,
    RANKS,
    aperiodic,
    difference,
    hedges_g,
    shapes,
)

ARCH = np.repeat(np.hanning(10), 4) * 0.02 + 0.05


@pytest.fixture(scope="module")
def atoms() -> xr.Dataset:
    return make_atoms(synergy=ARCH, seed=3)


def test_over_all_prompts_they_are_those_of_the_atlas(atoms: xr.Dataset) -> None:
    atlas = rank(atoms, bootstrap=200, graph_draws=0)
    found = shapes(atoms)
    scores = [s for s in found["score"].to_numpy() if s != ABOVE_BASELINE]
    assert "joint_prediction" in scores
    for name in scores:
        here, there = found.sel(score=name), atlas.sel(score=name)
        scale = atoms.sizes["unit"] if name in RANKS else 1
        np.testing.assert_allclose(here["profile"] * scale, there["profile"], rtol=1e-10)
        np.testing.assert_allclose(here["curvature"], there["curvature"], rtol=1e-8)
        np.testing.assert_allclose(here["mid_minus_ends"], there["mid_minus_ends"], rtol=1e-8)
    # The same draws in kind, other numbers: intervals of like width.
    width = np.diff(found["mid_minus_ends_interval"].sel(score="synergy"))
    expected = np.diff(atlas["mid_minus_ends_interval"].sel(score="synergy"))
    assert 0.6 < float(width[0] / expected[0]) < 1.7


def test_raw_numbers_are_in_the_unit_of_the_score(atoms: xr.Dataset) -> None:
    profile = shapes(atoms, draws=0)["profile"].sel(score="synergy").to_numpy()
    middle = np.array([False] * 4 + [True] * 2 + [False] * 4)
    expected = profile[middle].mean() - profile[~middle].mean()
    found = shapes(atoms, draws=0)["mid_minus_ends_raw"].sel(score="synergy")
    assert float(found) == pytest.approx(expected)
    assert np.isnan(shapes(atoms, draws=0)["curvature_interval"]).all()


def test_chosen_prompts_are_all_that_counts(atoms: xr.Dataset) -> None:
    chosen = np.arange(24) % 3 == 0
    found = shapes(atoms, prompts=chosen)
    alone = shapes(atoms.isel(prompt=np.flatnonzero(chosen)))
    shared = found["score"].to_numpy()
    xr.testing.assert_allclose(found, alone.sel(score=shared))
    assert "joint_prediction" not in shared
    assert found.attrs["prompts"] == 8
    with pytest.raises(ConfigError, match="none of 24 prompts"):
        shapes(atoms, prompts=np.zeros(24, dtype=bool))


def test_what_is_above_the_baseline_is_zero_for_independent_series() -> None:
    """Synergy that is the closed form of independent series leaves nothing."""
    atoms = make_atoms(seed=4)
    own = atoms["self_information"].transpose("prompt", "unit").to_numpy()
    baseline = shapes(atoms, draws=0)["profile"].sel(score="autocorrelation_baseline")
    planted = make_atoms(synergy=0.0, prompt_sd=0.0, self_information=own.mean(axis=0), seed=4)
    found = shapes(planted, draws=0)["profile"]
    np.testing.assert_allclose(
        found.sel(score=ABOVE_BASELINE),
        found.sel(score="synergy") - found.sel(score="autocorrelation_baseline"),
        atol=1e-12,
    )
    assert (baseline > 0).all()


def test_differences_are_paired_over_prompts() -> None:
    """The noise of a prompt that both models share leaves their difference alone."""
    one = make_atoms(synergy=ARCH[::4], prompt_sd=0.02, heads=1, seed=5)
    shift = np.hanning(10) * 0.01
    grid = one["unit_atom"].copy()
    at = {"past": "syn", "future": "syn"}
    grid.loc[at] = grid.loc[at] + xr.DataArray(shift, dims="unit", coords={"unit": one["unit"]})
    other = one.assign(unit_atom=grid)
    found = difference(shapes(other), shapes(one), "mid_minus_ends_raw").sel(score="synergy")
    middle = np.array([False] * 4 + [True] * 2 + [False] * 4)
    expected = shift[middle].mean() - shift[~middle].mean()
    assert float(found["difference"]) == pytest.approx(expected)
    assert np.diff(found["interval"]).item() < 1e-12
    alone = shapes(one)["mid_minus_ends_raw_interval"].sel(score="synergy")
    assert np.diff(alone).item() > 0.001


def test_intervals_cover_as_often_as_they_say() -> None:
    truth = np.repeat(np.hanning(10), 2) * 0.02
    middle = np.repeat([False] * 4 + [True] * 2 + [False] * 4, 2)
    expected = truth[middle].mean() - truth[~middle].mean()
    inside = 0
    for seed in range(25):
        atoms = make_atoms(
            synergy=truth + 0.05, prompt_sd=0.02, heads=2, surrogates=2, draws=2, seed=seed
        )
        interval = shapes(atoms, draws=60)["mid_minus_ends_raw_interval"].sel(score="synergy")
        inside += float(interval[0]) <= expected <= float(interval[1])
    assert inside >= 20


def test_periodic_replies_are_known_by_their_repetition() -> None:
    atoms = make_atoms(repetition=0.9)
    assert not aperiodic(atoms).any()
    with pytest.raises(ConfigError, match="every reply is periodic"):
        shapes(atoms, prompts=aperiodic(atoms))


def test_the_effect_size_is_that_of_the_book() -> None:
    """Against the two-sample t of SciPy, d = t sqrt(1/n1 + 1/n2), and units that count twice."""
    rng = np.random.default_rng(2)
    values = rng.standard_normal((3, 17))
    side = np.repeat([1.0, -1.0, 0.0], [6, 9, 2])
    t = stats.ttest_ind(values[:, :6], values[:, 6:15], axis=1).statistic
    expected = t * np.sqrt(1 / 6 + 1 / 9) * (1 - 3 / (4 * 13 - 1))
    np.testing.assert_allclose(hedges_g(values, side), expected, rtol=1e-12)
    counts = rng.integers(1, 4, 17)
    again = hedges_g(np.repeat(values, counts, axis=1), np.repeat(side, counts))
    np.testing.assert_allclose(hedges_g(values, side, counts * np.ones((3, 17))), again)
    values[0, 0] = np.nan
    dropped = hedges_g(values[:1, 1:], side[1:])
    np.testing.assert_allclose(hedges_g(values, side)[:1], dropped)
    assert np.isnan(hedges_g(np.ones(4), np.array([1.0, 1.0, -1.0, -1.0])))
    assert np.isnan(hedges_g(np.arange(4.0), np.ones(4)))

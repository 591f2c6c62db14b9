"""The stage as a whole: schema, symmetries, seeds, undefined units, refused options."""

import json
import math

import numpy as np
import pytest
import xarray as xr

from planted_atoms import arch, make_atoms
from synatlas.artifact import check, open_artifact, save
from synatlas.errors import ArtifactError, ConfigError
from synatlas.rank.atlas import ATLAS
from synatlas.rank.controls import NOT_ASSESSABLE
from synatlas.rank.rank import rank
from synatlas.rank.score import rank_units

FAST = {"bootstrap": 60, "graph_draws": 2}
LEVEL = arch(10, 4, 0.03, 0.06) + np.linspace(0, 0.004, 40)


@pytest.fixture(scope="module")
def atoms() -> xr.Dataset:
    return make_atoms(synergy=LEVEL, excess=0.001, integration=0.002, draws=80)


@pytest.fixture(scope="module")
def atlas(atoms: xr.Dataset) -> xr.Dataset:
    return rank(atoms, **FAST)


def test_an_atlas_satisfies_its_schema_and_survives_a_file(
    atlas: xr.Dataset, tmp_path: object
) -> None:
    check(atlas, ATLAS)
    stored = open_artifact(save(atlas, f"{tmp_path}/atlas.nc"))
    xr.testing.assert_identical(stored, atlas)


def test_scores_are_those_of_the_means(atoms: xr.Dataset, atlas: xr.Dataset) -> None:
    mean = atoms["unit_atom"].mean("prompt")
    synergy = mean.sel(past="syn", future="syn").values
    redundancy = mean.sel(past="red", future="red").values
    assert atlas.synergy.values == pytest.approx(synergy)
    assert atlas.tdmi.values == pytest.approx(mean.sum(("past", "future")).values)
    own = rank_units(synergy, redundancy, atoms["layer"].values)
    for name in ("rank_of_difference", "difference_of_ranks"):
        assert (atlas[name].values == own[name].values).all()
    assert atlas.profile.sel(score=list(own.score.values)).values == pytest.approx(
        own.profile.values
    )
    excess = atoms["pooled_atom"] - atoms["same_step_atom"]
    assert atlas.integration.values == pytest.approx(excess.sel(past="syn", future="syn").values)
    for score in atlas.score.values:
        assert score in atlas


def test_shares_and_phi_are_scores_like_any_other(atlas: xr.Dataset) -> None:
    assert atlas.synergy_per_tdmi.values == pytest.approx((atlas.synergy / atlas.tdmi).values)
    share = (atlas.redundancy / atlas.tdmi).values
    assert atlas.redundancy_per_tdmi.values == pytest.approx(share)
    assert atlas.phi_wms.values == pytest.approx((atlas.phi_r - atlas.redundancy).values)
    for score in ("synergy_per_tdmi", "redundancy_per_tdmi", "phi_wms"):
        at = atlas.sel(score=score)
        for name in ("profile", "profile_interval", "split_half", "correlation"):
            assert np.isfinite(at[name]).all(), (score, name)


def test_every_profile_is_the_layer_mean_inside_its_interval(atlas: xr.Dataset) -> None:
    interval = atlas.profile_interval
    for score in atlas.score.values:
        means = atlas[score].groupby("unit_layer").mean().values
        assert atlas.profile.sel(score=score).values == pytest.approx(means)
        lower, upper = interval.sel(score=score).values.T
        assert (lower <= upper).all()
    middle = atlas.profile.sel(score="synergy")
    assert (interval.sel(score="synergy", ci_bound="lower") < middle).all()
    assert (interval.sel(score="synergy", ci_bound="upper") > middle).all()


def test_the_same_seed_gives_the_same_atlas_and_another_does_not(
    atoms: xr.Dataset, atlas: xr.Dataset
) -> None:
    xr.testing.assert_identical(rank(atoms, **FAST), atlas)
    other = rank(atoms, seed=1, **FAST)
    assert not np.array_equal(other.profile_interval, atlas.profile_interval)
    assert np.array_equal(other.profile, atlas.profile, equal_nan=True)
    assert other.attrs["fingerprint"] != atlas.attrs["fingerprint"]


def test_the_input_is_not_changed(atoms: xr.Dataset) -> None:
    before = atoms.copy(deep=True)
    rank(atoms, **FAST)
    xr.testing.assert_identical(atoms, before)


def test_prompt_order_changes_no_estimate(atoms: xr.Dataset, atlas: xr.Dataset) -> None:
    turned = rank(atoms.isel(prompt=np.random.default_rng(0).permutation(24)), **FAST)
    for name in ("synergy", "rank_of_difference", "profile", "curvature", "excess"):
        np.testing.assert_allclose(turned[name], atlas[name], atol=1e-12)
    np.testing.assert_allclose(turned.category_profile, atlas.category_profile, atol=1e-12)


def test_unit_order_changes_no_estimate(atoms: xr.Dataset, atlas: xr.Dataset) -> None:
    order = np.random.default_rng(1).permutation(40)
    turned = rank(atoms.isel(unit=order), **FAST)
    for name in ("synergy", "rank_of_difference", "integration_q", "excess_q", "core"):
        np.testing.assert_allclose(turned[name], atlas[name].isel(unit=order), atol=1e-12)
    for name in ("profile", "rise", "partial_correlation", "profile_excess"):
        np.testing.assert_allclose(turned[name], atlas[name], atol=1e-9)


def test_the_unit_of_information_changes_no_rank_shape_or_call(
    atoms: xr.Dataset, atlas: xr.Dataset
) -> None:
    bits = atoms.copy(deep=True)
    for name, declared in bits.data_vars.items():
        if declared.attrs.get("units") == "nat":
            bits[name] = declared / np.log(2)
            bits[name].attrs = declared.attrs
    other = rank(bits, **FAST)
    same = ("rank_of_difference", "difference_of_ranks", "curvature", "rise_interval", "core",
            "core_recurrence", "excess_z", "excess_q", "integration_q", "split_half")  # fmt: skip
    for name in same:
        np.testing.assert_allclose(other[name], atlas[name], atol=1e-9)
    assert other.synergy.values == pytest.approx(atlas.synergy.values / math.log(2))


def test_an_undefined_unit_is_unranked_and_not_judged(atoms: xr.Dataset) -> None:
    broken = atoms.copy(deep=True)
    for name, values in broken.data_vars.items():
        if "unit" in values.dims and values.dtype.kind == "f":
            broken[name].loc[{"unit": "L03H02"}] = np.nan
    atlas = rank(broken, **FAST)
    one = atlas.sel(unit="L03H02")
    for name in ("rank_of_difference", "synergy", "integration_q", "excess_q", "core_recurrence"):
        assert math.isnan(float(one[name].max()))
    assert int(one.core) == NOT_ASSESSABLE
    assert float(atlas.rank_of_difference.max()) == 39
    rest = atlas.drop_sel(unit="L03H02")
    assert (rest.core != NOT_ASSESSABLE).all()
    assert np.isfinite(atlas.profile).all()


def test_a_layer_without_defined_units_leaves_a_gap(atoms: xr.Dataset) -> None:
    broken = atoms.copy(deep=True)
    broken["unit_atom"][:, 4:8] = np.nan
    atlas = rank(broken, **FAST)
    profile = atlas.profile.sel(score="synergy").values
    assert math.isnan(profile[1])
    assert np.isfinite(np.delete(profile, 1)).all()
    assert math.isfinite(float(atlas.curvature.sel(score="synergy")))


def test_a_unit_missing_in_some_prompts_uses_the_others(atoms: xr.Dataset) -> None:
    broken = atoms.copy(deep=True)
    broken["unit_atom"][:20, 7] = np.nan
    expected = atoms["unit_atom"][20:, 7, 3, 3].mean()
    assert float(rank(broken, **FAST).synergy[7]) == pytest.approx(float(expected))


def test_one_prompt_gives_estimates_without_intervals() -> None:
    atlas = rank(make_atoms(prompts=1), **FAST)
    assert np.isfinite(atlas.rank_of_difference).all()
    for name in (
        "profile_interval", "rank_interval", "curvature_interval", "integration_interval",
        "integration_q", "core_recurrence", "split_half",
    ):  # fmt: skip
        assert np.isnan(atlas[name]).all(), name
    assert (atlas.core == NOT_ASSESSABLE).all()


@pytest.mark.parametrize("layers", [1, 2])
def test_fewer_than_three_layers_have_no_shape(layers: int) -> None:
    atlas = rank(make_atoms(layers=layers, heads=6), **FAST)
    for name in ("curvature", "rise", "fall", "turn", "mid_minus_ends", "layer_permutation_p"):
        assert np.isnan(atlas[name]).all()
        if f"{name}_interval" in atlas:
            assert np.isnan(atlas[f"{name}_interval"]).all()
    assert np.isfinite(atlas.profile).all()


def test_without_nulls_or_ccs_the_rest_stands() -> None:
    atlas = rank(make_atoms(nulls=(), synergy_ccs=None), **FAST)
    assert atlas.sizes["null"] == 0
    assert "synergy_ccs" not in atlas
    assert "synergy_ccs" not in atlas.score
    assert np.isfinite(atlas.profile_interval).all()
    assert (atlas.core == NOT_ASSESSABLE).all()
    assert len(json.loads(atlas.attrs["core_missing"])) == 3


def test_depth_is_that_of_the_decoder_even_where_layers_lack_units() -> None:
    atoms = make_atoms(layers=5)
    atoms["layer"] = atoms["layer"] + 1
    atoms.attrs["n_layers"] = 7
    atlas = rank(atoms, **FAST)
    assert atlas.layer.values.tolist() == [1, 2, 3, 4, 5]
    assert atlas.depth.values == pytest.approx(np.arange(1, 6) / 6)


def test_category_profiles_are_those_of_their_prompts(atoms: xr.Dataset, atlas: xr.Dataset) -> None:
    for category in atlas.category.values:
        part = rank(atoms.isel(prompt=atoms["category"].values == category), **FAST)
        for score in ("rank_of_difference", "synergy", "balance", "autocorrelation_baseline"):
            found = atlas.category_profile.sel(category=category, score=score)
            np.testing.assert_allclose(found, part.profile.sel(score=score), atol=1e-12)
    assert np.isnan(atlas.category_profile.sel(score="integration")).all()


def test_controls_are_found_where_planted() -> None:
    own = np.random.default_rng(2).uniform(0.01, 0.1, 40)
    atlas = rank(make_atoms(synergy=2 * own, self_information=own, prompt_sd=1e-4), **FAST)
    of_synergy = atlas.sel(score="synergy")
    assert float(of_synergy.correlation.sel(control="self_information")) > 0.98
    assert float(of_synergy.partial_correlation.sel(control="self_information")) > 0.98
    assert abs(float(of_synergy.partial_correlation.sel(control="same_step"))) < 0.5
    assert float(atlas.sel(score="synergy").split_half) > 0.98
    baseline = atlas.sel(score="autocorrelation_baseline")
    assert float(baseline.correlation.sel(control="self_information")) == pytest.approx(1, abs=0.01)


def test_progress_reaches_its_end(atoms: xr.Dataset) -> None:
    seen: list[tuple[str, int, int]] = []
    rank(atoms, progress=lambda *step: seen.append(step), **FAST)
    assert ("bootstrap", 60, 60) in seen
    assert seen[-1] == ("topology of redundancy", 4, 4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seed": -1}, "seed=-1"),
        ({"ci_prob": 95.0}, "a percentage"),
        ({"ci_prob": 0.0}, "ci_prob=0.0"),
        ({"bootstrap": 39}, "at least 40 draws"),
        ({"bootstrap": 0}, "bootstrap=0"),
    ],
)
def test_options_out_of_range_are_refused(atoms: xr.Dataset, options: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        rank(atoms, **options)


def test_other_artifacts_and_empty_atoms_are_refused(atoms: xr.Dataset, atlas: xr.Dataset) -> None:
    with pytest.raises(ArtifactError, match="atoms schema"):
        rank(atlas)
    nothing = atoms.copy(deep=True)
    nothing["unit_atom"][:] = np.nan
    with pytest.raises(ArtifactError, match="without a defined one"):
        rank(nothing)
    with pytest.raises(ArtifactError, match="0 prompts"):
        rank(atoms.isel(prompt=slice(0)))

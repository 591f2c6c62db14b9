"""Selections against sorting by hand, and random ones against what they must keep."""

import json

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import synatlas as sa
from report_factory import World
from report_factory import atlas as make_atlas
from synatlas.errors import ArtifactError, ConfigError
from synatlas.rank.select import (
    depth_matched_order,
    first,
    order_by,
    score_names,
    strata_of,
    values_of,
)


@pytest.fixture(scope="module")
def atlas() -> xr.Dataset:
    return make_atlas(World())


def test_the_highest_of_a_score_are_selected(atlas: xr.Dataset) -> None:
    chosen = sa.select(atlas, score="integration", fraction=0.5)
    values = atlas["integration"].values
    n = round(0.5 * values.size)
    assert set(np.flatnonzero(chosen.values)) == set(np.argsort(-values, kind="stable")[:n])
    assert chosen["unit"].values.tolist() == atlas["unit"].values.tolist()
    assert json.loads(chosen.attrs["rule"]) == {
        "score": "integration", "side": "top", "match": "none", "seed": 0, "count": n,
    }  # fmt: skip


def test_top_and_bottom_halves_share_no_unit(atlas: xr.Dataset) -> None:
    top = sa.select(atlas, score="synergy", count=3)
    bottom = sa.select(atlas, score="synergy", count=3, side="bottom")
    assert int(top.sum()) == int(bottom.sum()) == 3
    assert not (top & bottom).any()
    assert float(atlas["synergy"][top].min()) >= float(atlas["synergy"][bottom].max())


def test_an_excess_is_a_score_by_the_name_of_its_null(atlas: xr.Dataset) -> None:
    null = str(atlas["null"].values[0])
    expected = atlas["excess"].sel(null=null).to_numpy()
    assert f"excess_{null}" in score_names(atlas)
    assert np.array_equal(values_of(atlas, f"excess_{null}"), expected, equal_nan=True)


def test_a_matched_selection_has_the_layers_of_the_one_it_copies(atlas: xr.Dataset) -> None:
    asked = {"score": "synergy", "fraction": 0.4}
    layers = atlas["unit_layer"].to_numpy()
    copied = np.bincount(layers[sa.select(atlas, **asked).values], minlength=9)
    draws = [sa.select(atlas, **asked, match="depth", seed=s).values for s in range(20)]
    assert all((np.bincount(layers[d], minlength=9) == copied).all() for d in draws)
    assert len({d.tobytes() for d in draws}) > 1
    free = [sa.select(atlas, **asked, match="count", seed=s).values for s in range(20)]
    assert {int(d.sum()) for d in free} == {int(copied.sum())}
    assert any((np.bincount(layers[d], minlength=9) != copied).any() for d in free)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(2, 24), st.integers(1, 4), st.integers(0, 1000))
def test_every_start_of_a_matched_order_is_matched(units: int, layers: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    strata, order = rng.integers(0, layers, units), rng.permutation(units)
    matched = depth_matched_order(order, strata, rng)
    assert sorted(matched.tolist()) == list(range(units))
    assert (strata[matched] == strata[order]).all()


def test_matched_sets_are_drawn_evenly() -> None:
    rng = np.random.default_rng(0)
    strata, order = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 3, 1, 2, 4, 5])
    counts: dict[bytes, int] = {}
    for _ in range(4500):
        key = first(depth_matched_order(order, strata, rng), 2).tobytes()
        counts[key] = counts.get(key, 0) + 1
    # One of three in each of two layers: nine sets of equal chance, 500 each, sd 21.
    assert len(counts) == 9
    assert max(abs(c - 500) for c in counts.values()) < 90


def test_units_without_a_value_are_never_selected_and_come_last() -> None:
    order = order_by(np.array([np.nan, 1.0, 3.0, np.nan, 3.0]))
    assert order.tolist() == [2, 4, 1, 0, 3]
    assert order_by(np.array([2.0, np.nan, 1.0]), "bottom").tolist() == [2, 0, 1]


def test_kinds_are_strata_of_their_own() -> None:
    layer = xr.DataArray([0, 0, 1, 1], dims="unit")
    kind = xr.DataArray(["head", "expert", "head", "head"], dims="unit")
    found = strata_of(layer, kind)
    assert found[2] == found[3]
    assert len(set(found.tolist())) == 3


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"fraction": 1.5}, "fraction 1.5"),
        ({"fraction": 0.0}, "fraction 0.0"),
        ({"count": 999}, "999 units"),
        ({"score": "cleverness"}, "cleverness"),
        ({"side": "left"}, "left"),
        ({"match": "size"}, "size"),
    ],
)
def test_what_cannot_be_selected_is_refused(
    atlas: xr.Dataset, asked: dict[str, object], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        sa.select(atlas, **asked)  # pyright: ignore[reportArgumentType]


def test_what_is_no_atlas_is_refused() -> None:
    with pytest.raises(ArtifactError):
        sa.select(xr.Dataset())

"""Figures show the values of their artifact, at every size, with or without undefined values."""

from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from report_factory import World, atlas, atoms
from synatlas.errors import ConfigError
from synatlas.report import figures
from synatlas.report.maps import HOVER, MATRIX_CELLS

MADE = World()


def trace(figure: go.Figure, name: str) -> go.Scatter:
    (found,) = [t for t in figure.data if (t.name == name and t.mode != "lines") or t.name == name]
    return found


def all_figures(ranked: xr.Dataset, pairs: xr.Dataset) -> dict[str, go.Figure]:
    return {
        "profile": figures.profile(ranked, "synergy"),
        "unit_map": figures.unit_map(ranked),
        "matrices": figures.matrices(pairs),
        "synergy_redundancy": figures.synergy_redundancy(ranked),
        "synergy_baseline": figures.synergy_baseline(ranked),
        "categories": figures.categories(ranked),
        "nulls": figures.nulls(ranked),
        "comparison": figures.comparison({"one": ranked, "two": ranked}),
    }


def test_every_figure_has_a_caption_axis_titles_with_units_and_one_template() -> None:
    for name, figure in all_figures(atlas(MADE), atoms(MADE)).items():
        assert figures.CAPTIONS[name].startswith("How to read it")
        titles = [axis.title.text or "" for axis in figure.select_yaxes()]
        titles += [axis.title.text or "" for axis in figure.select_xaxes()]
        assert any(titles), name
        assert figure.layout.template.layout.paper_bgcolor == "#ffffff"
    assert figures.synergy_redundancy(atlas(MADE)).layout.xaxis.title.text == "redundancy (nat)"


def test_profile_shows_the_profile_its_interval_and_the_nulls() -> None:
    made = atlas(MADE)
    figure = figures.profile(made, "synergy")
    chosen = made.sel(score="synergy")
    np.testing.assert_array_equal(trace(figure, "synergy").y, chosen["profile"].values)
    band = figure.data[0]
    lower, upper = np.split(np.asarray(band.y), 2)
    np.testing.assert_array_equal(lower, chosen["profile_interval"].sel(ci_bound="lower"))
    np.testing.assert_array_equal(upper[::-1], chosen["profile_interval"].sel(ci_bound="upper"))
    for i, name in enumerate(("null: cross prompt", "null: window shift (refused)")):
        synergy = made["profile"].sel(score="synergy").values
        expected = synergy - made["profile_excess"].values[i]
        np.testing.assert_array_equal(trace(figure, name).y, expected)
    baseline = made["autocorrelation_baseline"].groupby(made["unit_layer"]).mean()
    np.testing.assert_allclose(trace(figure, "autocorrelation baseline").y, baseline.values)


def test_other_profiles_show_no_null_of_synergy() -> None:
    names = {t.name for t in figures.profile(atlas(MADE), "redundancy").data}
    assert names == {"95% bootstrap interval", "redundancy"}


def test_undefined_layers_are_gaps_in_line_and_band() -> None:
    made = atlas(MADE)
    at = list(made["score"].values).index("synergy")
    made["profile"].values[at, 2] = np.nan
    made["profile_interval"].values[at, 2] = np.nan
    figure = figures.profile(made, "synergy")
    assert np.isnan(trace(figure, "synergy").y[2])
    bands = [np.asarray(t.x) for t in figure.data if t.fill == "toself"]
    depth = made["depth"].values
    assert [set(x) for x in bands] == [set(depth[:2]), set(depth[3:])]


@pytest.mark.parametrize("layers", [1, 2, 80])
@pytest.mark.parametrize("values", ["some", "none"])
def test_any_number_of_layers_with_and_without_values(layers: int, values: str) -> None:
    world = replace(MADE, layers=layers, heads=2)
    ranked, pairs = atlas(world), atoms(world)
    if values == "none":
        for made in (ranked, pairs):
            for name, array in made.data_vars.items():
                if array.dtype.kind == "f":
                    made[name].values[...] = np.nan
    for name, figure in all_figures(ranked, pairs).items():
        assert figure.to_json(), name


def test_unit_map_places_every_unit_at_its_layer_and_index() -> None:
    made = atlas(MADE)
    figure = figures.unit_map(made, "integration")
    heatmap = figure.data[0]
    for unit in range(made.sizes["unit"]):
        one = made.isel(unit=unit)
        layer, index = int(one["unit_layer"]), int(one["index"])
        assert heatmap.z[index][layer] == float(one["integration"])
        assert heatmap.text[index][layer] == str(one["unit"].values)
        hover = heatmap.customdata[index][layer]
        np.testing.assert_array_equal(hover[HOVER.index("synergy")], np.float32(one["synergy"]))
    # Both signs occur: the middle of the colours is 0.
    assert heatmap.zmin == -heatmap.zmax


def test_unit_map_keeps_kinds_apart_and_gaps_open() -> None:
    made = atlas(MADE).isel(unit=[0, 1, 2, 8, 9])
    made["kind"] = ("unit", ["head", "head", "expert", "head", "head"])
    made["index"].values[2] = 0
    made = made.assign_coords(kind=made["kind"].assign_attrs(atlas(MADE)["kind"].attrs))
    heatmap = figures.unit_map(made, "synergy").data[0]
    assert list(heatmap.x) == [0, 1, 2]
    assert np.isfinite(heatmap.z).sum() == 5
    assert np.isnan(np.asarray(heatmap.z)[:, 1]).all()
    ticks = figures.unit_map(made, "synergy").layout.yaxis.ticktext
    assert ticks == ("expert 0", "head 0", "head 1")


def dense(made: xr.Dataset, role: str) -> np.ndarray:
    """Slow reference: the matrix of a quantity in the order of layer and index."""
    order = np.lexsort((made["index"].values, made["layer"].values))
    place = {unit: i for i, unit in enumerate(made["unit"].values[order])}
    out = np.full((len(place), len(place)), np.nan)
    values = made["atom"].sel(past=role, future=role).values
    for a, b, value in zip(made["unit_a"].values, made["unit_b"].values, values, strict=True):
        out[place[a], place[b]] = out[place[b], place[a]] = value
    return out


def test_matrices_are_the_pairs_sorted_by_layer() -> None:
    made = atoms(MADE)
    shuffled = made.isel(unit=np.random.default_rng(3).permutation(made.sizes["unit"]))
    for panel, role in zip(figures.matrices(shuffled).data, ("syn", "red"), strict=True):
        expected = dense(made, role).astype(np.float32)
        np.testing.assert_array_equal(panel.z, expected)
    assert figures.block_size(made) == 1


def test_large_matrices_are_means_of_blocks_within_layers() -> None:
    world = replace(MADE, layers=7, heads=45)
    made = atoms(world)
    made["atom"].values[::7] = np.nan
    size = figures.block_size(made)
    full = dense(made, "syn")
    # Blocks of 2 in every layer of 45: 22 pairs and a single unit.
    starts = [layer * 45 + k for layer in range(7) for k in range(0, 45, size)]
    ends = [min(s + size, (s // 45 + 1) * 45) for s in starts]
    panel = np.asarray(figures.matrices(made, ("synergy",)).data[0].z)
    assert size == 2
    assert len(starts) <= MATRIX_CELLS
    for i in (0, 3, 22, 23, 100):
        for j in (0, 22, 57, 160):
            block = full[starts[i] : ends[i], starts[j] : ends[j]]
            defined = block[np.isfinite(block)]
            expected = defined.mean() if defined.size else np.nan
            np.testing.assert_allclose(panel[i, j], expected, rtol=1e-6)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 130), min_size=1, max_size=12))
def test_blocks_partition_units_and_never_cross_a_layer(heads: list[int]) -> None:
    from synatlas.report.maps import _Blocks

    layer = np.repeat(np.arange(len(heads)), heads)
    index = np.concatenate([np.arange(h) for h in heads])
    made = xr.Dataset(
        coords={
            "unit": [f"{a}.{b}" for a, b in zip(layer, index, strict=True)],
            "layer": ("unit", layer),
            "index": ("unit", index),
            "kind": ("unit", ["head"] * len(index)),
        }
    )
    blocks = _Blocks.of(made)
    assert len(blocks.labels) <= max(MATRIX_CELLS, len(heads))
    assert len(set(blocks.labels)) == len(blocks.labels) == blocks.block.max() + 1
    for block in range(len(blocks.labels)):
        inside = blocks.block == block
        assert 1 <= inside.sum() <= blocks.size
        assert set(layer[inside]) == {blocks.layer[block]}


def test_scatters_show_every_unit_and_the_identity_line() -> None:
    made = atlas(MADE)
    points, line = figures.synergy_baseline(made).data
    np.testing.assert_array_equal(points.x, made["autocorrelation_baseline"].values)
    np.testing.assert_array_equal(points.y, made["synergy"].values)
    np.testing.assert_allclose(points.marker.color, made["unit_layer"].values / 5)
    assert line.x == line.y
    points = figures.synergy_redundancy(made).data[0]
    np.testing.assert_array_equal(points.x, made["redundancy"].values)


def test_nulls_show_units_layers_and_intervals_of_every_null() -> None:
    made = atlas(MADE)
    figure = figures.nulls(made)
    dots = [t for t in figure.data if t.mode == "markers"]
    lines = [t for t in figure.data if t.mode == "lines+markers"]
    assert [note.text for note in figure.layout.annotations] == [
        "synergy − null: cross prompt",
        "synergy − null: window shift (refused)",
        "integration: revised Phi − same-step null",
    ]
    for i in range(2):
        np.testing.assert_array_equal(dots[i].y, made["excess"].values[i])
        np.testing.assert_array_equal(lines[i].y, made["profile_excess"].values[i])
    np.testing.assert_array_equal(dots[2].y, made["integration"].values)
    expected = made["profile"].sel(score="integration").values
    np.testing.assert_array_equal(lines[2].y, expected)
    assert len([t for t in figure.data if t.fill == "toself"]) == 3


def test_categories_show_their_profile_before_that_of_all_prompts() -> None:
    made = atlas(MADE)
    figure = figures.categories(made, "synergy")
    at = list(made["score"].values).index("synergy")
    for i, name in enumerate(("numbers", "words")):
        np.testing.assert_array_equal(trace(figure, name).y, made["category_profile"].values[i, at])
    wide = replace(MADE, categories=[f"category number {i} of a long name" for i in range(15)])
    shown = figures.categories(atlas(wide))
    assert len(shown.layout.annotations) == 12
    assert shown.layout.annotations[0].text == "category number 0 of a<br>long name"


def test_comparison_divides_ranks_by_the_number_of_units() -> None:
    small, large = atlas(MADE), atlas(replace(MADE, layers=12, seed=4))
    figure = figures.comparison({"trained": small, "<b>fresh</b>": large})
    for made, name in ((small, "trained"), (large, "&lt;b&gt;fresh&lt;/b&gt;")):
        expected = made["profile"].sel(score="rank_of_difference") / made.sizes["unit"]
        np.testing.assert_array_equal(trace(figure, name).y, expected.values)
    raw = figures.comparison({"one": small}, "synergy")
    np.testing.assert_array_equal(trace(raw, "one").y, small["profile"].sel(score="synergy").values)


def test_figures_refuse_what_an_atlas_does_not_have() -> None:
    made = atlas(MADE)
    with pytest.raises(ConfigError, match="rank_of_difference, difference_of_ranks"):
        figures.profile(made, "nonsense")
    with pytest.raises(ConfigError, match="nonsense"):
        figures.unit_map(made, "nonsense")
    with pytest.raises(ConfigError, match="without categories"):
        figures.categories(atlas(replace(MADE, categories=())))
    with pytest.raises(ConfigError, match="no atlas"):
        figures.comparison({})
    with pytest.raises(ConfigError, match="some of synergy, redundancy"):
        figures.matrices(atoms(MADE), ("tdmi",))

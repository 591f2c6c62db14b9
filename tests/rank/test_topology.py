"""Topology of the graphs of Atoms: what is planted is found, nulls are level, gaps are told."""

import importlib
import math

import bct
import numpy as np
import pytest
import xarray as xr

from planted_atoms import make_atoms
from synatlas.errors import ConfigError
from synatlas.rank.graph_nulls import GRAPH_NULLS, Pairs
from synatlas.rank.score import difference_of_ranks
from synatlas.rank.topology import GRAPHS, LEAST_DRAWS, topology

LAYERS, HEADS = 4, 4
UNITS = LAYERS * HEADS
ABOVE = np.triu_indices(UNITS, 1)
LAYER = np.repeat(np.arange(LAYERS), HEADS)


def with_weights(synergy: np.ndarray, redundancy: np.ndarray) -> xr.Dataset:
    """Atoms of 16 units whose pairs have these sts and rtr."""
    atoms = make_atoms(layers=LAYERS, heads=HEADS, prompts=3, draws=3, surrogates=3)
    grid = atoms["atom"].to_numpy().copy()
    grid[:, 3, 3], grid[:, 0, 0] = synergy, redundancy
    atoms["atom"] = (atoms["atom"].dims, grid, atoms["atom"].attrs)
    return atoms


def random_weights(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).gamma(1.0, 0.03, ABOVE[0].size)


def square(values: np.ndarray) -> np.ndarray:
    out = np.zeros((UNITS, UNITS))
    out[ABOVE] = values
    return out + out.T


def by_layer(inside: float, outside: float, seed: int = 0) -> np.ndarray:
    """Weights within layers and between them, with a little noise."""
    noise = np.random.default_rng(seed).uniform(0.9, 1.1, ABOVE[0].size)
    return noise * np.where(LAYER[ABOVE[0]] == LAYER[ABOVE[1]], inside, outside)


@pytest.fixture(scope="module")
def found() -> xr.Dataset:
    return topology(with_weights(random_weights(0), by_layer(0.2, 0.02)), draws=60)


def test_every_weighting_is_what_the_toolbox_gives(found: xr.Dataset) -> None:
    synergy = square(random_weights(0))
    top = bct.threshold_proportional(synergy, 0.1)
    graphs = {
        "raw": synergy,
        "normalised": synergy / synergy[ABOVE].mean(),
        "density_matched": top / top[top > 0].mean(),
    }
    at = found.sel(graph="synergy")
    for weighting, weights in graphs.items():
        here = at.sel(weighting=weighting)
        value = dict(zip(here.measure.values, here.topology.values, strict=True))
        module = here.module.values + 1
        assert value["efficiency"] == pytest.approx(bct.efficiency_wei(weights))
        _, q = bct.modularity_louvain_und(weights, seed=0)
        assert value["modularity"] >= q - 0.02
        edges = weights.sum(axis=1) > 0
        with np.errstate(invalid="ignore"):
            spread = bct.participation_coef(weights, module)
            layers = bct.participation_coef(weights, LAYER + 1)
            within = bct.module_degree_zscore(weights, module)
        assert here.participation.values[edges] == pytest.approx(spread[edges])
        assert value["participation"] == pytest.approx(spread[edges].mean())
        assert here.layer_participation.values[edges] == pytest.approx(layers[edges])
        assert here.graph_edges == np.count_nonzero(weights) / 2
        assert np.nan_to_num(here.module_strength_z.values) == pytest.approx(within)
    gateway = difference_of_ranks(
        bct.participation_coef(synergy, LAYER + 1),
        found.layer_participation.sel(graph="redundancy", weighting="raw").values,
    )
    assert (found.gateway.values == gateway).all()


def test_layers_that_are_planted_are_found_and_chance_is_not(found: xr.Dataset) -> None:
    planted = found.sel(graph="redundancy", weighting="raw")
    assert planted.module.values.tolist() == LAYER.tolist()
    q = planted.sel(measure="layer_modularity")
    assert q.topology == pytest.approx(planted.sel(measure="modularity").topology)
    assert (q.topology_z > 5).all()
    assert (q.topology_p < 1e-6).all()
    # Weights drawn alike for all pairs are a draw of either null.
    p = found.sel(graph="synergy").topology_p.values
    assert (p > 0.001).all()


def test_dividing_the_weights_changes_no_test(found: xr.Dataset) -> None:
    tested = found.sel(graph=["synergy", "redundancy"])
    raw, normalised = tested.sel(weighting="raw"), tested.sel(weighting="normalised")
    for name in ("topology_z", "topology_p"):
        assert normalised[name].values == pytest.approx(raw[name].values)
    assert (normalised.topology.sel(measure="efficiency") >= 1).all()
    rest = [m for m in found.measure.values if m != "efficiency"]
    assert (normalised.topology.sel(measure=rest) == raw.topology.sel(measure=rest)).all()


def test_raw_efficiency_alone_follows_the_level_of_the_weights() -> None:
    """The published contrast of efficiencies is a contrast of means."""
    weights = random_weights(3)
    out = topology(with_weights(weights, weights / 10), draws=0)
    one, tenth = (out.topology.sel(graph=g) for g in ("synergy", "redundancy"))
    raw = {"weighting": "raw", "measure": "efficiency"}
    assert float(one.sel(raw)) == pytest.approx(10 * float(tenth.sel(raw)))
    for weighting in ("normalised", "density_matched"):
        here = {"weighting": weighting, "measure": "efficiency"}
        assert float(one.sel(here)) == pytest.approx(float(tenth.sel(here)))


def test_independent_series_have_the_graph_of_the_baseline() -> None:
    """Under MMI their sts is twice the smaller self-information, edge by edge."""
    own = np.random.default_rng(0).gamma(1.0, 0.1, (3, UNITS))
    weights = 2 * np.minimum(own[:, ABOVE[0]], own[:, ABOVE[1]]).mean(axis=0)
    atoms = with_weights(weights, random_weights(1))
    atoms["self_information"] = (("prompt", "unit"), own, atoms["self_information"].attrs)
    out = topology(atoms, draws=0).topology
    for measure in ("efficiency", "layer_modularity"):
        at = out.sel(measure=measure)
        synergy, baseline = at.sel(graph="synergy"), at.sel(graph="autocorrelation_baseline")
        assert synergy.values == pytest.approx(baseline.values)


def test_nulls_keep_what_they_say() -> None:
    pairs = Pairs(ABOVE[0], ABOVE[1], UNITS)
    scale = np.geomspace(1, 6, UNITS)
    weights = random_weights(5) * scale[ABOVE[0]] * scale[ABOVE[1]]
    strengths = pairs.strengths(weights)
    assert strengths == pytest.approx(square(weights).sum(axis=0))
    assert (pairs.matrix(weights) == square(weights)).all()
    rng = np.random.default_rng(0)
    kept = {name: [] for name in GRAPH_NULLS}
    for name, make in GRAPH_NULLS.items():
        for _ in range(20):
            drawn = make(pairs, weights, rng)
            assert (np.sort(drawn) == np.sort(weights)).all()
            kept[name].append(np.corrcoef(pairs.strengths(drawn), strengths)[0, 1])
    assert np.mean(kept["strengths_kept"]) > 0.98
    assert abs(np.mean(kept["shuffled"])) < 0.2


def test_strong_units_alone_are_no_modules() -> None:
    """Weights s_i s_j: shuffling calls them less modular than chance, kept strengths do not."""
    scale = np.geomspace(1, 8, UNITS)
    weights = scale[ABOVE[0]] * scale[ABOVE[1]] * 1e-3
    out = topology(with_weights(weights, weights), draws=60)
    q = out.sel(graph="synergy", weighting="raw", measure="layer_modularity")
    z = dict(zip(out.graph_null.values, q.topology_z.values, strict=True))
    assert abs(z["strengths_kept"]) < 4
    q = out.sel(graph="synergy", weighting="raw", measure="modularity").topology_z
    assert q.sel(graph_null="shuffled") < -5


def test_gaps_and_signs_are_counted_and_carry_no_edge() -> None:
    synergy, redundancy = random_weights(0), random_weights(1)
    lost = (ABOVE[0] == 2) | (ABOVE[1] == 2)
    redundancy[-3:] = -0.01
    synergy[lost] = redundancy[lost] = np.nan
    negative = 3
    out = topology(with_weights(synergy, redundancy), draws=5)
    assert (out.graph_undefined == UNITS - 1).all()
    assert out.graph_negative.values.tolist() == [0, negative, 0]
    defined = 15 * 14 // 2
    assert out.graph_edges.sel(weighting="raw").values.tolist() == [
        defined,
        defined - negative,
        defined,
    ]
    assert (out.graph_edges.sel(weighting="density_matched") == round(0.1 * defined)).all()
    assert (out.module[..., 2] == -1).all()
    for name in ("participation", "layer_participation", "module_strength_z"):
        assert np.isnan(out[name][..., 2]).all()
    rest = np.delete(np.arange(UNITS), 2)
    expected = bct.efficiency_wei(np.nan_to_num(square(synergy))[np.ix_(rest, rest)])
    raw = out.topology.sel(graph="synergy", weighting="raw", measure="efficiency")
    assert float(raw) == pytest.approx(expected)


def test_atoms_without_a_defined_pair_give_no_number() -> None:
    nothing = np.full(ABOVE[0].size, np.nan)
    out = topology(with_weights(nothing, nothing), draws=2)
    assert np.isnan(out.topology).all()
    assert np.isnan(out.gateway).all()
    assert (out.module == -1).all()
    assert (out.graph_edges == 0).all()


def test_a_seed_repeats_and_order_of_pairs_is_nothing() -> None:
    atoms = with_weights(random_weights(0), random_weights(1))
    out = topology(atoms, seed=3, draws=4)
    xr.testing.assert_identical(topology(atoms, seed=3, draws=4), out)
    assert not topology(atoms, seed=4, draws=4).topology_null.equals(out.topology_null)
    turned = atoms.isel(pair=np.random.default_rng(0).permutation(ABOVE[0].size))
    other = topology(turned, seed=3, draws=0)
    for name in ("topology", "module", "gateway"):
        assert other[name].values == pytest.approx(out[name].values, nan_ok=True)


def test_the_baseline_is_no_graph_to_be_tested(found: xr.Dataset) -> None:
    assert tuple(found.graph.values) == GRAPHS
    tested = np.isfinite(found.topology_z).all(("graph_null", "weighting", "measure"))
    assert tested.values.tolist() == [True, True, False]
    bare = topology(with_weights(random_weights(0), random_weights(1)), draws=0)
    assert np.isnan(bare.topology_z).all()
    assert np.isnan(bare.topology_p).all()


def test_draws_are_fewer_above_256_units(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("synatlas.rank.topology")
    monkeypatch.setattr(module, "_DRAW_WORK", 30 * UNITS**3)
    atoms = with_weights(random_weights(0), random_weights(1))
    assert topology(atoms, draws=40).attrs["topology_draws"] == 30
    monkeypatch.setattr(module, "_DRAW_WORK", 1)
    assert topology(atoms, draws=40).attrs["topology_draws"] == LEAST_DRAWS
    assert topology(atoms, draws=3).attrs["topology_draws"] == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [({"seed": -1}, "seed=-1"), ({"draws": -1}, "draws=-1"), ({"density": 10.0}, "a percentage"),
     ({"density": 0.0}, "density=0.0")],
)  # fmt: skip
def test_options_out_of_range_are_refused(options: dict, said: str) -> None:
    atoms = make_atoms(layers=2, heads=1, prompts=2, draws=2, surrogates=2)
    with pytest.raises(ConfigError, match=said):
        topology(atoms, **options)


def test_two_units_have_one_pair() -> None:
    atoms = make_atoms(layers=2, heads=1, prompts=2, draws=2, surrogates=2)
    out = topology(atoms, draws=3).sel(graph="synergy", weighting="raw")
    weight = float(atoms.atom.sel(past="syn", future="syn").item())
    assert float(out.topology.sel(measure="efficiency")) == pytest.approx(weight)
    assert not math.isnan(float(out.topology.sel(measure="modularity")))

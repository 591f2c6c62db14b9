"""Measures of one graph: another library, closed forms, symmetries."""

import math

import bct
import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synatlas.rank.graphs import (
    Partition,
    efficiency,
    modularity,
    module_strength_z,
    modules,
    participation,
    strongest,
)

few = settings(derandomize=True, deadline=None, max_examples=12)
seeds = st.integers(0, 10**6)


def graph(seed: int, *, nodes: int = 14, absent: float = 0.3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    weights = rng.gamma(0.7, 0.02, (nodes, nodes)) * (rng.random((nodes, nodes)) > absent)
    return np.triu(weights, 1) + np.triu(weights, 1).T


def partition(weights: np.ndarray, *, restarts: int = 5, seed: int = 0) -> Partition:
    rng = np.random.default_rng(seed)
    return modules(weights, np.array([rng.permutation(len(weights)) for _ in range(restarts)]))


def ring(nodes: int, weight: float = 1.0) -> np.ndarray:
    out = np.zeros((nodes, nodes))
    i = np.arange(nodes)
    out[i, (i + 1) % nodes] = out[(i + 1) % nodes, i] = weight
    return out


def cliques(size: int, count: int, bridge: float = 0.0) -> np.ndarray:
    """Equal cliques of unit weights; all other pairs of weight `bridge`."""
    member = np.repeat(np.arange(count), size)
    out = np.where(member[:, None] == member, 1.0, bridge)
    np.fill_diagonal(out, 0)
    return out


@few
@given(seed=seeds, absent=st.sampled_from([0.0, 0.3, 0.9]))
def test_measures_are_those_of_the_toolbox(seed: int, absent: float) -> None:
    weights = graph(seed, absent=absent)
    module = np.random.default_rng(seed).integers(0, 4, len(weights))
    module[:4] = np.arange(4)
    assert efficiency(weights) == pytest.approx(bct.efficiency_wei(weights), rel=1e-12)
    with np.errstate(invalid="ignore"):
        spread = bct.participation_coef(weights, module + 1)
        within = bct.module_degree_zscore(weights, module + 1)
    ours, edges = participation(weights, module), weights.sum(axis=1) > 0
    assert ours[edges] == pytest.approx(spread[edges])
    # The toolbox puts 0 where a measure does not exist.
    assert np.isnan(ours[~edges]).all()
    z = module_strength_z(weights, module)
    assert np.nan_to_num(z) == pytest.approx(within)
    communities = [set(np.flatnonzero(module == c)) for c in range(4)]
    expected = nx.community.modularity(nx.from_numpy_array(weights), communities)
    assert modularity(weights, module) == pytest.approx(expected)


@pytest.mark.parametrize("absent", [0.0, 0.8])
def test_modules_are_as_good_as_the_toolbox_finds(absent: float) -> None:
    """Heuristics differ by seed: the best of five against the mean of ten, and Q is told right."""
    for seed in range(4):
        weights = graph(seed, nodes=40, absent=absent)
        found = partition(weights)
        theirs = [bct.modularity_louvain_und(weights, seed=s) for s in range(10)]
        assert found.modularity >= np.mean([q for _, q in theirs]) - 1e-12
        assert found.modularity == pytest.approx(modularity(weights, found.module))
        for module, q in theirs[:3]:
            assert modularity(weights, module - 1) == pytest.approx(q)


def test_a_complete_graph_of_equal_weights() -> None:
    """Every path is direct, one module holds all, and no strength differs."""
    weights = cliques(9, 1) * 0.25
    assert efficiency(weights) == pytest.approx(0.25)
    found = partition(weights)
    assert found.modularity == pytest.approx(0.0)
    assert (found.module == 0).all()
    assert participation(weights, found.module) == pytest.approx(0.0)
    assert np.isnan(module_strength_z(weights, found.module)).all()
    halves = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2])
    assert modularity(weights, halves) == pytest.approx(3 * (6 / 72 - (24 / 72) ** 2))
    assert participation(weights, halves) == pytest.approx(1 - (2**2 + 3**2 + 3**2) / 8**2)


@pytest.mark.parametrize("nodes", [5, 8, 11])
def test_a_ring_has_the_mean_inverse_of_its_steps(nodes: int) -> None:
    steps = [min(d, nodes - d) for d in range(1, nodes)]
    expected = 0.5 * np.mean([1 / s for s in steps])
    assert efficiency(ring(nodes, 0.5)) == pytest.approx(expected)


@pytest.mark.parametrize(("size", "count"), [(5, 2), (4, 3)])
def test_cliques_are_the_modules(size: int, count: int) -> None:
    """Apart: Q = 1 - 1/count and no path between. Joined weakly: Q from the strengths."""
    apart = cliques(size, count)
    found = partition(apart)
    assert found.modularity == pytest.approx(1 - 1 / count)
    assert found.module.tolist() == np.repeat(np.arange(count), size).tolist()
    inside, pairs = count * size * (size - 1), count * size * (count * size - 1)
    assert efficiency(apart) == pytest.approx(inside / pairs)
    bridge = 0.05
    joined = cliques(size, count, bridge)
    inner, outer = size - 1, bridge * size * (count - 1)
    found = partition(joined)
    assert found.module.tolist() == np.repeat(np.arange(count), size).tolist()
    assert found.modularity == pytest.approx(inner / (inner + outer) - 1 / count)
    shares = inner**2 + (count - 1) * (bridge * size) ** 2
    assert participation(joined, found.module) == pytest.approx(1 - shares / (inner + outer) ** 2)


def test_a_strong_detour_is_shorter_than_a_weak_edge() -> None:
    """Edge 0-2 is 10 long; the path over 1 is 1/2 + 1/4."""
    weights = np.array([[0, 2, 0.1], [2, 0, 4], [0.1, 4, 0]])
    assert efficiency(weights) == pytest.approx((2 + 4 + 1 / 0.75) / 3)


@few
@given(seed=seeds)
def test_labels_of_units_do_not_matter(seed: int) -> None:
    weights = graph(seed)
    order = np.random.default_rng(seed).permutation(len(weights))
    module = np.arange(len(weights)) % 3
    turned = weights[np.ix_(order, order)]
    assert efficiency(turned) == pytest.approx(efficiency(weights))
    assert modularity(turned, module[order]) == pytest.approx(modularity(weights, module))
    for measure in (participation, module_strength_z):
        expected = measure(weights, module)[order]
        assert measure(turned, module[order]) == pytest.approx(expected, nan_ok=True)
    # The same visits in the same order find the same modules.
    visits = np.random.default_rng(seed + 1).permutation(len(weights))[None]
    there = np.argsort(order)[visits]
    assert modules(turned, there).modularity == pytest.approx(modules(weights, visits).modularity)


@few
@given(seed=seeds, factor=st.sampled_from([1e-9, 0.3, 1e6]))
def test_scale_changes_efficiency_in_proportion_and_nothing_else(seed: int, factor: float) -> None:
    weights = graph(seed)
    scaled = factor * weights
    assert efficiency(scaled) == pytest.approx(factor * efficiency(weights))
    plain, other = partition(weights), partition(scaled)
    assert other.module.tolist() == plain.module.tolist()
    assert other.modularity == pytest.approx(plain.modularity)
    for measure in (participation, module_strength_z):
        expected = measure(weights, plain.module)
        assert measure(scaled, plain.module) == pytest.approx(expected, nan_ok=True)


def test_the_strongest_edges_are_those_of_the_toolbox() -> None:
    weights = graph(3, nodes=20, absent=0.0)
    expected = bct.threshold_proportional(weights, 0.2)
    assert (strongest(weights, round(0.2 * 190)) == expected).all()
    assert (strongest(weights, 190) == weights).all()
    assert not strongest(weights, 0).any()


def test_nothing_is_invented_without_edges() -> None:
    empty = np.zeros((4, 4))
    found = partition(empty)
    assert efficiency(empty) == 0
    assert math.isnan(found.modularity)
    assert found.module.tolist() == [0, 1, 2, 3]
    assert np.isnan(participation(empty, found.module)).all()
    assert np.isnan(module_strength_z(empty, found.module)).all()
    assert math.isnan(efficiency(np.zeros((1, 1))))

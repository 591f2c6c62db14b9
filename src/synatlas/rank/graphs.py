"""Measures of one weighted undirected graph, from its symmetric matrix of weights.

Weights are not negative, the diagonal is 0, and 0 is no edge. The definitions are those of the
Brain Connectivity Toolbox (Rubinov, Sporns 2010, https://doi.org/10.1016/j.neuroimage.2009.10.003)
and agree with its Python port, with one exception: where a measure does not exist it is NaN here
and 0 there.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float, Int

Weights = Float[np.ndarray, "node node"]
Modules = Int[np.ndarray, " node"]

#: Least gain of a move between modules, as a share of the node's strength: below it is rounding.
_LEAST_GAIN: Final = 1e-10


class Partition(NamedTuple):
    """Modules of the nodes, numbered from 0 by their first node, and their modularity."""

    module: Modules
    modularity: float


def strongest(weights: Weights, edges: int) -> Weights:
    """The graph of the `edges` strongest edges alone; of equal ones the first, row by row."""
    above = np.triu_indices(len(weights), 1)
    values = weights[above]
    kept = np.argsort(-values, kind="stable")[:edges]
    out = np.zeros_like(weights)
    out[above[0][kept], above[1][kept]] = values[kept]
    return out + out.T


def efficiency(weights: Weights) -> float:
    """Global efficiency: mean over pairs of nodes of 1 / (length of the shortest path).

    An edge is ``1 / weight`` long; nodes that no path joins contribute 0. It has the unit of the
    weights and grows in proportion to them. NaN with fewer than two nodes.

    References
    ----------
    Latora, Marchiori (2001), https://doi.org/10.1103/PhysRevLett.87.198701.
    """
    from synatlas.rank.graph_kernels import shorten

    nodes = len(weights)
    if nodes < 2:
        return math.nan
    distance = np.divide(1.0, weights, out=np.full(weights.shape, np.inf), where=weights > 0)
    shorten(distance, np.empty(nodes))
    return float((1 / distance[np.tril_indices(nodes, -1)]).mean())


def modularity(weights: Weights, module: Modules) -> float:
    """Newman's modularity Q: weight within modules, less what strengths alone would put there.

    ``sum over modules of in_c / s - (S_c / s)**2`` with s the sum of all strengths. Between -1/2
    and 1; unchanged when all weights are multiplied. NaN without edges.

    References
    ----------
    Newman (2006), https://doi.org/10.1073/pnas.0601602103.
    """
    return _modularity(_pooled(weights, module, module))


def _modularity(between: Float[np.ndarray, "module module"]) -> float:
    strength = between.sum(axis=1)
    total = float(strength.sum())
    if total == 0:
        return math.nan
    return float(between.trace() / total - (strength**2).sum() / total**2)


def modules(weights: Weights, orders: Int[np.ndarray, "restart node"]) -> Partition:
    """Modules by the Louvain method, the best of as many restarts as there are `orders`.

    Each restart visits the nodes in its own order, and merged modules in theirs.

    References
    ----------
    Blondel et al. (2008), https://doi.org/10.1088/1742-5468/2008/10/P10008.
    """
    best = Partition(np.arange(len(weights)), -math.inf)
    for order in orders:
        found = _louvain(weights, order)
        if found.modularity > best.modularity:
            best = found
    if not math.isfinite(best.modularity):
        return Partition(best.module, math.nan)
    return Partition(_renumbered(best.module), best.modularity)


def participation(weights: Weights, module: Modules) -> Float[np.ndarray, " node"]:
    """How evenly a node's weights spread over modules: ``1 - sum over c of (w_ic / s_i)**2``.

    0 where all lie in one module, at most 1 - 1/modules. NaN for a node without edges.

    References
    ----------
    Guimerà, Amaral (2005), https://doi.org/10.1038/nature03288.
    """
    to_module = _pooled(weights, np.arange(len(module)), module)
    strength = to_module.sum(axis=1, keepdims=True)
    share = np.divide(to_module, strength, out=np.full(to_module.shape, np.nan), where=strength > 0)
    return 1 - (share**2).sum(axis=1)


def module_strength_z(weights: Weights, module: Modules) -> Float[np.ndarray, " node"]:
    """Strength of a node within its module, in standard deviations over the module's nodes.

    NaN where all nodes of a module have the same strength in it, a lone node among them.

    References
    ----------
    Guimerà, Amaral (2005), https://doi.org/10.1038/nature03288.
    """
    nodes = np.arange(len(module))
    inside = _pooled(weights, nodes, module)[nodes, module]
    size = np.maximum(np.bincount(module), 1)
    centred = inside - (np.bincount(module, inside) / size)[module]
    sd = np.sqrt(np.bincount(module, centred**2) / size)[module]
    scale = np.sqrt(np.bincount(module, inside**2) / size)[module]
    # Equal strengths that differ by rounding have no spread.
    return np.divide(centred, sd, out=np.full(inside.shape, np.nan), where=sd > 1e-12 * scale)


def _louvain(weights: Weights, order: Modules) -> Partition:
    """One run of the method: move nodes, merge modules into nodes, until nothing moves."""
    from synatlas.rank.graph_kernels import move_nodes

    module = np.arange(len(weights))
    merged = weights
    while True:
        strength = merged.sum(axis=1)
        total = float(strength.sum())
        own = np.arange(len(merged))
        part = own.copy()
        if total > 0:
            scratch = np.empty(own.size)
            move_nodes(merged, order, strength, strength.copy(), part, scratch, total, _LEAST_GAIN)
        if (part == own).all():
            return Partition(module, _modularity(merged))
        part = _renumbered(part)
        module = part[module]
        merged = _pooled(merged, part, part)
        order = np.arange(len(merged))


def _pooled(weights: Weights, rows: Modules, columns: Modules) -> Float[np.ndarray, "row column"]:
    from synatlas.rank.graph_kernels import pool

    out = np.zeros((rows.max(initial=-1) + 1, columns.max(initial=-1) + 1))
    pool(weights, rows, columns, out)
    return out


def _renumbered(module: Modules) -> Modules:
    """The same modules, numbered from 0 by their first node."""
    first = np.full(module.max(initial=-1) + 1, module.size)
    first[module[::-1]] = np.arange(module.size)[::-1]
    number = np.empty(first.size, dtype=np.int64)
    number[np.argsort(first)] = np.arange(first.size)
    return number[module]

"""Graphs of chance: the weights of a graph on the same pairs, elsewhere."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float, Int

#: Steps in which weights are dealt out; expected weights are renewed before each.
_STEPS: Final = 10


class Pairs(NamedTuple):
    """The pairs that can have an edge: positions of both nodes among `nodes`."""

    first: Int[np.ndarray, " pair"]
    second: Int[np.ndarray, " pair"]
    nodes: int

    def strengths(self, weights: Float[np.ndarray, " pair"]) -> Float[np.ndarray, " node"]:
        """Sum of the weights at every node."""
        at_first = np.bincount(self.first, weights, self.nodes)
        return at_first + np.bincount(self.second, weights, self.nodes)

    def matrix(self, weights: Float[np.ndarray, " pair"]) -> Float[np.ndarray, "node node"]:
        """The symmetric matrix of the weights, 0 where there is no pair."""
        out = np.zeros((self.nodes, self.nodes))
        out[self.first, self.second] = weights
        out[self.second, self.first] = weights
        return out


GraphNull = Callable[
    [Pairs, Float[np.ndarray, " pair"], np.random.Generator], Float[np.ndarray, " pair"]
]


def shuffled(
    pairs: Pairs, weights: Float[np.ndarray, " pair"], rng: np.random.Generator
) -> Float[np.ndarray, " pair"]:
    """The weights permuted over the pairs: keeps their distribution and nothing else."""
    del pairs
    return rng.permutation(weights)


def strengths_kept(
    pairs: Pairs, weights: Float[np.ndarray, " pair"], rng: np.random.Generator
) -> Float[np.ndarray, " pair"]:
    """The same weights dealt out so that every node keeps its strength, nearly.

    The weight that a pair may expect is in proportion to the product of what its two nodes still
    lack, each per pair left. Pairs in random order get the weight of the same rank among those
    left as their expectation has, a tenth of them before expectations are renewed.

    References
    ----------
    Rubinov, Sporns (2011), https://doi.org/10.1016/j.neuroimage.2011.03.069.
    """
    out = np.empty(weights.size)
    left = np.sort(weights)
    lack = pairs.strengths(weights)
    degree = pairs.strengths(np.ones(weights.size))
    order = rng.permutation(weights.size)
    for step in range(_STEPS):
        share = order.size // (_STEPS - step)
        if share == 0:
            continue
        each = np.maximum(lack, 0.0) / np.maximum(degree, 1.0)
        expected = each[pairs.first[order]] * each[pairs.second[order]]
        rank = np.empty(order.size, dtype=np.int64)
        rank[np.argsort(expected, kind="stable")] = np.arange(order.size)
        dealt, order = order[:share], order[share:]
        out[dealt] = left[rank[:share]]
        left = np.delete(left, rank[:share])
        done = Pairs(pairs.first[dealt], pairs.second[dealt], pairs.nodes)
        lack = lack - done.strengths(out[dealt])
        degree = degree - done.strengths(np.ones(share))
    return out


#: How graphs of chance are made, by name.
GRAPH_NULLS: Final[Mapping[str, GraphNull]] = MappingProxyType(
    {"shuffled": shuffled, "strengths_kept": strengths_kept}
)

"""Compiled loops over weighted graphs: shortest paths, moves between modules, pooled weights.

Importing this module imports numba. Loops run in a fixed order without reassociation, so that the
digits do not depend on threads or libraries.
"""

from typing import no_type_check

from synatlas.decompose.kernels import compiled


@compiled(set())
@no_type_check
def shorten(distance, row):
    """Shortest paths of an undirected graph, in place below the diagonal (Floyd, Warshall).

    `distance` holds lengths of edges below its diagonal, infinite where there is none; `row` is
    scratch of one value per node. Only the lower half is read and written.
    """
    nodes = distance.shape[0]
    for via in range(nodes):
        for j in range(nodes):
            row[j] = distance[via, j] if j < via else distance[j, via]
        row[via] = 0.0
        for i in range(nodes):
            first = row[i]
            for j in range(i):
                detour = first + row[j]
                distance[i, j] = detour if detour < distance[i, j] else distance[i, j]


@compiled(set())
@no_type_check
def move_nodes(weights, order, strength, volume, module, links, total, least):
    """Move single nodes to the module of greatest gain until none gains; first phase of Louvain.

    The gain of node i in module c without it is ``w_ic - s_i S_c / total``, with w_ic its weight
    to the module, s_i its strength and S_c the module's. `module` and its strengths `volume` are
    updated in place; `links` is scratch of one value per node. A move must gain more than `least`
    times the node's strength.
    """
    nodes = weights.shape[0]
    moved = True
    while moved:
        moved = False
        for position in range(nodes):
            i = order[position]
            home = module[i]
            for c in range(nodes):
                links[c] = 0.0
            for j in range(nodes):
                links[module[j]] += weights[i, j]
            links[home] -= weights[i, i]
            volume[home] -= strength[i]
            share = strength[i] / total
            best = home
            bar = links[home] - share * volume[home] + least * strength[i]
            for c in range(nodes):
                gain = links[c] - share * volume[c]
                if gain > bar:
                    bar = gain
                    best = c
            volume[best] += strength[i]
            if best != home:
                module[i] = best
                moved = True


@compiled(set())
@no_type_check
def pool(weights, rows, columns, out):
    """Add every weight to ``out[rows[i], columns[j]]``."""
    for i in range(weights.shape[0]):
        for j in range(weights.shape[1]):
            out[rows[i], columns[j]] += weights[i, j]

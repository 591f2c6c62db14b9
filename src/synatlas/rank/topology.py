"""Topology of the synergy and redundancy graphs, beside graphs that chance and memory alone give.

The published comparison (arXiv 2601.06851) takes efficiency and modularity of raw weights. Raw
efficiency grows in proportion to the weights, so that it compares mean synergy with mean
redundancy; two more weightings and a null take the level of the weights out.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float, Int, Shaped

from synatlas.artifact import Variable, require
from synatlas.axes import ATOM_LABELS
from synatlas.decompose.atoms import ATOMS
from synatlas.errors import ConfigError
from synatlas.inference import P_COUNTED, P_STUDENT, P_UNRESOLVED, surrogate_test
from synatlas.progress import silent
from synatlas.rank.graph_nulls import GRAPH_NULLS, Pairs
from synatlas.rank.graphs import (
    Modules,
    Weights,
    efficiency,
    modularity,
    module_strength_z,
    modules,
    participation,
    strongest,
)
from synatlas.rank.score import difference_of_ranks

#: The two published graphs, which are tested, and beside them what independent series of the same
#: memory would give.
GRAPHS: Final = ("synergy", "redundancy", "autocorrelation_baseline")
TESTED: Final = GRAPHS[:2]

#: What is done to the weights. raw: nothing, as published. normalised: divided by their mean over
#: pairs. density_matched: the strongest edges alone, equally many in every graph, divided by
#: their mean.
WEIGHTINGS: Final = ("raw", "normalised", "density_matched")

#: What is measured of a graph as a whole.
MEASURES: Final = ("efficiency", "modularity", "layer_modularity", "participation")

#: Restarts of the Louvain method, for the graph and for each of its nulls alike.
RESTARTS: Final = 5

#: Share of pairs that keep their edge in density-matched graphs: what the published figure shows.
DENSITY: Final = 0.1

#: Graphs of chance for every null and graph.
DRAWS: Final = 100

#: Time grows with the cube of the units: above 256 of them draws are fewer, but not below 20.
_DRAW_WORK: Final = DRAWS * 256**3
LEAST_DRAWS: Final = 20

_WHOLE: Final = ("graph", "weighting", "measure")
_NULL: Final = ("graph_null", *_WHOLE)
_UNIT: Final = ("graph", "weighting", "unit")


def _declared(
    dims: tuple[str, ...],
    long_name: str,
    dtype: str = "f8",
    flags: Mapping[int, str] = MappingProxyType({}),
) -> Variable:
    return Variable(dims=dims, dtype=dtype, units="1", long_name=long_name, flags=flags)


#: Declared here and part of the atlas.
VARIABLES: Final = MappingProxyType(
    {
        "topology": _declared(_WHOLE, "measure of the graph; raw efficiency is in nats"),
        "topology_null": _declared(_NULL, "mean of the measure over graphs of chance"),
        "topology_null_sd": _declared(_NULL, "standard deviation over graphs of chance"),
        "topology_z": _declared(_NULL, "measure minus its null, in standard deviations"),
        "topology_p": _declared(_NULL, "two-sided p of the measure against graphs of chance"),
        "topology_p_method": _declared(
            _NULL,
            "how p is obtained",
            "i1",
            flags={P_UNRESOLVED: "unresolved", P_COUNTED: "counted", P_STUDENT: "student"},
        ),
        "graph_edges": _declared(("graph", "weighting"), "pairs with an edge", "i4"),
        "graph_modules": _declared(("graph", "weighting"), "modules found", "i4"),
        "graph_undefined": _declared(("graph",), "pairs without a value: no edge, no null", "i4"),
        "graph_negative": _declared(("graph",), "pairs of negative value, taken as 0", "i4"),
        "module": _declared(_UNIT, "module of the unit, -1 where it has no defined pair", "i4"),
        "participation": _declared(_UNIT, "how evenly a unit's weights spread over modules"),
        "layer_participation": _declared(_UNIT, "how evenly a unit's weights spread over layers"),
        "module_strength_z": _declared(_UNIT, "strength within the module, in its sd"),
        "gateway": _declared(
            ("unit",),
            "rank of raw layer_participation in synergy minus that in redundancy: above 0 on the "
            "side of gateways, below 0 of broadcasters",
        ),
    }
)

COORDS: Final = MappingProxyType(
    {
        name: Variable(dims=(name,), dtype="str", units="", long_name=name)
        for name in ("graph", "graph_null", "weighting", "measure")
    }
)


def topology(
    atoms: xr.Dataset,
    *,
    seed: int = 0,
    draws: int = DRAWS,
    density: float = DENSITY,
    progress: Callable[[str, int, int], None] = silent,
) -> xr.Dataset:
    """Efficiency, modularity and participation of the synergy and redundancy graphs, with nulls.

    A graph has the units as nodes and the mean sts (or rtr) of every pair as weights. The third,
    ``autocorrelation_baseline``, has weights ``2 min(S_a, S_b)`` of the self-informations, mean
    over prompts: what MMI gives for independent series (Varley, arXiv 2407.16601).

    Measures of a graph: ``efficiency``, mean of 1 / shortest path with edges 1 / weight long;
    ``modularity``, Newman's Q of the best of 5 seeded Louvain partitions (resolution 1);
    ``layer_modularity``, Q with the model's layers as modules; ``participation``, mean over units.
    Weightings: ``raw``, as published; ``normalised``, divided by the mean over pairs, which
    changes efficiency alone, and there neither z nor p; ``density_matched``, the strongest edges,
    equally many in every graph, divided by their mean.

    Nulls, made of the weights of all pairs and then treated alike: ``shuffled`` permutes them over
    the pairs and keeps their distribution alone; ``strengths_kept`` also keeps every unit's sum of
    weights, nearly (Rubinov, Sporns 2011), and so asks what the graph has beyond strong and weak
    units. With K draws ``z = (value - mean) / sd``; p is two-sided, from Student's t where the
    draws allow it, else counted. The baseline is itself a null and is not tested.

    Per unit, ``participation`` and ``module_strength_z`` with the graph's own modules, and
    ``layer_participation`` with the layers as modules. A *gateway* gathers synergy over many
    modules, a *broadcaster* spreads redundancy over many (Luppi et al. 2024, who take given brain
    systems as modules, as layers are taken here, and only regions where synergy predominates):
    ``gateway`` is rank(layer_participation in synergy) - rank(layer_participation in redundancy).

    A pair without a value has no edge and takes no part in the null. A negative value (possible
    under CCS) is taken as 0, no edge; ``graph_negative`` counts them.

    Parameters
    ----------
    atoms : an Atoms artifact; it is not changed.
    seed : seed of nulls and restarts, from 0.
    draws : graphs of chance for every null and graph, 0 for none. Above 256 units at most
        ``max(20, 100 * 256**3 / units**3)`` are made; the attribute ``topology_draws`` holds the
        number. Measured on one core: 1.3 s at 64 units, 18 s at 256, 140 s at 1024, 660 s at 1728.
    density : share of the pairs that keep their edge in density-matched graphs, at most 1; fewer
        where a graph has fewer positive weights.
    progress : called as graphs of chance are made.

    Returns
    -------
    xarray.Dataset
        ``topology`` (graph, weighting, measure); ``topology_null``, ``topology_null_sd``,
        ``topology_z``, ``topology_p`` with ``graph_null`` before these; counts of edges and
        modules; ``module``, ``participation``, ``layer_participation``, ``module_strength_z`` on
        (graph, weighting, unit); ``gateway(unit)``. Where a measure does not exist it is NaN.

    Raises
    ------
    ArtifactError
        `atoms` is not an Atoms artifact.
    ConfigError
        An option is out of range.

    References
    ----------
    arXiv 2601.06851 (raw measures of language models); Rubinov, Sporns 2010,
    https://doi.org/10.1016/j.neuroimage.2009.10.003 (measures); Rubinov, Sporns 2011,
    https://doi.org/10.1016/j.neuroimage.2011.03.069 (strengths kept); Luppi et al. 2024,
    https://doi.org/10.7554/eLife.88173 (gateways and broadcasters).
    """
    require(atoms, ATOMS)
    _check_options(seed, draws, density)
    given = _given(atoms)
    nodes, above = given.units.size, (given.weights > 0).sum(axis=1)
    kept = min(round(density * given.weights.shape[1]), int(above.min()))
    draws = min(draws, max(LEAST_DRAWS, _DRAW_WORK // max(nodes, 1) ** 3))
    layer = np.unique(atoms["layer"].to_numpy()[given.units], return_inverse=True)[1]
    streams = np.random.SeedSequence(seed).spawn(len(GRAPHS))
    parts = []
    for graph, name in enumerate(GRAPHS):
        rng = np.random.default_rng(streams[graph])
        weights = given.weights[graph]
        part = _observed(given, weights, kept, layer, rng)
        tested = draws if name in TESTED and weights.size else 0
        advance = partial(progress, f"topology of {name}")
        chance = _chance(given.pairs, weights, kept, layer, draws=tested, rng=rng, progress=advance)
        parts.append({**part, **_against(part["topology"], chance, _levels(weights, kept))})
    return _dataset(atoms, given, parts, draws=draws, density=density)


def _check_options(seed: int, draws: int, density: float) -> None:
    if seed < 0 or draws < 0:
        raise ConfigError(
            given=f"seed={seed}, draws={draws}",
            expected="whole numbers from 0",
            remedy="choose another seed; draws=0 leaves the nulls out",
        )
    if not 0 < density <= 1:
        raise ConfigError(
            given=f"density={density}",
            expected="a share of the pairs above 0, at most 1",
            cause="a percentage" if density > 1 else "",
            remedy="pass for example 0.1",
        )


class _Given(NamedTuple):
    """Weights of every defined pair in every graph; `units` are those with a defined pair."""

    units: Int[np.ndarray, " node"]
    pairs: Pairs
    weights: Float[np.ndarray, "graph pair"]
    negative: Int[np.ndarray, " graph"]
    undefined: int


def _given(atoms: xr.Dataset) -> _Given:
    at = {label: i for i, label in enumerate(atoms["unit"].to_numpy().tolist())}
    first = np.array([at[name] for name in atoms["unit_a"].to_numpy().tolist()], dtype=np.int64)
    second = np.array([at[name] for name in atoms["unit_b"].to_numpy().tolist()], dtype=np.int64)
    roles = (ATOM_LABELS["sts"], ATOM_LABELS["rtr"])
    values = [atoms["atom"].sel(past=past, future=future).to_numpy() for past, future in roles]
    weights = np.stack([*values, _baseline(atoms, first, second)])
    defined = np.isfinite(weights).all(axis=0)
    first, second, weights = first[defined], second[defined], weights[:, defined]
    units = np.union1d(first, second)
    return _Given(
        units=units,
        pairs=Pairs(np.searchsorted(units, first), np.searchsorted(units, second), units.size),
        weights=np.maximum(weights, 0.0),
        negative=(weights < 0).sum(axis=1),
        undefined=int(defined.size - defined.sum()),
    )


def _baseline(
    atoms: xr.Dataset, first: Int[np.ndarray, " pair"], second: Int[np.ndarray, " pair"]
) -> Float[np.ndarray, " pair"]:
    """Twice the smaller self-information of a pair, mean over the prompts that define both."""
    total, count = np.zeros(first.size), np.zeros(first.size)
    for own in atoms["self_information"].transpose("prompt", "unit").to_numpy():
        least = np.minimum(own[first], own[second])
        finite = np.isfinite(least)
        total += np.where(finite, least, 0.0)
        count += finite
    return np.divide(2 * total, count, out=np.full(total.shape, np.nan), where=count > 0)


class _Measured(NamedTuple):
    values: Float[np.ndarray, " measure"]
    module: Modules
    participation: Float[np.ndarray, " node"]


def _measure(weights: Weights, layer: Modules, rng: np.random.Generator) -> _Measured:
    """Every measure of one graph, weights as they are, and its modules."""
    orders = rng.permuted(np.tile(np.arange(len(weights)), (RESTARTS, 1)), axis=1)
    partition = modules(weights, orders)
    spread = participation(weights, partition.module)
    defined = spread[np.isfinite(spread)]
    found = {
        "efficiency": efficiency(weights),
        "modularity": partition.modularity,
        "layer_modularity": modularity(weights, layer),
        "participation": defined.mean() if defined.size else np.nan,
    }
    return _Measured(np.array([found[name] for name in MEASURES]), partition.module, spread)


def _observed(
    given: _Given,
    weights: Float[np.ndarray, " pair"],
    kept: int,
    layer: Modules,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Measures of one graph as a whole and per unit; first axis is the weighting."""
    whole = given.pairs.matrix(weights)
    graphs = (whole, strongest(whole, kept))
    found = [_measure(graph, layer, rng) for graph in graphs]
    values = np.stack([part.values for part in found])
    parts = {
        "graph_edges": [np.count_nonzero(graph) // 2 for graph in graphs],
        "graph_modules": [part.module.max(initial=-1) + 1 for part in found],
        "module": [part.module for part in found],
        "participation": [part.participation for part in found],
        "layer_participation": [participation(graph, layer) for graph in graphs],
        "module_strength_z": [
            module_strength_z(graph, part.module) for graph, part in zip(graphs, found, strict=True)
        ],
    }
    return {
        "topology": _scaled(values[_GRAPH_OF], _levels(weights, kept)),
        **{name: np.array(part)[_GRAPH_OF] for name, part in parts.items()},
    }


#: Which graph each weighting shows: the whole one, the same divided, the strongest edges.
_GRAPH_OF: Final = [0, 0, 1]


def _levels(weights: Float[np.ndarray, " pair"], kept: int) -> Float[np.ndarray, " weighting"]:
    """What each weighting divides the weights by: nothing, their mean, that of the strongest."""
    top = np.sort(weights)[weights.size - kept :]
    return np.array([1.0, *(part.mean() if part.any() else np.nan for part in (weights, top))])


def _scaled(
    values: Float[np.ndarray, "*lead weighting measure"], levels: Float[np.ndarray, " weighting"]
) -> Float[np.ndarray, "*lead weighting measure"]:
    """Dividing the weights divides efficiency and changes nothing else."""
    out = values.copy()
    out[..., MEASURES.index("efficiency")] /= levels
    return out


def _chance(
    pairs: Pairs,
    weights: Float[np.ndarray, " pair"],
    kept: int,
    layer: Modules,
    *,
    draws: int,
    rng: np.random.Generator,
    progress: Callable[[int, int], None],
) -> Float[np.ndarray, "null draw weighting measure"]:
    """Measures of graphs of chance, weights as they are."""
    out = np.empty((len(GRAPH_NULLS), draws, len(WEIGHTINGS), len(MEASURES)))
    for null, make in enumerate(GRAPH_NULLS.values()):
        for draw in range(draws):
            whole = pairs.matrix(make(pairs, weights, rng))
            graphs = (whole, strongest(whole, kept))
            values = np.stack([_measure(graph, layer, rng).values for graph in graphs])
            out[null, draw] = values[_GRAPH_OF]
            progress(null * draws + draw + 1, len(out) * draws)
    return out


def _against(
    values: Float[np.ndarray, "weighting measure"],
    chance: Float[np.ndarray, "null draw weighting measure"],
    levels: Float[np.ndarray, " weighting"],
) -> dict[str, np.ndarray]:
    """Mean, sd, z and p of every null; first axis is the null."""
    draws = _scaled(chance, levels)
    k, shape = draws.shape[1], (draws.shape[0], *values.shape)
    nowhere = np.full(shape, np.nan)
    out = {
        "topology_null": draws.mean(axis=1) if k else nowhere,
        "topology_null_sd": draws.std(axis=1, ddof=1) if k > 1 else nowhere,
        "topology_z": nowhere.copy(),
        "topology_p": nowhere.copy(),
        "topology_p_method": np.full(shape, P_UNRESOLVED, dtype=np.int8),
    }
    for cell in np.ndindex(shape):
        null, *where = cell
        test = surrogate_test(values[*where][None], draws[null, :, *where][:, None])
        out["topology_z"][cell] = test.z[0]
        out["topology_p"][cell] = np.minimum(1.0, 2 * np.minimum(test.p_greater, test.p_less))[0]
        out["topology_p_method"][cell] = test.method
    return out


def _dataset(
    atoms: xr.Dataset,
    given: _Given,
    parts: Sequence[Mapping[str, np.ndarray]],
    *,
    draws: int,
    density: float,
) -> xr.Dataset:
    """Join the graphs; `graph` follows `graph_null` where there is one."""
    values: dict[str, np.ndarray] = {}
    for name in parts[0]:
        dims = VARIABLES[name].dims
        values[name] = np.stack([part[name] for part in parts], axis=dims.index("graph"))
        if "unit" in dims:
            values[name] = _spread(values[name], given, atoms.sizes["unit"])
    values["graph_undefined"] = np.full(len(GRAPHS), given.undefined)
    values["graph_negative"] = given.negative
    spread = values["layer_participation"][:, WEIGHTINGS.index("raw")]
    values["gateway"] = difference_of_ranks(
        spread[GRAPHS.index("synergy")], spread[GRAPHS.index("redundancy")]
    )
    out = xr.Dataset(
        {name: (part.dims, values[name].astype(part.dtype)) for name, part in VARIABLES.items()},
        coords={
            "unit": atoms["unit"].to_numpy().astype(str),
            "graph": list(GRAPHS),
            "graph_null": list(GRAPH_NULLS),
            "weighting": list(WEIGHTINGS),
            "measure": list(MEASURES),
        },
        attrs={"topology_draws": int(draws), "topology_density": float(density)},
    )
    for name, declared in VARIABLES.items():
        out[name].attrs = {"long_name": declared.long_name, "units": declared.units}
    return out


def _spread(
    values: Shaped[np.ndarray, "graph weighting node"], given: _Given, units: int
) -> Shaped[np.ndarray, "graph weighting unit"]:
    """Values of the nodes at their units; NaN or -1 at units without a defined pair."""
    missing = np.nan if values.dtype.kind == "f" else -1
    out = np.full((*values.shape[:2], units), missing, dtype=values.dtype)
    out[..., given.units] = values
    return out

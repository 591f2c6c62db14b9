"""Every unit under a sampled null: observed, each draw, mean, spread and matching errors."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from synatlas.axes import FUTURE, NULL, PAST, SURROGATE, UNIT
from synatlas.decompose.estimators import Engine, Estimator
from synatlas.decompose.groups import Totals, mean_atoms, total
from synatlas.decompose.matching import Matching
from synatlas.decompose.nulls import OWN_MEMORY, Null, draws, own_memory
from synatlas.decompose.pairs import DEFINED, unit_rows
from synatlas.decompose.rearrange import Prepared, unmixed
from synatlas.decompose.windows import Windows

_UNIT_GRID = (UNIT, PAST, FUTURE)

#: Variable -> its dimensions.
DIMS = {
    "null_observed": (NULL, *_UNIT_GRID),
    "null_draw": (NULL, SURROGATE, *_UNIT_GRID),
    "null_mean": (NULL, *_UNIT_GRID),
    "null_sd": (NULL, *_UNIT_GRID),
    "null_self_information_error": (NULL,),
    "null_same_step_error": (NULL,),
}


def null_rows(
    null: Null,
    prepared: Prepared,
    engine: Engine,
    way: Estimator,
    *,
    redundancy: str,
    surrogates: int,
    seed: int,
    progress: Callable[[int, int], None],
) -> dict[str, np.ndarray | float]:
    """The variables of :data:`DIMS` for one null, without their `null` dimension."""
    units = prepared.windows[0].shape[1]
    data = total(prepared.windows, prepared.windows, prepared.prompts, engine, per_unit=False)
    matching = Matching.of(prepared, data, way.self_information)
    observed = mean_atoms(unit_rows(data.pair, units))
    adjusted = null.adjusted and redundancy == "mmi"
    memory = _unit_memory(prepared.windows, prepared.windows, data) if adjusted else None
    draw = np.empty((surrogates, units, 4, 4))
    steps = draws(null, prepared, engine, surrogates=surrogates, seed=seed)
    for k, (drawn, totals) in enumerate(steps):
        atom = mean_atoms(unit_rows(totals.pair, units))
        if memory is not None:
            lost = memory - _unit_memory(drawn.left, drawn.right, totals)
            atom += lost[:, None, None] * OWN_MEMORY
        draw[k] = unmixed(atom, observed, drawn.kept)
        matching.add(drawn.left, totals)
        progress(k + 1, surrogates)
    return {
        "null_observed": observed,
        "null_draw": draw,
        "null_mean": draw.mean(axis=0),
        "null_sd": draw.std(axis=0, ddof=1) if surrogates > 1 else np.full(draw.shape[1:], np.nan),
        **matching.errors(),
    }


def _unit_memory(
    left: list[Windows], right: list[Windows], totals: Totals
) -> Float[np.ndarray, " unit"]:
    """Mean over partners, weighted as the atoms are by defined prompts, of own memory."""
    square = own_memory(left, right)
    first, second = np.triu_indices(len(square), k=1)
    weight = totals.pair[DEFINED]
    value = np.where(weight > 0, square[first, second], 0.0) * weight
    sums = np.bincount(first, value, len(square)) + np.bincount(second, value, len(square))
    count = np.bincount(first, weight, len(square)) + np.bincount(second, weight, len(square))
    with np.errstate(invalid="ignore"):
        return sums / count


def stack_nulls(
    rows: list[dict[str, Any]], surrogates: int, units: int
) -> dict[str, tuple[tuple[str, ...], Float[np.ndarray, "..."]]]:
    """Put nulls beside each other; no null gives a `null` dimension of size 0."""
    sizes = {UNIT: units, SURROGATE: surrogates, PAST: 4, FUTURE: 4}
    return {
        name: (
            dims,
            np.stack([np.asarray(row[name]) for row in rows])
            if rows
            else np.empty((0, *(sizes[dim] for dim in dims[1:]))),
        )
        for name, dims in DIMS.items()
    }

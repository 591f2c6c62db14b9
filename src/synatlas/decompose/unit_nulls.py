"""Every unit under a sampled null: observed, each draw, mean, spread and matching errors."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from synatlas.axes import FUTURE, NULL, PAST, SURROGATE, UNIT
from synatlas.decompose.engine import Engine
from synatlas.decompose.groups import Totals, mean_atoms, total
from synatlas.decompose.nulls import Null, Prepared, draws
from synatlas.decompose.pairs import ABSOLUTE, DEFINED, unit_rows
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
    self_information: Callable[[np.ndarray], np.ndarray],
    *,
    surrogates: int,
    seed: int,
    progress: Callable[[int, int], None],
) -> dict[str, np.ndarray | float]:
    """The variables of :data:`DIMS` for one null, without their `null` dimension."""
    units = prepared.windows[0].shape[1]
    data = total(prepared.windows, prepared.windows, prepared.prompts, engine, per_unit=False)
    draw = np.empty((surrogates, units, 4, 4))
    same, information = np.empty(surrogates), np.empty(surrogates)
    steps = draws(null, prepared, engine, surrogates=surrogates, seed=seed)
    for k, (drawn, totals) in enumerate(steps):
        draw[k] = mean_atoms(unit_rows(totals.pair, units))
        same[k] = _same_step(totals)
        information[k] = mean_self_information(drawn.left, self_information)
        progress(k + 1, surrogates)
    kept = mean_self_information(prepared.windows, self_information)
    return {
        "null_observed": mean_atoms(unit_rows(data.pair, units)),
        "null_draw": draw,
        "null_mean": draw.mean(axis=0),
        "null_sd": draw.std(axis=0, ddof=1) if surrogates > 1 else np.full(draw.shape[1:], np.nan),
        "null_self_information_error": information.mean() / kept - 1 if kept else np.nan,
        "null_same_step_error": same.mean() - _same_step(data),
    }


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


def _same_step(totals: Totals) -> float:
    """Mean absolute same-step correlation over defined pair-prompts; NaN where there are none."""
    defined = totals.pair[DEFINED].sum()
    return float(totals.pair[ABSOLUTE].sum() / defined) if defined else np.nan


def mean_self_information(
    windows: list[Windows], self_information: Callable[[np.ndarray], np.ndarray]
) -> float:
    """Mean over prompts and units, computed from the windows; NaN where none is defined."""
    every = np.concatenate([self_information(group.values)[group.reason == 0] for group in windows])
    return float(every.mean()) if every.size else np.nan

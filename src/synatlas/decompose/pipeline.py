"""Stage 2: Recording -> Atoms."""

import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import xarray as xr
from jaxtyping import Float

from synatlas.artifact import finish, fingerprint_of, require
from synatlas.axes import BOOTSTRAP, FUTURE, NULL, PAIR, PAST, PROMPT, ROLES, SURROGATE, UNIT
from synatlas.decompose.atoms import ATOMS
from synatlas.decompose.groups import (
    Group,
    Totals,
    group_by_length,
    mean_atoms,
    mean_row,
    statuses,
    total,
)
from synatlas.decompose.nulls import NULLS, Null, draws, prepare
from synatlas.decompose.pairs import ABSOLUTE, DEFINED, SAME, Redundancy, unit_rows
from synatlas.decompose.pooled import pool
from synatlas.decompose.redundancy import REDUNDANCIES
from synatlas.decompose.series import check_lag, choose, pair_labels
from synatlas.decompose.windows import ESTIMATORS, Windows
from synatlas.errors import ConfigError
from synatlas.progress import Progress, silent
from synatlas.record.recording import RECORDING

#: Periods, in tokens, at which a reply is compared with itself.
LONGEST_PERIOD: Final = 20

#: Units up to which surrogates and bootstraps are plentiful by default.
_PLENTY: Final = 300
_MANY_UNITS: Final = 800

_UNIT_GRID: Final = (UNIT, PAST, FUTURE)


def default_surrogates(units: int) -> int:
    """Surrogates per null: 199 up to 300 units, 39 beyond (p then floors at 0.025)."""
    return 199 if units <= _PLENTY else 39


def default_bootstraps(units: int) -> int:
    """Draws of prompts for the pooled excess: 200 up to 800 units, 50 beyond."""
    return 200 if units <= _MANY_UNITS else 50


def decompose(
    recording: xr.Dataset,
    *,
    lag: int = 1,
    redundancy: str = "mmi",
    estimator: str = "gaussian",
    nulls: Sequence[str] = ("cross_prompt", "window_shift", "same_step"),
    surrogates: int | None = None,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress = silent,
) -> xr.Dataset:
    """Atoms of every pair of units, of every unit per prompt, and under each null."""
    require(recording, RECORDING)
    double = choose(REDUNDANCIES, redundancy, "redundancy")
    standardise = choose(ESTIMATORS, estimator, "estimator")
    chosen = {name: choose(NULLS, name, "null") for name in nulls}
    n_steps = recording["n_steps"].values.astype(np.int64)
    values = recording["activity"].values.astype(np.float64)
    units = values.shape[2]
    check_size(values, n_steps)
    check_lag(lag, n_steps)
    count = default_surrogates(units) if surrogates is None else surrogates
    groups = group_by_length(values, n_steps)
    windows = [standardise(group.series, lag) for group in groups]
    where = [group.prompts for group in groups]
    observed = total(windows, windows, where, double, per_unit=True)
    progress("pairs", 1, 1)
    variables = {**_pair_variables(observed), **_unit_variables(observed, windows, groups)}
    runnable = {
        name: null for name, null in chosen.items() if max(map(len, where)) >= null.least_prompts
    }
    drawn: list[dict[str, np.ndarray]] = []
    resampled = [name for name, null in runnable.items() if null.draw is not None]
    for name in resampled:
        null = runnable[name]
        prepared = prepare(null, groups, standardise, lag)
        drawn.append(_null_rows(null, prepared, double, count, seed, progress, name))
    variables |= _stack_nulls(drawn, count, units)
    bootstraps = default_bootstraps(units) if "same_step" in runnable and len(n_steps) > 1 else 1
    variables |= _pooled_variables(windows, "same_step" in runnable, bootstraps, seed)
    left_out = {
        name: f"needs {null.least_prompts} prompts of one length"
        for name, null in chosen.items()
        if name not in runnable
    }
    config = {
        "lag": lag,
        "redundancy": redundancy,
        "estimator": estimator,
        "nulls": list(nulls),
        "surrogates": count,
        "bootstraps": bootstraps,
        "seed": seed,
    }
    dataset = xr.Dataset(
        variables,
        coords=_coords(recording, n_steps, resampled),
        attrs={
            **{name: recording.attrs[name] for name in ("model", "model_revision", "n_layers")},
            **{name: config[name] for name in ("lag", "redundancy", "estimator", "seed")},
            "steps": int(n_steps.max()),
            "surrogates": count,
            "nulls_left_out": json.dumps(left_out),
        },
    )
    parent = recording.attrs["fingerprint"]
    fingerprint = fingerprint_of(
        stage=ATOMS.name, version=ATOMS.version, config=config, parents=(parent,)
    )
    return finish(dataset, ATOMS, fingerprint=fingerprint)


def check_size(values: np.ndarray, n_steps: np.ndarray) -> None:
    """Refuse a recording without prompts, steps or pairs."""
    if values.shape[0] == 0 or n_steps.max() < 1 or values.shape[2] < 2:
        raise ConfigError(
            given=f"a recording of {values.shape[0]} prompts and {values.shape[2]} units",
            expected="at least one prompt, one step and two units",
            remedy="record more prompts or more units",
        )


def _pair_variables(observed: Totals) -> dict[str, Any]:
    atom = mean_atoms(observed.pair)
    return {
        "atom": ((PAIR, PAST, FUTURE), atom),
        "tdmi": (PAIR, mean_row(observed.pair, 15)),
        "status": (PAIR, statuses(observed)),
        "n_defined": (PAIR, observed.pair[DEFINED].astype(np.int32)),
        "same_step_correlation": (PAIR, mean_row(observed.pair, SAME)),
    }


def _unit_variables(
    observed: Totals, windows: list[Windows], groups: list[Group]
) -> dict[str, Any]:
    assert observed.unit is not None
    information = np.empty(observed.unit.shape[::2])
    trend = np.empty_like(information)
    for group, ready in zip(groups, windows, strict=True):
        information[group.prompts] = ready.self_information
        trend[group.prompts] = straight_share(group.series)
    return {
        "unit_atom": ((PROMPT, *_UNIT_GRID), mean_atoms(observed.unit)),
        "self_information": ((PROMPT, UNIT), information),
        "unit_same_step": ((PROMPT, UNIT), mean_row(observed.unit, ABSOLUTE)),
        "unit_trend": ((PROMPT, UNIT), trend),
    }


def straight_share(
    series: Float[np.ndarray, "prompt step unit"],
) -> Float[np.ndarray, "prompt unit"]:
    """R² of a straight line over steps, in [0, 1]; NaN for constant or nonfinite series."""
    line = np.arange(series.shape[1]) - (series.shape[1] - 1) / 2
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        centred = series - series.mean(axis=1, keepdims=True)
        slope = np.einsum("s,psu->pu", line, centred)
        spread = np.einsum("psu,psu->pu", centred, centred) * (line @ line)
        return np.where(spread > 0, np.minimum(slope**2 / spread, 1.0), np.nan)


def _null_rows(
    null: Null,
    prepared: Any,
    redundancy: Redundancy,
    surrogates: int,
    seed: int,
    progress: Progress,
    name: str,
) -> dict[str, np.ndarray]:
    """What one resampled null contributes, without its `null` dimension."""
    units = prepared.windows[0].shape[1]
    data = total(prepared.windows, prepared.windows, prepared.prompts, redundancy, per_unit=False)
    draw = np.empty((surrogates, units, 4, 4))
    same, information = np.empty(surrogates), np.empty(surrogates)
    for k, (windows, totals) in enumerate(
        draws(null, prepared, redundancy, surrogates=surrogates, seed=seed)
    ):
        draw[k] = mean_atoms(unit_rows(totals.pair, units))
        same[k] = totals.pair[ABSOLUTE].sum() / totals.pair[DEFINED].sum()
        information[k] = _mean_self_information(windows.left)
        progress(name, k + 1, surrogates)
    kept = _mean_self_information(prepared.windows)
    return {
        "null_observed": mean_atoms(unit_rows(data.pair, units)),
        "null_draw": draw,
        "null_mean": draw.mean(axis=0),
        "null_sd": draw.std(axis=0, ddof=1) if surrogates > 1 else np.full(draw.shape[1:], np.nan),
        "null_self_information_error": information.mean() / kept - 1,
        "null_same_step_error": same.mean() - data.pair[ABSOLUTE].sum() / data.pair[DEFINED].sum(),
    }


def _mean_self_information(windows: list[Windows]) -> float:
    """Mean over prompts and units, from the windows themselves."""
    parts = []
    for group in windows:
        r = np.einsum("pus,pus->pu", group.values[:, 0], group.values[:, 1])
        parts.append(-0.5 * np.log1p(-(r[group.reason == 0] ** 2)))
    return float(np.concatenate(parts).mean())


def _stack_nulls(rows: list[dict[str, Any]], surrogates: int, units: int) -> dict[str, Any]:
    dims = {
        "null_observed": (NULL, *_UNIT_GRID),
        "null_draw": (NULL, SURROGATE, *_UNIT_GRID),
        "null_mean": (NULL, *_UNIT_GRID),
        "null_sd": (NULL, *_UNIT_GRID),
        "null_self_information_error": (NULL,),
        "null_same_step_error": (NULL,),
    }
    sizes = {UNIT: units, SURROGATE: surrogates, PAST: 4, FUTURE: 4}
    return {
        name: (
            shape,
            np.stack([np.asarray(row[name]) for row in rows])
            if rows
            else np.empty((0, *(sizes[dim] for dim in shape[1:]))),
        )
        for name, shape in dims.items()
    }


def _pooled_variables(
    windows: list[Windows], wanted: bool, bootstraps: int, seed: int
) -> dict[str, Any]:
    units = windows[0].shape[1]
    prompts = sum(group.shape[0] for group in windows)
    nothing = np.full((units, 4, 4), np.nan)
    observed, null, excess = nothing, nothing, np.full((bootstraps, units, 4, 4), np.nan)
    if wanted:
        pooled = pool(windows, bootstraps=bootstraps if prompts > 1 else 0, seed=seed)
        observed, null = pooled.observed, pooled.null
        excess = pooled.excess_draw if prompts > 1 else excess
    return {
        "pooled_atom": (_UNIT_GRID, observed),
        "same_step_atom": (_UNIT_GRID, null),
        "pooled_excess_draw": ((BOOTSTRAP, *_UNIT_GRID), excess),
    }


def _coords(recording: xr.Dataset, n_steps: np.ndarray, nulls: list[str]) -> dict[str, Any]:
    first, second = pair_labels(tuple(map(str, recording[UNIT].values.tolist())))
    copied = ("category", "layer", "index", "kind", "kv_group")
    return {
        "unit_a": (PAIR, first),
        "unit_b": (PAIR, second),
        PAST: list(ROLES),
        FUTURE: list(ROLES),
        PROMPT: recording[PROMPT].values,
        UNIT: recording[UNIT].values,
        **{name: (recording[name].dims, recording[name].values) for name in copied},
        "repetition": (PROMPT, repetition(recording["token"].values, n_steps)),
        NULL: np.array(nulls, dtype=np.str_),
    }


def repetition(tokens: np.ndarray, n_steps: np.ndarray) -> Float[np.ndarray, " prompt"]:
    """Greatest share, over periods of 1 to 20 tokens, of tokens equal to the one a period before.

    In [0, 1]; 0 for replies of one token.
    """
    share = np.zeros(len(n_steps))
    for prompt, steps in enumerate(n_steps):
        reply = tokens[prompt, :steps]
        for period in range(1, min(LONGEST_PERIOD, steps - 1) + 1):
            share[prompt] = max(share[prompt], np.mean(reply[period:] == reply[:-period]))
    return share

"""Stage 2: Recording -> Atoms."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from synatlas.artifact import fingerprint_of, finish, require
from synatlas.axes import BOOTSTRAP, FUTURE, NULL, PAIR, PAST, PROMPT, ROLES, UNIT
from synatlas.decompose.atoms import ATOMS
from synatlas.decompose.blas import one_blas_thread
from synatlas.decompose.engine import Engine, choose_engine
from synatlas.decompose.estimators import ESTIMATORS, Estimator
from synatlas.decompose.groups import (
    Group,
    Totals,
    group_by_length,
    mean_atoms,
    mean_row,
    statuses,
    total,
)
from synatlas.decompose.nuisance import Residuals, facts_of, remove
from synatlas.decompose.nulls import NULLS, Null, prepare
from synatlas.decompose.options import can_run, check_lag, check_surrogates, choose, has_form
from synatlas.decompose.pairs import ABSOLUTE, DEFINED, SAME, TDMI, pair_count
from synatlas.decompose.pooled import Pooled, pool
from synatlas.decompose.prediction import joint_prediction
from synatlas.decompose.redundancy import REDUNDANCIES
from synatlas.decompose.routing import routing_of, seldom_routed, without_seldom
from synatlas.decompose.series import ONLY, pair_labels
from synatlas.decompose.unit_nulls import null_rows, stack_nulls
from synatlas.decompose.windows import Windows
from synatlas.errors import ConfigError
from synatlas.progress import Progress, silent
from synatlas.record.doubts import doubts_of
from synatlas.record.recording import RECORDING

#: A period counts where the reply has room for this many turns of it.
TURNS: Final = 3

#: Units up to which surrogates are plentiful by default, and bootstraps.
_PLENTY: Final = 300
_MANY_UNITS: Final = 800

#: Pair-prompts up to which CCS is computed beside MMI: it costs about a microsecond each.
CCS_UP_TO: Final = 20_000_000

_UNIT_GRID: Final = (UNIT, PAST, FUTURE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What determines the values of Atoms, beside the recording."""

    lag: int
    redundancy: str
    estimator: str
    nulls: tuple[str, ...]
    surrogates: int
    bootstraps: int
    seed: int
    nuisance: tuple[str, ...]
    null_atoms: str


def default_surrogates(units: int) -> int:
    """Surrogates per null: 199 up to 300 units, 39 beyond (p then floors at 0.025)."""
    return 199 if units <= _PLENTY else 39


def default_bootstraps(units: int) -> int:
    """Draws of prompts for the pooled excess: 200 up to 800 units, 50 beyond."""
    return 200 if units <= _MANY_UNITS else 50


@one_blas_thread()
def decompose(
    recording: xr.Dataset,
    *,
    lag: int = 1,
    redundancy: str = "mmi",
    estimator: str = "gaussian",
    nulls: Sequence[str] = ("cross_prompt", "window_shift", "same_step"),
    surrogates: int | None = None,
    null_atoms: str = "rtr+sts",
    seed: int = 0,
    nuisance: Sequence[str] = (),
    threads: int | None = None,
    progress: Progress = silent,
) -> xr.Dataset:
    """Atoms of every pair of units, of every unit per prompt, and of every unit under each null.

    Parameters
    ----------
    recording
        A Recording. Prompts may have different `n_steps`. It is not changed.
    lag, redundancy, estimator, seed
        As in :func:`synatlas.decompose.series.phiid`.
    nulls
        Names from :data:`synatlas.decompose.nulls.NULLS`; ``()`` runs none. A null that the
        prompts or the estimator do not allow is left out; the attribute ``nulls_left_out`` says
        why.
    surrogates
        Draws of each sampled null; by default 199 up to 300 units and 39 beyond.
    null_atoms
        Atoms of sampled nulls: ``"rtr+sts"``, which costs less, or ``"all"``. Others are NaN.
    nuisance
        What is taken out of the series before anything else, by least squares: names from
        :data:`synatlas.decompose.nuisance.NUISANCES`. The attribute ``nuisance_degrees`` is the
        mean number of degrees of freedom that a series of one prompt lost.
    threads
        Threads of the compiled kernel, all processors by default; no value depends on it.
    progress
        Called as ``progress(what, done, total)``.

    Returns
    -------
    xarray.Dataset
        Atoms, see :data:`synatlas.decompose.atoms.ATOMS`; all atoms in nats. Grids per unit are
        oriented: `un1` is the unit. `status` of a pair is 0 where it is defined in some prompt
        (`n_defined` counts them), 2 where it is a duplicate in any prompt, else the most frequent
        reason. ``null_observed`` is the data prepared as the null needs them, and matching errors
        compare the null with these. Pooled atoms and their same-step null are always of MMI; they
        are NaN where ``"same_step"`` is not asked for, and their draws where there is one prompt.
        Joint prediction is of the series themselves, whatever the estimator.
        A routed expert counts as constant in prompts where it is routed at fewer than five steps
        of past or of future; the attribute ``routing`` counts them.
        The attribute ``recording_doubts`` holds what the recording's self-test says against it.
        Under MMI, ``unit_atom_ccs`` stands beside ``unit_atom`` up to 20 million pair-prompts.

    Raises
    ------
    ConfigError
        An option cannot be used with this recording.
    ArtifactError
        `recording` is not a Recording.
    """
    require(recording, RECORDING)
    choose(REDUNDANCIES, redundancy, "redundancy")
    way = choose(ESTIMATORS, estimator, "estimator")
    data = _read(recording, lag, nuisance)
    chosen = {name: choose(NULLS, name, "null") for name in nulls}
    count = default_surrogates(data.units) if surrogates is None else surrogates
    check_surrogates(count)
    category = recording["category"].values
    left_out = _left_out(chosen, data.n_steps, category, count, estimator)
    runnable = {name: null for name, null in chosen.items() if name not in left_out}
    config = Config(
        lag=lag,
        redundancy=redundancy,
        estimator=estimator,
        nulls=tuple(nulls),
        surrogates=count,
        bootstraps=_bootstraps(data, runnable),
        seed=seed,
        nuisance=data.left.names,
        null_atoms=null_atoms,
    )
    sampled = {name: null for name, null in runnable.items() if null.draw is not None}
    windows = [way.windows(group.series, lag) for group in data.groups]
    passes = data.n_steps.size * (1 + len(sampled) * (1 + count))
    engine = choose_engine(
        redundancy, estimator=way, units=data.units, passes=passes, threads=threads
    )
    observed = data.total(windows, engine)
    drawn = choose_engine(
        redundancy,
        estimator=way,
        units=data.units,
        passes=passes,
        threads=threads,
        only=choose(ONLY, null_atoms, "null_atoms"),
    )
    progress("pairs", 1, 1)
    variables = {**_pair_variables(observed), **_unit_variables(observed, windows, data.groups)}
    if redundancy == "mmi" and pair_count(data.units) * data.n_steps.size <= CCS_UP_TO:
        variables |= _ccs_variables(data, windows, way, threads)
    rows = [
        null_rows(
            null,
            prepare(null, data.groups, way.windows, lag, category),
            drawn,
            way,
            redundancy=redundancy,
            surrogates=count,
            seed=seed,
            progress=partial(progress, name),
        )
        for name, null in sampled.items()
    ]
    variables |= stack_nulls(rows, count, data.units)
    pooled = _pooled(windows, config) if "same_step" in runnable else None
    variables |= _pooled_variables(pooled, config, data.units)
    variables |= _prediction_variables(data.groups, lag, threads)
    dataset = xr.Dataset(
        variables,
        coords=_coords(recording, list(sampled)),
        attrs={
            **_attrs(recording, config, data),
            **data.left.attrs,
            **_routing(recording, lag),
            **_doubts(recording),
            "nulls_left_out": json.dumps(left_out),
            "same_step_pairs_left_out": 0 if pooled is None else pooled.left_out,
        },
    )
    fingerprint = fingerprint_of(
        stage=ATOMS.name,
        version=ATOMS.version,
        config={
            **asdict(config),
            "nulls": list(config.nulls),
            "nuisance": list(config.nuisance),
        },
        parents=(recording.attrs["fingerprint"],),
    )
    return finish(dataset, ATOMS, fingerprint=fingerprint)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Data:
    """Series of a recording without nuisances, grouped by length."""

    n_steps: Int[np.ndarray, " prompt"]
    groups: list[Group]
    units: int
    left: Residuals

    def total(self, windows: list[Windows], engine: Engine) -> Totals:
        """Sums over all prompts, kept per prompt and unit as well."""
        prompts = [group.prompts for group in self.groups]
        return total(windows, windows, prompts, engine, per_unit=True)


def _read(recording: xr.Dataset, lag: int, nuisance: Sequence[str]) -> _Data:
    n_steps = recording["n_steps"].values.astype(np.int64)
    activity = recording["activity"].values.astype(np.float64)
    values = without_seldom(activity, seldom_routed(recording, lag))
    check_size(values, n_steps)
    check_lag(lag, n_steps)
    left = remove(values, nuisance, facts_of(recording), lag=lag)
    groups = group_by_length(left.values, left.n_steps)
    return _Data(n_steps=left.n_steps, groups=groups, units=values.shape[2], left=left)


def _bootstraps(data: _Data, runnable: dict[str, Null]) -> int:
    # One draw of NaN where there is nothing to draw: a dimension of size 0 says less.
    if "same_step" not in runnable or data.n_steps.size < 2:
        return 1
    return default_bootstraps(data.units)


def _left_out(
    chosen: dict[str, Null],
    n_steps: np.ndarray,
    category: np.ndarray,
    surrogates: int,
    estimator: str,
) -> dict[str, str]:
    """Why a null is not run, for those that are not."""
    out: dict[str, str] = {}
    for name, null in chosen.items():
        if not has_form(null, estimator):
            out[name] = f"its closed form is one of correlations, not of estimator {estimator}"
        elif not can_run(null, n_steps):
            out[name] = f"needs {null.least_prompts} prompts of one length"
        elif null.needs_category and _largest(n_steps, category) < null.least_prompts:
            out[name] = f"needs {null.least_prompts} prompts of one length and category"
        elif null.draw is not None and surrogates == 0:
            out[name] = "surrogates=0"
    return out


def _largest(n_steps: np.ndarray, category: np.ndarray) -> int:
    """Most prompts of one length and category."""
    kinds = np.array([f"{steps} {name}" for steps, name in zip(n_steps, category, strict=True)])
    return int(np.unique(kinds, return_counts=True)[1].max())


def _attrs(recording: xr.Dataset, config: Config, data: _Data) -> dict[str, Any]:
    return {
        **{name: recording.attrs[name] for name in ("model", "model_revision", "n_layers")},
        "lag": config.lag,
        "redundancy": config.redundancy,
        "estimator": config.estimator,
        "seed": config.seed,
        "steps": int(data.n_steps.max()),
        "surrogates": config.surrogates,
    }


def _routing(recording: xr.Dataset, lag: int) -> dict[str, str]:
    routing = routing_of(recording, lag)
    return {} if routing is None else {"routing": json.dumps(routing._asdict())}


def _doubts(recording: xr.Dataset) -> dict[str, str]:
    found = doubts_of(recording)
    return {"recording_doubts": json.dumps(found)} if found else {}


def check_size(values: np.ndarray, n_steps: np.ndarray) -> None:
    """Refuse a recording without prompts, steps or pairs."""
    if values.shape[0] == 0 or n_steps.max() < 1 or values.shape[2] < 2:
        raise ConfigError(
            given=f"a recording of {values.shape[0]} prompts and {values.shape[2]} units",
            expected="at least one prompt, one step and two units",
            remedy="record more prompts or more units",
        )


def _pair_variables(observed: Totals) -> dict[str, Any]:
    pair = observed.pair
    rest = {
        "tdmi": (PAIR, mean_row(pair, TDMI)),
        "status": (PAIR, statuses(observed)),
        "n_defined": (PAIR, pair[DEFINED].astype(np.int32)),
        "same_step_correlation": (PAIR, mean_row(pair, SAME)),
    }
    # Last: the sums are overwritten.
    return {"atom": ((PAIR, PAST, FUTURE), mean_atoms(pair, in_place=True)), **rest}


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


def _ccs_variables(
    data: _Data, windows: list[Windows], way: Estimator, threads: int | None
) -> dict[str, Any]:
    engine = choose_engine(
        "ccs", estimator=way, units=data.units, passes=data.n_steps.size, threads=threads
    )
    rows = data.total(windows, engine).unit
    assert rows is not None
    return {"unit_atom_ccs": ((PROMPT, *_UNIT_GRID), mean_atoms(rows))}


def _pooled(windows: list[Windows], config: Config) -> Pooled:
    draws = config.bootstraps if config.bootstraps > 1 else 0
    return pool(windows, bootstraps=draws, seed=config.seed)


def _pooled_variables(pooled: Pooled | None, config: Config, units: int) -> dict[str, Any]:
    observed = null = np.full((units, 4, 4), np.nan)
    excess = noise = np.full((config.bootstraps, units, 4, 4), np.nan)
    if pooled is not None:
        observed, null = pooled.observed, pooled.null
        excess = pooled.excess_draw if len(pooled.excess_draw) else excess
        noise = pooled.noise_draw if len(pooled.noise_draw) else noise
    return {
        "pooled_atom": (_UNIT_GRID, observed),
        "same_step_atom": (_UNIT_GRID, null),
        "pooled_excess_draw": ((BOOTSTRAP, *_UNIT_GRID), excess),
        "pooled_noise_draw": ((BOOTSTRAP, *_UNIT_GRID), noise),
    }


def _prediction_variables(groups: list[Group], lag: int, threads: int | None) -> dict[str, Any]:
    found = joint_prediction(groups, lag, threads=threads or os.cpu_count() or 1)
    return {
        f"joint_prediction_{part}": ((PROMPT, UNIT), found[i])
        for i, part in enumerate(found._fields)
    }


def _coords(recording: xr.Dataset, nulls: list[str]) -> dict[str, Any]:
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
        "repetition": (PROMPT, repetition(recording["token"].values, recording["n_steps"].values)),
        NULL: np.array(nulls, dtype=np.str_),
    }


def repetition(tokens: np.ndarray, n_steps: np.ndarray) -> Float[np.ndarray, " prompt"]:
    """Greatest share, over periods up to a third of the reply, of tokens equal to the one before.

    In [0, 1]; 0 for replies of fewer than three tokens, which have no room for three turns.
    """
    share = np.zeros(len(n_steps))
    for prompt, steps in enumerate(n_steps):
        reply = tokens[prompt, :steps]
        for period in range(1, steps // TURNS + 1):
            share[prompt] = max(share[prompt], np.mean(reply[period:] == reply[:-period]))
    return share

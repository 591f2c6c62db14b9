"""ΦID of any time series: every pair of columns, decomposed into sixteen atoms."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from synatlas.axes import FUTURE, PAIR, PAST, PROMPT, ROLES, STEP, UNIT, array_labels
from synatlas.decompose.atoms import STATUS
from synatlas.decompose.groups import group_by_length, mean_atoms, statuses, total
from synatlas.decompose.lattice import AGGREGATE_NAMES, aggregate
from synatlas.decompose.redundancy import REDUNDANCIES
from synatlas.decompose.windows import ESTIMATORS, LEAST_SAMPLES
from synatlas.errors import ConfigError


class Series(NamedTuple):
    """Checked input: float64 values, true lengths, labels of the units."""

    values: Float[np.ndarray, "prompt step unit"]
    n_steps: Int[np.ndarray, " prompt"]
    units: tuple[str, ...]


def phiid(
    series: Any,
    *,
    lag: int = 1,
    redundancy: str = "mmi",
    estimator: str = "gaussian",
    null: str | None = None,
    surrogates: int = 0,
    seed: int = 0,
) -> xr.Dataset:
    """Integrated information decomposition of every pair of series."""
    double = choose(REDUNDANCIES, redundancy, "redundancy")
    standardise = choose(ESTIMATORS, estimator, "estimator")
    given = read_series(series)
    check_lag(lag, given.n_steps)
    groups = group_by_length(given.values, given.n_steps)
    windows = [standardise(group.series, lag) for group in groups]
    totals = total(windows, windows, [g.prompts for g in groups], double, per_unit=False)
    dataset = _dataset(totals, given.units)
    dataset.attrs = {
        "lag": lag,
        "redundancy": redundancy,
        "estimator": estimator,
        "prompts": len(given.n_steps),
    }
    return dataset


def _dataset(totals: Any, units: tuple[str, ...]) -> xr.Dataset:
    atom = mean_atoms(totals.pair)
    nat = {"units": "nat"}
    flags = {
        "units": "1",
        "long_name": "why a pair is undefined",
        "flag_values": np.array(sorted(STATUS), dtype=np.int8),
        "flag_meanings": " ".join(STATUS[code] for code in sorted(STATUS)),
    }
    labels = pair_labels(units)
    return xr.Dataset(
        {
            "atom": ((PAIR, PAST, FUTURE), atom, {"long_name": "atom, mean over prompts", **nat}),
            "tdmi": (PAIR, atom.sum(axis=(1, 2)), nat),
            "status": (PAIR, statuses(totals), flags),
            **{
                name: (PAIR, aggregate(name, atom), {"long_name": AGGREGATE_NAMES[name], **nat})
                for name in AGGREGATE_NAMES
            },
        },
        coords={
            "unit_a": (PAIR, labels[0]),
            "unit_b": (PAIR, labels[1]),
            PAST: list(ROLES),
            FUTURE: list(ROLES),
        },
    )


@lru_cache(maxsize=4)
def pair_labels(units: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the first and of the second unit of every pair, in pair order, read-only."""
    names = np.array(units)
    first, second = np.triu_indices(len(units), k=1)
    labels = names[first], names[second]
    for array in labels:
        array.flags.writeable = False
    return labels


def choose(registry: Mapping[str, Any], name: Any, what: str) -> Any:
    """Entry of a registry, or a :class:`ConfigError` that lists the known names."""
    if name not in registry:
        raise ConfigError(
            given=f"{what} {name!r}",
            expected=f"one of {', '.join(registry)}",
            remedy=f"pass one of these as {what}",
        )
    return registry[name]


def check_lag(lag: int, n_steps: np.ndarray) -> None:
    """Refuse a lag that leaves no prompt enough lagged samples."""
    if isinstance(lag, bool) or not isinstance(lag, int | np.integer) or lag < 1:
        raise ConfigError(
            given=f"lag {lag!r}",
            expected="a whole number of steps, 1 or more",
            remedy="pass lag=1 for the next step",
        )
    if int(n_steps.max()) - lag < LEAST_SAMPLES:
        raise ConfigError(
            given=f"series of {int(n_steps.max())} steps at most, with lag {lag}",
            expected=f"at least lag + {LEAST_SAMPLES} = {lag + LEAST_SAMPLES} steps",
            cause="four variables cannot be told apart from fewer lagged samples",
            remedy="pass longer series or a shorter lag",
        )


def read_series(series: Any) -> Series:
    """Any array of (step, unit) or (prompt, step, unit) as float64, its padding found."""
    units: tuple[str, ...] | None = None
    if isinstance(series, xr.Dataset):
        series = _only_variable(series)
    if isinstance(series, xr.DataArray):
        series, units = _labelled(series)
    values = _numbers(series)
    if values.ndim == 2:
        values = values[None]
    if values.ndim != 3:
        raise ConfigError(
            given=f"an array of {values.ndim} dimensions",
            expected="(step, unit) or (prompt, step, unit)",
            remedy="give each series its own column, with time along the rows",
        )
    if 0 in values.shape[:2] or values.shape[2] < 2:
        raise ConfigError(
            given="{} prompts, {} steps, {} units".format(*values.shape),
            expected="at least one prompt, one step and two units",
            cause="a pair needs two series" if values.shape[2] == 1 else "the array is empty",
            remedy="pass an array of shape (step, unit) or (prompt, step, unit)",
        )
    return Series(values, _lengths(values), units or array_labels(values.shape[2]))


def _only_variable(dataset: xr.Dataset) -> xr.DataArray:
    names = ["activity"] if "activity" in dataset else list(map(str, dataset.data_vars))
    if len(names) != 1:
        raise ConfigError(
            given=f"a Dataset with the variables {', '.join(names) or 'none'}",
            expected="a Dataset with one variable, or a Recording",
            remedy="pass the one variable to decompose",
        )
    return dataset[names[0]]


def _labelled(array: xr.DataArray) -> tuple[Any, tuple[str, ...] | None]:
    named = [dim for dim in (PROMPT, STEP, UNIT) if dim in array.dims]
    if len(named) == array.ndim:
        array = array.transpose(*named)
    last = array.dims[-1] if array.ndim else None
    units = None
    if last in array.coords:
        units = tuple(map(str, array[last].values.tolist()))
    return array.values, units


def _numbers(series: Any) -> Float[np.ndarray, "..."]:
    """A float64 copy; tensors leave their graph and their device."""
    if "torch" in type(series).__module__.split("."):
        series = series.detach().cpu().double().numpy()
    try:
        values = np.asarray(series)
    except ValueError as error:
        raise _not_numbers("rows of different lengths") from error
    if values.dtype.kind == "O" or values.dtype.kind not in "fiub":
        raise _not_numbers(f"values of type {values.dtype}")
    return values.astype(np.float64)


def _not_numbers(given: str) -> ConfigError:
    return ConfigError(
        given=given,
        expected="an array of real numbers",
        cause="text, complex numbers, missing values or ragged rows",
        remedy="pass a rectangular array of numbers; NaN marks padding at the end of a prompt",
    )


def _lengths(values: np.ndarray) -> np.ndarray:
    """Steps of each prompt up to the last at which any unit has a value."""
    present = ~np.isnan(values).all(axis=2)
    lengths = values.shape[1] - np.argmax(present[:, ::-1], axis=1)
    # All-NaN prompts are nonfinite, not empty.
    return np.where(present.any(axis=1), lengths, values.shape[1])

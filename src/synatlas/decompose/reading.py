"""Reading time series of any kind: arrays, lists, tensors and labelled arrays."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from synatlas.axes import PROMPT, STEP, UNIT, array_labels
from synatlas.errors import ConfigError


class Series(NamedTuple):
    """Checked input: float64 values, true lengths, labels of the units and of the prompts.

    `prompts` is None where the input has no prompts, only (step, unit).
    """

    values: Float[np.ndarray, "prompt step unit"]
    n_steps: Int[np.ndarray, " prompt"]
    units: tuple[str, ...]
    prompts: tuple[str, ...] | None


def read_series(series: Any) -> Series:
    """Any array of (step, unit) or (prompt, step, unit) as float64, its padding found."""
    units: tuple[str, ...] | None = None
    prompts: tuple[str, ...] | None = None
    if isinstance(series, xr.Dataset):
        series = _only_variable(series)
    if isinstance(series, xr.DataArray):
        series, units, prompts = _labelled(series)
    values = numbers(series)
    if values.ndim == 3:
        prompts = prompts or tuple(f"p{i:03d}" for i in range(values.shape[0]))
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
    return Series(values, _lengths(values), units or array_labels(values.shape[2]), prompts)


def _only_variable(dataset: xr.Dataset) -> xr.DataArray:
    names = ["activity"] if "activity" in dataset else list(map(str, dataset.data_vars))
    if len(names) != 1:
        raise ConfigError(
            given=f"a Dataset with the variables {', '.join(names) or 'none'}",
            expected="a Dataset with one variable, or a Recording",
            remedy="pass the one variable to decompose",
        )
    return dataset[names[0]]


class _Labelled(NamedTuple):
    values: Any
    units: tuple[str, ...] | None
    prompts: tuple[str, ...] | None


def _labelled(array: xr.DataArray) -> _Labelled:
    named = [dim for dim in (PROMPT, STEP, UNIT) if dim in array.dims]
    if len(named) == array.ndim:
        array = array.transpose(*named)
    units = _names(array, -1) if array.ndim else None
    prompts = _names(array, 0) if array.ndim == 3 else None
    return _Labelled(array.values, units, prompts)


def _names(array: xr.DataArray, axis: int) -> tuple[str, ...] | None:
    dim = array.dims[axis]
    return tuple(map(str, array[dim].values.tolist())) if dim in array.coords else None


def numbers(series: Any) -> Float[np.ndarray, "..."]:
    """A float64 copy; tensors leave their graph and their device."""
    if "torch" in type(series).__module__.split("."):
        series = series.detach().cpu().double().numpy()
    try:
        values = np.asarray(series)
    except ValueError as error:
        raise _not_numbers("rows of different lengths") from error
    if values.dtype.kind == "O" or values.dtype.kind not in "fiub":
        raise _not_numbers(f"values of type {values.dtype}")
    # One layout, so that sums are taken in one order: results do not depend on the container.
    return values.astype(np.float64, order="C", copy=True)


def _not_numbers(given: str) -> ConfigError:
    return ConfigError(
        given=given,
        expected="an array of real numbers",
        cause="text, complex numbers, missing values or ragged rows",
        remedy="pass a rectangular array of numbers; NaN marks padding at the end of a prompt",
    )


def _lengths(values: np.ndarray) -> np.ndarray:
    """Steps of each prompt up to the last at which any unit has a value."""
    if not np.isnan(values[:, -1]).all(axis=1).any():
        return np.full(values.shape[0], values.shape[1])
    present = np.logical_not(np.isnan(values).all(axis=2))
    lengths = values.shape[1] - np.argmax(present[:, ::-1], axis=1)
    # All-NaN prompts are nonfinite, not empty.
    return np.where(present.any(axis=1), lengths, values.shape[1])


def read_tuples(
    tuples: Sequence[Any], units: tuple[str, ...], *, size: int
) -> Int[np.ndarray, "tuple {size}"]:
    """Positions of the units of each tuple, which may be named by label or by position."""
    place = {name: i for i, name in enumerate(units)}
    found = [_read_tuple(one, place, size) for one in tuples]
    if not found:
        raise _bad_tuple("an empty list", size, "it names no units")
    return np.array(found)


def _read_tuple(one: Any, place: Mapping[str, int], size: int) -> tuple[int, ...]:
    if isinstance(one, str) or not isinstance(one, Sequence) or len(one) != size:
        raise _bad_tuple(repr(one), size, f"it is not {size} units")
    found = tuple(_read_unit(unit, place, size) for unit in one)
    if len(set(found)) < size:
        raise _bad_tuple(repr(one), size, "a unit comes twice")
    return found


def _read_unit(unit: Any, place: Mapping[str, int], size: int) -> int:
    if isinstance(unit, str):
        if unit in place:
            return place[unit]
    elif (
        isinstance(unit, int | np.integer) and not isinstance(unit, bool) and 0 <= unit < len(place)
    ):
        return int(unit)
    names = list(place)
    known = f"units are {names[0]} to {names[-1]}, or 0 to {len(names) - 1}"
    raise _bad_tuple(f"unit {unit!r}", size, known)


def _bad_tuple(given: str, size: int, cause: str) -> ConfigError:
    what = {2: "pairs", 3: "triplets"}[size]
    return ConfigError(
        given=given,
        expected=f"{what} of different units, by label or by position",
        cause=cause,
        remedy=f"pass for example {what}=[{tuple(range(size))}], or None for all {what}",
    )

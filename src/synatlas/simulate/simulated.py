"""What every generator returns, and the linear recursion that all of them share."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from synatlas.axes import PROMPT, STEP, UNIT, unit_label
from synatlas.errors import ConfigError

#: A seed or a generator, as `numpy.random.default_rng` takes it.
Seed = int | np.random.Generator


def simulated(
    activity: Float[np.ndarray, "prompt step unit"],
    *,
    layer: Int[np.ndarray, " unit"],
    truth: Bool[np.ndarray, " unit"] | None = None,
    settings: Mapping[str, Any],
) -> xr.Dataset:
    """Dataset of simulated series.

    Parameters
    ----------
    activity : the series, in no unit.
    layer : layer of every unit, from 0; units of a layer stand together.
    truth : whether a unit's future depends on the past of others; none does where left out.
    settings : what was simulated: numbers, words and arrays of numbers.

    Returns
    -------
    xarray.Dataset
        ``activity(prompt, step, unit)``, ``truth(unit)``; coordinates ``layer(unit)`` and labels
        of prompts and units; `settings` as attributes. :func:`synatlas.phiid` takes it as it is.
    """
    prompts, _, units = activity.shape
    first = np.searchsorted(layer, layer, side="left")
    labels = [
        unit_label(int(k), int(i)) for k, i in zip(layer, np.arange(units) - first, strict=True)
    ]
    return xr.Dataset(
        {
            "activity": ((PROMPT, STEP, UNIT), activity),
            "truth": (UNIT, np.zeros(units, dtype=bool) if truth is None else truth),
        },
        coords={
            PROMPT: [f"p{k:04d}" for k in range(prompts)],
            UNIT: labels,
            "layer": (UNIT, layer),
        },
        attrs=dict(settings),
    )


def layers_of(units: int, heads: int) -> Int[np.ndarray, " unit"]:
    """Layer of each unit, `heads` to a layer."""
    return np.arange(units) // heads


def memories(rho: ArrayLike, prompts: int) -> Float[np.ndarray, "prompt unit"]:
    """Autoregressive coefficients of every prompt, or a :class:`ConfigError`."""
    values = np.asarray(rho, dtype=np.float64)
    if values.ndim not in (1, 2) or not (np.abs(values) < 1).all():
        raise ConfigError(
            given=f"rho of shape {values.shape}, values up to {np.abs(values).max(initial=0):.3g}",
            expected="(unit,) or (prompt, unit) values between -1 and 1",
            cause="a coefficient of 1 or more has no stationary series",
            remedy="pass one coefficient per unit",
        )
    return np.broadcast_to(values, (prompts, values.shape[-1]))


def autoregression(
    rho: Float[np.ndarray, "prompt unit"], noise: Float[np.ndarray, "prompt step unit"]
) -> Float[np.ndarray, "prompt step unit"]:
    """x[0] = e[0], x[t] = rho x[t-1] + sqrt(1 - rho²) e[t]: of variance 1 where `noise` is.

    It is stationary from the first step where `noise` is uncorrelated over units.
    """
    gain = np.sqrt(1 - rho**2)
    values = np.empty(noise.shape)
    values[:, 0] = noise[:, 0]
    for t in range(1, noise.shape[1]):
        values[:, t] = rho * values[:, t - 1] + gain * noise[:, t]
    return values


def stationary(
    matrix: Float[np.ndarray, "unit unit"],
    covariance: Float[np.ndarray, "unit unit"],
    *,
    prompts: int,
    steps: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "prompt step unit"]:
    """x[t] = A x[t-1] + e[t], Gaussian, with `covariance` C at every step from the first.

    The innovations have the covariance C - A C A', which must be positive definite; A is then
    stable (Lyapunov).
    """
    start = np.linalg.cholesky(covariance)
    shock = np.linalg.cholesky(innovation_covariance(matrix, covariance))
    values = rng.standard_normal((prompts, steps, matrix.shape[0]))
    values[:, 0] = values[:, 0] @ start.T
    values[:, 1:] = values[:, 1:] @ shock.T
    for t in range(1, steps):
        values[:, t] += values[:, t - 1] @ matrix.T
    return values


def innovation_covariance(
    matrix: Float[np.ndarray, "unit unit"], covariance: Float[np.ndarray, "unit unit"]
) -> Float[np.ndarray, "unit unit"]:
    """C - A C A', or a :class:`ConfigError` where no series has this covariance."""
    least = least_variance(matrix, covariance)
    if least <= 0:
        raise ConfigError(
            given=f"a coupling that leaves innovations of variance {least:.3g}",
            expected="a positive variance in every direction",
            cause="memory, coupling and same-step correlation exclude each other",
            remedy="lower one of them",
        )
    return _left(matrix, covariance)


def least_variance(
    matrix: Float[np.ndarray, "unit unit"], covariance: Float[np.ndarray, "unit unit"]
) -> float:
    """Least variance over directions of C - A C A'."""
    return float(np.linalg.eigvalsh(_left(matrix, covariance))[0])


def _left(matrix: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    left = covariance - matrix @ covariance @ matrix.T
    return (left + left.T) / 2

"""Series without lagged coupling: each is a confound that a score or null may take for it.

Every generator gives series of unit variance before what it adds, and `truth` False everywhere.
`rho` are autoregressive coefficients: the correlation of a series with itself one step later,
its self-information is -1/2 ln(1 - rho²).
"""

from typing import Final

import numpy as np
import xarray as xr
from jaxtyping import Float
from numpy.typing import ArrayLike

from synatlas.errors import ConfigError
from synatlas.simulate.simulated import (
    Seed,
    autoregression,
    layers_of,
    memories,
    simulated,
    stationary,
)


def independent_ar(
    rho: ArrayLike, *, prompts: int = 60, steps: int = 100, heads: int = 8, seed: Seed = 0
) -> xr.Dataset:
    """Independent stationary AR(1) series: ``x[t] = rho x[t-1] + sqrt(1 - rho²) e[t]``.

    Parameters
    ----------
    rho : (unit,) or (prompt, unit) coefficients between -1 and 1.
    prompts, steps : size.
    heads : units to a layer.
    seed : a number, or a generator that is advanced.

    Returns
    -------
    xarray.Dataset
        See :func:`synatlas.simulate.simulated.simulated`.

    Raises
    ------
    ConfigError
        A coefficient is 1 or more, or `rho` has no such shape.
    """
    own = memories(rho, prompts)
    activity = _independent(own, steps, np.random.default_rng(seed))
    return _uncoupled(activity, heads, "independent_ar", rho=own[0])


def ar_per_prompt(
    units: int,
    *,
    low: float = 0.2,
    high: float = 0.6,
    prompts: int = 60,
    steps: int = 100,
    heads: int = 8,
    seed: Seed = 0,
) -> xr.Dataset:
    """Independent AR(1) series whose coefficient varies over prompts, one for all units.

    rho is uniform in [low, high]. Other parameters as :func:`independent_ar`. Pairing units of
    different prompts pairs unequal memories, and synergy under MMI is twice the smaller one.
    """
    rng = np.random.default_rng(seed)
    own = memories(np.repeat(rng.uniform(low, high, (prompts, 1)), units, axis=1), prompts)
    activity = _independent(own, steps, rng)
    return _uncoupled(activity, heads, "ar_per_prompt", low=low, high=high)


def shared_drift(
    rho: ArrayLike,
    *,
    shape: str = "linear",
    size: float = 1.0,
    prompts: int = 60,
    steps: int = 100,
    heads: int = 8,
    seed: Seed = 0,
) -> xr.Dataset:
    """Independent AR(1) series plus a slow drift that all units of a prompt share.

    Parameters
    ----------
    shape : ``"linear"``: a line with a slope drawn for the prompt; ``"walk"``: a random walk.
    size : standard deviation of the drift, over steps and prompts, beside series of 1.
    rho, prompts, steps, heads, seed : as :func:`independent_ar`.

    Raises
    ------
    ConfigError
        Unknown `shape`, or as :func:`independent_ar`.
    """
    if shape not in DRIFTS:
        raise ConfigError(
            given=f"shape {shape!r}", expected=f"one of {', '.join(DRIFTS)}", remedy="pass one"
        )
    rng = np.random.default_rng(seed)
    own = memories(rho, prompts)
    drift = size * DRIFTS[shape](prompts, steps, rng)
    activity = _independent(own, steps, rng) + drift[:, :, None]
    return _uncoupled(activity, heads, "shared_drift", rho=own[0], shape=shape, size=size)


def onset(
    rho: ArrayLike,
    *,
    size: float = 3.0,
    decay: float = 10.0,
    prompts: int = 60,
    steps: int = 100,
    heads: int = 8,
    seed: Seed = 0,
) -> xr.Dataset:
    """Independent AR(1) series plus a transient at the start of every prompt.

    ``size * exp(-t / decay)`` times a factor of the unit, uniform in [0.5, 1.5], the same in
    every prompt. Other parameters as :func:`independent_ar`.
    """
    rng = np.random.default_rng(seed)
    own = memories(rho, prompts)
    transient = np.outer(np.exp(-np.arange(steps) / decay), rng.uniform(0.5, 1.5, own.shape[1]))
    activity = _independent(own, steps, rng) + size * transient
    return _uncoupled(activity, heads, "onset", rho=own[0], size=size, decay=decay)


def linear_trend(
    rho: ArrayLike,
    *,
    size: float = 1.0,
    prompts: int = 60,
    steps: int = 100,
    heads: int = 8,
    seed: Seed = 0,
) -> xr.Dataset:
    """Independent AR(1) series plus a straight line over steps, the same in every prompt.

    `size` is the line's standard deviation over steps; each unit has it times a normal number.
    Other parameters as :func:`independent_ar`.
    """
    rng = np.random.default_rng(seed)
    own = memories(rho, prompts)
    trend = np.outer(_line(steps), rng.standard_normal(own.shape[1]))
    activity = _independent(own, steps, rng) + size * trend
    return _uncoupled(activity, heads, "linear_trend", rho=own[0], size=size)


def same_step_correlated(
    rho: ArrayLike,
    *,
    correlation: float = 0.3,
    prompts: int = 60,
    steps: int = 100,
    heads: int = 8,
    seed: Seed = 0,
) -> xr.Dataset:
    """AR(1) series whose innovations of one step correlate; no past of another matters.

    Series i and j then correlate by ``correlation * sqrt((1 - rho_i²)(1 - rho_j²)) /
    (1 - rho_i rho_j)`` at the same step, and by rho_j times that from i to j one step later: the
    ``same_step`` null is exactly true. Stationary from the first step.

    Parameters
    ----------
    rho : (unit,) coefficients.
    correlation : of any two units' innovations, 0 to below 1.
    prompts, steps, heads, seed : as :func:`independent_ar`.

    Raises
    ------
    ConfigError
        The correlation has no such value, or as :func:`independent_ar`.
    """
    own = memories(rho, 1)[0]
    if not 0 <= correlation < 1:
        raise ConfigError(
            given=f"correlation {correlation!r}",
            expected="0 or more, below 1",
            remedy="pass the correlation of two innovations of one step",
        )
    covariance = same_step_covariance(own, correlation)
    rng = np.random.default_rng(seed)
    activity = stationary(np.diag(own), covariance, prompts=prompts, steps=steps, rng=rng)
    return _uncoupled(activity, heads, "same_step_correlated", rho=own, correlation=correlation)


def same_step_covariance(
    rho: Float[np.ndarray, " unit"], correlation: float
) -> Float[np.ndarray, "unit unit"]:
    """Population covariance, variances 1, of the series of :func:`same_step_correlated`."""
    gain = np.sqrt(1 - rho**2)
    covariance = correlation * np.outer(gain, gain) / (1 - np.outer(rho, rho))
    np.fill_diagonal(covariance, 1.0)
    return covariance


def common_drive(
    rho: ArrayLike,
    *,
    drive_rho: float = 0.8,
    loading: float | ArrayLike = 0.5,
    prompts: int = 60,
    steps: int = 100,
    heads: int = 8,
    seed: Seed = 0,
) -> xr.Dataset:
    """AR(1) series plus one hidden AR(1) series of each prompt, seen by all units at once.

    ``y = sqrt(1 - loading²) x + loading z``. No unit acts on another, but each sees the drive's
    past through the others: lagged correlation that the ``same_step`` null does not hold, unless
    `drive_rho` equals every rho.

    Parameters
    ----------
    drive_rho : coefficient of the drive z.
    loading : one number or (unit,), between -1 and 1.
    rho, prompts, steps, heads, seed : as :func:`independent_ar`.

    Raises
    ------
    ConfigError
        A loading or a coefficient is out of range.
    """
    weight = np.asarray(loading, dtype=np.float64)
    if not (np.abs(weight) <= 1).all():
        raise ConfigError(
            given=f"loading up to {np.abs(weight).max():.3g}",
            expected="-1 to 1, so that the variance stays 1",
            remedy="pass a smaller loading",
        )
    rng = np.random.default_rng(seed)
    own = memories(rho, prompts)
    drive = _independent(memories([drive_rho], prompts), steps, rng)
    activity = np.sqrt(1 - weight**2) * _independent(own, steps, rng) + weight * drive
    return _uncoupled(
        activity, heads, "common_drive", rho=own[0], drive_rho=drive_rho, loading=weight
    )


def noisy_copies(
    rho: ArrayLike,
    *,
    copies: int = 3,
    noise: float = 0.5,
    delay: int = 0,
    prompts: int = 60,
    steps: int = 100,
    heads: int = 8,
    seed: Seed = 0,
) -> xr.Dataset:
    """Each AR(1) series followed by `copies` of it with white noise of their own: redundancy.

    ``copy[t] = (x[t - delay] + noise e[t]) / sqrt(1 + noise²)``.

    Parameters
    ----------
    rho : (original,) coefficients; there are ``len(rho) * (1 + copies)`` units.
    copies : copies of each original.
    noise : standard deviation of a copy's noise beside a signal of 1.
    delay : steps by which copies lag; with 1 or more the original's past predicts them, a
        lagged dependence that is transfer and no synergy.
    prompts, steps, heads, seed : as :func:`independent_ar`.
    """
    rng = np.random.default_rng(seed)
    own = memories(rho, prompts)
    signal = _independent(own, steps + delay, rng)
    original = signal[:, delay:, :, None]
    shape = (prompts, steps, own.shape[1], copies)
    late = (signal[:, :steps, :, None] + noise * rng.standard_normal(shape)) / np.hypot(1, noise)
    activity = np.concatenate([original, late], axis=3).reshape(prompts, steps, -1)
    return _uncoupled(
        activity, heads, "noisy_copies", rho=own[0], copies=copies, noise=noise, delay=delay
    )


def _independent(
    rho: Float[np.ndarray, "prompt unit"], steps: int, rng: np.random.Generator
) -> Float[np.ndarray, "prompt step unit"]:
    prompts, units = rho.shape
    return autoregression(rho, rng.standard_normal((prompts, steps, units)))


def _uncoupled(activity: np.ndarray, heads: int, generator: str, **settings: object) -> xr.Dataset:
    return simulated(
        activity,
        layer=layers_of(activity.shape[2], heads),
        settings={"generator": generator, **settings},
    )


def _line(steps: int) -> Float[np.ndarray, " step"]:
    line = np.arange(steps) - (steps - 1) / 2
    return line / max(float(line.std()), 1.0 / steps)


def _linear(prompts: int, steps: int, rng: np.random.Generator) -> Float[np.ndarray, "prompt step"]:
    return np.outer(rng.standard_normal(prompts), _line(steps))


def _walk(prompts: int, steps: int, rng: np.random.Generator) -> Float[np.ndarray, "prompt step"]:
    walk = np.cumsum(rng.standard_normal((prompts, steps)), axis=1)
    return walk / np.sqrt((steps + 1) / 2)


#: Drifts of unit variance by name.
DRIFTS: Final = {"linear": _linear, "walk": _walk}

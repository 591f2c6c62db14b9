"""Lagged windows: every series as a standardised past and future, with what is wrong with it."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from jaxtyping import Float, Int8

from synatlas.decompose.atoms import STATUS

#: Word -> value of `status`.
CODE: Final = MappingProxyType({word: code for code, word in STATUS.items()})

#: Fewest lagged samples: four variables and their mean leave no degree of freedom below this.
LEAST_SAMPLES: Final = 5

# Rounding of a mean and of differences, in units of the last place.
_ROUNDING = 16 * np.finfo(np.float64).eps


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Past and future of every series of prompts of one length.

    Parameters
    ----------
    values : each window minus its mean, divided by its norm; 0 where `reason` is not 0. The two
        entries of `window` are past and future.
    self_correlation : correlation of past and future of one series, NaN where it is not defined.
    self_information : -1/2 ln(1 - self_correlation²), nats.
    reason : 0, or the `status` that keeps the series out of every pair.
    resolution : rounding of `values`, as the norm of an error: residuals below it are noise.
    """

    values: Float[np.ndarray, "prompt window unit sample"]
    self_correlation: Float[np.ndarray, "prompt unit"]
    self_information: Float[np.ndarray, "prompt unit"]
    reason: Int8[np.ndarray, "prompt unit"]
    resolution: Float[np.ndarray, "prompt unit"]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Prompts, units, samples."""
        prompts, _, units, samples = self.values.shape
        return prompts, units, samples

    def take(self, prompts: np.ndarray) -> "Windows":
        """The same windows with prompts in the order given."""
        return Windows(
            values=self.values[prompts],
            self_correlation=self.self_correlation[prompts],
            self_information=self.self_information[prompts],
            reason=self.reason[prompts],
            resolution=self.resolution[prompts],
        )


def standardise(series: Float[np.ndarray, "prompt step unit"], lag: int) -> Windows:
    """Cut each series into past ``[:-lag]`` and future ``[lag:]`` and standardise each by itself.

    A series is nonfinite where any step is; constant where a window varies by no more than the
    rounding of its largest value; deterministic where its future is a straight function of its
    past, which makes its self-information infinite.
    """
    prompts, steps, units = series.shape
    samples = steps - lag
    if samples < LEAST_SAMPLES:
        return _too_short(prompts, units, max(samples, 0))
    # Steps last and contiguous: every pass below is along them.
    rows = np.ascontiguousarray(series.transpose(0, 2, 1), dtype=np.float64)
    # NaN and infinity pass through both extremes.
    size = np.maximum(rows.max(axis=-1), -rows.min(axis=-1))
    finite = np.isfinite(size)
    if not finite.all():
        rows, size = np.where(finite[:, :, None], rows, 0.0), np.where(finite, size, 0.0)
    # Squares of values beyond 1e150 overflow; a power of two changes no digit.
    power = np.exp2(-np.clip(np.frexp(size)[1], -1000, 1000))[:, :, None]
    values = np.empty((prompts, 2, units, samples))
    np.multiply(rows[:, :, :samples], power, out=values[:, 0])
    np.multiply(rows[:, :, lag:], power, out=values[:, 1])
    values -= values.mean(axis=-1, keepdims=True)
    # The second pass takes off what rounding of a large mean left.
    values -= values.mean(axis=-1, keepdims=True)
    norm = np.sqrt(np.einsum("pwus,pwus->pwu", values, values))
    floor = _ROUNDING * np.sqrt(samples)
    constant = (norm <= floor).any(axis=1)
    reason = np.where(constant, CODE["constant"], 0)
    reason = np.where(finite, reason, CODE["nonfinite"]).astype(np.int8)
    scale = np.where((reason != 0)[:, None, :], np.inf, norm)
    values /= scale[..., None]
    resolution = np.where(reason != 0, np.inf, floor / scale.min(axis=1))
    return with_self_information(values, reason, resolution)


def with_self_information(
    values: Float[np.ndarray, "prompt window unit sample"],
    reason: Int8[np.ndarray, "prompt unit"],
    resolution: Float[np.ndarray, "prompt unit"],
) -> Windows:
    """Windows of standardised values, which are set to 0 in place where a series is undefined."""
    past, future = values[:, 0], values[:, 1]
    r = np.einsum("pus,pus->pu", past, future)
    # The residual keeps the digits that 1 - r² loses when r is near 1.
    unexplained = _residual_square(past, future, r)
    lost = (unexplained <= resolution**2) & (reason == 0)
    reason = np.where(lost, CODE["deterministic"], reason).astype(np.int8)
    bad = reason != 0
    if bad.any():
        values[np.broadcast_to(bad[:, None, :], values.shape[:3])] = 0.0
    return Windows(
        values=values,
        self_correlation=np.where(bad, np.nan, r),
        self_information=np.where(bad, np.nan, -0.5 * np.log(np.where(bad, 1.0, unexplained))),
        reason=reason,
        resolution=resolution,
    )


def _residual_square(past: np.ndarray, future: np.ndarray, r: np.ndarray) -> np.ndarray:
    square = (1 - r) * (1 + r)
    near = square < 1e-3
    if near.any():
        residual = future[near] - r[near][:, None] * past[near]
        square[near] = np.einsum("is,is->i", residual, residual)
    return square


def _too_short(prompts: int, units: int, samples: int) -> Windows:
    undefined = np.full((prompts, units), np.nan)
    return Windows(
        values=np.zeros((prompts, 2, units, samples)),
        self_correlation=undefined,
        self_information=undefined,
        reason=np.full((prompts, units), CODE["too_short"], dtype=np.int8),
        resolution=np.full((prompts, units), np.inf),
    )


def gaussian_self_information(
    values: Float[np.ndarray, "prompt window unit sample"],
) -> Float[np.ndarray, "prompt unit"]:
    """-1/2 ln(1 - r²) of each past with its future, in nats; 0 for windows that are 0."""
    r = np.einsum("pus,pus->pu", values[:, 0], values[:, 1])
    return -0.5 * np.log1p(-(r**2))

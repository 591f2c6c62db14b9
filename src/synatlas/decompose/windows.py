"""Lagged windows: every series as a standardised past and future, with what is wrong with it."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float, Int8

from synatlas.decompose.atoms import STATUS

#: Word -> value of `status`.
CODE: Final = MappingProxyType({word: code for code, word in STATUS.items()})

#: Fewest lagged samples: four variables and their mean leave no degree of freedom below this.
LEAST_SAMPLES: Final = 5

#: Numbers at a time.
_TOGETHER: Final = 32_768

#: Powers of two beyond which squares of differences are not safe.
_EXPONENT: Final = 300

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
    out = Windows(
        values=np.empty((prompts, 2, units, samples)),
        self_correlation=np.empty((prompts, units)),
        self_information=np.empty((prompts, units)),
        reason=np.empty((prompts, units), dtype=np.int8),
        resolution=np.empty((prompts, units)),
    )
    for part in _parts(prompts, units, steps):
        _standardise(series, lag, out, part)
    return out


class _Part(NamedTuple):
    """Some prompts and units."""

    prompts: slice
    units: slice


def _parts(prompts: int, units: int, steps: int) -> Iterator[_Part]:
    """Parts of which every pass stays in a second-level cache."""
    many = max(1, _TOGETHER // steps)
    for unit in range(0, units, many):
        some = slice(unit, min(unit + many, units))
        deep = max(1, many // (some.stop - some.start))
        for prompt in range(0, prompts, deep):
            yield _Part(slice(prompt, min(prompt + deep, prompts)), some)


def _standardise(series: np.ndarray, lag: int, out: Windows, part: _Part) -> None:
    """Write the windows of one part."""
    here = (part.prompts, part.units)
    # Steps last and contiguous: every pass below is along them.
    rows = series[part.prompts, :, part.units].transpose(0, 2, 1)
    rows = np.ascontiguousarray(rows, dtype=np.float64)
    # NaN and infinity pass through both extremes.
    size = np.maximum(rows.max(axis=-1), -rows.min(axis=-1))
    finite = np.isfinite(size)
    if not finite.all():
        rows, size = np.where(finite[:, :, None], rows, 0.0), np.where(finite, size, 0.0)
    exponent = np.frexp(size)[1]
    if np.abs(exponent).max() > _EXPONENT:
        # Squares overflow or vanish; a power of two changes no digit.
        power = np.exp2(-np.clip(exponent, -1000, 1000))
        rows, exponent = rows * power[:, :, None], np.zeros_like(exponent)
    samples = out.shape[2]
    values = out.values[part.prompts, :, part.units]
    mean = np.full(samples, 1 / samples)
    for window, first in enumerate((0, lag)):
        cut = rows[:, :, first : first + samples]
        np.subtract(cut, (cut @ mean)[:, :, None], out=values[:, window])
    # The second pass takes off what rounding of a large mean left.
    values -= (values @ mean)[..., None]
    norm = np.sqrt(np.einsum("pwus,pwus->pwu", values, values))
    floor = np.ldexp(_ROUNDING * np.sqrt(samples), exponent)
    reason = np.where((norm <= floor[:, None]).any(axis=1), CODE["constant"], 0)
    reason = np.where(finite, reason, CODE["nonfinite"]).astype(np.int8)
    scale = np.where((reason != 0)[:, None, :], np.inf, norm)
    values *= (1 / scale)[..., None]
    out.resolution[here] = np.where(reason != 0, np.inf, floor / scale.min(axis=1))
    out.self_correlation[here], out.self_information[here], out.reason[here] = _own(
        values, reason, out.resolution[here]
    )


class _Own(NamedTuple):
    """What a series' past says about its own future, NaN where undefined, and the reason."""

    correlation: np.ndarray
    information: np.ndarray
    reason: np.ndarray


def _own(values: np.ndarray, reason: np.ndarray, resolution: np.ndarray) -> _Own:
    """Correlation and information; values of undefined series are set to 0 in place."""
    past, future = values[:, 0], values[:, 1]
    r = np.einsum("pus,pus->pu", past, future)
    # The residual keeps the digits that 1 - r² loses when r is near 1.
    unexplained = _residual_square(past, future, r)
    lost = (unexplained <= resolution**2) & (reason == 0)
    reason = np.where(lost, CODE["deterministic"], reason).astype(np.int8)
    bad = reason != 0
    if bad.any():
        values[np.broadcast_to(bad[:, None, :], values.shape[:3])] = 0.0
    information = -0.5 * np.log(np.where(bad, 1.0, unexplained))
    return _Own(np.where(bad, np.nan, r), np.where(bad, np.nan, information), reason)


def with_self_information(
    values: Float[np.ndarray, "prompt window unit sample"],
    reason: Int8[np.ndarray, "prompt unit"],
    resolution: Float[np.ndarray, "prompt unit"],
) -> Windows:
    """Windows of standardised values, which are set to 0 in place where a series is undefined."""
    own = _own(values, reason, resolution)
    return Windows(
        values=values,
        self_correlation=own.correlation,
        self_information=own.information,
        reason=own.reason,
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

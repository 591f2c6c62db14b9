"""Columns: every series standardised as it stands, for measures of one time or of a target."""

from collections.abc import Callable
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float, Int8

from synatlas.decompose.copula import doubled_ranks, quantiles
from synatlas.decompose.windows import CODE, LEAST_SAMPLES

#: Rounding of a mean and of differences, in units of the last place.
_ROUNDING: Final = 16 * np.finfo(np.float64).eps


class Columns(NamedTuple):
    """Series minus their means, divided by their norms; 0 where `reason` is not 0.

    `resolution` is the rounding of `values`, as the norm of an error: residuals below it are
    noise.
    """

    values: Float[np.ndarray, "prompt unit sample"]
    reason: Int8[np.ndarray, "prompt unit"]
    resolution: Float[np.ndarray, "prompt unit"]


def standard_columns(series: Float[np.ndarray, "prompt step unit"]) -> Columns:
    """Standardise every series of every prompt.

    A series is nonfinite where any step is, constant where it varies by no more than the rounding
    of its largest value, and too short below five samples.
    """
    rows = np.ascontiguousarray(series.transpose(0, 2, 1), dtype=np.float64)
    prompts, units, samples = rows.shape
    if samples < LEAST_SAMPLES:
        reason = np.full((prompts, units), CODE["too_short"], dtype=np.int8)
        return Columns(np.zeros(rows.shape), reason, np.full(reason.shape, np.inf))
    finite = np.logical_and.reduce(np.isfinite(rows), axis=-1)
    rows = np.where(finite[..., None], rows, 0.0)
    # Squares of values beyond 1e150 overflow; a power of two changes no digit.
    size = np.abs(rows).max(axis=-1, keepdims=True)
    rows *= np.exp2(-np.clip(np.frexp(size)[1], -1000, 1000))
    rows -= rows.mean(axis=-1, keepdims=True)
    # The second pass takes off what rounding of a large mean left.
    rows -= rows.mean(axis=-1, keepdims=True)
    norm = np.sqrt(np.einsum("pus,pus->pu", rows, rows))
    floor = _ROUNDING * np.sqrt(samples)
    reason = np.where(norm <= floor, CODE["constant"], CODE["ok"])
    reason = np.where(finite, reason, CODE["nonfinite"]).astype(np.int8)
    scale = np.where(reason == CODE["ok"], norm, np.inf)
    resolution = np.where(reason == CODE["ok"], floor / scale, np.inf)
    return Columns(rows / scale[..., None], reason, resolution)


def copula_columns(series: Float[np.ndarray, "prompt step unit"]) -> Columns:
    """The same of the normal scores of ranks, as :func:`synatlas.decompose.copula.normal_scores`.

    A series is constant, too, where fewer than five samples differ from its most frequent value.
    """
    plain = standard_columns(series)
    samples = plain.values.shape[2]
    if samples < LEAST_SAMPLES:
        return plain
    fine = (plain.reason == CODE["ok"])[..., None]
    ranks = doubled_ranks(np.where(fine, series.transpose(0, 2, 1), 0.0))
    rare = (samples - ranks.most_frequent < LEAST_SAMPLES) & fine[..., 0]
    scored = standard_columns(quantiles(samples)[ranks.doubled].transpose(0, 2, 1))
    reason = np.where(rare, CODE["constant"], plain.reason).astype(np.int8)
    values = np.where((reason == CODE["ok"])[..., None], scored.values, 0.0)
    return Columns(values, reason, np.where(reason == CODE["ok"], scored.resolution, np.inf))


#: How series become columns, by the name of the estimator.
COLUMNS: Final[MappingProxyType[str, Callable[[np.ndarray], Columns]]] = MappingProxyType(
    {"gaussian": standard_columns, "copula": copula_columns}
)

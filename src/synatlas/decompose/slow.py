"""Slow parts of series, taken out before a null is drawn.

A null that rotates series, or takes partners from other prompts, keeps each series' own slow part
but not that two slow parts run side by side. Onsets and straight lines, which any two series may
share for no better reason than that both begin, would then look like coupling.
"""

import numpy as np
from jaxtyping import Float

from synatlas.decompose.groups import Group
from synatlas.decompose.regression import basis_within, residual_within

#: Series of prompts of one length.
Block = Float[np.ndarray, "prompt step unit"]

#: Decay of an onset, as a share of the series.
ONSET = 0.05

#: Residuals below this share of the series are rounding: the series was its slow part.
_ROUNDING = 1e-12


def as_they_are(groups: list[Group]) -> list[Block]:
    """The series themselves."""
    return [group.series for group in groups]


def without_line(groups: list[Group]) -> list[Block]:
    """What is left of each series off a straight line over steps."""
    return [_off(group.series, _line(group.series.shape[1])) for group in groups]


def without_prompt_mean(groups: list[Group]) -> list[Block]:
    """Subtract, at each step, the unit's mean over prompts.

    Steps that only one prompt reaches lose the unit's mean over everything instead. One prompt
    alone has no such mean: it loses a straight line and an onset, exp(-step / 5 % of the steps).
    A series that is constant in its prompt stays so, and no other loses it.
    """
    if sum(group.prompts.size for group in groups) < 2:
        series = groups[0].series
        steps = series.shape[1]
        onset = np.exp(-np.arange(steps) / (ONSET * steps))[:, None]
        return [_off(series, np.concatenate([_line(steps), onset], axis=1))]
    values = _padded(groups)
    finite = np.isfinite(values)
    some = np.where(finite, values, values[:, :1])
    constant = (some == values[:, :1]).all(axis=1, keepdims=True)
    used = finite & ~constant
    count = used.sum(axis=0)
    sums = np.where(used, values, 0.0).sum(axis=0)
    overall = sums.sum(axis=0) / np.maximum(count.sum(axis=0), 1)
    mean = np.where(count > 1, sums / np.maximum(count, 1), overall)
    left = np.where(constant & finite, 0.0, values - mean)
    return [left[group.prompts, : group.series.shape[1]] for group in groups]


def _line(steps: int) -> Float[np.ndarray, "step one"]:
    return np.arange(steps, dtype=np.float64)[:, None]


def _padded(groups: list[Group]) -> Block:
    longest = max(group.series.shape[1] for group in groups)
    count = sum(group.prompts.size for group in groups)
    values = np.full((count, longest, groups[0].series.shape[2]), np.nan)
    for group in groups:
        values[group.prompts, : group.series.shape[1]] = group.series
    return values


def _off(series: Block, regressors: Float[np.ndarray, "step column"]) -> Block:
    with np.errstate(invalid="ignore", over="ignore"):
        basis = basis_within(regressors[None], np.array([len(regressors)]))
        columns = np.broadcast_to(basis.columns, (len(series), *basis.columns.shape[1:]))
        left = residual_within(series, columns)
        size = np.abs(series).max(axis=1, keepdims=True)
        return np.where(np.abs(left).max(axis=1, keepdims=True) <= _ROUNDING * size, 0.0, left)

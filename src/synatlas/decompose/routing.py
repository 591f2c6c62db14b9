"""Routed units: series of an expert that a router passes by at most steps of a prompt.

Where it is not routed an expert's activity is 0, and a series with next to nothing else is no
estimate of anything: two experts that are each routed once, at the same step, correlate by 1. A
series of a prompt that is routed at fewer than :data:`LEAST_SAMPLES` steps of its past, or of its
future, counts as constant in that prompt, by every estimator.
"""

from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float

from synatlas.decompose.windows import LEAST_SAMPLES


class Routing(NamedTuple):
    """How often routed units were computed.

    Parameters
    ----------
    units : units that some token passed by.
    never : those that no token of any prompt was routed to.
    series : series (prompt, unit) of these units.
    seldom : those that count as constant; 0 where activity is of every expert at every token.
    """

    units: int
    never: int
    series: int
    seldom: int


def routing_of(recording: xr.Dataset, lag: int) -> Routing | None:
    """Counts of a recording's routed units; None where it has none."""
    if "routed" not in recording:
        return None
    routed = recording["routed"].values
    passed = (routed == 0).any(axis=(0, 1))
    never = np.logical_not((routed == 1).any(axis=(0, 1)))
    seldom = seldom_routed(recording, lag)
    return Routing(
        units=int(passed.sum()),
        never=int(never.sum()),
        series=int(passed.sum()) * len(routed),
        seldom=int(seldom.sum()),
    )


def seldom_routed(recording: xr.Dataset, lag: int) -> Bool[np.ndarray, "prompt unit"]:
    """Which series are routed at too few steps of their past or of their future."""
    shape = (recording.sizes["prompt"], recording.sizes["unit"])
    if "routed" not in recording or recording.attrs.get("policy") == "dense":
        return np.zeros(shape, dtype=bool)
    routed = recording["routed"].values
    lengths = recording["n_steps"].values[:, None, None]
    step = np.arange(routed.shape[1])[None, :, None]
    computed, passed = routed == 1, (routed == 0).any(axis=1)
    past = (computed & (step < lengths - lag)).sum(axis=1)
    future = (computed & (step >= lag)).sum(axis=1)
    return passed & (np.minimum(past, future) < LEAST_SAMPLES)


def without_seldom(
    values: Float[np.ndarray, "prompt step unit"], seldom: Bool[np.ndarray, "prompt unit"]
) -> Float[np.ndarray, "prompt step unit"]:
    """Series that are seldom routed set to 0, as if they were not routed at all."""
    if not seldom.any():
        return values
    return np.where(seldom[:, None, :] & np.isfinite(values), 0.0, values)

"""Correlations pooled over prompts, their same-step null in closed form, and its bootstrap.

Pooled correlations are means over prompts of the correlations within each prompt. Under the
null, with a = r_xa and b = r_yb the memories of the two series,

    r_xb = b r_xy,   r_ya = a r_xy,   r_xy, r_ab, r_xa and r_yb as they are:

each unit's future depends on the other's past only through the same-step correlation. Pooling
comes first because the excess of a short series is biased upwards, and a mean over prompts keeps
that bias. Redundancy is MMI, which needs correlations alone.

A pair whose r_ab no uncoupled pair of series with its r_xy, r_xa and r_yb can have (innovations
would correlate beyond 1) has no such null. It is left out of observed, null and excess alike, and
counted.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from synatlas.decompose.gaussian import (
    Correlations,
    Variances,
    informations,
    minimum_information,
    variances,
)
from synatlas.decompose.lattice import SWAP, grid, moebius
from synatlas.decompose.pairs import (
    LEAST_PIVOT,
    Panel,
    add_to_units,
    chunks,
    correlations,
    pair_count,
    panels,
)
from synatlas.decompose.windows import Windows

#: Draws of signs for the null's own noise.
FLIPS: Final = 199

#: Rows of unit sums: 16 knowns and the number of defined pairs.
_COUNT = 16
_SWAPPED = np.concatenate([SWAP, [_COUNT]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooled:
    """Means over partners of pooled atoms, of their null, and of draws of the excess.

    `excess_draw` has prompts drawn with replacement, for intervals; `noise_draw` is the excess of
    the null's own noise, for p (see :func:`flipped`).
    `left_out` counts pairs without a null.
    """

    observed: Float[np.ndarray, "unit past future"]
    null: Float[np.ndarray, "unit past future"]
    excess_draw: Float[np.ndarray, "bootstrap unit past future"]
    noise_draw: Float[np.ndarray, "bootstrap unit past future"]
    left_out: int


def pool(windows: list[Windows], *, bootstraps: int, seed: int) -> Pooled:
    """Pooled atoms per unit, their same-step null, and `bootstraps` draws of prompts."""
    units = windows[0].shape[1]
    prompts = sum(group.shape[0] for group in windows)
    weights = bootstrap_weights(prompts, bootstraps, seed)
    observed, null = np.zeros((1, 17, units)), np.zeros((1, 17, units))
    excess, noise = np.zeros((bootstraps, 17, units)), np.zeros((bootstraps, 17, units))
    signs = flips(prompts, bootstraps, seed)
    for panel in panels(units):
        table = prompt_table(windows, panel)
        base = knowns(weights[:1], table)[1]
        for chunk in chunks(bootstraps + 1, panel.first.size):
            real, model = knowns(weights[chunk], table)
            drawn = slice(max(chunk.start, 1) - 1, chunk.stop - 1)
            if chunk.start == 0:
                add_to_units(observed, real[:1], panel, _SWAPPED)
                add_to_units(null, model[:1], panel, _SWAPPED)
            difference = real - model
            difference[:, _COUNT] = real[:, _COUNT]
            add_to_units(
                excess[drawn], difference[drawn.start + 1 - chunk.start :], panel, _SWAPPED
            )
            # The noise of the null, from the same null: what no coupling at all departs by.
            departed = flipped(signs[drawn], table)
            departed[:, :_COUNT] -= np.where(departed[:, _COUNT:] > 0, base[:, :_COUNT], 0.0)
            add_to_units(noise[drawn], departed, panel, _SWAPPED)
    return Pooled(
        observed=_mean(observed)[0],
        null=_mean(null)[0],
        excess_draw=_mean(excess),
        noise_draw=_mean(noise),
        left_out=pair_count(units) - int(observed[0, _COUNT].sum()) // 2,
    )


def bootstrap_weights(prompts: int, bootstraps: int, seed: int) -> Float[np.ndarray, "draw prompt"]:
    """Times each prompt is drawn: once each in the first row, then with replacement."""
    rng = np.random.default_rng([seed, 4])
    even = np.full(prompts, 1.0 / prompts)
    drawn = rng.multinomial(prompts, even, size=bootstraps).astype(np.float64)
    return np.concatenate([np.ones((1, prompts)), drawn])


def flips(prompts: int, count: int, seed: int) -> Float[np.ndarray, "draw prompt"]:
    """Random signs, +1 or -1, of every prompt."""
    rng = np.random.default_rng([seed, 3])
    return rng.choice([-1.0, 1.0], size=(count, prompts))


class PromptTable(NamedTuple):
    """Six correlations of each pair of a panel in each prompt, 0 where not `valid`."""

    values: Float[np.ndarray, "six prompt pair"]
    valid: Bool[np.ndarray, "prompt pair"]


def prompt_table(windows: list[Windows], panel: Panel) -> PromptTable:
    """Correlations of a panel's pairs in every prompt of every group."""
    parts = [correlations(group, group, panel, slice(None)) for group in windows]
    values = np.stack([np.concatenate(part) for part in zip(*parts, strict=True)])
    reason = np.concatenate([group.reason for group in windows])
    valid = (reason[:, panel.first] == 0) & (reason[:, panel.second] == 0)
    values[:, ~valid] = 0.0
    return PromptTable(values, valid)


def knowns(
    weights: Float[np.ndarray, "draw prompt"], table: PromptTable
) -> tuple[Float[np.ndarray, "draw row pair"], Float[np.ndarray, "draw row pair"]]:
    """Knowns of the pooled correlations and of their null; the last row is 1 where both exist."""
    with np.errstate(divide="ignore", invalid="ignore"):
        r = weights @ table.values
        r /= weights.sum(axis=1)[:, None] if table.valid.all() else weights @ table.valid
        real = Correlations(*r)
        model = real._replace(xb=real.yb * real.xy, ya=real.xa * real.xy)
        left = variances(real), variances(model)
        # Pooled pairs have no series to go back to: near-singular ones are left out.
        defined = (left[0].pivot >= LEAST_PIVOT) & (left[1].pivot >= LEAST_PIVOT)
        return _rows(left[0], defined), _rows(left[1], defined)


def flipped(
    signs: Float[np.ndarray, "draw prompt"], table: PromptTable
) -> Float[np.ndarray, "draw row pair"]:
    """Knowns of the null with noise: each prompt's departure from it with a random sign.

    The departure of prompt p, with pooled r_xy and b = r_yb, is

        r_xb,p - b r_xy,p - (r_yb,p - b) r_xy,

    and likewise for r_ya; the last term is what the pooled memory owes to the prompt. Their mean
    is what the data depart by, r_xb - b r_xy, and is taken off before signs are given, so that
    coupling does not widen its own null.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        count = table.valid.sum(axis=0)
        r = Correlations(*(table.values.sum(axis=1) / count))
        each = Correlations(*table.values)
        to_b = each.xb - r.yb * each.xy - (each.yb - r.yb) * r.xy
        to_a = each.ya - r.xa * each.xy - (each.xa - r.xa) * r.xy
        xb = r.yb * r.xy + signs @ _spread(to_b, table.valid) / count
        ya = r.xa * r.xy + signs @ _spread(to_a, table.valid) / count
        left = variances(
            Correlations(*(np.broadcast_to(v, xb.shape) for v in r))._replace(xb=xb, ya=ya)
        )
        model = variances(r._replace(xb=r.yb * r.xy, ya=r.xa * r.xy))
        # A pair is left out of noise and null alike, or noise would be of other pairs.
        defined = (left.pivot >= LEAST_PIVOT) & (model.pivot >= LEAST_PIVOT)
        return _rows(left, defined)


def _spread(
    departure: Float[np.ndarray, "prompt pair"], valid: Bool[np.ndarray, "prompt pair"]
) -> Float[np.ndarray, "prompt pair"]:
    """Departures about their mean, as wide as before it was taken off; 0 where not `valid`."""
    count = valid.sum(axis=0)
    mean = np.where(valid, departure, 0.0).sum(axis=0) / count
    return np.where(valid, (departure - mean) * np.sqrt(count / (count - 1)), 0.0)


def _rows(left: Variances, defined: np.ndarray) -> np.ndarray:
    known = minimum_information(informations(left))
    return np.stack([*(np.where(defined, row, 0.0) for row in known), defined], axis=1)


def _mean(sums: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = sums[:, :_COUNT] / sums[:, _COUNT:]
    return grid(np.stack(moebius([mean[:, k] for k in range(_COUNT)])))

"""Nulls: the same pipeline with one named dependence removed.

``cross_prompt`` pairs a unit of one prompt with units of another: what two units share within a
prompt is gone, drift over steps that all prompts share stays. It is fooled where autocorrelation
varies jointly over prompts.

``window_shift`` rotates each series' lagged (past, future) samples together by an offset of its
own, so self-information is unchanged exactly. It works on residuals from the mean over prompts at
each step, and is fooled by drift that units share within a prompt.

``same_step`` keeps the pooled same-step correlation and each series' own memory and removes lagged
coupling, in closed form: :mod:`synatlas.decompose.pooled`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from synatlas.decompose.engine import Engine
from synatlas.decompose.groups import Group, Totals, total
from synatlas.decompose.windows import Windows


class Draw(NamedTuple):
    """Windows of first units and of second units, per group of prompts."""

    left: list[Windows]
    right: list[Windows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Null:
    """How data are prepared, and how one surrogate is drawn; no `draw` means a closed form.

    `least_prompts` is the least size of a group of equal length that takes part.
    """

    meaning: str
    draw: Callable[[list[Windows], np.random.Generator], Draw] | None = None
    prepare: Callable[[Float[np.ndarray, "prompt step unit"]], np.ndarray] = np.asarray
    least_prompts: int = 1
    stream: int = 0


def cross_prompt(windows: list[Windows], rng: np.random.Generator) -> Draw:
    """Second units from another prompt of the same length, no prompt with itself."""
    others = [group.take(_derangement(group.shape[0], rng)) for group in windows]
    return Draw(windows, others)


def _derangement(count: int, rng: np.random.Generator) -> Int[np.ndarray, " prompt"]:
    """Uniform among the orders that leave nothing in place; one in e orders is such."""
    while True:
        order = rng.permutation(count)
        if not (order == np.arange(count)).any():
            return order


def window_shift(windows: list[Windows], rng: np.random.Generator) -> Draw:
    """Rotate past and future of each series by one random offset of its own."""
    shifted = [_rotated(group, rng) for group in windows]
    return Draw(shifted, shifted)


def _rotated(windows: Windows, rng: np.random.Generator) -> Windows:
    prompts, units, samples = windows.shape
    offset = rng.integers(samples, size=(prompts, 1, units, 1))
    where = (np.arange(samples) + offset) % samples
    values = np.take_along_axis(windows.values, where, axis=3)
    return Windows(
        values=values,
        self_correlation=windows.self_correlation,
        self_information=windows.self_information,
        reason=windows.reason,
        resolution=windows.resolution,
    )


def residual_from_prompt_mean(
    values: Float[np.ndarray, "prompt step unit"],
) -> Float[np.ndarray, "prompt step unit"]:
    """Subtract, at each step, the unit's mean over prompts; one prompt stays as it is.

    Steps that only one prompt reaches lose the unit's mean over everything instead.
    """
    if values.shape[0] < 2:
        return values
    finite = np.isfinite(values)
    count = finite.sum(axis=0)
    sums = np.where(finite, values, 0.0).sum(axis=0)
    overall = sums.sum(axis=0) / np.maximum(count.sum(axis=0), 1)
    return values - np.where(count > 1, sums / np.maximum(count, 1), overall)


#: Nulls by name. `stream` separates their random numbers.
NULLS: Final = MappingProxyType(
    {
        "cross_prompt": Null(
            meaning="what two units share within a prompt",
            draw=cross_prompt,
            least_prompts=2,
            stream=1,
        ),
        "window_shift": Null(
            meaning="what two units share at any time, self-information kept exactly",
            draw=window_shift,
            prepare=residual_from_prompt_mean,
            stream=2,
        ),
        "same_step": Null(
            meaning="lagged coupling; same-step correlation and own memory kept", stream=3
        ),
    }
)


class Prepared(NamedTuple):
    """Windows of the groups that take part in a null, and where their prompts belong."""

    windows: list[Windows]
    prompts: list[Int[np.ndarray, " _"]]


def prepare(
    null: Null, groups: list[Group], standardise: Callable[[np.ndarray, int], Windows], lag: int
) -> Prepared:
    """Windows of the data as `null` needs them; empty where no group has enough prompts."""
    longest = max(group.series.shape[1] for group in groups)
    count = sum(group.prompts.size for group in groups)
    padded = np.full((count, longest, groups[0].series.shape[2]), np.nan)
    for group in groups:
        padded[group.prompts, : group.series.shape[1]] = group.series
    values = null.prepare(padded)
    used = [group for group in groups if group.prompts.size >= null.least_prompts]
    return Prepared(
        [standardise(values[group.prompts, : group.series.shape[1]], lag) for group in used],
        [np.arange(group.prompts.size) + start for group, start in _starts(used)],
    )


def _starts(groups: list[Group]) -> Iterator[tuple[Group, int]]:
    start = 0
    for group in groups:
        yield group, start
        start += group.prompts.size


def draws(
    null: Null, prepared: Prepared, engine: Engine, *, surrogates: int, seed: int
) -> Iterator[tuple[Draw, Totals]]:
    """Each surrogate's windows and sums; surrogate k is the same however many are drawn."""
    assert null.draw is not None
    for surrogate in range(surrogates):
        rng = np.random.default_rng([seed, null.stream, surrogate])
        draw = null.draw(prepared.windows, rng)
        yield (
            draw,
            total(draw.left, draw.right, prepared.prompts, engine, per_unit=False),
        )

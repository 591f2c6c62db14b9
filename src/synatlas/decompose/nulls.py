"""Nulls: the same pipeline with one named dependence removed.

All of them are values of one kind, :class:`Null`, and :data:`NULLS` holds them by name. `level`
says how often the null calls two-sided at 5 % what is not coupled, where that is more than 6.5 %:
percentages are those of docs/validity.md for synergy, 100 steps, 20 or 60 prompts.

Under MMI two independent series have synergy 2 min(S_a, S_b) of their self-informations. An
exchange of prompts pairs other S_a and S_b; :func:`own_memory` gives the surrogate the terms of
the real pairing, so that self-information that varies over prompts is not taken for coupling.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float

from synatlas.decompose.engine import Engine
from synatlas.decompose.groups import Group, Totals, total
from synatlas.decompose.rearrange import (
    Draw,
    Prepared,
    by_category,
    by_memory,
    exchange,
    one_set,
    randomise_phases,
    rotate_series,
    rotate_windows,
    shuffle_blocks,
    simulate_ar1,
)
from synatlas.decompose.slow import Block, as_they_are, without_line, without_prompt_mean
from synatlas.decompose.windows import Windows

#: From a group's windows and categories to sets of prompts that may be exchanged.
Sets = Callable[[Windows, np.ndarray | None], list[np.ndarray]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Null:
    """How data are prepared, and how one surrogate is drawn; no `draw` means a closed form.

    Parameters
    ----------
    meaning : the dependence that is removed, in words.
    level : where its level does not hold, in words; "" where none was found among series that
        share nothing.
    draw : one surrogate of prepared data.
    prepare : what is taken out of the series first.
    sets : which prompts may be exchanged.
    least_prompts : least size of a set that takes part.
    adjusted : whether surrogates get the memory terms of the real pairing.
    needs_category : whether `sets` needs the prompts' categories.
    stream : separates the random numbers of nulls.
    """

    meaning: str
    stream: int
    level: str = ""
    draw: Callable[[Prepared, np.random.Generator], Draw] | None = None
    prepare: Callable[[list[Group]], list[Block]] = as_they_are
    sets: Sets = one_set
    least_prompts: int = 1
    adjusted: bool = False
    needs_category: bool = False


#: Nulls by name.
NULLS: Final = MappingProxyType(
    {
        "cross_prompt": Null(
            meaning="what two units share within a prompt; partners from prompts alike in "
            "self-information, straight lines taken out",
            draw=exchange,
            prepare=without_line,
            sets=by_memory,
            least_prompts=2,
            adjusted=True,
            stream=1,
        ),
        "window_shift": Null(
            meaning="what two units share at any time, self-information kept exactly; residuals "
            "from the mean over prompts at each step",
            level="17 % at 5 % where memory is .97, 100 % under drift that units share in a prompt",
            draw=rotate_windows,
            prepare=without_prompt_mean,
            stream=2,
        ),
        "same_step": Null(
            meaning="lagged coupling; same-step correlation and own memory kept",
            level="5 to 8 % at 5 %, up to 20 % where memory reaches .9",
            stream=3,
        ),
        "cross_prompt_plain": Null(
            meaning="what two units share within a prompt; partners from any prompt",
            level="65 to 100 % at 5 % where autocorrelation varies over prompts",
            draw=exchange,
            least_prompts=2,
            stream=5,
        ),
        "cross_prompt_category": Null(
            meaning="what two units share within a prompt; partners from the same category",
            level="as cross_prompt_plain where autocorrelation varies over prompts of a category",
            draw=exchange,
            sets=by_category,
            least_prompts=2,
            needs_category=True,
            stream=6,
        ),
        "window_shift_raw": Null(
            meaning="what two units share at any time, self-information kept exactly",
            level="67 to 96 % at 5 % under trends and onsets, 17 % where memory is .97",
            draw=rotate_windows,
            stream=7,
        ),
        "circular_shift": Null(
            meaning="what two units share at any time, series rotated",
            level="9 to 92 % at 5 %: its seam lowers self-information",
            draw=rotate_series,
            stream=8,
        ),
        "phase_randomised": Null(
            meaning="phases of each unit's series",
            level="10 to 92 % at 5 %: it lowers self-information",
            draw=randomise_phases,
            stream=9,
        ),
        "block_shuffle": Null(
            meaning="the order of blocks of ten steps",
            level="82 to 100 % at 5 %: its seams lower self-information",
            draw=shuffle_blocks,
            stream=10,
        ),
        "ar1": Null(
            meaning="all but each series' lag-one correlation",
            level="4 to 100 % at 5 %: memory fitted to short series is too short",
            draw=simulate_ar1,
            stream=11,
        ),
    }
)

#: Prompts from which the default call takes partners from other prompts: fewer leave too few
#: orders for a p of 0.05.
EXCHANGED_FROM: Final = 5

#: The default call under one name.
INDEPENDENCE: Final = "independence"


def independence(n_steps: np.ndarray) -> str:
    """Name of the null of the default call, for prompts of these lengths.

    ``"cross_prompt"`` where :data:`EXCHANGED_FROM` prompts have one length, else
    ``"window_shift"``.
    """
    most = int(np.unique(n_steps, return_counts=True)[1].max())
    return "cross_prompt" if most >= EXCHANGED_FROM else "window_shift"


def prepare(
    null: Null,
    groups: list[Group],
    standardise: Callable[[np.ndarray, int], Windows],
    lag: int,
    category: np.ndarray | None = None,
) -> Prepared:
    """The data as `null` needs them; prompts in sets that are too small are left out."""
    parts: list[_Part] = []
    for group, series in zip(groups, null.prepare(groups), strict=True):
        windows = standardise(series, lag)
        own = None if category is None else category[group.prompts]
        part = _large_sets(windows, series, null.sets(windows, own), null.least_prompts)
        if part.windows.shape[0]:
            parts.append(part)
    ends = np.cumsum([0, *(part.windows.shape[0] for part in parts)])
    return Prepared(
        windows=[part.windows for part in parts],
        series=[part.series for part in parts],
        prompts=[np.arange(begin, end) for begin, end in pairwise(ends)],
        sets=[part.sets for part in parts],
        remake=lambda series: standardise(series, lag),
    )


class _Part(NamedTuple):
    windows: Windows
    series: Block
    sets: list[np.ndarray]


def _large_sets(windows: Windows, series: Block, sets: Sequence[np.ndarray], least: int) -> _Part:
    large = [rows for rows in sets if rows.size >= least]
    if len(large) == len(sets):
        return _Part(windows, series, large)
    used = np.sort(np.concatenate([*large, np.array([], dtype=np.int64)]))
    kept = [np.searchsorted(used, rows) for rows in large]
    return _Part(windows.take(used), series[used], kept)


class Surrogate(NamedTuple):
    """One surrogate's windows and sums."""

    draw: Draw
    totals: Totals


def draws(
    null: Null, prepared: Prepared, engine: Engine, *, surrogates: int, seed: int
) -> Iterator[Surrogate]:
    """Each surrogate's windows and sums; surrogate k is the same however many are drawn."""
    assert null.draw is not None
    for surrogate in range(surrogates):
        rng = np.random.default_rng([seed, null.stream, surrogate])
        draw = null.draw(prepared, rng)
        sums = total(draw.left, draw.right, prepared.prompts, engine, per_unit=False)
        yield Surrogate(draw, sums)


#: What own memory alone gives to each atom under MMI, in units of min(S_a, S_b).
OWN_MEMORY: Final = np.array(
    [
        [0.0, 0.0, 0.0, 1.0],
        [0.0, 0.0, 0.0, -1.0],
        [0.0, 0.0, 0.0, -1.0],
        [1.0, -1.0, -1.0, 2.0],
    ]
)


def own_memory(left: list[Windows], right: list[Windows]) -> Float[np.ndarray, "unit unit"]:
    """Mean over prompts of min(S_a, S_b), a of `left` and b of `right`, in nats.

    Independent series of self-informations S have, under MMI, the atoms :data:`OWN_MEMORY` times
    it, beside xtx = S_a and yty = S_b, which no exchange of prompts changes. NaN where no prompt
    defines both.
    """
    units = left[0].shape[1]
    sums, count = np.zeros((units, units)), np.zeros((units, units))
    least = np.empty((units, units))
    for mine, other in zip(left, right, strict=True):
        first = np.where(mine.reason == 0, mine.self_information, 0.0)
        second = np.where(other.reason == 0, other.self_information, 0.0)
        for a, b in zip(first, second, strict=True):
            sums += np.minimum(a[:, None], b, out=least)
        count += (mine.reason == 0).T.astype(float) @ (other.reason == 0).astype(float)
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, sums / np.maximum(count, 1), np.nan)

"""Orders in which units are ablated: by a score, by what ablating each alone does, at random."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, final

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from synatlas.errors import ConfigError
from synatlas.intervene.settings import PUBLISHED_ORDER
from synatlas.rank.select import (
    depth_matched_order,
    order_by,
    random_order,
    score_names,
    strata_of,
    values_of,
)

#: Controls: orders of which there are many draws.
RANDOM: Final = "random"
DEPTH_MATCHED: Final = "random_depth_matched"
CONTROLS: Final = (RANDOM, DEPTH_MATCHED)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What orders are made from.

    Parameters
    ----------
    atlas : scores.
    recording : activity, its units in the atlas' order.
    given : values of units that the user gives, by the name of the order; the highest go first.
    single_kl : what ablating each unit alone does, nats; None before it was measured.
    gradient : importance by the gradient of the loss, nats; None before it was measured.
    """

    atlas: xr.Dataset
    recording: xr.Dataset
    given: Mapping[str, Float[np.ndarray, " unit"]]
    single_kl: Float[np.ndarray, " unit"] | None = None
    gradient: Float[np.ndarray, " unit"] | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Ordering:
    """How an order that is no plain score of the atlas is made, and what it needs measured."""

    values: Callable[[Known], Float[np.ndarray, " unit"] | None]
    side: str = "top"
    needs: str = ""


def mean_norm(known: Known) -> Float[np.ndarray, " unit"]:
    """Mean activity of each unit over all recorded samples."""
    activity = known.recording["activity"].to_numpy().astype(np.float64)
    return np.nanmean(np.abs(activity), axis=(0, 1))


#: Orders that are no plain scores of the atlas, by name.
ORDERINGS: Final = MappingProxyType(
    {
        "redundant_first": Ordering(
            values=lambda known: values_of(known.atlas, PUBLISHED_ORDER), side="bottom"
        ),
        "norm": Ordering(values=mean_norm),
        "single_unit": Ordering(values=lambda known: known.single_kl, needs="single_unit"),
        "gradient": Ordering(values=lambda known: known.gradient, needs="gradient"),
    }
)


def resolve(
    asked: Sequence[str], atlas: xr.Dataset, given: Mapping[str, object]
) -> tuple[str, ...]:
    """Names of orders in full: ``excess`` is that over each null, scores an atlas lacks are out.

    A score that only some atlases have (`synergy_ccs`) is left out where the atlas lacks it; a
    name that no atlas has is refused.

    Raises
    ------
    ConfigError
        There is no such order, or an order of the user has the name of another.
    """
    names: list[str] = []
    for name in asked:
        if name == "excess":
            names += [f"excess_{null}" for null in atlas["null"].values.tolist()]
        elif name != "synergy_ccs" or name in atlas:
            names.append(name)
    known = {*score_names(atlas), *ORDERINGS}
    taken = [name for name in given if name in known | {*CONTROLS}]
    if taken:
        raise ConfigError(
            given=f"an order of your own that is named {taken[0]!r}",
            expected="a name that no score, order or control has",
            remedy="rename it",
        )
    unknown = [name for name in names if name not in known | {*given}]
    if unknown:
        raise ConfigError(
            given=f"order {unknown[0]!r}",
            expected=f"one of {', '.join([*ORDERINGS, *score_names(atlas)])}",
            remedy="choose among these, or pass values of your own under that name",
        )
    return tuple(dict.fromkeys([*names, *given]))


def copied(matched_to: str, names: Sequence[str]) -> str:
    """The order that depth-matched sets copy, of those that are tried.

    Raises
    ------
    ConfigError
        `matched_to` is not tried.
    """
    if not matched_to:
        return PUBLISHED_ORDER if PUBLISHED_ORDER in names else names[0]
    if matched_to not in names:
        raise ConfigError(
            given=f"random sets matched to {matched_to!r}",
            expected=f"one of the orders that are tried: {', '.join(names)}",
            remedy="name that order among the orders too",
        )
    return matched_to


def needed(names: Sequence[str]) -> frozenset[str]:
    """What must be measured before these orders can be made."""
    return frozenset(ORDERINGS[name].needs for name in names if name in ORDERINGS) - {""}


def order_of(name: str, known: Known) -> Int[np.ndarray, " unit"]:
    """Units in the order of that name, the first to be ablated first."""
    if name in known.given:
        return order_by(known.given[name])
    if name not in ORDERINGS:
        return order_by(values_of(known.atlas, name))
    ordering = ORDERINGS[name]
    values = ordering.values(known)
    assert values is not None, f"{name} before it was measured"
    return order_by(values, ordering.side)


def draws_of(
    name: str, order: Int[np.ndarray, " unit"], atlas: xr.Dataset, *, draws: int, seed: int
) -> Int[np.ndarray, "draw unit"]:
    """Draws of a control: ``random``, or ``random_depth_matched`` to `order`.

    Draw i depends on its seed, its number and the control alone: more draws add to fewer.
    """
    strata = strata_of(atlas["unit_layer"], atlas["kind"])
    place = CONTROLS.index(name)
    streams = [np.random.default_rng((seed, place, i)) for i in range(draws)]
    if name == RANDOM:
        return np.stack([random_order(order, rng) for rng in streams])
    return np.stack([depth_matched_order(order, strata, rng) for rng in streams])

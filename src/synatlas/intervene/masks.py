"""Which sets of units an experiment ablates: each once, and where its damage belongs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Bool, Float, Int

from synatlas.intervene.orders import CONTROLS
from synatlas.intervene.settings import Settings
from synatlas.rank.select import count_of


def levels(units: int, settings: Settings) -> tuple[int, ...]:
    """Numbers of units at which sets are tested."""
    return tuple(sorted({count_of(fraction, units) for fraction in settings.fractions}))


def grid(units: int, settings: Settings) -> tuple[int, ...]:
    """Numbers of units that every order is ablated at: even steps to all, and the tested ones."""
    even = np.round(np.linspace(0, units, settings.points + 1)[1:]).astype(int).tolist()
    return tuple(sorted({max(1, n) for n in even} | {*levels(units, settings)}))


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Masks:
    """Sets of units, each once, and the cells of (order, draw, n_ablated) that each fills.

    Parameters
    ----------
    names : orders, controls last.
    counts : the grid of numbers of units.
    orders : (order, draw, unit) units in each order, -1 where there is no such draw.
    keep : sets: False where a unit is ablated.
    which : set of each cell, -1 where none is asked for.
    """

    names: tuple[str, ...]
    counts: tuple[int, ...]
    orders: Int[np.ndarray, "order draw unit"]
    keep: Bool[np.ndarray, "mask unit"]
    which: Int[np.ndarray, "order draw n_ablated"]

    def spread(self, values: Float[np.ndarray, "mask *rest"]) -> Float[np.ndarray, "..."]:
        """Values of sets at the cells they fill, NaN elsewhere: (order, draw, n_ablated, ...)."""
        out = np.full((*self.which.shape, *values.shape[1:]), np.nan, dtype=values.dtype)
        filled = self.which >= 0
        out[filled] = values[self.which[filled]]
        return out

    @property
    def places(self) -> Int[np.ndarray, "order draw unit"]:
        """Place of each unit in each order, from 1; 0 where there is no such draw."""
        places = np.zeros(self.orders.shape, dtype=np.int32)
        there = self.orders[..., 0] >= 0
        places[there] = np.argsort(self.orders[there], axis=-1) + 1
        return places


def masks_of(
    orders: Mapping[str, Int[np.ndarray, "draw unit"]],
    *,
    counts: tuple[int, ...],
    tested: tuple[int, ...],
    curve_draws: int,
) -> Masks:
    """Sets of all orders: every draw at the tested counts, the first ones at every count.

    Parameters
    ----------
    orders : units in each order, one draw of those that are not random.
    counts, tested : numbers of units; `tested` are among them.
    curve_draws : draws of the controls that are followed along all counts.
    """
    units = next(iter(orders.values())).shape[1]
    most = max(len(draws) for draws in orders.values())
    table = np.full((len(orders), most, units), -1, dtype=np.int32)
    which = np.full((len(orders), most, len(counts)), -1, dtype=np.int32)
    found: dict[bytes, int] = {}
    keep: list[np.ndarray] = []
    for i, (name, draws) in enumerate(orders.items()):
        table[i, : len(draws)] = draws
        everywhere = curve_draws if name in CONTROLS else 1
        for j, order in enumerate(draws):
            for k, n in enumerate(counts):
                if j >= everywhere and n not in tested:
                    continue
                kept = np.ones(units, dtype=bool)
                kept[order[:n]] = False
                key = np.packbits(kept).tobytes()
                if key not in found:
                    found[key] = len(keep)
                    keep.append(kept)
                which[i, j, k] = found[key]
    return Masks(names=tuple(orders), counts=counts, orders=table, keep=np.stack(keep), which=which)

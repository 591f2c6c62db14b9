"""Orders of units by a score, at random or matched in depth, and selections from them."""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int

from synatlas.artifact import require
from synatlas.errors import ConfigError
from synatlas.rank.atlas import ATLAS

#: Prefix of the excess of synergy over one null: ``excess_window_shift``.
_EXCESS: Final = "excess_"

#: Which end of a score comes first, by name -> the sign that sorts it there.
SIDES: Final[Mapping[str, int]] = MappingProxyType({"top": -1, "bottom": 1})

#: What a selection by a score is exchanged for, by name.
MATCHES: Final = MappingProxyType(
    {
        "none": "the units that the score selects",
        "count": "random units, as many as the score selects",
        "depth": "random units, as many of each layer and kind as the score selects",
    }
)


def score_names(atlas: xr.Dataset) -> tuple[str, ...]:
    """Scores of an atlas that units can be ordered by."""
    plain = [
        str(name)
        for name, values in atlas.data_vars.items()
        if values.dims == ("unit",) and values.dtype.kind == "f" and not str(name).endswith("_q")
    ]
    return (*plain, *(f"{_EXCESS}{null}" for null in atlas["null"].values.tolist()))


def values_of(atlas: xr.Dataset, score: str) -> Float[np.ndarray, " unit"]:
    """Values of a score by its name; ``excess_NULL`` is the excess of synergy over a null.

    Raises
    ------
    ConfigError
        The atlas has no such score.
    """
    if score not in score_names(atlas):
        raise ConfigError(
            given=f"score {score!r}",
            expected=f"one of {', '.join(score_names(atlas))}",
            cause="the atlas holds no such score of units",
            remedy="choose one of these names",
        )
    if score in atlas:
        return atlas[score].to_numpy()
    return atlas["excess"].sel(null=score.removeprefix(_EXCESS)).to_numpy()


def order_by(values: Float[np.ndarray, " unit"], side: str = "top") -> Int[np.ndarray, " unit"]:
    """Units by a score, the highest first (``top``) or the lowest (``bottom``).

    Ties are in unit order; units without a value come last, in unit order.
    """
    if side not in SIDES:
        raise ConfigError(
            given=f"side {side!r}",
            expected=f"one of {', '.join(SIDES)}",
            remedy="choose the end of the score that comes first",
        )
    return np.argsort(np.where(np.isnan(values), np.inf, SIDES[side] * values), kind="stable")


def random_order(
    order: Int[np.ndarray, " unit"], rng: np.random.Generator
) -> Int[np.ndarray, " unit"]:
    """All units in random order; only the length of `order` matters."""
    return rng.permutation(order.size)


def depth_matched_order(
    order: Int[np.ndarray, " unit"], strata: Int[np.ndarray, " unit"], rng: np.random.Generator
) -> Int[np.ndarray, " unit"]:
    """A random order whose first n units are of the same strata as those of `order`, for every n.

    Units are exchanged at random within each stratum. Any first n are then drawn evenly from the
    sets with the strata of the first n of `order`, and each set holds the smaller ones.

    Parameters
    ----------
    order : units, the first to go first.
    strata : of each unit, from 0: its layer and kind, see :func:`strata_of`.
    rng : generator.
    """
    exchanged = np.empty_like(order)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        exchanged[members] = rng.permutation(members)
    return exchanged[order]


def strata_of(layer: xr.DataArray, kind: xr.DataArray) -> Int[np.ndarray, " unit"]:
    """A number for each unit, equal where layer and kind are."""
    pairs = [f"{a}/{b}" for a, b in zip(layer.values.tolist(), kind.values.tolist(), strict=True)]
    return np.unique(pairs, return_inverse=True)[1]


def count_of(fraction: float, units: int) -> int:
    """Units that a fraction of them is: the nearest whole number, at least 1.

    Raises
    ------
    ConfigError
        `fraction` is not above 0 and at most 1.
    """
    if not 0 < fraction <= 1:
        raise ConfigError(
            given=f"fraction {fraction}",
            expected="a number above 0 and at most 1",
            cause="a count or a percentage was passed" if fraction > 1 else "",
            remedy=f"pass the share of the {units} units, such as 0.25",
        )
    return max(1, round(fraction * units))


def select(
    atlas: xr.Dataset,
    *,
    score: str = "integration",
    fraction: float = 0.25,
    count: int | None = None,
    side: str = "top",
    match: str = "none",
    seed: int = 0,
) -> xr.DataArray:
    """Select units by a score, or random ones that match them.

    Parameters
    ----------
    atlas : an atlas.
    score : a variable of the atlas on units, such as ``integration``, ``joint_prediction``,
        ``rank_of_difference`` (the published order), ``autocorrelation_baseline``, or
        ``excess_NULL`` for the excess of synergy over a null.
    fraction : share of all units, above 0 and at most 1; the nearest whole number of them.
    count : that number itself; `fraction` is then left aside.
    side : ``top``, the highest first, or ``bottom``. Ties are in unit order.
    match : ``none``; ``count``, as many random units; ``depth``, random units of which as many are
        of each layer and kind.
    seed : seed of the random ones.

    Returns
    -------
    xarray.DataArray
        ``selected(unit)``, bool, with the atlas' coordinates of units; the rule is in the
        attributes. ``atlas["unit"][selection]`` are the labels.

    Raises
    ------
    ConfigError
        An option is out of range or unknown, more units are asked for than there are, or than have
        a value of the score.
    """
    require(atlas, ATLAS)
    values = values_of(atlas, score)
    n = count_of(fraction, values.size) if count is None else count
    defined = int(np.isfinite(values).sum())
    if not 1 <= n <= defined:
        raise ConfigError(
            given=f"{n} units",
            expected=f"1 to {defined}, the units that have a value of {score}",
            cause=f"the model has {values.size} units",
            remedy="select fewer of them",
        )
    if match not in MATCHES:
        raise ConfigError(
            given=f"match {match!r}",
            expected=f"one of {', '.join(MATCHES)}",
            remedy="choose what the selection is exchanged for",
        )
    order = order_by(values, side)
    rng = np.random.default_rng(seed)
    if match == "count":
        order = random_order(order, rng)
    elif match == "depth":
        order = depth_matched_order(order, strata_of(atlas["unit_layer"], atlas["kind"]), rng)
    rule = {"score": score, "side": side, "match": match, "seed": seed, "count": n}
    return xr.DataArray(
        first(order, n),
        dims="unit",
        coords={
            str(name): coord for name, coord in atlas.coords.items() if coord.dims == ("unit",)
        },
        name="selected",
        attrs={"long_name": MATCHES[match], "rule": json.dumps(rule, sort_keys=True)},
    )


def first(order: Int[np.ndarray, " unit"], n: int) -> Bool[np.ndarray, " unit"]:
    """Whether each unit is among the first `n` of an order."""
    chosen = np.zeros(order.size, dtype=bool)
    chosen[order[:n]] = True
    return chosen

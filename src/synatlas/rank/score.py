"""The two published rank definitions and their layer profiles, from anyone's per-unit values."""

from typing import Final

import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from synatlas.axes import array_labels
from synatlas.errors import ConfigError
from synatlas.rank.profile import layer_means

_LABELS: Final = {
    "rank_of_difference": "rank of (synergy - redundancy), N most synergistic",
    "difference_of_ranks": "rank of synergy minus rank of redundancy",
    "profile": "mean over the units of the layer",
}


def ordinal_ranks(values: Float[np.ndarray, "*row unit"]) -> Float[np.ndarray, "*row unit"]:
    """Ranks 1..N along the last axis, N the highest, ties in unit order; non-finite stays NaN."""
    finite = np.isfinite(values)
    order = np.argsort(np.where(finite, values, np.inf), axis=-1, kind="stable")
    positions = np.broadcast_to(np.arange(1.0, values.shape[-1] + 1), values.shape)
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, positions, axis=-1)
    return np.where(finite, ranks, np.nan)


def rank_of_difference(
    synergy: Float[np.ndarray, "*row unit"], redundancy: Float[np.ndarray, "*row unit"]
) -> Float[np.ndarray, "*row unit"]:
    """Rank of (synergy - redundancy), 1..N: what the authors' code ranks."""
    return ordinal_ranks(synergy - redundancy)


def difference_of_ranks(
    synergy: Float[np.ndarray, "*row unit"], redundancy: Float[np.ndarray, "*row unit"]
) -> Float[np.ndarray, "*row unit"]:
    """Rank of synergy minus rank of redundancy: what the text of arXiv 2601.06851 describes.

    A unit that lacks either value is ranked in neither.
    """
    both = np.isfinite(synergy) & np.isfinite(redundancy)
    return ordinal_ranks(np.where(both, synergy, np.nan)) - ordinal_ranks(
        np.where(both, redundancy, np.nan)
    )


def rank_units(synergy: ArrayLike, redundancy: ArrayLike, layer: ArrayLike) -> xr.Dataset:
    """Rank units by synergy against redundancy under both published definitions.

    ``rank_of_difference = rank(synergy - redundancy)`` is what the authors' code computes;
    ``difference_of_ranks = rank(synergy) - rank(redundancy)`` is what their text says. Ranks are
    ordinal, 1..N with N the highest, ties in unit order; a unit that lacks either value is
    unranked (NaN) and does not count.

    Parameters
    ----------
    synergy, redundancy : (unit,) mean sts and rtr of every unit over its partners, in any one
        unit of information; NaN where undefined.
    layer : (unit,) layer of every unit, whole numbers from 0.

    Returns
    -------
    xarray.Dataset
        ``rank_of_difference(unit)``, ``difference_of_ranks(unit)`` and ``profile(score, layer)``,
        the layer means of both ranks, of synergy and of redundancy, over the defined units;
        coordinate ``depth(layer)`` is layer / last layer.

    Raises
    ------
    ConfigError
        The arrays differ in length, are not one-dimensional, hold no defined unit, or layers
        are not whole numbers from 0.

    References
    ----------
    arXiv 2601.06851 (text); Luppi et al. 2022, https://doi.org/10.1038/s41593-022-01070-0.

    Examples
    --------
    >>> rank_units([0.1, 0.4, 0.2], [0.0, 0.1, 0.1], [0, 1, 2]).rank_of_difference.values
    array([1., 3., 2.])
    """
    values = {
        "synergy": _column(synergy, "synergy"),
        "redundancy": _column(redundancy, "redundancy"),
    }
    unit_layer = _whole_layers(_column(layer, "layer"))
    _check_lengths({**values, "layer": unit_layer})
    ranks = {
        "rank_of_difference": rank_of_difference(values["synergy"], values["redundancy"]),
        "difference_of_ranks": difference_of_ranks(values["synergy"], values["redundancy"]),
    }
    if not np.isfinite(ranks["rank_of_difference"]).any():
        raise ConfigError(
            given="no unit with both a finite synergy and a finite redundancy",
            expected="at least one such unit",
            remedy="pass the mean sts and rtr of every unit, NaN only where undefined",
        )
    layers = np.unique(unit_layer)
    scores = {**ranks, **values}
    profile = np.stack([layer_means(value, unit_layer, layers) for value in scores.values()])
    out = xr.Dataset(
        {
            **{name: ("unit", rank) for name, rank in ranks.items()},
            "profile": (("score", "layer"), profile),
        },
        coords={
            "unit": list(array_labels(unit_layer.size)),
            "unit_layer": ("unit", unit_layer),
            "score": list(scores),
            "layer": layers,
            "depth": ("layer", layers / max(int(layers[-1]), 1)),
        },
    )
    for name, label in _LABELS.items():
        out[name].attrs = {"long_name": label}
    return out


def _column(values: ArrayLike, name: str) -> Float[np.ndarray, " unit"]:
    try:
        column = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            given=f"{name} that is not an array of numbers ({error})",
            expected="one number per unit",
            remedy=f"pass {name} as a one-dimensional array",
        ) from error
    if column.ndim != 1:
        raise ConfigError(
            given=f"{name} with {column.ndim} dimensions, shape {column.shape}",
            expected="one number per unit, one dimension",
            cause="values per pair or per prompt",
            remedy="average over partners and prompts first",
        )
    return column


def _whole_layers(layer: Float[np.ndarray, " unit"]) -> Int[np.ndarray, " unit"]:
    whole = np.isfinite(layer) & (layer >= 0) & (layer == np.round(layer))
    if not whole.all():
        raise ConfigError(
            given=f"layer {layer[~whole][0]} of unit {int(np.flatnonzero(~whole)[0])}",
            expected="whole numbers from 0",
            cause="depths in 0..1 were passed in the place of layers" if layer.size else "",
            remedy="pass the layer index of every unit",
        )
    return layer.astype(np.int64)


def _check_lengths(columns: dict[str, np.ndarray]) -> None:
    lengths = {name: column.size for name, column in columns.items()}
    if len(set(lengths.values())) != 1:
        raise ConfigError(
            given=", ".join(f"{n} values of {name}" for name, n in lengths.items()),
            expected="arrays of one length, one entry per unit",
            remedy="pass synergy, redundancy and layer of the same units in the same order",
        )

"""Scores of units from Atoms: sums of atoms, ranks, the baseline, pooled excesses."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float

from synatlas.axes import ATOM_LABELS, ROLES
from synatlas.inference import weighted_mean
from synatlas.rank.score import difference_of_ranks, rank_of_difference


def _mask(*atoms: str) -> Bool[np.ndarray, "past future"]:
    grid = np.zeros((4, 4), dtype=bool)
    for name in atoms:
        past, future = ATOM_LABELS[name]
        grid[ROLES.index(past), ROLES.index(future)] = True
    return grid


#: Scores that are sums of cells of the oriented grid (un1 = the unit, un2 = its partners).
#: phi_r is revised Phi: every atom with synergy on a side, and transfer (arXiv 2109.13186).
GRID_SCORES: Final = MappingProxyType(
    {
        "synergy": _mask("sts"),
        "redundancy": _mask("rtr"),
        "tdmi": _mask(*ATOM_LABELS),
        "transfer": _mask("xty", "ytx"),
        "phi_r": _mask("sts", "xts", "yts", "stx", "sty", "xty", "ytx", "rts", "str"),
    }
)

#: Scores of the pooled excess over the same-step null, and the grid score each is made of.
POOLED_SCORES: Final = MappingProxyType(
    {"integration": "phi_r", "integration_transfer": "transfer"}
)


def grid_score(
    grid: Float[np.ndarray, "*lead past future"], name: str
) -> Float[np.ndarray, "*lead"]:
    """Sum of the cells of an oriented grid that make the score `name` of `GRID_SCORES`."""
    weights = GRID_SCORES[name].ravel().astype(float)
    return np.asarray(grid.reshape(*grid.shape[:-2], 16) @ weights)


def autocorrelation_baseline(
    self_information: Float[np.ndarray, "prompt unit"],
) -> Float[np.ndarray, "prompt unit"]:
    """Synergy that independent series of the same self-information would have under MMI.

    ``2 * mean over partners j of min(S_i, S_j)``, in nats, per prompt: the closed form of sts
    for independent series (Varley, arXiv 2407.16601). Partners without a value are left out;
    NaN where the unit has none, or no partner.
    """
    values = np.where(np.isfinite(self_information), self_information, np.inf)
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    defined = np.isfinite(ordered)
    count = defined.sum(axis=1, keepdims=True)
    ordered = np.where(defined, ordered, 0.0)
    below = np.cumsum(ordered, axis=1) - ordered
    above = np.maximum(count - 1 - np.arange(values.shape[1]), 0)
    partners = np.where(defined & (count > 1), count - 1, np.nan)
    baseline = np.empty(values.shape)
    np.put_along_axis(baseline, order, 2 * (below + ordered * above) / partners, axis=1)
    return baseline


def scores_per_prompt(atoms: xr.Dataset) -> dict[str, Float[np.ndarray, "prompt unit"]]:
    """Every score that is a mean over prompts, per prompt and unit.

    Parameters
    ----------
    atoms : an Atoms artifact.

    Returns
    -------
    dict
        `GRID_SCORES`, ``synergy_ccs`` where CCS was computed, ``self_information`` and
        ``autocorrelation_baseline``, all in nats.
    """
    grid = oriented(atoms["unit_atom"], "prompt")
    out = {name: grid_score(grid, name) for name in GRID_SCORES}
    if "unit_atom_ccs" in atoms:
        out["synergy_ccs"] = grid_score(oriented(atoms["unit_atom_ccs"], "prompt"), "synergy")
    own = atoms["self_information"].transpose("prompt", "unit").to_numpy()
    out["self_information"] = own
    out["autocorrelation_baseline"] = autocorrelation_baseline(own)
    return out


def oriented(grid: xr.DataArray, *lead: str) -> Float[np.ndarray, "..."]:
    """Values of a unit grid with its leading dims, then unit, and both roles in their order."""
    ordered = grid.sel(past=list(ROLES), future=list(ROLES))
    return ordered.transpose(*lead, "unit", "past", "future").to_numpy()


def scores_of_units(
    per_prompt: Mapping[str, Float[np.ndarray, "prompt unit"]],
    weights: Float[np.ndarray, "draw prompt"],
) -> dict[str, Float[np.ndarray, "draw unit"]]:
    """Scores of every unit for each row of prompt `weights`; the ranks are taken afterwards.

    ``balance`` is the ratio of the means, synergy / (synergy + redundancy), NaN where the sum
    is not positive.
    """
    means = {name: weighted_mean(weights, values) for name, values in per_prompt.items()}
    synergy, redundancy = means["synergy"], means["redundancy"]
    total = synergy + redundancy
    balance = np.full(total.shape, np.nan)
    np.divide(synergy, total, out=balance, where=total > 0)
    ranks = {
        "rank_of_difference": rank_of_difference(synergy, redundancy),
        "difference_of_ranks": difference_of_ranks(synergy, redundancy),
    }
    return {**ranks, **means, "balance": balance}


def pooled_scores(atoms: xr.Dataset) -> dict[str, Float[np.ndarray, " unit"]]:
    """Pooled scores minus their same-step null, in nats (see `POOLED_SCORES`)."""
    excess = oriented(atoms["pooled_atom"]) - oriented(atoms["same_step_atom"])
    return {name: grid_score(excess, part) for name, part in POOLED_SCORES.items()}


def pooled_draws(atoms: xr.Dataset) -> dict[str, Float[np.ndarray, "bootstrap unit"]]:
    """Prompt-bootstrap draws of `pooled_scores`, corrected for bias.

    Cross-lag terms are squared, so sampling noise raises the excess of uncoupled series, once
    in the value and once more in every draw. The mean draw minus the value estimates that bias
    (Efron, Tibshirani 1993, chapter 10); twice the estimate is taken off each draw, so that the
    draws centre on the corrected value and an interval of them can hold zero.
    """
    draws = oriented(atoms["pooled_excess_draw"], "bootstrap")
    values = pooled_scores(atoms)
    out = {}
    for name, part in POOLED_SCORES.items():
        draw = grid_score(draws, part)
        bias = draw.mean(axis=0) - values[name] if len(draw) else np.zeros(values[name].shape)
        out[name] = draw - 2 * bias
    return out

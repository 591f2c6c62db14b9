"""Scores of units from Atoms: sums of atoms, ranks, the baseline, pooled excesses."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
import xarray as xr
from jaxtyping import Float

from synatlas.axes import ATOM_LABELS, ROLES
from synatlas.inference import weighted_mean
from synatlas.rank.score import difference_of_ranks, rank_of_difference


def _weights(*atoms: str, minus: tuple[str, ...] = ()) -> Float[np.ndarray, "past future"]:
    grid = np.zeros((4, 4))
    for sign, names in ((1.0, atoms), (-1.0, minus)):
        for name in names:
            past, future = ATOM_LABELS[name]
            grid[ROLES.index(past), ROLES.index(future)] = sign
    return grid


_PHI_R: Final = ("sts", "xts", "yts", "stx", "sty", "xty", "ytx", "rts", "str")

#: Scores that are sums of cells of the oriented grid (un1 = the unit, un2 = its partners).
#: phi_r is revised Phi: every atom with synergy on a side, and transfer (arXiv 2109.13186).
#: phi_wms is Phi of the whole minus the sum of its parts, TDMI less both self-informations
#: (Balduzzi, Tononi 2008, https://doi.org/10.1371/journal.pcbi.1000091): phi_r - redundancy.
GRID_SCORES: Final = MappingProxyType(
    {
        "synergy": _weights("sts"),
        "redundancy": _weights("rtr"),
        "tdmi": _weights(*ATOM_LABELS),
        "transfer": _weights("xty", "ytx"),
        "phi_r": _weights(*_PHI_R),
        "phi_wms": _weights(*_PHI_R, minus=("rtr",)),
    }
)

#: Ratios of means over prompts and partners: name -> numerator and the parts of its denominator.
#: A mean of the ratios of pairs would be ruled by the pairs with next to no information.
RATIO_SCORES: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = MappingProxyType(
    {
        "balance": ("synergy", ("synergy", "redundancy")),
        "synergy_per_tdmi": ("synergy", ("tdmi",)),
        "redundancy_per_tdmi": ("redundancy", ("tdmi",)),
    }
)

#: Scores of the pooled excess over the same-step null, and the grid score each is made of.
POOLED_SCORES: Final = MappingProxyType(
    {"integration": "phi_r", "integration_transfer": "transfer"}
)

#: Parts of joint prediction, of which Atoms hold pseudo-values; their sum is `joint_prediction`.
PREDICTION_PARTS: Final = ("joint_prediction_linear", "joint_prediction_interaction")


def grid_score(
    grid: Float[np.ndarray, "*lead past future"], name: str
) -> Float[np.ndarray, "*lead"]:
    """Sum of the cells of an oriented grid that make the score `name` of `GRID_SCORES`."""
    weights = GRID_SCORES[name]
    used = weights != 0
    # Cells outside are left alone: a null may not have drawn them.
    return np.asarray(grid[..., used] @ weights[used])


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

    `RATIO_SCORES` are ratios of the means, NaN where the denominator is not positive:
    ``balance = synergy / (synergy + redundancy)`` and the shares of synergy and redundancy in
    the time-delayed mutual information.
    """
    means = {name: weighted_mean(weights, values) for name, values in per_prompt.items()}
    ratios = {}
    for name, (part, whole) in RATIO_SCORES.items():
        total = np.sum([means[term] for term in whole], axis=0)
        ratios[name] = np.divide(
            means[part], total, out=np.full(total.shape, np.nan), where=total > 0
        )
    ranks = {
        "rank_of_difference": rank_of_difference(means["synergy"], means["redundancy"]),
        "difference_of_ranks": difference_of_ranks(means["synergy"], means["redundancy"]),
    }
    return {**ranks, **means, **ratios}


def predictions(atoms: xr.Dataset) -> dict[str, Float[np.ndarray, "prompt unit"]]:
    """Jackknife pseudo-values of joint prediction and of its two parts, in nats.

    Means over prompts are the scores. A pseudo-value is what one prompt adds to the whole, not
    the score of that prompt alone, so halves and categories of prompts have no score of their own.
    """
    parts = {name: atoms[name].transpose("prompt", "unit").to_numpy() for name in PREDICTION_PARTS}
    return {"joint_prediction": np.add(*parts.values()), **parts}


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


def pooled_noise(atoms: xr.Dataset) -> Float[np.ndarray, "bootstrap unit"]:
    """Draws of integration where nothing is coupled, in nats."""
    return grid_score(
        oriented(atoms["pooled_noise_draw"], "bootstrap"), POOLED_SCORES["integration"]
    )

"""Where each pair's atoms stand under a null: mean, spread, z and p of every atom."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from synatlas.decompose.engine import Engine
from synatlas.decompose.groups import Group, mean_atoms, total
from synatlas.decompose.lattice import grid, moebius
from synatlas.decompose.nulls import Null, draws, prepare
from synatlas.decompose.pairs import chunks, pair_count, panels
from synatlas.decompose.pooled import bootstrap_weights, knowns, prompt_table
from synatlas.decompose.windows import Windows

#: Draws of prompts for the spread of the pooled excess.
BOOTSTRAPS = 199

#: Variable -> its values and attributes.
Tested = dict[str, tuple[Float[np.ndarray, "pair past future"], dict[str, str]]]


def surrogate_test(
    null: Null,
    groups: list[Group],
    standardise: Callable[[np.ndarray, int], Windows],
    engine: Engine,
    *,
    lag: int,
    surrogates: int,
    seed: int,
) -> Tested:
    """Compare the data, prepared as the null needs them, with each surrogate in turn."""
    prepared = prepare(null, groups, standardise, lag)
    data = total(prepared.windows, prepared.windows, prepared.prompts, engine, per_unit=False)
    observed = mean_atoms(data.pair, in_place=True)
    mean, square = np.zeros_like(observed), np.zeros_like(observed)
    above, below = np.zeros_like(observed), np.zeros_like(observed)
    steps = draws(null, prepared, engine, surrogates=surrogates, seed=seed)
    for k, (_, totals) in enumerate(steps):
        atom = mean_atoms(totals.pair, in_place=True)
        # Welford's update: the spread is small beside the mean.
        change = atom - mean
        mean += change / (k + 1)
        square += change * (atom - mean)
        above += atom >= observed
        below += atom <= observed
    with np.errstate(divide="ignore", invalid="ignore"):
        sd = np.sqrt(square / (surrogates - 1)) if surrogates > 1 else np.full_like(mean, np.nan)
    return _tested(observed, mean, sd, above, below, surrogates)


def same_step_test(windows: list[Windows], *, seed: int) -> Tested:
    """Pooled atoms against their same-step null, with a bootstrap of prompts."""
    units = windows[0].shape[1]
    prompts = sum(group.shape[0] for group in windows)
    weights = bootstrap_weights(prompts, BOOTSTRAPS if prompts > 1 else 0, seed)
    shape = (pair_count(units), 4, 4)
    observed, mean = np.empty(shape), np.empty(shape)
    sd, above, below = np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape, np.nan)
    for panel in panels(units):
        table = prompt_table(windows, panel)
        parts = [knowns(weights[c], table) for c in chunks(len(weights), panel.first.size)]
        real, model = (_atoms(np.concatenate(side)) for side in zip(*parts, strict=True))
        observed[panel.pairs], mean[panel.pairs] = real[0], model[0]
        if prompts > 1:
            excess = real[1:] - model[1:]
            sd[panel.pairs] = excess.std(axis=0, ddof=1)
            above[panel.pairs] = (excess <= 0).sum(axis=0)
            below[panel.pairs] = (excess >= 0).sum(axis=0)
    return _tested(observed, mean, sd, above, below, BOOTSTRAPS)


def _atoms(rows: Float[np.ndarray, "draw row pair"]) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        known = [rows[:, k] / rows[:, 16] for k in range(16)]
    return grid(np.stack(moebius(known)))


def _tested(
    observed: np.ndarray,
    mean: np.ndarray,
    sd: np.ndarray,
    above: np.ndarray,
    below: np.ndarray,
    count: int,
) -> Tested:
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = observed - mean
        # A spread of rounding errors is no spread: such an atom is 0 by construction.
        z = np.where(sd > 1e-13, excess / sd, np.nan)
    known = np.isfinite(excess) & np.isfinite(sd)
    greater = np.where(known, (1 + above) / (1 + count), np.nan)
    less = np.where(known, (1 + below) / (1 + count), np.nan)
    nat, one = {"units": "nat"}, {"units": "1"}
    return {
        "null_observed": (observed, {"long_name": "atom, prepared as the null", **nat}),
        "null_mean": (mean, {"long_name": "mean of the null", **nat}),
        "null_sd": (sd, {"long_name": "standard deviation of the null", **nat}),
        "z": (z, {"long_name": "excess in standard deviations of the null", **one}),
        "p_greater": (greater, {"long_name": "p of an atom above its null", **one}),
        "p_less": (less, {"long_name": "p of an atom below its null", **one}),
        "p": (
            np.minimum(1.0, 2 * np.minimum(greater, less)),
            {"long_name": "two-sided p", **one},
        ),
    }

"""Controls: synergy against the independence nulls, integration, and the call of the core."""

import json
import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int8
from scipy import stats

from synatlas.inference import (
    FDR_LEVEL,
    P_UNRESOLVED,
    SurrogateTest,
    adjusted_p,
    standard_errors,
    surrogate_test,
)
from synatlas.rank.unit_scores import grid_score, oriented

#: The first that is accepted makes the call, at its nominal level; the excess over the others has
#: to have the same sign. The larger p of both would be far below its level (docs/validity.md).
INDEPENDENCE_NULLS: Final = ("cross_prompt", "window_shift")

#: Largest relative error of a null's mean self-information: synergy of independent series is
#: twice the smaller self-information, so a null that misses it by more has the wrong level.
MATCHING_BOUND: Final = 0.02

#: Share of prompt bootstraps in which a unit of the core must qualify.
RECURRENCE: Final = 0.8

#: Values of `core`.
NOT_ASSESSABLE: Final = -1
OUTSIDE: Final = 0
CORE: Final = 1

#: Power at which the minimum detectable excess is stated.
POWER: Final = 0.8


class NullTests(NamedTuple):
    """Every surrogate null of an Atoms artifact, tested on unit means; first axis null."""

    names: tuple[str, ...]
    synergy: tuple[SurrogateTest, ...]
    excess: Float[np.ndarray, "null unit"]
    excess_redundancy: Float[np.ndarray, "null unit"]
    draws: Float[np.ndarray, "null surrogate unit"]
    observed: Float[np.ndarray, "null unit"]
    accepted: Bool[np.ndarray, " null"]
    q: Float[np.ndarray, " unit"]
    q_less: Float[np.ndarray, " unit"]


def null_tests(atoms: xr.Dataset) -> NullTests:
    """Test synergy against every null; q is over units, of p of the first accepted null."""
    names = tuple(map(str, atoms["null"].to_numpy()))
    observed = oriented(atoms["null_observed"], "null")
    draws = oriented(atoms["null_draw"], "null", "surrogate")
    synergy, synergy_draws = grid_score(observed, "synergy"), grid_score(draws, "synergy")
    redundancy, redundancy_draws = (
        grid_score(observed, "redundancy"),
        grid_score(draws, "redundancy"),
    )
    tests = tuple(surrogate_test(o, d) for o, d in zip(synergy, synergy_draws, strict=True))
    error = atoms["null_self_information_error"].to_numpy()
    accepted = np.isfinite(error) & (np.abs(error) <= MATCHING_BOUND)
    fit = dict(zip(names, zip(tests, accepted, strict=True), strict=True))
    order = [fit[name] for name in INDEPENDENCE_NULLS if name in fit] or list(fit.values())
    chosen = next((test for test, ok in order if ok), None)
    unit = synergy.shape[1:]
    return NullTests(
        names=names,
        synergy=tests,
        excess=_stack([test.excess for test in tests], unit),
        excess_redundancy=_stack(
            [
                surrogate_test(o, d).excess
                for o, d in zip(redundancy, redundancy_draws, strict=True)
            ],
            unit,
        ),
        draws=synergy_draws,
        observed=synergy,
        accepted=accepted,
        q=np.full(unit, np.nan) if chosen is None else adjusted_p(chosen.p_greater),
        q_less=np.full(unit, np.nan) if chosen is None else adjusted_p(chosen.p_less),
    )


def _stack(
    rows: Sequence[Float[np.ndarray, " unit"]], unit: tuple[int, ...]
) -> Float[np.ndarray, "null unit"]:
    return np.stack(rows) if rows else np.empty((0, *unit))


class Effect(NamedTuple):
    """A mean of excesses with its surrogate interval; last axis of `interval` lower, upper."""

    value: Float[np.ndarray, "*group"]
    interval: Float[np.ndarray, "*group 2"]


def mean_excess(
    tests: NullTests, null: int, weights: Float[np.ndarray, "unit group"], ci_prob: float
) -> Effect:
    """Weighted means over units of the excess over one null, for these prompts.

    The interval is Student's with K - 1 degrees of freedom from the spread of the same mean
    over surrogates. It holds for the recorded prompts: how far other prompts would move the
    excess is not in it.
    """
    draws, observed = tests.draws[null], tests.observed[null]
    defined = np.isfinite(observed) & np.isfinite(draws).all(axis=0)
    k, groups = draws.shape[0], weights.shape[1]
    mass = weights[defined].sum(axis=0)
    if k < 2:
        return Effect(np.full(groups, np.nan), np.full((groups, 2), np.nan))
    share = np.divide(
        weights[defined], mass, out=np.full_like(weights[defined], np.nan), where=mass > 0
    )
    means = draws[:, defined] @ share
    value = observed[defined] @ share - means.mean(axis=0)
    half = stats.t.isf((1 - ci_prob) / 2, k - 1) * means.std(axis=0, ddof=1)
    half = half * math.sqrt(1 + 1 / k)
    return Effect(value, np.stack([value - half, value + half], axis=-1))


def excess_interval(test: SurrogateTest, k: int, ci_prob: float) -> Float[np.ndarray, "unit 2"]:
    """Student interval of every unit's excess, for these prompts (see :func:`mean_excess`)."""
    if k < 2:
        return np.full((*test.excess.shape, 2), np.nan)
    half = stats.t.isf((1 - ci_prob) / 2, k - 1) * test.scale
    return np.stack([test.excess - half, test.excess + half], axis=-1)


def minimum_detectable(test: SurrogateTest, k: int) -> float:
    """Excess that a lone unit needs to be called with 80 % power, median over units, in nats.

    ``(t[1 - 0.05/N] + t[0.8]) * scale``: a lone unit among N must reach p = 0.05 / N under
    Benjamini-Hochberg. NaN where the surrogates do not resolve such a p.
    """
    scale = test.scale[np.isfinite(test.scale)]
    if test.method == P_UNRESOLVED or scale.size == 0:
        return math.nan
    return standard_errors(FDR_LEVEL / scale.size, POWER, k - 1) * float(np.median(scale))


def noise_q(
    value: Float[np.ndarray, " unit"], noise: Float[np.ndarray, "bootstrap unit"], prompts: int
) -> Float[np.ndarray, " unit"]:
    """FDR-adjusted p that a pooled excess is more than the null's own noise, over units.

    `noise` is the excess where each prompt's departure from the null has a random sign, so its
    mean is the bias that squared noise makes. (value - mean) / sd is referred to Student's t with
    prompts - 1 degrees of freedom: counting draws cannot resolve a lone unit among hundreds.
    """
    if prompts < 2 or noise.shape[0] < 2:
        return np.full(value.shape, np.nan)
    sd = noise.std(axis=0, ddof=1)
    t = np.divide(value - noise.mean(axis=0), sd, out=np.full(sd.shape, np.nan), where=sd > 0)
    return adjusted_p(stats.t.sf(t, prompts - 1))


class Jackknife(NamedTuple):
    """Means of pseudo-values with their interval and the FDR-adjusted p that they exceed 0."""

    value: Float[np.ndarray, " unit"]
    interval: Float[np.ndarray, "unit 2"]
    q: Float[np.ndarray, " unit"]


def jackknife(pseudo: Float[np.ndarray, "prompt unit"], ci_prob: float) -> Jackknife:
    """Student interval of the mean over prompts with pseudo-values, and q over units.

    ``mean / (sd / sqrt(n))`` of the n defined pseudo-values is referred to Student's t with
    n - 1 degrees of freedom, upper tail (Tukey 1958, https://doi.org/10.1214/aoms/1177706647).
    NaN for units with fewer than two, and q where their spread is 0.
    """
    finite = np.isfinite(pseudo)
    n = finite.sum(axis=0)
    kept = np.where(finite, pseudo, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = kept.sum(axis=0) / np.where(n > 0, n, np.nan)
        square = (np.where(finite, pseudo - value, 0.0) ** 2).sum(axis=0)
        error = np.sqrt(square / np.where(n > 1, n * (n - 1), np.nan))
        t = np.where(error > 0, value / error, np.nan)
    freedom = np.maximum(n - 1, 1)
    half = stats.t.isf((1 - ci_prob) / 2, freedom) * error
    interval = np.stack([value - half, value + half], axis=-1)
    return Jackknife(value, interval, adjusted_p(stats.t.sf(t, freedom)))


def missing_ingredients(atoms: xr.Dataset, tests: NullTests) -> list[str]:
    """What the call of the core lacks, in plain words; empty where it can be made."""
    missing = []
    why = json.loads(atoms.attrs.get("nulls_left_out", "{}"))

    def not_run(name: str) -> str:
        return f"the {name} null was not run" + (f": {why[name]}" if name in why else "")

    for name in INDEPENDENCE_NULLS:
        if name not in tests.names:
            missing.append(not_run(name))
            continue
        at = tests.names.index(name)
        if not tests.accepted[at]:
            missing.append(
                f"the {name} null is refused, its self-information misses the data's "
                f"by more than {MATCHING_BOUND:.0%}"
            )
        elif tests.synergy[at].method == P_UNRESOLVED:
            missing.append(
                f"{tests.draws.shape[1]} surrogates of the {name} null do not resolve "
                f"{tests.q.size} units"
            )
    if atoms.attrs["redundancy"] != "mmi":
        missing.append("synergy under MMI was not computed")
    elif "unit_atom_ccs" not in atoms:
        missing.append("synergy under CCS was not computed")
    if atoms.sizes["prompt"] < 2:
        missing.append("one prompt gives no intervals")
    elif not np.isfinite(atoms["pooled_excess_draw"].to_numpy()).any():
        missing.append(not_run("same_step"))
    elif atoms.sizes["bootstrap"] < 2:
        missing.append("the pooled excess was not bootstrapped")
    return missing


def call_core(
    *,
    assessable: bool,
    integration_q: Float[np.ndarray, " unit"],
    excess_q: Float[np.ndarray, " unit"],
    excess: Float[np.ndarray, "null unit"],
    synergy_ccs: Float[np.ndarray, " unit"],
    recurrence: Float[np.ndarray, " unit"],
) -> Int8[np.ndarray, " unit"]:
    """Units that pass every control (`CORE`), do not (`OUTSIDE`), or cannot be judged.

    A unit of the core has integration > 0 (q <= 0.05), synergy above every accepted null
    (q <= 0.05), synergy > 0 under CCS as well, and qualifies in at least 80 % of prompt
    bootstraps. One undefined ingredient leaves a unit not assessable.
    """
    parts = np.vstack([integration_q, excess_q, excess, synergy_ccs, recurrence])
    defined = np.isfinite(parts).all(axis=0) & assessable
    passes = (
        (integration_q <= FDR_LEVEL)
        & (excess_q <= FDR_LEVEL)
        & (excess > 0).all(axis=0)
        & (synergy_ccs > 0)
        & (recurrence >= RECURRENCE)
    )
    return np.where(defined, np.where(passes, CORE, OUTSIDE), NOT_ASSESSABLE).astype(np.int8)

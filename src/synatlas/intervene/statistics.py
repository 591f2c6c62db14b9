"""Tests of an ablation experiment: chosen sets of units against random ones."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from synatlas.artifact import fingerprint_of, finish, require
from synatlas.axes import BOUNDS
from synatlas.inference import adjusted_p, rank_correlation
from synatlas.intervene import areas, categories
from synatlas.intervene.decline import FORMS, NO_DECLINE, decline, largest_rise
from synatlas.intervene.measured import Measured, measured
from synatlas.intervene.orders import CONTROLS, DEPTH_MATCHED
from synatlas.intervene.resamples import Resamples
from synatlas.intervene.schema import DIVERGENCE
from synatlas.intervene.sets import (
    among_draws,
    called_from,
    distinct_sets,
    layer_counts,
    over_counts,
    sum_among_matched,
)
from synatlas.intervene.tested import (
    ABLATION_TESTS,
    LAYERS_DIFFER,
    LEVEL,
    TESTED,
    TOO_FEW_DRAWS,
    TOO_FEW_SETS,
    Sheet,
    level_of,
)
from synatlas.rank.select import strata_of

#: Categories of which the paper says that the core matters most for them.
ABSTRACT: Final = ("abstract",)

#: Orders that others are compared with, where they were run.
REFERENCES: Final = (
    "redundant_first", "norm", "gradient", "single_unit", "autocorrelation_baseline",
)  # fmt: skip

_QUANTILES: Final = (0.05, 0.95)


def ablation_tests(
    divergence: xr.Dataset,
    *,
    seed: int = 0,
    draws: int = 2000,
    abstract: Sequence[str] = ABSTRACT,
    ci_prob: float = 0.95,
) -> xr.Dataset:
    """Test whether chosen units matter more than random ones.

    What is sampled is the set of units. At each tested number of units the damage of an order's set
    is put among that of K random sets of equal size, ``p = (1 + draws at least as damaging) / (1 +
    K)``; over all tested numbers likewise, of the mean of damage standardised at each (draw i is
    one nested order, as the tested one is). Depth-matched draws have as many units in each layer as
    the leading order has; for another order the comparison with them is made only where it takes as
    many from each layer, else it is NaN with the status `layers_differ`. p is adjusted over the
    orders by Benjamini and Hochberg: their sets overlap and meet the same draws, so that their p
    depend positively on each other, where it holds; and Holm's method could not reach 5 % with 199
    draws and more than ten orders, whatever their damage. The leading order was named before any
    damage was measured and is one hypothesis, so that its own p may be read as it stands.

    Parameters
    ----------
    divergence : a Divergence artifact.
    seed : of bootstraps and permutations.
    draws : bootstraps and permutations.
    abstract : categories put against the others.
    ci_prob : probability of the intervals.

    Returns
    -------
    xarray.Dataset
        As :data:`synatlas.intervene.tested.ABLATION_TESTS` has it: over outcomes, orders and
        controls p, effect in SDs of the draws, ratio to the mean draw, areas under the curves of
        damage over the share of units, how far the order is from that of single-unit damage
        (`oracle_share`), whether damage grows gradually or at once, what correlates with the order,
        and the leading order's excess over its draws by category.

    Raises
    ------
    ArtifactError
        It is no Divergence artifact.

    References
    ----------
    Phipson, Smyth (2010), https://doi.org/10.2202/1544-6115.1585; Benjamini, Hochberg (1995),
    https://doi.org/10.1111/j.2517-6161.1995.tb02031.x; the published curves that had no such test:
    arXiv 2601.06851, Fig 4.
    """
    found = measured(require(divergence, DIVERGENCE))
    out = _blank(divergence, found)
    _distinct(out, divergence)
    for at, (name, one) in enumerate(found.items()):
        resamples = Resamples(one, draws=draws, seed=seed, ci_prob=ci_prob)
        _damages(out, at, one, resamples)
        _comparisons(out, at, one, resamples)
        areas.fill(out, at, one, resamples, units=divergence.sizes["unit"])
        categories.fill(
            out, at, one, resamples, leading=str(divergence.attrs["matched_to"]), abstract=abstract
        )
        if name == "kl":
            _declines(out, one, seed)
    _explanations(out, divergence)
    out["noise_floor"][...] = float(divergence["noise_floor"].max())
    return _finished(out, divergence, abstract, seed=seed, draws=draws, ci_prob=ci_prob)


def _finished(
    out: Sheet,
    divergence: xr.Dataset,
    abstract: Sequence[str],
    *,
    seed: int,
    draws: int,
    ci_prob: float,
) -> xr.Dataset:
    passed = ("model", "model_revision", "ablation")
    config = {"seed": seed, "draws": draws, "abstract": list(abstract), "ci_prob": ci_prob}
    dataset = out.dataset()
    dataset.attrs = {name: divergence.attrs[name] for name in passed} | {
        "leading": str(divergence.attrs["matched_to"]),
        "abstract": ", ".join(abstract),
        "seed": seed,
        "resamples": draws,
        "ci_prob": ci_prob,
    }
    parents = (str(divergence.attrs["fingerprint"]),)
    fingerprint = fingerprint_of(
        stage="ablation_tests", version=ABLATION_TESTS.version, config=config, parents=parents
    )
    return finish(dataset, ABLATION_TESTS, fingerprint=fingerprint)


def _blank(divergence: xr.Dataset, found: dict[str, Measured]) -> Sheet:
    orders = list(map(str, divergence["order"].to_numpy().tolist()))
    chosen = [name for name in orders if name not in CONTROLS]
    return Sheet.blank(
        {
            "outcome": list(found),
            "order": chosen,
            "control": [name for name in CONTROLS if name in orders],
            "reference": [name for name in REFERENCES if name in chosen],
            "category": sorted({c for one in found.values() for c in one.category}),
            "form": list(FORMS),
            "ci_bound": list(BOUNDS),
            "tested": np.sort(np.atleast_1d(divergence.attrs["tested"])).tolist(),
            "quantile": list(_QUANTILES),
        }
    )


def _damages(out: Sheet, at: int, one: Measured, resamples: Resamples) -> None:
    """Damage of every order and control at the tested numbers of units."""
    for i, order in enumerate(out.labels["order"]):
        values = one.of(order)[one.tested]
        out["damage"][at, i] = values.mean(axis=1)
        out["damage_interval"][at, i] = resamples.interval(resamples.means(values))
    for j, control in enumerate(out.labels["control"]):
        for k, n in enumerate(np.flatnonzero(one.tested)):
            draws = one.draws_of(control, np.arange(one.counts.size) == n)[:, 0]
            if len(draws):
                means = draws.mean(axis=1)
                out["control_damage"][at, j, k] = means.mean()
                out["control_quantile"][at, j, k] = np.quantile(means, _QUANTILES)
                level = level_of(out.labels["outcome"][at])
                out["ratio_called_at"][at, j, k] = called_from(means, level)


def _comparisons(out: Sheet, at: int, one: Measured, resamples: Resamples) -> None:
    """Every order among the draws of every control."""
    for j, control in enumerate(out.labels["control"]):
        drawn = resamples.control_means(control, one.tested)
        for i, order in enumerate(out.labels["order"]):
            if np.isnan(out["distinct_sets"][i, j]).all():
                out["status"][at, i, j] = LAYERS_DIFFER
                continue
            _compare(out, (at, i, j), one, order, control)
            means = resamples.means(one.of(order)[one.tested])
            ratio = np.divide(means, drawn, out=np.full(means.shape, np.nan), where=drawn > 0)
            out["ratio_at_interval"][at, i, j] = resamples.interval(ratio)
        counted = out["draws"][at, :, j]
        out["least_p"][at, j] = 1 / (1 + counted.max()) if counted.max(initial=0) else np.nan
        for tail in ("more", "less"):
            out[f"q_{tail}"][at, :, j] = adjusted_p(out[f"p_{tail}"][at, :, j])


def _distinct(out: Sheet, divergence: xr.Dataset) -> None:
    """How many sets each control can draw; NaN where an order takes other layers than it does."""
    counts = np.array(out.labels["tested"])
    everywhere = np.zeros(divergence.sizes["unit"], dtype=np.int64)
    strata = dict.fromkeys(CONTROLS, everywhere) | {DEPTH_MATCHED: _strata(divergence)}
    for j, control in enumerate(out.labels["control"]):
        group = strata[control]
        leading = layer_counts(places(divergence, str(divergence.attrs["matched_to"])), group,
                               counts)  # fmt: skip
        for i, order in enumerate(out.labels["order"]):
            own = layer_counts(places(divergence, order), group, counts)
            if np.array_equal(own, leading):
                out["distinct_sets"][i, j] = distinct_sets(own, np.bincount(group))


def _strata(divergence: xr.Dataset) -> Int[np.ndarray, " unit"]:
    """What depth-matched draws keep of each unit."""
    return strata_of(divergence["layer"], divergence["kind"])


def places(divergence: xr.Dataset, order: str) -> Int[np.ndarray, " unit"]:
    """Place of every unit in an order that is no control, from 0."""
    return divergence["place"].sel(order=order, draw=0).to_numpy().astype(np.int64) - 1


def _compare(
    out: Sheet, cell: tuple[int, int, int], one: Measured, order: str, control: str
) -> None:
    counts = one.shared(order, control, one.tested)
    inside = counts[one.tested]
    draws = one.draws_of(control, counts)
    if not len(draws) or not counts.any():
        return
    observed, drawn = one.of(order)[counts].mean(axis=1), draws.mean(axis=2)
    for k, n in zip(np.flatnonzero(inside), np.flatnonzero(counts), strict=True):
        alone = one.draws_of(control, np.arange(counts.size) == n)[:, 0].mean(axis=1)
        found = among_draws(one.of(order)[n].mean(keepdims=True), alone[:, None])
        for name in ("p_more", "p_less", "effect", "quantile", "ratio"):
            out[f"{name}_at"][(*cell, k)] = getattr(found, name)[0]
    found = over_counts(observed, drawn)
    for name in ("p_more", "p_less", "effect"):
        out[name][cell] = getattr(found, name)[0]
    sets = out["distinct_sets"][cell[1], cell[2]][inside].max()
    out["draws"][cell] = len(draws)
    out["status"][cell] = (
        TOO_FEW_DRAWS if 1 / (1 + len(draws)) > LEVEL else TOO_FEW_SETS if 1 / sets > LEVEL
        else TESTED
    )  # fmt: skip


def _declines(out: Sheet, one: Measured, seed: int) -> None:
    for i, order in enumerate(out.labels["order"]):
        run = np.isfinite(one.of(order)).all(axis=1)
        found = NO_DECLINE
        if run.any():
            rng = np.random.default_rng((seed, 2))
            found = decline(one.of(order)[run], one.counts[run], rng=rng)
        out["decline"][i] = found.said
        out["decline_aicc"][i] = found.aicc
        out["decline_support"][i] = found.support
        out["jump_share"][i] = found.jump_share
        out["jump_at"][i] = found.jump_at
    everywhere = np.ones(one.counts.size, dtype=bool)
    for j, control in enumerate(out.labels["control"]):
        draws = one.draws_of(control, everywhere)
        if len(draws):
            shares = [largest_rise(draw.mean(axis=1)) for draw in draws]
            out["control_jump_share"][j] = np.mean(shares)


def _explanations(out: Sheet, divergence: xr.Dataset) -> None:
    """What may stand behind an order: other orders, and damage of its units alone."""
    names = out.labels["order"]
    first = {name: -places(divergence, name).astype(float) for name in names}
    for i, name in enumerate(names):
        for j, reference in enumerate(out.labels["reference"]):
            both = np.stack([first[name], first[reference]])
            out["order_correlation"][i, j] = float(rank_correlation(both[:1], both[1:])[0])
    if "single_kl" not in divergence:
        return
    alone = divergence["single_kl"].mean("prompt").to_numpy().astype(float)
    strata = _strata(divergence)
    counts = np.array(out.labels["tested"])
    for i, name in enumerate(names):
        whole = rank_correlation(first[name][None], alone[None])
        out["single_correlation"][i] = float(whole[0])
        out["single_correlation_in_layers"][i] = _within(first[name], alone, strata)
        out["single_sum_effect"][i] = sum_among_matched(
            alone, places(divergence, name), strata, counts
        )


def _within(
    a: Float[np.ndarray, " unit"], b: Float[np.ndarray, " unit"], group: Int[np.ndarray, " unit"]
) -> float:
    """Correlation of ranks less the mean rank of their group; NaN where nothing is left."""
    from scipy.stats import rankdata

    ranks = [rankdata(values) for values in (a, b)]
    x, y = (r - (np.bincount(group, r) / np.bincount(group))[group] for r in ranks)
    size = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / size) if size > 1e-9 * a.size else float("nan")

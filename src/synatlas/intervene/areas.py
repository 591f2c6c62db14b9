"""Areas under curves of damage over the share of units ablated."""

from typing import Final

import numpy as np
from jaxtyping import Float

from synatlas.intervene.measured import Measured
from synatlas.intervene.orders import RANDOM
from synatlas.intervene.resamples import Resamples
from synatlas.intervene.tested import Sheet

#: The order that ranks units by their damage alone.
ORACLE: Final = "single_unit"

#: Fewest counts of units, beside 0, that span an area.
FEWEST: Final = 3


def trapezoid(fractions: Float[np.ndarray, " count"]) -> Float[np.ndarray, " count"]:
    """Weights of the area under a curve that begins at (0, 0), by the trapezoidal rule."""
    x = np.concatenate([[0.0], fractions])
    ends = np.append(x[1:], x[-1])
    return (ends[1:] - x[:-1]) / 2


def fill(out: Sheet, at: int, one: Measured, resamples: Resamples, *, units: int) -> None:
    """Areas of every order, and how they compare with random and with other orders."""
    fractions = one.counts / units
    orders = out.labels["order"]
    alone, drawn = {}, {}
    for i, order in enumerate(orders):
        run = np.isfinite(one.of(order)).all(axis=1)
        if run.sum() < FEWEST:
            continue
        area = trapezoid(fractions[run]) @ one.of(order)[run]
        alone[order], drawn[order] = area.mean(), resamples.weights @ area
        out["area"][at, i] = alone[order]
        out["area_interval"][at, i] = resamples.interval(drawn[order])
        for j, control in enumerate(out.labels["control"]):
            _against_control(out, (at, i, j), one, resamples, fractions, order, control)
    for i, order in enumerate(orders):
        for j, other in enumerate(out.labels["reference"]):
            if order in alone and other in alone and order != other:
                out["area_ratio_to"][at, i, j] = _over(alone[order], alone[other])
                out["area_ratio_to_interval"][at, i, j] = resamples.interval(
                    _over(drawn[order], drawn[other])
                )
    _oracle(out, at, one, resamples, fractions)


def _against_control(
    out: Sheet, cell: tuple[int, int, int], one: Measured, resamples: Resamples,
    fractions: Float[np.ndarray, " count"], order: str, control: str,
) -> None:  # fmt: skip
    shared = one.shared(order, control, np.ones(one.counts.size, dtype=bool))
    draws = one.draws_of(control, shared)
    if shared.sum() < FEWEST or not len(draws):
        return
    weights = trapezoid(fractions[shared])
    own = weights @ one.of(order)[shared]
    random = np.einsum("c,dcs->ds", weights, draws)
    mine, theirs = resamples.weights @ own, resamples.of_sets(random)
    out["area_ratio"][cell] = _over(own.mean(), random.mean())
    out["area_ratio_interval"][cell] = resamples.interval(_over(mine, theirs))
    out["area_difference"][cell] = own.mean() - random.mean()
    out["area_difference_interval"][cell] = resamples.interval(mine - theirs)


def _oracle(
    out: Sheet, at: int, one: Measured, resamples: Resamples,
    fractions: Float[np.ndarray, " count"],
) -> None:  # fmt: skip
    """Share of the oracle's area above the mean random one that each order has."""
    orders = out.labels["order"]
    if ORACLE not in orders or RANDOM not in one.orders:
        return
    for i, order in enumerate(orders):
        both = one.shared(ORACLE, RANDOM, one.shared(order, RANDOM, np.ones(fractions.size, bool)))
        draws = one.draws_of(RANDOM, both)
        if order == ORACLE or both.sum() < FEWEST or not len(draws):
            continue
        weights = trapezoid(fractions[both])
        own, best = (weights @ one.of(name)[both] for name in (order, ORACLE))
        random = np.einsum("c,dcs->ds", weights, draws)
        theirs = resamples.of_sets(random)
        out["oracle_share"][at, i] = _over(own.mean() - random.mean(), best.mean() - random.mean())
        mine, most = (resamples.weights @ area for area in (own, best))
        out["oracle_share_interval"][at, i] = resamples.interval(
            _over(mine - theirs, most - theirs)
        )


def _over(a: np.ndarray | np.floating, b: np.ndarray | np.floating) -> np.ndarray:
    """A / b, NaN where b is not positive."""
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    return np.divide(a, b, out=np.full(b.shape, np.nan), where=b > 0)

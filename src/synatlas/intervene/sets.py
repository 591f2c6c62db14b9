"""A chosen set of units among random sets: the set is what is sampled."""

from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float, Int

#: Damages that differ by less than this share count as equal, in favour of neither tail: one set
#: measured twice differs by rounding.
TIE: Final = 1e-6


class AmongDraws(NamedTuple):
    """One set among K random ones, at every count of units.

    `p_more` and `p_less` are ``(1 + draws at least as, at most as damaging) / (1 + K)``; `effect`
    the difference from the mean draw in standard deviations of the draws; `ratio` the damage over
    that of the mean draw (NaN where that is not positive); `quantile` the share of draws that are
    less damaging, ties by half.
    """

    p_more: Float[np.ndarray, " count"]
    p_less: Float[np.ndarray, " count"]
    effect: Float[np.ndarray, " count"]
    ratio: Float[np.ndarray, " count"]
    quantile: Float[np.ndarray, " count"]


def among_draws(
    observed: Float[np.ndarray, " count"], draws: Float[np.ndarray, "draw count"]
) -> AmongDraws:
    """Compare the damage of a set with that of random sets of its size.

    Where the set is as likely as any draw (it was chosen without regard to what its units do),
    each p is at most alpha with probability at most alpha, whatever the distribution.

    Parameters
    ----------
    observed : damage of the set at every count of units.
    draws : damage of the random sets; at least one.

    References
    ----------
    Phipson, Smyth (2010), https://doi.org/10.2202/1544-6115.1585
    """
    k = len(draws)
    slack = TIE * np.abs(observed)
    more = (draws >= observed - slack).sum(axis=0)
    less = (draws <= observed + slack).sum(axis=0)
    mean = draws.mean(axis=0)
    spread = draws.std(axis=0, ddof=1) if k > 1 else np.full(mean.shape, np.nan)
    blank = np.full(mean.shape, np.nan)
    return AmongDraws(
        p_more=(1 + more) / (1 + k),
        p_less=(1 + less) / (1 + k),
        effect=np.divide(observed - mean, spread, out=blank.copy(), where=spread > 0),
        ratio=np.divide(observed, mean, out=blank.copy(), where=mean > 0),
        quantile=(less + k - more) / (2 * k),
    )


def called_from(draws: Float[np.ndarray, " draw"], level: float) -> float:
    """Ratio to the mean draw above which a set has ``p_more <= level``.

    NaN where so few draws give no such p, or the mean draw is not positive.
    """
    beaten = int(np.floor(level * (1 + draws.size) * (1 + 1e-12)))
    mean = draws.mean()
    return float(np.sort(draws)[-beaten] / mean) if beaten and mean > 0 else float("nan")


def over_counts(
    observed: Float[np.ndarray, " count"], draws: Float[np.ndarray, "draw count"]
) -> AmongDraws:
    """One comparison over all counts: of the mean over counts of standardised damage.

    Draw i is one order of units, its sets at the counts nested in each other as those of the
    observed order are, so that the mean over counts is one number per order. At each count damage
    is standardised by mean and deviation of the observed one and the draws together: a function
    that does not know which is which, so that p is exact as that of :func:`among_draws` is.

    Returns
    -------
    AmongDraws
        One entry; `effect` is that of the mean of standardised damage, `ratio` that of the damages'
        sums over counts.
    """
    pool = np.concatenate([observed[None], draws])
    spread = pool.std(axis=0)
    usable = spread > 0
    standard = np.zeros(pool.shape)
    standard[:, usable] = (pool - pool.mean(axis=0))[:, usable] / spread[usable]
    score = standard.mean(axis=1, keepdims=True)
    found = among_draws(score[0], score[1:])
    total = pool.sum(axis=1)
    mean = total[1:].mean()
    ratio = total[:1] / mean if mean > 0 else np.full(1, np.nan)
    return found._replace(ratio=ratio)


def layer_counts(
    position: Int[np.ndarray, " unit"],
    layer: Int[np.ndarray, " unit"],
    counts: Int[np.ndarray, " count"],
) -> Int[np.ndarray, "count layer"]:
    """How many units of every layer are among the first ones of an order.

    Parameters
    ----------
    position : of every unit in the order, from 0.
    layer : of every unit.
    counts : sizes of the sets.
    """
    chosen = position < counts[:, None]
    inside = layer[:, None] == np.unique(layer)
    return chosen.astype(np.int64) @ inside.astype(np.int64)


def distinct_sets(
    taken: Int[np.ndarray, "count layer"], there: Int[np.ndarray, " layer"]
) -> Float[np.ndarray, " count"]:
    """How many sets take as many units of every layer: the product of binomial coefficients.

    Infinite beyond the largest float.
    """
    from scipy.special import gammaln

    log = gammaln(there + 1) - gammaln(taken + 1) - gammaln(there - taken + 1)
    with np.errstate(over="ignore"):
        return np.exp(log.sum(axis=1))


def sum_among_matched(
    values: Float[np.ndarray, " unit"],
    position: Int[np.ndarray, " unit"],
    layer: Int[np.ndarray, " unit"],
    counts: Int[np.ndarray, " count"],
) -> Float[np.ndarray, " count"]:
    """How far the sum of a value over a set lies above that of depth-matched sets, in their SDs.

    Sets with ``k_l`` of the ``n_l`` units of layer l, drawn without replacement, have the mean
    ``sum k_l m_l`` and the variance ``sum k_l (1 - k_l / n_l) s_l^2`` exactly (Cochran 1977,
    Sampling Techniques, section 5.3). NaN where no other set is possible.
    """
    layers, at = np.unique(layer, return_inverse=True)
    there = np.bincount(at)
    mean = np.bincount(at, values) / there
    squares = np.bincount(at, (values - mean[at]) ** 2)
    variance = np.divide(squares, there - 1, out=np.zeros(layers.size), where=there > 1)
    taken = layer_counts(position, layer, counts)
    chosen = (position < counts[:, None]).astype(float)
    spread = np.sqrt((taken * (1 - taken / there)) @ variance)
    excess = chosen @ values - taken @ mean
    # Where every layer is taken whole or not at all, only rounding is left.
    least = 1e-9 * np.sqrt((values**2).sum())
    return np.divide(excess, spread, out=np.full(spread.shape, np.nan), where=spread > least)

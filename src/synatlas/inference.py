"""Resampling, surrogate tests, false discovery rate and rank correlation on plain arrays."""

import itertools
import math
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

#: Level of false discoveries for which a count of surrogates is judged sufficient.
FDR_LEVEL: Final = 0.05

#: Up to this many layers every order is enumerated (7! = 5040).
EXACT_ORDERS: Final = 7

#: Fewer surrogates than this never give a counted p (the default number of the method).
COUNTED_SURROGATES: Final = 199

#: How a surrogate p was obtained; the numbers are stored as flags.
P_UNRESOLVED: Final = 0
P_COUNTED: Final = 1
P_STUDENT: Final = 2


class SurrogateTest(NamedTuple):
    """Observed values against draws of their null, one entry per unit.

    `excess` is observed minus the mean draw, `scale` the standard deviation of that difference
    under the null (``sd * sqrt(1 + 1/K)``), `z` the excess in standard deviations of the draws,
    `method` one of `P_UNRESOLVED`, `P_COUNTED`, `P_STUDENT`.
    """

    excess: Float[np.ndarray, " unit"]
    scale: Float[np.ndarray, " unit"]
    z: Float[np.ndarray, " unit"]
    p_greater: Float[np.ndarray, " unit"]
    p_less: Float[np.ndarray, " unit"]
    method: int


def resampling_weights(
    items: int, draws: int, rng: np.random.Generator
) -> Float[np.ndarray, "draw item"]:
    """Weights of `draws` bootstrap samples of `items` items with replacement; rows sum to 1."""
    counts = rng.multinomial(items, np.full(items, 1 / items), size=draws)
    return counts / items


def half_weights(
    items: int, splits: int, rng: np.random.Generator
) -> Float[np.ndarray, "half split item"]:
    """Weights of two disjoint random halves of `items`, `splits` times (odd: one item unused)."""
    order = rng.permuted(np.tile(np.arange(items), (splits, 1)), axis=1)
    half = items // 2
    weights = np.zeros((2, splits, items))
    rows = np.arange(splits)[:, None]
    weights[0, rows, order[:, :half]] = 1 / half
    weights[1, rows, order[:, half : 2 * half]] = 1 / half
    return weights


def weighted_mean(
    weights: Float[np.ndarray, "draw item"], values: Float[np.ndarray, "item unit"]
) -> Float[np.ndarray, "draw unit"]:
    """Weighted means over items, each over the items where the unit is defined, else NaN."""
    finite = np.isfinite(values)
    if finite.all():
        return weights @ values
    total = weights @ np.where(finite, values, 0.0)
    mass = weights @ finite.astype(float)
    return np.divide(total, mass, out=np.full_like(total, np.nan), where=mass > 0)


def percentile_interval(
    draws: Float[np.ndarray, "draw *shape"], prob: float
) -> Float[np.ndarray, "*shape 2"]:
    """Central `prob` interval of draws along the first axis; undefined draws are left out.

    References
    ----------
    Efron, Tibshirani (1993), An Introduction to the Bootstrap, chapter 13.
    """
    flat = draws.reshape(draws.shape[0], math.prod(draws.shape[1:]))
    bounds = np.array([(1 - prob) / 2, (1 + prob) / 2])
    finite = np.isfinite(flat)
    whole = finite.all(axis=0) & finite.any(axis=0)
    out = np.full((flat.shape[1], 2), np.nan)
    if whole.any():
        out[whole] = np.quantile(flat[:, whole], bounds, axis=0).T
    for column in np.flatnonzero(finite.any(axis=0) & ~whole):
        out[column] = np.quantile(flat[finite[:, column], column], bounds)
    return out.reshape(*draws.shape[1:], 2)


def adjusted_p(p: Float[np.ndarray, " unit"]) -> Float[np.ndarray, " unit"]:
    """Benjamini-Hochberg adjusted p over the defined entries; undefined ones stay NaN.

    References
    ----------
    Benjamini, Hochberg (1995), https://doi.org/10.1111/j.2517-6161.1995.tb02031.x
    """
    out = np.full(p.shape, np.nan)
    finite = np.isfinite(p)
    if finite.any():
        out[finite] = stats.false_discovery_control(p[finite], method="bh")
    return out


def surrogate_test(
    observed: Float[np.ndarray, " unit"], draws: Float[np.ndarray, "surrogate unit"]
) -> SurrogateTest:
    """Compare `observed` with draws of its null, in both tails.

    With K draws the counted p is ``(1 + count) / (1 + K)``. It is used where K is at least 199
    and its floor lets a single unit pass the false discovery rate of 5 % over all units. Else z
    is referred to Student's t with K - 1 degrees of freedom and the factor sqrt(1 + 1/K), if
    the draws themselves, each referred to the others, keep that distribution (see
    :func:`student_holds`). Else the counted p stays and the method is `P_UNRESOLVED`.
    """
    k = draws.shape[0]
    nowhere = np.full(observed.shape, np.nan)
    if k == 0:
        return SurrogateTest(nowhere, nowhere, nowhere, nowhere, nowhere, P_UNRESOLVED)
    excess = observed - draws.mean(axis=0)
    defined = np.isfinite(excess)
    greater = np.where(defined, (1 + (draws >= observed).sum(axis=0)) / (1 + k), np.nan)
    less = np.where(defined, (1 + (draws <= observed).sum(axis=0)) / (1 + k), np.nan)
    sd = draws.std(axis=0, ddof=1) if k > 1 else nowhere
    scale = sd * math.sqrt(1 + 1 / k)
    z = np.divide(excess, sd, out=nowhere.copy(), where=sd > 0)
    if k >= COUNTED_SURROGATES and defined.sum() / (1 + k) <= FDR_LEVEL:
        return SurrogateTest(excess, scale, z, greater, less, P_COUNTED)
    if student_holds(draws[:, defined]):
        t = np.divide(excess, scale, out=nowhere.copy(), where=scale > 0)
        upper, lower = stats.t.sf(t, k - 1), stats.t.cdf(t, k - 1)
        return SurrogateTest(excess, scale, z, upper, lower, P_STUDENT)
    return SurrogateTest(excess, scale, z, greater, less, P_UNRESOLVED)


def standard_errors(tail: float, power: float, freedom: int) -> float:
    """Standard errors that an effect needs to be called at `tail`, one-sided, with `power`.

    ``t[1 - tail] + t[power]`` of Student's t, for an effect that shifts an estimate and leaves its
    spread as it is.
    """
    return float(stats.t.isf(tail, freedom) + stats.t.ppf(power, freedom))


def student_holds(draws: Float[np.ndarray, "surrogate unit"]) -> bool:
    """Whether surrogates, each referred to the others of its unit, follow Student's t.

    For normal draws ``(x_k - mean of the others) / (their sd * sqrt(1 + 1/(K-1)))`` is Student
    with K - 2 degrees of freedom. The rule: at most 2 % of all draws fall in either 1 % tail,
    and at most 0.4 % in either 0.1 % tail, or as many as chance allows (99 % binomial bound).
    """
    k = draws.shape[0]
    if k < 4 or draws.shape[1] == 0:
        return False
    centred = draws - draws.mean(axis=0)
    squares = (centred**2).sum(axis=0)
    if not (squares > 0).all():
        return False
    # Leaving one out in closed form: its residual grows by K/(K-1), the sum of squares shrinks.
    residual = centred * k / (k - 1)
    variance = (squares - centred**2 * k / (k - 1)) / (k - 2)
    t = residual / np.sqrt(np.maximum(variance, squares * 1e-15) * (1 + 1 / (k - 1)))
    for level, bound in ((0.01, 0.02), (0.001, 0.004)):
        edge = stats.t.isf(level, k - 2)
        allowed = max(bound * t.size, float(stats.binom.isf(0.01, t.size, level)))
        if max(int((t > edge).sum()), int((t < -edge).sum())) > allowed:
            return False
    return True


def rank_correlation(
    a: Float[np.ndarray, "*row unit"], b: Float[np.ndarray, "*row unit"]
) -> Float[np.ndarray, "*row"]:
    """Spearman correlation along the last axis, over entries defined in both; ties averaged.

    NaN where fewer than three entries are defined or one side is constant.
    """
    flat_a, flat_b = a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])
    both = np.isfinite(flat_a) & np.isfinite(flat_b)
    if (both == both[:1]).all():
        out = _correlation_of_ranks(flat_a[:, both[0]], flat_b[:, both[0]])
    else:
        rows = [
            _correlation_of_ranks(x[None, m], y[None, m])
            for x, y, m in zip(flat_a, flat_b, both, strict=True)
        ]
        out = np.concatenate(rows)
    return out.reshape(a.shape[:-1])


def _correlation_of_ranks(
    a: Float[np.ndarray, "row unit"], b: Float[np.ndarray, "row unit"]
) -> Float[np.ndarray, " row"]:
    if a.shape[1] < 3:
        return np.full(a.shape[0], np.nan)
    return correlation(stats.rankdata(a, axis=1), stats.rankdata(b, axis=1))


def correlation(
    a: Float[np.ndarray, "row unit"], b: Float[np.ndarray, "row unit"]
) -> Float[np.ndarray, " row"]:
    """Pearson correlation along the last axis of defined entries; NaN where a side is constant."""
    x, y = (values - values.mean(axis=1, keepdims=True) for values in (a, b))
    norm = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return np.divide((x * y).sum(axis=1), norm, out=np.full(norm.shape, np.nan), where=norm > 0)


def partial_rank_correlation(
    a: Float[np.ndarray, " unit"],
    b: Float[np.ndarray, " unit"],
    given: Float[np.ndarray, "control unit"],
) -> float:
    """Spearman correlation of `a` and `b` with the ranks of `given` regressed out of both.

    NaN where too few units are defined in all, or nothing is left of `a` or `b`.
    """
    table = np.concatenate([a[None], b[None], given])
    table = table[:, np.isfinite(table).all(axis=0)]
    if table.shape[1] < given.shape[0] + 3:
        return math.nan
    ranks = stats.rankdata(table, axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    controls = ranks[2:].T
    fitted = controls @ np.linalg.lstsq(controls, ranks[:2].T, rcond=None)[0]
    left = ranks[:2] - fitted.T
    size = np.sqrt((left**2).sum(axis=1))
    whole = np.sqrt((ranks[:2] ** 2).sum(axis=1))
    if (size <= 1e-7 * whole).any():
        return math.nan
    return float(left[0] @ left[1] / (size[0] * size[1]))


def layer_orders(
    layers: int, draws: int, rng: np.random.Generator
) -> Int[np.ndarray, "order layer"]:
    """Orders of `layers` layers: all of them up to 7, else the identity and `draws` random."""
    if layers <= EXACT_ORDERS:
        return np.array(list(itertools.permutations(range(layers))), dtype=np.int64)
    identity = np.arange(layers)
    shuffled = rng.permuted(np.tile(identity, (draws, 1)), axis=1)
    return np.concatenate([identity[None], shuffled])

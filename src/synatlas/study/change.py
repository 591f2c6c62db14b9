"""Whether an order parameter changes with difficulty: a permutation test of its labels."""

from dataclasses import dataclass
from typing import Final, NamedTuple, final

import numpy as np
from jaxtyping import Float, Int

from synatlas.inference import percentile_interval

#: A covariate whose variance lies between difficulties to this share or more cannot be told apart
#: from difficulty: its slope would inflate the variance of the levels tenfold.
COLLINEAR: Final = 0.9

#: Simulations and permutations are multiplied in blocks of about this many numbers.
_BLOCK: Final = 8_000_000


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """An order parameter of prompts of graded difficulty, several alike data sets at once.

    Parameters
    ----------
    values : (sim, prompt), finite; a study has one sim.
    level : (prompt,) index of each prompt's difficulty.
    seed : (prompt,) batch that each prompt was drawn in.
    difficulty : (level,) the difficulties, growing.
    covariates : (sim or 1, prompt, covariate), none of them collinear with the levels.
    """

    values: Float[np.ndarray, "sim prompt"]
    level: Int[np.ndarray, " prompt"]
    seed: Int[np.ndarray, " prompt"]
    difficulty: Float[np.ndarray, " level"]
    covariates: Float[np.ndarray, "rows prompt covariate"]

    @property
    def belongs(self) -> Float[np.ndarray, "prompt level"]:
        """1 where the prompt is of the level."""
        return (self.level[:, None] == np.arange(self.difficulty.size)).astype(float)

    @property
    def drawn(self) -> Float[np.ndarray, "prompt seed"]:
        """1 where the prompt is of the seed."""
        return (self.seed[:, None] == np.unique(self.seed)).astype(float)


def without_covariates(graded: Graded) -> Graded:
    """The same values, nothing to be regressed out of them."""
    return Graded(
        values=graded.values,
        level=graded.level,
        seed=graded.seed,
        difficulty=graded.difficulty,
        covariates=np.zeros((1, graded.level.size, 0)),
    )


def without_seeds(graded: Graded) -> Graded:
    """Values less the mean of their seed, plus that of all; covariates less that of their seed."""
    drawn = graded.drawn
    means = drawn / drawn.sum(axis=0)
    y, x = graded.values, graded.covariates.swapaxes(1, 2)
    return Graded(
        values=y - (y @ means) @ drawn.T + y.mean(axis=1, keepdims=True),
        level=graded.level,
        seed=graded.seed,
        difficulty=graded.difficulty,
        covariates=(x - (x @ means) @ drawn.T).swapaxes(1, 2),
    )


def between_share(
    covariate: Float[np.ndarray, " prompt"],
    level: Int[np.ndarray, " prompt"],
    seed: Int[np.ndarray, " prompt"],
) -> float:
    """Share of a covariate's variance within seeds that lies between levels; NaN if constant."""
    centred = covariate - _means(covariate, seed)
    total = float((centred**2).sum())
    if total <= 1e-12 * float((covariate**2).sum()):
        return float("nan")
    rest = centred - _means(centred, level)
    return 1.0 - float((rest**2).sum()) / total


def _means(values: Float[np.ndarray, " prompt"], group: Int[np.ndarray, " prompt"]) -> np.ndarray:
    _, at = np.unique(group, return_inverse=True)
    return (np.bincount(at, values) / np.bincount(at))[at]


def change_p(
    graded: Graded, permutations: int, rng: np.random.Generator
) -> Float[np.ndarray, " sim"]:
    """P-value of "the order parameter has one mean at every difficulty".

    With Z the seeds and covariates, D the levels, M what projects Z out and ``e = M y``, the
    statistic is ``W = e'D (sum over levels l of s_l^2 D'M E_l M D)^-1 D'e``: E_l picks the prompts
    of level l and s_l^2 is the variance of e among them, as in Welch's test. Its distribution is
    that over permutations of e within seeds (Freedman, Lane 1983); without covariates these are
    permutations of the labels of difficulty. Weighting by the variance of every level keeps the
    level of the test where levels vary differently (Pauly, Brunner, Konietschke 2015).

    Parameters
    ----------
    graded : at least two levels, and two prompts of each within every seed.
    permutations : drawn ones; p is ``(1 + count) / (1 + permutations)``.
    rng : of the permutations, the same for every sim.

    Returns
    -------
    numpy.ndarray
        (sim,), NaN where the values do not vary.

    References
    ----------
    Freedman, Lane (1983), https://doi.org/10.1080/07350015.1983.10509354; Pauly, Brunner,
    Konietschke (2015), https://doi.org/10.1111/rssb.12073
    """
    order = _within_seeds(graded.seed, permutations, rng)
    sims = graded.values.shape[0]
    block = max(1, _BLOCK // order.size)
    parts = [_wald(_rows(graded, slice(i, i + block)), order) for i in range(0, sims, block)]
    wald = np.concatenate(parts)
    p = (wald >= wald[:, :1] * (1 - 1e-10)).sum(axis=1) / wald.shape[1]
    return np.where(np.isfinite(wald).all(axis=1), p, np.nan)


def _rows(graded: Graded, rows: slice) -> Graded:
    covariates = graded.covariates
    return Graded(
        values=graded.values[rows],
        level=graded.level,
        seed=graded.seed,
        difficulty=graded.difficulty,
        covariates=covariates if covariates.shape[0] == 1 else covariates[rows],
    )


def _within_seeds(
    seed: Int[np.ndarray, " prompt"], permutations: int, rng: np.random.Generator
) -> Int[np.ndarray, "draw prompt"]:
    """The identity, then random orders that keep every prompt's seed."""
    order = np.tile(np.arange(seed.size), (1 + permutations, 1))
    for one in np.unique(seed):
        members = np.flatnonzero(seed == one)
        order[1:, members] = rng.permuted(order[1:, members], axis=1)
    return order


def _wald(graded: Graded, order: Int[np.ndarray, "draw prompt"]) -> Float[np.ndarray, "sim draw"]:
    belongs = graded.belongs
    nuisance = np.concatenate(
        [np.broadcast_to(graded.drawn, (*graded.covariates.shape[:2], graded.drawn.shape[1])),
         graded.covariates],
        axis=2,
    )  # fmt: skip
    basis = np.linalg.qr(nuisance)[0]
    residual = graded.values - np.einsum(
        "snq,sq->sn", basis, np.einsum("snq,sn->sq", basis, graded.values)
    )
    left = belongs - basis @ (basis.swapaxes(1, 2) @ belongs)
    # The last level is what the seeds leave of the others.
    left = left[:, :, :-1]
    spread = np.einsum("nl,sni,snj->slij", belongs, left, left)
    draws = residual[:, order]
    shares = belongs / belongs.sum(axis=0)
    variance = (draws**2) @ shares - (draws @ shares) ** 2
    least = 1e-9 * variance.mean(axis=2, keepdims=True)
    flat = variance.mean(axis=2) <= 1e-20 * (graded.values**2).mean(axis=1, keepdims=True)
    variance = np.where(flat[..., None], 1.0, np.maximum(variance, least))
    apart = np.einsum("sbn,snl->sbl", draws, np.broadcast_to(left, (len(draws), *left.shape[1:])))
    weight = np.einsum("sbl,slij->sbij", variance, np.broadcast_to(
        spread, (len(draws), *spread.shape[1:])))  # fmt: skip
    wald = (apart * np.linalg.solve(weight, apart[..., None])[..., 0]).sum(axis=-1)
    return np.where(flat, np.nan, wald)


class Levels(NamedTuple):
    """Means of an order parameter at every difficulty, as their bootstrap draws.

    `mean` are least squares means at the mean of the covariates; `draws` those of resampled
    prompts; `spread` the variance of a prompt in each draw.
    """

    mean: Float[np.ndarray, " level"]
    draws: Float[np.ndarray, "draw level"]
    spread: Float[np.ndarray, "draw level"]
    prompts: Int[np.ndarray, " level"]

    def interval(self, prob: float = 0.95) -> Float[np.ndarray, "level 2"]:
        """Percentile interval of every mean."""
        return percentile_interval(self.draws, prob)

    def susceptibility(self) -> Float[np.ndarray, " level"]:
        """``prompts of the level x variance of its mean over bootstrap draws``.

        In the squared unit of the order parameter. Multiplied by the number of prompts it does
        not depend on how many there are, so that difficulties and models compare.
        """
        return self.prompts * self.draws.var(axis=0, ddof=1)

    def susceptibility_interval(self, prob: float = 0.95) -> Float[np.ndarray, "level 2"]:
        """Percentile interval of the variance of a prompt, which susceptibility estimates."""
        return percentile_interval(self.spread, prob)


def rise(means: Float[np.ndarray, "*draw level"]) -> Float[np.ndarray, "*draw"]:
    """Mean of the harder half of difficulties minus that of the easier half.

    Of an odd number the middle one is left out.
    """
    half = means.shape[-1] // 2
    return np.asarray(means[..., -half:].mean(axis=-1) - means[..., :half].mean(axis=-1))


def levels(graded: Graded, draws: int, rng: np.random.Generator) -> Levels:
    """Means of one data set at every difficulty, with bootstrap draws.

    The mean of each seed is taken off first, and prompts are resampled within their difficulty. In
    every draw the slope of the covariates is fitted anew within difficulties, and means are moved
    along it to the overall mean of the covariates, so that intervals hold the doubt about it.
    """
    graded = without_seeds(graded)
    y, x = graded.values[0], graded.covariates[0]
    chosen = np.concatenate([np.arange(y.size)[None], resampled(graded, draws, rng)])
    belongs = graded.belongs
    count = belongs.sum(axis=0)
    value = (y[chosen] @ belongs) / count
    square = (y[chosen] ** 2 @ belongs) / count
    if x.shape[1]:
        mean_x = np.einsum("bnp,nl->blp", x[chosen], belongs) / count[:, None]
        inner = x[chosen] - mean_x[:, graded.level]
        outer = np.einsum("bnp,bn->bp", inner, y[chosen])
        # A draw may leave a covariate without variance: its slope is then 0.
        metric = np.linalg.pinv(np.einsum("bnp,bnq->bpq", inner, inner), 1e-9, hermitian=True)
        slope = np.einsum("bpq,bq->bp", metric, outer)
        value = value - np.einsum("blp,bp->bl", mean_x - x.mean(axis=0), slope)
    return Levels(
        mean=value[0],
        draws=value[1:],
        spread=(square - ((y[chosen] @ belongs) / count) ** 2)[1:] * count / (count - 1),
        prompts=count.astype(int),
    )


def resampled(
    graded: Graded, draws: int, rng: np.random.Generator
) -> Int[np.ndarray, "draw prompt"]:
    """Prompts drawn with replacement within their difficulty, in their places."""
    chosen = np.empty((draws, graded.level.size), dtype=np.int64)
    for level in range(graded.difficulty.size):
        members = np.flatnonzero(graded.level == level)
        chosen[:, members] = members[rng.integers(members.size, size=(draws, members.size))]
    return chosen

"""Forms of a change with difficulty: fitted to some seeds, compared on the others."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float

from synatlas.study.change import Graded, without_seeds

#: Forms of the mean, simple before flexible; `free` has one mean for every difficulty.
FORMS: Final = ("constant", "linear", "step", "sigmoid", "free")

#: Parameters of the mean of every form but free.
_PARAMETERS: Final = (1, 2, 3, 4)

#: A form is preferred where its AIC on held-out seeds is lower by this much: of the variants that
#: were simulated (`docs/validity.md`) one that takes a line for something abrupt in under 5 %.
LIMIT: Final = 4.0

#: p-value of the permutation test from which on an order parameter is called constant.
LEVEL: Final = 0.05

#: Turns and widths of the sigmoid that are tried.
_TURNS, _WIDTHS = 25, 8

#: A sigmoid goes from 10 % to 90 % of its change over this many of its widths w.
TEN_TO_NINETY: Final = 2 * float(np.log(9.0))


class Curves(NamedTuple):
    """Curves of one form, each from 0 to 1 over the difficulties, and where they turn.

    `turn` is the difficulty of half the change and `width` the difference of difficulties from
    10 % to 90 % of it; a step has width 0.
    """

    value: Float[np.ndarray, "curve level"]
    turn: Float[np.ndarray, " curve"]
    width: Float[np.ndarray, " curve"]


def curves(difficulty: Float[np.ndarray, " level"]) -> Mapping[str, Curves]:
    """What is tried for each form with a shape of its own.

    ``linear`` is proportional to difficulty; ``step`` jumps between two neighbouring ones;
    ``sigmoid`` is ``1 / (1 + exp(-(d - t) / w))`` with its turn t within the difficulties, and
    from 10 % to 90 % at most as wide as they are: a wider one would be a line.
    """
    span = float(difficulty[-1] - difficulty[0])
    middles = (difficulty[1:] + difficulty[:-1]) / 2
    turns = np.linspace(difficulty[0], difficulty[-1], _TURNS)
    least = float(np.diff(difficulty).min()) / TEN_TO_NINETY
    widths = np.geomspace(least / 2, span / TEN_TO_NINETY, _WIDTHS)
    turn, width = (grid.ravel() for grid in np.meshgrid(turns, widths, indexing="ij"))
    straight = (difficulty - difficulty[0]) / span
    return MappingProxyType(
        {
            "linear": Curves(straight[None], np.array([np.nan]), np.array([np.nan])),
            "step": Curves(
                (difficulty > middles[:, None]).astype(float), middles, np.zeros(middles.size)
            ),
            "sigmoid": Curves(
                1 / (1 + np.exp(-(difficulty - turn[:, None]) / width[:, None])),
                turn,
                width * TEN_TO_NINETY,
            ),
        }
    )


class Fitted(NamedTuple):
    """Least squares of every form: means by difficulty, and what its curve is.

    `mean` is (form, sim, level) where the covariates are 0, `slope` (form, sim, covariate);
    `turn` and `width` as in :class:`Curves`, NaN where the form has none.
    """

    mean: Float[np.ndarray, "form sim level"]
    slope: Float[np.ndarray, "form sim covariate"]
    turn: Float[np.ndarray, "form sim"]
    width: Float[np.ndarray, "form sim"]


def fit(graded: Graded, variance: Float[np.ndarray, "sim level"] | None = None) -> Fitted:
    """Fit every form by weighted least squares, each prompt by the variance of its level.

    The weights make it the maximum likelihood of normal values with that variance. Covariates are
    fitted together with the form. Sigmoids are searched over 25 turns and 8 widths.
    """
    if variance is None:
        variance = within_variance(graded)
    weight = 1 / variance[:, graded.level]
    belongs = graded.belongs
    sims = graded.values.shape[0]
    width = graded.covariates.shape[2]
    known = np.concatenate(
        [np.ones((sims, graded.level.size, 1)),
         np.broadcast_to(graded.covariates, (sims, *graded.covariates.shape[1:]))],
        axis=2,
    )  # fmt: skip
    weighted = known * weight[..., None]
    inverse = np.linalg.pinv(weighted.swapaxes(1, 2) @ known, 1e-9, hermitian=True)
    on_y = np.einsum("snq,sn->sq", weighted, graded.values)
    on_levels = np.einsum("snq,nl->sql", weighted, belongs)
    # What constant and covariates leave of every level, and of the values there.
    metric = np.einsum("sn,nl->sl", weight, belongs)[:, :, None] * np.eye(belongs.shape[1])
    metric = metric - on_levels.swapaxes(1, 2) @ inverse @ on_levels
    left = np.einsum("sn,nl->sl", weight * graded.values, belongs)
    left = left - np.einsum("sql,sqr,sr->sl", on_levels, inverse, on_y)
    blank = np.full(sims, np.nan)
    levels = {"constant": _Best(np.zeros_like(left), blank, blank)}
    for name, tried in curves(graded.difficulty).items():
        levels[name] = _best(tried, metric, left)
    # The constant has taken one direction: only rounding is left of it.
    inverted = np.linalg.pinv(metric, rcond=1e-9, hermitian=True)
    free = np.einsum("slm,sm->sl", inverted, left)
    levels["free"] = _Best(free, blank, blank)
    means, slopes = [], []
    for name in FORMS:
        shape = levels[name].shape
        rest = np.einsum("sqr,sr->sq", inverse, on_y - np.einsum("sql,sl->sq", on_levels, shape))
        slopes.append(rest[:, 1:])
        means.append(shape + rest[:, :1])
    return Fitted(
        mean=np.array(means),
        slope=np.array(slopes).reshape(len(FORMS), sims, width),
        turn=np.array([levels[name].turn for name in FORMS]),
        width=np.array([levels[name].width for name in FORMS]),
    )


class _Best(NamedTuple):
    """The curve of a form that explains most, times its height, and where it turns."""

    shape: Float[np.ndarray, "sim level"]
    turn: Float[np.ndarray, " sim"]
    width: Float[np.ndarray, " sim"]


def _best(
    tried: Curves,
    metric: Float[np.ndarray, "sim level level"],
    left: Float[np.ndarray, "sim level"],
) -> _Best:
    product = left @ tried.value.T
    norm = np.einsum("cl,slm,cm->sc", tried.value, metric, tried.value)
    # A curve that is level over the difficulties explains nothing.
    usable = norm > 1e-9 * norm.max(axis=1, keepdims=True)
    gain = np.divide(product**2, norm, out=np.full(norm.shape, -1.0), where=usable)
    best = gain.argmax(axis=1)
    rows = np.arange(len(best))
    height = product[rows, best] / norm[rows, best]
    return _Best(height[:, None] * tried.value[best], tried.turn[best], tried.width[best])


def within_variance(graded: Graded) -> Float[np.ndarray, "sim level"]:
    """Variance of the values of every difficulty around its mean, covariates regressed out."""
    belongs = graded.belongs
    count = belongs.sum(axis=0)

    def inner(values: np.ndarray) -> np.ndarray:
        return values - ((values @ belongs) / count)[..., graded.level]

    rest = inner(graded.values)
    freedom = count - 1
    if graded.covariates.shape[2]:
        x = inner(graded.covariates.swapaxes(1, 2)).swapaxes(1, 2)
        square = x.swapaxes(1, 2) @ x
        # Without some seed a covariate may not vary: its slope is then 0.
        slope = np.einsum("spq,snq,sn->sp", np.linalg.pinv(square, 1e-9, hermitian=True), x, rest)
        rest = rest - np.einsum("snp,sp->sn", x, slope)
    variance = (rest**2 @ belongs) / freedom
    mean = variance.mean(axis=1, keepdims=True)
    return np.maximum(variance, np.where(mean > 0, 1e-6 * mean, 1.0))


def held_out_aic(graded: Graded) -> Float[np.ndarray, "sim form"]:
    """AIC of every form on seeds that it was not fitted to.

    ``AIC = 2 k - 2 sum over seeds s of log L(values of s | fitted to the other seeds)`` with the
    normal likelihood of :func:`fit`, its variances those of the other seeds within difficulties,
    and k the parameters of the mean: 1 for constant, 2 for linear, 3 for step, 4 for sigmoid, and
    one for each difficulty for free. The likelihood of values that were not fitted has a price of
    about 2 for each parameter already (Stone 1977); with 2 k more, simulated lines are taken for
    something abrupt less often at the same power. Each seed's own mean is taken off first, so that
    seeds may differ in level.

    References
    ----------
    Stone (1977), https://doi.org/10.1111/j.2517-6161.1977.tb01603.x
    """
    centred = without_seeds(graded)
    total = np.zeros((graded.values.shape[0], len(FORMS)))
    for one in np.unique(graded.seed):
        out = graded.seed == one
        train = _only(centred, ~out)
        variance = within_variance(train)
        fitted = fit(train, variance)
        expected = fitted.mean[:, :, graded.level[out]] + np.einsum(
            "snp,fsp->fsn", np.broadcast_to(
                centred.covariates[:, out], (len(total), *centred.covariates[:, out].shape[1:])
            ), fitted.slope,
        )  # fmt: skip
        spread = variance[:, graded.level[out]]
        surprise = np.log(2 * np.pi * spread) + (centred.values[:, out] - expected) ** 2 / spread
        total += surprise.sum(axis=2).T
    return total + 2 * np.array([*_PARAMETERS, graded.difficulty.size])


def _only(graded: Graded, chosen: np.ndarray) -> Graded:
    return Graded(
        values=graded.values[:, chosen],
        level=graded.level[chosen],
        seed=graded.seed[chosen],
        difficulty=graded.difficulty,
        covariates=graded.covariates[:, chosen],
    )


#: Verdicts on one data set. `step or sigmoid` is abrupt without saying which; `another form` is
#: a change that has none of the three; `cannot tell` a change whose form stays open.
VERDICTS: Final = (
    "constant", "linear", "sigmoid", "step", "step or sigmoid", "another form", "cannot tell",
    "no variation",
)  # fmt: skip

#: Verdicts of a change that is more abrupt than a line.
ABRUPT: Final = ("sigmoid", "step", "step or sigmoid")


def verdict(p: float, aic: Mapping[str, float], *, limit: float = LIMIT) -> str:
    """One of :data:`VERDICTS`, from the permutation test and the AIC of every form.

    Constant where p is above 0.05. Else, with each comparison decided by `limit`: another form,
    where one mean for every difficulty beats all the others; linear, where it beats step and
    sigmoid and is not worse than constant; step, sigmoid, or one of both, where the better of
    them beats linear and constant. Anything else cannot be told.
    """
    if not np.isfinite(p):
        return "no variation"
    if p > LEVEL:
        return "constant"
    abrupt = min(aic["step"], aic["sigmoid"])
    shaped = min(abrupt, aic["linear"], aic["constant"])
    if aic["free"] + limit <= shaped:
        return "another form"
    if aic["linear"] + limit <= abrupt and aic["linear"] <= aic["constant"]:
        return "linear"
    if abrupt + limit <= min(aic["linear"], aic["constant"]):
        if abs(aic["step"] - aic["sigmoid"]) < limit:
            return "step or sigmoid"
        return "step" if aic["step"] < aic["sigmoid"] else "sigmoid"
    return "cannot tell"

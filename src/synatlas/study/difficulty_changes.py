"""What changes with difficulty: every score of every category, in every view of the prompts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, NamedTuple, final

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats

from synatlas.inference import adjusted_p, percentile_interval
from synatlas.study.change import (
    COLLINEAR,
    Graded,
    Levels,
    between_share,
    change_p,
    levels,
    rise,
    without_seeds,
)
from synatlas.study.difficulty import ABOVE, BASELINE, DIFFERENCE
from synatlas.study.forms import FORMS, fit, held_out_aic, verdict

#: Scores that are analysed, the leading one first.
SCORES: Final = (
    DIFFERENCE, ABOVE, "synergy", "redundancy", BASELINE, "self_information", "transfer", "tdmi",
    "phi_r",
)  # fmt: skip

#: What a length is regressed on.
COVARIATES: Final = ("prompt_tokens", "answer_tokens")

#: Prompts that every difficulty needs in all seeds but any one.
LEAST: Final = 4

PERMUTATIONS: Final = 999
DRAWS: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class _How:
    """Seed and numbers of random draws."""

    seed: int
    permutations: int
    draws: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Prompts of a protocol that are looked at together; `says` is for the reader."""

    protocol: str
    says: str
    without_length: bool = False
    without_loops: bool = False


#: Views by name.
VIEWS: Final[Mapping[str, View]] = MappingProxyType(
    {
        "asked": View(
            protocol="asked",
            says="questions asked, replies of fixed length, difficulty together with its lengths",
        ),
        "asked, lengths out": View(
            protocol="asked",
            says="the same, tokens of question and answer regressed out within the category",
            without_length=True,
        ),
        "asked, no loops": View(
            protocol="asked", says="the same, periodic replies left out", without_loops=True
        ),
        "packed": View(
            protocol="packed",
            says="solved questions of one difficulty packed into texts of the same length, read",
        ),
        "fresh weights": View(
            protocol="fresh", says="the same texts read by networks of fresh weights"
        ),
    }
)


class Estimate(NamedTuple):
    """A number with its 95 % interval."""

    value: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval is known and does not hold 0."""
        return self.low > 0 or self.high < 0


#: No number.
UNKNOWN: Final = Estimate()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What one order parameter does over the difficulties of one category in one view.

    `status` is empty, or the reason why there is no number. `means`, `aic` and `curves` are in the
    score's unit (nat), `rise` is the mean of the harder half of difficulties less that of the
    easier half, `rise_sd` that in standard deviations of a prompt. `q` is the p of the permutation
    test over the categories of a view, after Benjamini and Hochberg, by which `verdict` goes.
    """

    model: str
    view: str
    category: str
    score: str
    prompts: int
    difficulty: Float[np.ndarray, " level"]
    status: str = ""
    means: Levels | None = None
    p: float = float("nan")
    q: float = float("nan")
    aic: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, np.ndarray] = field(default_factory=dict)
    turn: float = float("nan")
    width: float = float("nan")
    rise: Estimate = UNKNOWN
    rise_sd: Estimate = UNKNOWN

    @property
    def verdict(self) -> str:
        """What is said of it; `no number` where there is a status."""
        return "no number" if self.status else verdict(self.q, self.aic)


def changes(
    rows: pd.DataFrame,
    *,
    seed: int = 0,
    permutations: int = PERMUTATIONS,
    draws: int = DRAWS,
) -> tuple[Change, ...]:
    """Every score of every category, view and model of the rows of a study."""
    how = _How(seed=seed, permutations=permutations, draws=draws)
    found: list[Change] = []
    for model in rows["model"].unique():
        for name, view in VIEWS.items():
            chosen = (rows["model"] == model) & (rows["protocol"] == view.protocol)
            if view.without_loops:
                chosen &= ~rows["periodic"].astype(bool)
            of_view = [
                change
                for category in rows["category"].unique()
                for change in _of_category(
                    rows.loc[chosen & (rows["category"] == category)],
                    rows.loc[rows["category"] == category, "difficulty"].unique(),
                    view,
                    {"model": str(model), "view": name, "category": str(category)},
                    how,
                )
            ]
            found += _adjusted(of_view)
    return tuple(found)


def _adjusted(found: Sequence[Change]) -> Iterator[Change]:
    """The same, with q over the categories of each score."""
    for score in SCORES:
        alike = [change for change in found if change.score == score]
        q = adjusted_p(np.array([change.p for change in alike], dtype=float))
        yield from (replace(c, q=float(one)) for c, one in zip(alike, q, strict=True))


def _of_category(
    rows: pd.DataFrame, known: np.ndarray, view: View, about: dict[str, str], how: _How
) -> Iterator[Change]:
    values = rows[list(SCORES)].to_numpy(dtype=float).T
    usable = np.isfinite(values).all(axis=0)
    rows, values = rows.loc[usable], values[:, usable]
    difficulty = np.sort(known).astype(float)
    level = np.searchsorted(difficulty, rows["difficulty"].to_numpy(dtype=float))
    batch = rows["seed"].to_numpy(dtype=np.int64)
    status = _too_few(level, batch, difficulty.size)
    covariates = np.zeros((level.size, 0))
    if view.without_length and not status:
        table = rows[list(COVARIATES)].to_numpy(dtype=float)
        status = collinear(table, level, batch)
        covariates = _scaled(table, level, batch)
    common: dict[str, Any] = {**about, "prompts": level.size, "difficulty": difficulty}
    if status:
        yield from (Change(**common, score=score, status=status) for score in SCORES)
        return
    graded = Graded(
        values=values, level=level, seed=batch, difficulty=difficulty, covariates=covariates[None]
    )
    yield from _measured(graded, common, how)


def _too_few(level: np.ndarray, batch: np.ndarray, count: int) -> str:
    """Why forms cannot be fitted to all seeds but one; empty where they can."""
    if np.unique(batch).size < 2:
        return "fewer than two seeds have a prompt"
    for one in np.unique(batch):
        least = np.bincount(level[batch != one], minlength=count).min()
        if least < LEAST:
            return f"a difficulty has {least} prompts without seed {one}, fewer than {LEAST}"
    return ""


def collinear(
    covariates: Float[np.ndarray, "prompt covariate"], level: np.ndarray, batch: np.ndarray
) -> str:
    """Which lengths difficulty decides, so that the two cannot be told apart; else empty."""
    shares = [
        (name, between_share(column, level, batch))
        for name, column in zip(COVARIATES, covariates.T, strict=True)
    ]
    told = " and ".join(
        f"{share:.0%} of the variance of {name.removesuffix('_tokens')} length"
        for name, share in shares
        if share >= COLLINEAR
    )
    return f"not told apart from length: {told} lies between difficulties" if told else ""


def _scaled(
    table: Float[np.ndarray, "prompt covariate"], level: np.ndarray, batch: np.ndarray
) -> Float[np.ndarray, "prompt kept"]:
    """Covariates that vary within difficulties and seeds, none of them twice, of deviation 1."""
    belongs = [(level == one).astype(float) for one in np.unique(level)]
    belongs += [(batch == one).astype(float) for one in np.unique(batch)]
    kept: list[np.ndarray] = []
    for column in table.T:
        centred = (column - column.mean()) / (column.std() or 1.0)
        known = np.column_stack([*belongs, *kept])
        rest = centred - known @ np.linalg.lstsq(known, centred, rcond=None)[0]
        if rest.std() > 1e-3:
            kept.append(centred)
    return np.column_stack(kept) if kept else np.zeros((len(table), 0))


def _measured(graded: Graded, common: dict[str, Any], how: _How) -> Iterator[Change]:
    p = change_p(graded, how.permutations, np.random.default_rng((how.seed, 1)))
    aic = held_out_aic(graded)
    fitted = fit(without_seeds(graded))
    values = np.asarray(graded.values)
    for i, score in enumerate(SCORES):
        one = replace(graded, values=values[i : i + 1])
        # The same prompts are drawn for every score.
        means = levels(one, how.draws, np.random.default_rng((how.seed, 2)))
        forms: dict[str, float] = dict(zip(FORMS, aic[i].tolist(), strict=True))
        abrupt = FORMS.index("step" if forms["step"] < forms["sigmoid"] else "sigmoid")
        deviation = np.sqrt(one_deviation(means))
        yield Change(
            **common,
            score=score,
            means=means,
            p=float(p[i]),
            aic=forms,
            curves=dict(zip(FORMS, fitted.mean[:, i], strict=True)),
            turn=float(fitted.turn[abrupt, i]),
            width=float(fitted.width[abrupt, i]),
            rise=_estimate(float(rise(means.mean)), rise(means.draws)),
            rise_sd=_estimate(
                float(rise(means.mean) / deviation.mean()), rise(means.draws) / deviation
            ),
        )


def one_deviation(means: Levels) -> Float[np.ndarray, " draw"]:
    """Variance of a prompt around its difficulty's mean, over difficulties, in every draw."""
    return means.spread.mean(axis=1)


def _estimate(value: float, draws: Float[np.ndarray, " draw"]) -> Estimate:
    low, high = percentile_interval(draws, 0.95).tolist()
    return Estimate(value, low, high)


def find(
    found: Sequence[Change], *, model: str, view: str, category: str, score: str = DIFFERENCE
) -> Change:
    """The one change of these names."""
    return next(
        c for c in found if (c.model, c.view, c.category, c.score) == (model, view, category, score)
    )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """Right and wrong answers apart, within difficulties.

    `right` and `wrong` are means by difficulty, NaN where there is no such answer; `difference`
    is right less wrong within difficulties that have `LEAST` of both, each weighted by
    ``n_right n_wrong / (n_right + n_wrong)``, with its 95 % interval; NaN with a `status`.
    """

    model: str
    category: str
    score: str
    difficulty: Float[np.ndarray, " level"]
    right: Float[np.ndarray, " level"]
    wrong: Float[np.ndarray, " level"]
    count_right: np.ndarray
    count_wrong: np.ndarray
    difference: Estimate
    status: str = ""

    @property
    def accuracy(self) -> Float[np.ndarray, " level"]:
        """Share of right answers at every difficulty."""
        return self.count_right / np.maximum(self.count_right + self.count_wrong, 1)

    @property
    def accuracy_interval(self) -> Float[np.ndarray, "level 2"]:
        """Wilson's 95 % interval of it."""
        asked = np.maximum(self.count_right + self.count_wrong, 1)
        return np.array(
            [
                stats.binomtest(int(k), int(n)).proportion_ci(method="wilson")
                for k, n in zip(self.count_right, asked, strict=True)
            ]
        )


def sides(rows: pd.DataFrame, *, seed: int = 0, draws: int = DRAWS) -> tuple[Sides, ...]:
    """Right and wrong answers apart, for every model, category and score."""
    asked = rows["protocol"] == "asked"
    return tuple(
        _sides(
            rows.loc[asked & (rows["model"] == model) & (rows["category"] == category)],
            str(model), str(category), score, seed, draws,
        )
        for model in rows["model"].unique()
        for category in rows["category"].unique()
        for score in SCORES
    )  # fmt: skip


def _sides(
    rows: pd.DataFrame, model: str, category: str, score: str, seed: int, draws: int
) -> Sides:
    rng = np.random.default_rng((seed, 3))
    values = rows[score].to_numpy(dtype=float)
    right = rows["right"].to_numpy(dtype=float) > 0.5
    level = rows["difficulty"].to_numpy(dtype=float)
    difficulty = np.unique(level)
    groups = [
        [values[(level == d) & (right == side) & np.isfinite(values)] for side in (True, False)]
        for d in difficulty
    ]
    counts = np.array([[len(g) for g in pair] for pair in groups])
    both = np.all(counts >= LEAST, axis=1)
    means = np.array([[g.mean() if len(g) else np.nan for g in pair] for pair in groups])
    difference, status = UNKNOWN, f"no difficulty has {LEAST} right and wrong answers"
    if both.any():
        weight = counts[both].prod(axis=1) / counts[both].sum(axis=1)
        weight = weight / weight.sum()
        drawn = np.array(
            [
                [g[rng.integers(len(g), size=(draws, len(g)))].mean(axis=1) for g in pair]
                for pair, use in zip(groups, both, strict=True)
                if use
            ]
        )
        value = float(weight @ (means[both, 0] - means[both, 1]))
        difference = _estimate(value, weight @ (drawn[:, 0] - drawn[:, 1]))
        status = ""
    return Sides(
        model=model,
        category=category,
        score=score,
        difficulty=difficulty,
        right=means[:, 0],
        wrong=means[:, 1],
        count_right=counts[:, 0],
        count_wrong=counts[:, 1],
        difference=difference,
        status=status,
    )

"""Forms of a change: planted ones are called, a constant one is, and fits are least squares."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from synatlas.simulate.graded import NOISES, plant_order
from synatlas.study.change import (
    Graded,
    between_share,
    change_p,
    levels,
    rise,
    without_covariates,
    without_seeds,
)
from synatlas.study.forms import ABRUPT, FORMS, curves, fit, held_out_aic, verdict, within_variance


def graded(form: str, seed: int, **settings: Any) -> Graded:
    planted = plant_order(form, np.random.default_rng(seed), **settings)
    found = Graded(
        values=planted.values,
        level=planted.level,
        seed=planted.seed,
        difficulty=planted.difficulty,
        covariates=planted.length[..., None],
    )
    return found if settings.get("confounded") else without_covariates(found)


def called(data: Graded) -> np.ndarray:
    p = change_p(data, 99, np.random.default_rng(0))
    forms = [dict(zip(FORMS, row, strict=True)) for row in held_out_aic(data).tolist()]
    return np.array([verdict(q, aic) for q, aic in zip(p.tolist(), forms, strict=True)])


def test_a_constant_order_parameter_is_called_constant() -> None:
    shares = []
    for i, noise in enumerate(NOISES):
        for confounded in (False, True):
            for count, seeds in ((4, 3), (6, 5)):
                data = graded(
                    "constant", 10 * i + count, sims=60, levels=count, seeds=seeds, noise=noise,
                    confounded=confounded,
                )  # fmt: skip
                shares.append(float(np.mean(called(data) == "constant")))
    assert np.mean(shares) >= 0.94
    assert min(shares) >= 0.90


def test_a_length_that_is_left_in_is_a_change() -> None:
    data = graded("constant", 1, sims=40, confounded=True)
    assert np.mean(called(without_covariates(data)) == "constant") < 0.05


@pytest.mark.parametrize(
    ("form", "right", "share"),
    [("linear", ("linear",), 0.75), ("step", ABRUPT, 0.95), ("sigmoid", ABRUPT, 0.7)],
)
def test_planted_forms_are_called(form: str, right: tuple[str, ...], share: float) -> None:
    said = called(graded(form, 2, sims=200, levels=6, effect=2.0, noise="heteroscedastic"))
    assert np.mean(np.isin(said, right)) >= share
    if form == "linear":
        assert np.mean(np.isin(said, ABRUPT)) <= 0.05


def test_the_statistic_is_welchs_for_two_levels() -> None:
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.normal(0, 1, 12), rng.normal(1, 3, 12)])
    level = np.repeat([0, 1], 12)
    data = Graded(
        values=values[None], level=level, seed=np.zeros(24, dtype=int),
        difficulty=np.array([1.0, 2.0]), covariates=np.zeros((1, 24, 0)),
    )  # fmt: skip
    groups = (values[:12], values[12:])
    reference = stats.permutation_test(
        groups, lambda a, b, axis: abs(stats.ttest_ind(a, b, axis=axis, equal_var=False).statistic),
        vectorized=True, n_resamples=4999, alternative="greater", rng=4,
    )  # fmt: skip
    p = change_p(data, 4999, np.random.default_rng(5))
    assert p[0] == pytest.approx(reference.pvalue, abs=0.03)


def test_fits_are_least_squares() -> None:
    data = graded("sigmoid", 6, levels=6, confounded=True, effect=2.0)
    variance = within_variance(data)
    found = fit(data, variance)
    y, x = data.values[0], data.covariates[0]
    root = np.sqrt(1 / variance[0, data.level])

    def least(columns: list[np.ndarray]) -> np.ndarray:
        design = np.column_stack([np.ones(y.size), x, *columns])
        solved = np.linalg.lstsq(design * root[:, None], y * root, rcond=None)[0]
        return design @ solved

    def loss(expected: np.ndarray) -> float:
        return float((((y - expected) * root) ** 2).sum())

    mine = found.mean[:, 0][:, data.level] + found.slope[:, 0] @ x.T
    shapes = {name: tried.value[:, data.level] for name, tried in curves(data.difficulty).items()}
    expected = {
        "constant": least([]),
        "free": least([*data.belongs[:, 1:].T]),
        **{
            name: min((least([curve]) for curve in tried), key=loss)
            for name, tried in shapes.items()
        },
    }
    for i, name in enumerate(FORMS):
        np.testing.assert_allclose(mine[i], expected[name], atol=1e-8)
    assert loss(mine[FORMS.index("sigmoid")]) < loss(mine[FORMS.index("linear")])


def test_held_out_aic_is_the_likelihood_of_each_seed_under_the_others() -> None:
    data = graded("linear", 7, levels=4, seeds=3)
    y = data.values[0].copy()
    for seed in range(3):
        y[data.seed == seed] += data.values.mean() - y[data.seed == seed].mean()
    total = 0.0
    for seed in range(3):
        train, out = data.seed != seed, data.seed == seed
        deviation = np.array([y[train & (data.level == i)].std(ddof=1) for i in range(4)])
        slope, start = np.polyfit(
            data.level[train], y[train], 1, w=1 / deviation[data.level[train]]
        )
        expected = start + slope * data.level[out]
        total += stats.norm.logpdf(y[out], expected, deviation[data.level[out]]).sum()
    found = held_out_aic(data)[0, FORMS.index("linear")]
    assert found == pytest.approx(-2 * total + 2 * 2)


def test_means_by_difficulty_and_their_intervals() -> None:
    plain = graded("step", 8, levels=4, seeds=20, effect=3.0)
    found = levels(plain, 400, np.random.default_rng(9))
    expected = [plain.values[0, plain.level == i].mean() for i in range(4)]
    np.testing.assert_allclose(found.mean, expected)
    alike = without_seeds(plain).values[0]
    variance = [alike[plain.level == i].var(ddof=1) for i in range(4)]
    np.testing.assert_allclose(found.susceptibility(), variance, rtol=0.2)
    low, high = found.susceptibility_interval().T
    assert ((low < variance) & (variance < high)).all()
    assert rise(found.mean) == pytest.approx(found.mean[2:].mean() - found.mean[:2].mean())
    # A length that moves values is taken out, and what is left has the planted size.
    confounded = graded("linear", 10, levels=4, seeds=60, effect=1.0, confounded=True)
    adjusted = levels(confounded, 200, np.random.default_rng(11))
    low, high = adjusted.interval().T
    assert adjusted.mean[-1] - adjusted.mean[0] == pytest.approx(1.0, abs=0.2)
    raw = levels(without_covariates(confounded), 2, np.random.default_rng(12)).mean
    assert raw[-1] - raw[0] > 1.7


def test_covariates_that_difficulty_decides_are_known() -> None:
    level, seed = np.tile(np.repeat(np.arange(4), 5), 2), np.repeat([0, 1], 20)
    rng = np.random.default_rng(13)
    assert between_share(7.0 + 3 * level, level, seed) == pytest.approx(1.0)
    assert between_share(rng.normal(size=40), level, seed) < 0.4
    assert np.isnan(between_share(np.full(40, 9.0), level, seed))
    assert np.isnan(between_share(4.0 * seed, level, seed))


def test_what_does_not_vary_has_no_verdict() -> None:
    data = graded("constant", 14, levels=4)
    flat = Graded(
        values=np.full(data.values.shape, 2.5), level=data.level, seed=data.seed,
        difficulty=data.difficulty, covariates=data.covariates,
    )  # fmt: skip
    assert called(flat).tolist() == ["no variation"]


@pytest.mark.parametrize(
    ("p", "aic", "said"),
    [
        (0.2, (100, 0, 0, 0, 0), "constant"),
        (0.01, (100, 50, 60, 60, 60), "linear"),
        (0.01, (100, 50, 53, 60, 60), "cannot tell"),
        (0.01, (100, 60, 50, 53, 60), "step or sigmoid"),
        (0.01, (100, 60, 50, 55, 60), "step"),
        (0.01, (100, 60, 55, 50, 60), "sigmoid"),
        (0.01, (100, 60, 55, 50, 40), "another form"),
        (0.01, (50, 50.5, 60, 60, 60), "cannot tell"),
    ],
)
def test_what_is_said(p: float, aic: tuple[float, ...], said: str) -> None:
    assert verdict(p, dict(zip(FORMS, map(float, aic), strict=True))) == said

"""Joint prediction against least squares, symmetries, planted truth and a null."""

import numpy as np
import pytest
from scipy import stats

from reference import prediction_reference
from synatlas.decompose import prediction_tiles
from synatlas.decompose.groups import Group, group_by_length
from synatlas.decompose.prediction import JointPrediction, joint_prediction
from synatlas.simulate.planted import planted


def autoregressive(prompts: int, steps: int, units: int, seed: int = 0) -> np.ndarray:
    """Independent AR(1) series of memory 0.5 that no prompt or unit shares anything with."""
    noise = np.random.default_rng(seed).standard_normal((prompts, steps + 20, units))
    for t in range(1, steps + 20):
        noise[:, t] += 0.5 * noise[:, t - 1]
    return noise[:, 20:]


def coupled(prompts: int, steps: int, units: int, seed: int = 0) -> np.ndarray:
    """Series with memory and couplings, linear and not, one of them a noisy delayed copy."""
    series = autoregressive(prompts, steps, units, seed)
    series[:, 1:, 0] += 0.8 * series[:, :-1, 1] - 0.5 * series[:, :-1, 2]
    series[:, 1:, 3] += series[:, :-1, 3] * series[:, :-1, 4]
    series[:, 1:, 5] = series[:, :-1, 4] + 0.3 * series[:, 1:, 5]
    return series


def of(series: np.ndarray, lag: int = 1, threads: int = 1) -> JointPrediction:
    groups = [Group(prompts=np.arange(len(series)), series=series)]
    return joint_prediction(groups, lag, threads=threads)


@pytest.mark.parametrize("compile_from", [0, 10**9])
@pytest.mark.parametrize(("lag", "held", "threads"), [(1, 1_000_000, 1), (2, 1, 2), (1, 100, 2)])
def test_every_pair_agrees_with_least_squares(
    lag: int, held: int, threads: int, compile_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction_tiles, "_HELD", held)
    monkeypatch.setattr(prediction_tiles, "_COMPILE_FROM", compile_from)
    series = coupled(prompts=7, steps=31, units=7)
    expected = prediction_reference.joint_prediction(series, lag)
    found = np.stack(of(series, lag, threads))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)
    np.testing.assert_array_equal(np.stack(of(series, lag, 3 - threads)), found)


def test_scale_offset_and_order_do_not_matter() -> None:
    rng = np.random.default_rng(1)
    series = coupled(prompts=6, steps=40, units=6)
    whole = np.stack(of(series))
    changed = series * rng.uniform(0.1, 1e3, 6) + rng.normal(0, 1e3, 6)
    np.testing.assert_allclose(np.stack(of(changed)), whole, rtol=0, atol=1e-9)
    units, prompts = rng.permutation(6), rng.permutation(6)
    moved = np.stack(of(series[prompts][:, :, units]))
    np.testing.assert_allclose(moved, whole[:, prompts][:, :, units], rtol=0, atol=1e-12)


def test_what_prompts_or_units_share_predicts_nothing() -> None:
    """The same course in every prompt changes no value; a drive of all units is no coupling."""
    series = autoregressive(prompts=12, steps=60, units=8)
    course = 50 * np.sin(np.arange(60))[:, None] * np.arange(1, 9)
    shared = np.stack(of(series + course))
    np.testing.assert_allclose(shared, np.stack(of(series)), rtol=0, atol=1e-9)


@pytest.mark.parametrize("plant", ["coupled", "parity", "suppressor"])
def test_planted_units_are_found(plant: str) -> None:
    data = planted(plant, heads=4, prompts=50, steps=80, seed=3)
    truth = data["truth"].to_numpy().astype(bool)
    found = of(data["activity"].to_numpy())
    total = (found.linear + found.interaction).mean(axis=0)
    rank = stats.rankdata(total)
    inside, outside = truth.sum(), (~truth).sum()
    auroc = (rank[truth].sum() - inside * (inside + 1) / 2) / (inside * outside)
    assert auroc > 0.9
    strong, weak = (
        (found.interaction, found.linear)
        if plant == "parity"
        else (found.linear, found.interaction)
    )
    assert strong.mean(axis=0)[truth].mean() > 5 * abs(weak.mean(axis=0)[truth].mean())


@pytest.mark.parametrize("prompts", [5, 12])
def test_uncoupled_series_have_none_on_average_and_are_not_called(prompts: int) -> None:
    """With few prompts, taking off their mean alone would lift the linear term by 1/(P - 1)²."""
    runs = [of(autoregressive(prompts, 60, 24, seed)) for seed in range(30)]
    linear = np.array([run.linear.mean(axis=0) for run in runs])
    error = linear.mean(axis=1).std(ddof=1) / np.sqrt(len(runs))
    assert abs(linear.mean()) < 4 * error
    assert error < 0.5 / 60 / (prompts - 1) ** 2 / 4
    total = np.stack([run.linear + run.interaction for run in runs])
    t = total.mean(axis=1) / (total.std(axis=1, ddof=1) / np.sqrt(prompts))
    assert (stats.t.sf(t, prompts - 1) < 0.05).mean() < 0.06


@pytest.mark.parametrize(("drives", "called"), [(1, [0, 0.15]), (2, [0.5, 1])])
def test_one_drive_of_all_units_is_guarded_against_and_two_are_not(
    drives: int, called: list[float]
) -> None:
    """A known limit: given one past, another tells which part of it is shared and will not last."""
    rng = np.random.default_rng(2)
    shared = rng.standard_normal((40, 80, drives)) @ rng.normal(drives == 1, 0.5, (drives, 32))
    found = of(autoregressive(40, 80, 32) + shared)
    total = found.linear + found.interaction
    t = total.mean(axis=0) / (total.std(axis=0, ddof=1) / np.sqrt(40))
    assert called[0] <= (stats.t.sf(t, 39) < 0.05).mean() <= called[1]


def test_undefined_series_are_nobodys_partners() -> None:
    series = coupled(prompts=6, steps=40, units=6)
    bad = np.concatenate([series, np.full((6, 40, 1), 3.0), np.full((6, 40, 1), np.nan)], axis=2)
    found = np.stack(of(bad))
    np.testing.assert_allclose(found[:, :, :6], np.stack(of(series)), rtol=0, atol=1e-12)
    assert np.isnan(found[:, :, 6:]).all()


@pytest.mark.parametrize("compile_from", [0, 10**9])
def test_a_unit_silent_in_some_prompts_keeps_the_others(
    compile_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction_tiles, "_COMPILE_FROM", compile_from)
    series = coupled(prompts=8, steps=40, units=6)
    series[:2, :, 5] = 0.0
    found = np.stack(of(series))
    assert np.isfinite(found).all()
    series[:6, :, 5] = 0.0
    found = np.stack(of(series))
    assert np.isnan(found[:, :, 5]).all()
    assert np.isfinite(found[:, :, :5]).all()


@pytest.mark.parametrize("compile_from", [0, 10**9])
def test_duplicates_tell_nothing_together(
    compile_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of twins each has what the unit has with the others, and 0 with its twin."""
    monkeypatch.setattr(prediction_tiles, "_COMPILE_FROM", compile_from)
    series = np.repeat(coupled(prompts=6, steps=40, units=6), 2, axis=2)
    found = np.stack(of(series))
    np.testing.assert_allclose(found[:, :, ::2], found[:, :, 1::2], rtol=0, atol=1e-12)
    once = np.stack(of(series[:, :, ::2]))
    np.testing.assert_allclose(found[:, :, ::2], once * 10 / 11, rtol=0, atol=1e-9)


@pytest.mark.parametrize("shape", [(1, 40, 6), (2, 40, 6), (6, 40, 2), (6, 5, 6)])
def test_too_little_is_undefined(shape: tuple[int, int, int]) -> None:
    series = np.random.default_rng(0).standard_normal(shape)
    assert np.isnan(np.stack(of(series))).all()


def test_lengths_of_few_prompts_are_left_out() -> None:
    series = coupled(prompts=8, steps=40, units=6)
    n_steps = np.array([40, 30, 40, 40, 30, 40, 40, 40])
    found = np.stack(joint_prediction(group_by_length(series, n_steps), 1))
    assert np.isnan(found[:, n_steps == 30]).all()
    alone = np.stack(of(series[n_steps == 40]))
    np.testing.assert_array_equal(found[:, n_steps == 40], alone)

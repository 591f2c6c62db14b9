"""Tests of an experiment on made-up models whose truth is known."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy.stats import false_discovery_control

from divergence_factory import World, by_value, divergence
from synatlas.artifact import open_artifact, save
from synatlas.intervene.areas import trapezoid
from synatlas.intervene.statistics import ablation_tests
from synatlas.intervene.tested import LAYERS_DIFFER, TESTED, TOO_FEW_DRAWS, TOO_FEW_SETS

DRAWS = 100


@cache
def _deep() -> World:
    """Layer 1 matters ten times as much as the others, its heads alike; the order takes it."""
    rng = np.random.default_rng(0)
    layer = np.repeat(np.arange(4), 8)
    weight = np.where(layer == 1, 10.0, 1.0) * rng.uniform(0.9, 1.1, size=32)
    order = np.concatenate([rng.permutation(np.flatnonzero(layer == 1)),
                            rng.permutation(np.flatnonzero(layer != 1))])  # fmt: skip
    return World(
        weight=weight,
        orders={"rank_of_difference": order, "norm": rng.permutation(32)},
        tested=(2, 4, 6),
    )


@pytest.fixture(scope="module")
def whole() -> tuple[xr.Dataset, xr.Dataset]:
    made = divergence(World())
    return made, ablation_tests(made, draws=DRAWS)


def at(tests: xr.Dataset, variable: str, **labels: Any) -> float:
    chosen = {"outcome": "kl", "order": "rank_of_difference"} | labels
    return (
        tests[variable].sel({k: v for k, v in chosen.items() if k in tests[variable].dims}).item()
    )


def test_units_that_matter_are_told_from_random_ones(whole: Any) -> None:
    _, tests = whole
    for control in ("random", "random_depth_matched"):
        assert at(tests, "p_more", control=control) <= 0.01
        assert at(tests, "effect", control=control) > 2
    assert at(tests, "p_less", order="redundant_first", control="random") == 1 / 200
    assert at(tests, "area_ratio_to", reference="redundant_first") > 2
    assert at(tests, "order_correlation", reference="redundant_first") == pytest.approx(-1)
    assert at(tests, "single_correlation") > 0.98


def test_depth_alone_is_damage_over_random_and_none_over_depth_matched_sets() -> None:
    tests = ablation_tests(divergence(_deep()), draws=DRAWS)
    assert at(tests, "p_more", control="random") == 1 / 200
    assert at(tests, "p_more", control="random_depth_matched") > 0.05
    assert at(tests, "p_less", control="random_depth_matched") > 0.05
    # The other order takes other layers: no draw is matched to it.
    assert at(tests, "status", order="norm", control="random_depth_matched") == LAYERS_DIFFER
    assert np.isnan(at(tests, "p_more", order="norm", control="random_depth_matched"))
    assert at(tests, "status", order="norm", control="random") == TESTED


def test_adjusted_p_is_over_the_orders_that_were_compared(whole: Any) -> None:
    _, tests = whole
    for control in tests["control"].values:
        one = tests.sel(outcome="kl", control=control)
        p, q = one["p_more"].to_numpy(), one["q_more"].to_numpy()
        defined = np.isfinite(p)
        assert np.allclose(q[defined], false_discovery_control(p[defined]))
        assert np.isnan(q[~defined]).all()


def test_few_draws_and_few_sets_cannot_be_resolved() -> None:
    tests = ablation_tests(divergence(World(draws=9, accuracy_draws=9)), draws=DRAWS)
    assert at(tests, "status", control="random") == TOO_FEW_DRAWS
    assert at(tests, "least_p", control="random") == 0.1
    rng = np.random.default_rng(0)
    order = np.concatenate([np.arange(8), 8 + rng.permutation(24)])
    world = World(orders={"rank_of_difference": order}, tested=(8,))
    tests = ablation_tests(divergence(world), draws=DRAWS)
    # A whole layer has one depth-matched set: itself.
    assert at(tests, "distinct_sets", control="random_depth_matched", tested=8) == 1
    assert at(tests, "status", control="random_depth_matched") == TOO_FEW_SETS


def test_scale_and_order_of_prompts_do_not_matter(whole: Any) -> None:
    made, tests = whole
    scaled = made.isel(prompt=slice(None, None, -1)).copy()
    scaled["kl"] = scaled["kl"] * np.float32(4)
    again = ablation_tests(scaled, draws=DRAWS)
    for name in ("p_more", "effect", "area_ratio", "ratio_at", "oracle_share", "jump_share"):
        a, b = (t[name].sel(outcome="kl") if "outcome" in t[name].dims else t[name]
                for t in (tests, again))  # fmt: skip
        assert np.allclose(a, b, rtol=1e-5, equal_nan=True), name
    assert np.allclose(4 * tests["area"].sel(outcome="kl"), again["area"].sel(outcome="kl"))


def test_area_is_that_under_the_curve(whole: Any) -> None:
    made, tests = whole
    x = np.concatenate([[0.0], made["fraction"].to_numpy()])
    curve = made["kl"].sel(order="norm", draw=0).mean("prompt").to_numpy().astype(float)
    expected = np.trapezoid(np.concatenate([[0.0], curve]), x)
    assert at(tests, "area", order="norm") == pytest.approx(expected, rel=1e-5)
    low, high = tests["area_interval"].sel(outcome="kl", order="norm").to_numpy()
    assert low < expected < high
    assert trapezoid(np.array([0.5, 1.0])).tolist() == [0.5, 0.25]


def test_the_oracle_has_all_of_its_own_area() -> None:
    weight = np.random.default_rng(2).gamma(1.0, size=32)
    order = by_value(weight)
    world = World(
        weight=weight, orders={"rank_of_difference": order, "single_unit": order}, noise=0
    )
    tests = ablation_tests(divergence(world), draws=DRAWS)
    assert at(tests, "oracle_share") == pytest.approx(1)
    assert np.isnan(at(tests, "oracle_share", order="single_unit"))


def test_excess_in_abstract_prompts_is_found_and_only_there() -> None:
    rng = np.random.default_rng(4)
    orders = {"rank_of_difference": rng.permutation(32)}
    world = World(orders=orders, boost=2.0, prompts=8)
    tests = ablation_tests(divergence(world), draws=199)
    for name in ("contrast_p", "contrast_log_p", "contrast_p_sets"):
        assert at(tests, name, control="random_depth_matched") <= 0.02, name
    ratio = tests["category_ratio"].sel(outcome="kl", control="random_depth_matched")
    others = float(ratio.sel(category=["arithmetic", "grammar"]).mean())
    assert float(ratio.sel(category="abstract")) == pytest.approx(2 * others, rel=0.1)
    calm = ablation_tests(divergence(World(orders=orders, prompts=8)), draws=199)
    assert at(calm, "contrast_log_p", control="random_depth_matched") > 0.05
    assert np.isnan(at(calm, "contrast_log_p", outcome="lost_accuracy", control="random"))


def test_accuracy_is_paired_with_the_clean_answers(whole: Any) -> None:
    made, tests = whole
    asked = made["correct"].sel(order="norm", draw=0, n_ablated=8)
    expected = float((made["clean_correct"] - asked).mean())
    found = at(tests, "damage", outcome="lost_accuracy", order="norm", tested=8)
    assert found == pytest.approx(expected)
    assert at(tests, "draws", outcome="lost_accuracy", control="random") == 19


def test_an_experiment_without_questions_has_no_accuracy() -> None:
    made = divergence(World(items=0))
    assert ablation_tests(made, draws=9)["outcome"].values.tolist() == [
        "kl", "reverse_kl", "disagreement",
    ]  # fmt: skip


def test_the_tests_are_an_artifact_that_is_saved(whole: Any, tmp_path: Path) -> None:
    _, tests = whole
    assert open_artifact(save(tests, tmp_path / "tests.nc")).identical(tests)

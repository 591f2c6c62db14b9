"""Layer means and shapes: against loops and polyfit, and how often shapes are found by chance."""

import itertools
import math

import numpy as np
import pytest

from synatlas.inference import percentile_interval
from synatlas.rank.profile import Shape, layer_means, order_p, scaled, shape_of, unit_counts


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_layer_means_are_means_over_defined_units() -> None:
    values = rng().standard_normal((3, 8))
    values[0, 2] = np.nan
    values[1, 4:6] = np.nan
    counts = rng(1).integers(0, 3, size=(3, 8)).astype(float)
    unit_layer, layers = np.array([0, 0, 0, 2, 3, 3, 2, 0]), np.array([0, 2, 3])
    for weights in (None, counts):
        found = layer_means(values, unit_layer, layers, weights)
        for row, layer in itertools.product(range(3), range(3)):
            ok = (unit_layer == layers[layer]) & np.isfinite(values[row])
            w = np.ones(8) if weights is None else weights[row]
            if w[ok].sum() > 0:
                expected = np.average(values[row, ok], weights=w[ok])
                assert found[row, layer] == pytest.approx(expected)
            else:
                assert math.isnan(found[row, layer])


@pytest.mark.parametrize("heads", [2, 3, 8])
def test_resampled_layer_means_have_the_variance_of_a_mean(heads: int) -> None:
    """Unbiased: variance over draws = sample variance / heads, even for two heads."""
    values = rng(2).standard_normal(heads)
    counts = unit_counts(np.zeros(heads, dtype=int), np.array([0]), 20_000, rng(3))
    draws = counts @ values / counts.sum(axis=1)
    assert draws.var() == pytest.approx(values.var(ddof=1) / heads, rel=0.05)


def test_a_single_head_is_always_drawn() -> None:
    assert (unit_counts(np.arange(3), np.arange(3), 5, rng()) == 1).all()


def test_curvature_is_that_of_polyfit() -> None:
    depth = np.linspace(0, 1, 9)
    profiles = rng(4).standard_normal((20, 9))
    found = shape_of(profiles, depth).curvature
    expected = [np.polyfit(depth, scaled(p), 2)[0] for p in profiles]
    assert found == pytest.approx(np.array(expected))


@pytest.mark.parametrize("layers", [3, 5, 6, 12])
def test_two_lines_are_the_best_of_all_joints(layers: int) -> None:
    x = np.linspace(0, 1, layers)
    margin = 2 if layers >= 6 else 1
    for profile in rng(5).standard_normal((10, layers)):
        y, best = scaled(profile), (math.inf, 0.0, 0.0, 0.0)
        for joint in x[margin : layers - margin]:
            design = np.stack([np.ones(layers), np.minimum(x, joint), np.maximum(x, joint)], 1)
            weights = np.linalg.lstsq(design, y, rcond=None)[0]
            cost = float(((y - design @ weights) ** 2).sum())
            if cost < best[0] - 1e-12:
                best = (cost, weights[1], weights[2], joint)
        shape = shape_of(profile, x)
        if layers > 3:  # with three layers every joint fits exactly
            assert float(shape.turn) == pytest.approx(best[3])
        assert float(shape.rise) == pytest.approx(best[1])
        assert float(shape.fall) == pytest.approx(best[2])


def test_shape_of_a_tent_is_read_off() -> None:
    depth = np.linspace(0, 1, 11)
    shape = shape_of(np.minimum(depth / 0.4, (1 - depth) / 0.6), depth)
    expected = Shape(
        curvature=shape.curvature,
        rise=np.array(2.5),
        fall=np.array(-1 / 0.6),
        turn=np.array(0.4),
        mid_minus_ends=shape.mid_minus_ends,
    )
    for name in ("rise", "fall", "turn"):
        assert float(getattr(shape, name)) == pytest.approx(float(getattr(expected, name)))
    assert float(shape.curvature) < 0 < float(shape.mid_minus_ends)


def test_the_middle_of_sixteen_layers_is_six_to_nine() -> None:
    profile = np.zeros(16)
    profile[6:10] = 1.0
    assert float(shape_of(profile, np.arange(16) / 15).mid_minus_ends) == pytest.approx(1.0)
    profile[5] = 1.0
    expected = 1 - 1 / 12
    assert float(shape_of(profile, np.arange(16) / 15).mid_minus_ends) == pytest.approx(expected)


def test_shape_ignores_scale_and_mirrors_with_depth() -> None:
    depth = np.linspace(0, 1, 10)
    profile = rng(6).standard_normal(10)
    one, other = shape_of(profile, depth), shape_of(3 * profile - 7, depth)
    for name in Shape._fields:
        assert float(getattr(one, name)) == pytest.approx(float(getattr(other, name)))
    mirrored = shape_of(profile[::-1].copy(), depth)
    assert float(mirrored.rise) == pytest.approx(-float(one.fall))
    assert float(mirrored.turn) == pytest.approx(1 - float(one.turn))
    assert float(mirrored.curvature) == pytest.approx(float(one.curvature))


def test_no_shape_without_three_layers_or_without_differences() -> None:
    depth = np.linspace(0, 1, 6)
    for profile in (np.ones(6), np.array([1.0, 2, *[np.nan] * 4])):
        assert all(math.isnan(float(v)) for v in shape_of(profile, depth))
        assert math.isnan(order_p(profile, depth, rng()))
    assert all(math.isnan(float(v)) for v in shape_of(np.arange(2.0), np.arange(2.0)))


def test_an_undefined_layer_is_left_out() -> None:
    depth = np.linspace(0, 1, 9)
    profile = rng(7).standard_normal(9)
    profile[4] = np.nan
    keep = np.isfinite(profile)
    one, other = shape_of(profile, depth), shape_of(profile[keep], depth[keep])
    assert float(one.curvature) == float(other.curvature)
    assert order_p(profile, depth, rng()) == order_p(profile[keep], depth[keep], rng())


def test_order_p_is_the_share_of_all_orders() -> None:
    depth = np.linspace(0, 1, 5)
    profile = rng(8).standard_normal(5)
    own = np.polyfit(depth, scaled(profile), 2)[0]
    orders = [
        np.polyfit(depth, scaled(np.array(order)), 2)[0]
        for order in itertools.permutations(profile)
    ]
    assert order_p(profile, depth, rng()) == pytest.approx(np.mean(np.array(orders) <= own + 1e-9))


def test_order_p_of_an_arch_among_many_layers_is_small_but_never_zero() -> None:
    depth = np.linspace(0, 1, 20)
    assert order_p(-((depth - 0.5) ** 2), depth, rng()) == pytest.approx(1 / 10_000, abs=2e-4)
    assert order_p(-((depth - 0.5) ** 2), depth, rng()) > 0


def share_of_arches(layer_effect: np.ndarray, heads: int, sims: int) -> float:
    """How often curvature and two lines together find a rise and fall in noisy units."""
    generator = rng(9)
    layers = np.arange(layer_effect.size)
    unit_layer, depth = np.repeat(layers, heads), layers / layers[-1]
    found = 0
    for _ in range(sims):
        values = layer_effect[unit_layer] + generator.standard_normal(unit_layer.size)
        counts = unit_counts(unit_layer, layers, 200, generator)
        draws = np.tile(values, (200, 1))
        shapes = shape_of(layer_means(draws, unit_layer, layers, counts), depth)
        curvature, rise, fall = (
            percentile_interval(part, 0.95) for part in (shapes.curvature, shapes.rise, shapes.fall)
        )
        found += bool(curvature[1] < 0 and rise[0] > 0 and fall[1] < 0)
    return found / sims


DEPTH = np.linspace(0, 1, 12)


@pytest.mark.parametrize(
    ("effect", "least", "most"),
    [
        pytest.param(0 * DEPTH, 0.0, 0.05, id="flat"),
        pytest.param(2 * DEPTH, 0.0, 0.05, id="rise only"),
        pytest.param(-2 * DEPTH, 0.0, 0.05, id="fall only"),
        pytest.param(3 * np.minimum(DEPTH, 0.5), 0.0, 0.10, id="rise, then level"),
        pytest.param(-2 * (1 - (2 * DEPTH - 1) ** 2), 0.0, 0.0, id="valley"),
        pytest.param(2 * (1 - (2 * DEPTH - 1) ** 2), 0.95, 1.0, id="arch"),
    ],
)
def test_arches_are_found_where_planted_and_rarely_elsewhere(
    effect: np.ndarray, least: float, most: float
) -> None:
    assert least <= share_of_arches(effect, heads=8, sims=80) <= most

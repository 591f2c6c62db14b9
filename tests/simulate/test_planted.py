"""Planted cores: population correlations from the Lyapunov equation, joint prediction, layout."""

import functools

import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov

from synatlas.errors import ConfigError
from synatlas.simulate.planted import (
    BAND,
    PLACES,
    PLANTS,
    PROFILES,
    planted,
    planted_system,
)
from synatlas.simulate.simulated import innovation_covariance

LINEAR = [name for name, plant in PLANTS.items() if plant.cross is not None]
NONLINEAR = [name for name, plant in PLANTS.items() if plant.drive is not None]
SMALL = {"layers": 3, "heads": 8, "place": "high"}


@functools.cache
def many(plant):
    return planted(plant, prompts=1500, steps=30, seed=2, **SMALL)


def moments(data, lag):
    """Population moments of x[t] and x[t + lag], the mean taken off."""
    x = data.activity.to_numpy()
    x = x - x.mean(axis=(0, 1))
    steps = x.shape[1] - lag
    return np.einsum("ptu,ptv->uv", x[:, :steps], x[:, lag:]) / (x.shape[0] * steps)


def off_diagonal(square):
    return square[~np.eye(len(square), dtype=bool)]


def planted_sets(system):
    return [np.flatnonzero(system.group == k) for k in np.unique(system.group[system.truth])]


@pytest.mark.parametrize("plant", LINEAR)
@pytest.mark.parametrize("memory", PROFILES)
def test_linear_plants_are_stationary_and_matched(plant, memory):
    """Same covariance and memory as without the plant, solved by another way."""
    system = planted_system(plant, memory=memory, same_step="arch", seed=3)
    none = planted_system("none", memory=memory, same_step="arch", seed=3)
    assert np.array_equal(system.covariance, none.covariance)
    noise = innovation_covariance(system.matrix, system.covariance)
    solved = solve_discrete_lyapunov(system.matrix, noise)
    assert np.allclose(solved, system.covariance, atol=1e-10)
    lagged = system.covariance @ system.matrix.T
    assert np.allclose(np.diag(lagged), system.memory, atol=1e-12)
    # Outside the plant the same-step null is exactly true.
    free = ~system.truth
    expected = system.covariance[:, free] * system.memory[free]
    assert np.allclose(lagged[:, free], expected, atol=1e-12)


def test_signs_that_no_series_has_are_drawn_again(monkeypatch):
    settings = {"plant": "coupled", "memory": "arch", "same_step": "flat", "seed": 64}
    system = planted_system(**settings)
    assert np.linalg.eigvalsh(innovation_covariance(system.matrix, system.covariance))[0] > 0
    monkeypatch.setattr("synatlas.simulate.planted.REDRAWS", 0)
    with pytest.raises(ConfigError, match="variance"):
        planted_system(**settings)


def test_a_suppressor_predicts_jointly_what_no_pair_correlates_with():
    system = planted_system("suppressor", seed=4)
    lagged = system.covariance @ system.matrix.T
    for one in planted_sets(system):
        square = np.ix_(one, one)
        assert np.abs(off_diagonal(lagged[square])).max() < 1e-12
        own = system.memory[one] ** 2
        # Explained variance of each future by all pasts of the set, and by every pair.
        joint = np.diag(
            lagged[square].T @ np.linalg.solve(system.covariance[square], lagged[square])
        )
        assert (joint > 1.2 * own).all()
        r = system.covariance[one[0], one[1]]
        pair = own[0] / (1 - r**2)
        two = one[:2]
        explained = lagged[two, one[0]] @ np.linalg.solve(
            system.covariance[np.ix_(two, two)], lagged[two, one[0]]
        )
        assert explained == pytest.approx(pair, rel=1e-10)


@pytest.mark.parametrize("plant", [*LINEAR, "none"])
def test_series_have_the_population_moments(plant):
    data, system = many(plant), planted_system(plant, seed=2, **SMALL)
    assert np.allclose(moments(data, 0), system.covariance, atol=0.03)
    assert np.allclose(moments(data, 1), system.covariance @ system.matrix.T, atol=0.03)
    first = data.activity.to_numpy()[:, 0]
    assert np.allclose(first.T @ first / len(first), system.covariance, atol=0.12)


def regression(data, target, terms):
    """Coefficients of a future on given terms of the past, all prompts together."""
    x = data.activity.to_numpy()
    table = np.stack([term(x[:, :-1]).ravel() for term in terms], axis=1)
    future = x[:, 1:, target].ravel()
    table = table - table.mean(axis=0)
    return np.linalg.lstsq(table, future - future.mean(), rcond=None)[0]


def past(i):
    return lambda x: x[..., i]


def signs(i, j, centre=0.0):
    def term(x):
        x = np.abs(x) - centre if centre else x
        return np.sign(x[..., i] * x[..., j])

    return term


@pytest.mark.parametrize("plant", NONLINEAR)
def test_nonlinear_plants_are_seen_by_products_and_not_by_lines(plant):
    data = many(plant)
    one = np.flatnonzero(data.truth & (data.layer == 2))
    linear = regression(data, one[0], [past(i) for i in one])
    assert np.abs(linear[1:]).max() < 0.06
    assert linear[0] == pytest.approx(float(data.memory[one[0]]), abs=0.06)
    pair = one[1:3] if plant == "triplet" else one[:2]
    centre = 0.674 if plant == "envelope" else 0.0
    terms = [past(one[0]), past(one[1]), signs(*pair), signs(*pair, centre)]
    coefficient = regression(data, one[0], terms[:2] + terms[3:])[2]
    assert coefficient > 0.15
    if plant == "envelope":
        assert abs(regression(data, one[0], terms)[2]) < 0.03
    decoy = np.flatnonzero((data["set"] == 0).to_numpy())
    assert abs(regression(data, decoy[0], [past(decoy[0]), signs(*decoy[:2])])[1]) < 0.03


def test_a_triplet_holds_nothing_in_a_unit_and_one_other_beyond_their_correlation():
    data = many("triplet")
    one = np.flatnonzero(data.truth & (data.layer == 2))
    terms = [past(i) for i in one] + [signs(one[1], one[2])]
    own = regression(data, one[0], [*terms, signs(one[0], one[1])])
    assert own[-2] > 0.3
    assert abs(own[-1]) < 0.03


@pytest.mark.parametrize("plant", PLANTS)
def test_nothing_drifts_and_a_seed_is_a_data_set(plant):
    data = many(plant)
    x = data.activity.to_numpy()
    assert np.abs(x.mean(axis=0)).max() < 0.15
    assert np.allclose(x[:, :5].var(axis=(0, 1)), x[:, -5:].var(axis=(0, 1)), rtol=0.15)
    small = {"prompts": 3, "steps": 6, "layers": 2, "heads": 4}
    one, same = planted(plant, seed=5, **small), planted(plant, seed=5, **small)
    assert one.identical(same)
    assert not np.allclose(one.activity, planted(plant, seed=6, **small).activity)


@pytest.mark.parametrize("place", PLACES)
def test_the_band_stands_where_it_is_said_to(place):
    data = planted(place=place, prompts=2, steps=8)
    at = np.unique(data.layer[data.truth.to_numpy()])
    first = {"low": 0, "mid": 3, "high": 6}[place]
    assert at.tolist() == list(range(first, first + BAND))
    assert int(data.truth.sum()) == 4 * BAND
    assert (data["set"].to_numpy()[data.truth.to_numpy()] >= 0).all()
    assert not planted("none", place=place, prompts=2, steps=8).truth.any()


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_of_memory_and_of_the_same_step_are_independent(profile):
    system = planted_system("none", memory="flat", same_step=profile, seed=1)
    free = system.group < 0
    same = np.abs(system.covariance[np.ix_(free, free)] - np.eye(free.sum())).mean(axis=1)
    layer = [same[system.layer[free] == k].mean() for k in range(8)]
    ends, middle = (layer[0] + layer[7]) / 2, (layer[3] + layer[4]) / 2
    sign = {"flat": 0, "arch": 1, "valley": -1}[profile]
    assert np.sign(round(middle - ends, 2)) == sign
    assert np.ptp([system.memory[system.layer == k].mean() for k in range(8)]) < 0.05


WRONG = {
    "plant": {"plant": "seed"},
    "place": {"place": "top"},
    "profile": {"memory": "steep"},
    "layers": {"layers": 1},
    "heads": {"heads": 2},
    "strength": {"plant": "coupled", "strength": 0.9},
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_planted_is_refused(what):
    with pytest.raises(ConfigError, match="Expected"):
        planted(**WRONG[what])

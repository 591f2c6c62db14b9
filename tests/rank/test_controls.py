"""Null tests, bootstrap q and the call of the core: against loops, and one failing part a time."""

import math

import numpy as np
import pytest
from scipy import stats

from planted_atoms import make_atoms
from synatlas.inference import P_STUDENT, adjusted_p, surrogate_test
from synatlas.rank.controls import (
    CORE,
    NOT_ASSESSABLE,
    OUTSIDE,
    call_core,
    excess_interval,
    jackknife,
    mean_excess,
    minimum_detectable,
    missing_ingredients,
    noise_q,
    null_tests,
)


def test_q_is_of_the_first_accepted_null() -> None:
    atoms = make_atoms(excess=np.linspace(-0.002, 0.002, 40))
    tests = null_tests(atoms)
    for null in range(2):
        observed = atoms["null_observed"].values[null, :, 3, 3]
        draws = atoms["null_draw"].values[null, :, :, 3, 3]
        scale = draws.std(axis=0, ddof=1) * math.sqrt(1 + 1 / 40)
        assert tests.excess[null] == pytest.approx(observed - draws.mean(axis=0))
        expected = stats.t.sf((observed - draws.mean(axis=0)) / scale, 39)
        assert tests.synergy[null].method == P_STUDENT
        assert tests.synergy[null].p_greater == pytest.approx(expected)
    assert tests.q == pytest.approx(adjusted_p(tests.synergy[0].p_greater))
    assert tests.q_less == pytest.approx(adjusted_p(tests.synergy[0].p_less))
    atoms["null_self_information_error"][0] = 0.03
    assert null_tests(atoms).q == pytest.approx(adjusted_p(tests.synergy[1].p_greater))


def test_a_refused_null_does_not_count() -> None:
    atoms = make_atoms(excess=0.005)
    atoms["null_self_information_error"][1] = -0.021
    tests = null_tests(atoms)
    assert tests.accepted.tolist() == [True, False]
    assert tests.q == pytest.approx(adjusted_p(tests.synergy[0].p_greater))
    atoms["null_self_information_error"][1] = np.nan
    assert null_tests(atoms).accepted.tolist() == [True, False]


def test_redundancy_has_its_own_excess() -> None:
    atoms = make_atoms()
    atoms["null_observed"][:, :, 0, 0] += 0.125
    before = null_tests(make_atoms())
    tests = null_tests(atoms)
    assert tests.excess_redundancy == pytest.approx(before.excess_redundancy + 0.125)
    assert tests.excess == pytest.approx(before.excess)


def test_no_null_gives_no_numbers() -> None:
    tests = null_tests(make_atoms(nulls=()))
    assert np.isnan(tests.q).all()
    assert tests.excess.shape == (0, 40)


def test_mean_excess_is_that_of_the_means() -> None:
    atoms = make_atoms(excess=0.003)
    tests = null_tests(atoms)
    member = np.eye(10)[np.repeat(np.arange(10), 4)]
    found = mean_excess(tests, 0, member, 0.95)
    observed = tests.observed[0].reshape(10, 4).mean(axis=1)
    draws = tests.draws[0].reshape(-1, 10, 4).mean(axis=2)
    one = surrogate_test(observed, draws)
    assert found.value == pytest.approx(one.excess)
    assert found.interval == pytest.approx(excess_interval(one, 40, 0.95))


def test_intervals_cover_the_planted_excess() -> None:
    inside = []
    for seed in range(15):
        tests = null_tests(make_atoms(excess=0.003, seed=seed, layers=20))
        interval = excess_interval(tests.synergy[0], 40, 0.9)
        inside.append((interval[:, 0] <= 0.003) & (interval[:, 1] >= 0.003))
    assert np.mean(inside) == pytest.approx(0.9, abs=0.03)


def test_the_minimum_detectable_excess_is_detected_four_times_in_five() -> None:
    rng = np.random.default_rng(0)
    units, k, found = 30, 60, []
    for _ in range(300):
        values = rng.standard_normal((k + 1, units))
        reach = minimum_detectable(surrogate_test(values[0], values[1:]), k)
        values[0, 0] += reach
        found.append(surrogate_test(values[0], values[1:]).p_greater[0] <= 0.05 / units)
    assert np.mean(found) == pytest.approx(0.8, abs=0.07)


def test_noise_q_rejects_rarely_without_and_always_with_an_effect() -> None:
    """Squares of means over prompts, whose noise alone is above 0."""
    rng = np.random.default_rng(1)
    for effect, least, most in ((0.0, 0.0, 0.1), (1.0, 1.0, 1.0)):
        rejected = []
        for _ in range(100):
            sample = effect + rng.standard_normal((60, 10, 30))
            signs = rng.choice([-1.0, 1.0], size=(200, 60))
            noise = (np.tensordot(signs, sample, axes=1) / 60) ** 2
            value = (sample.mean(axis=0) ** 2).mean(axis=1)
            rejected.append((noise_q(value, noise.mean(axis=2), 60) <= 0.05).any())
        assert least <= np.mean(rejected) <= most


def test_jackknife_is_a_one_sample_t_test_of_the_defined_pseudo_values() -> None:
    rng = np.random.default_rng(0)
    pseudo = rng.standard_normal((12, 5)) + np.array([0, 1, 2, -1, 0])
    pseudo[:4, 1] = np.nan
    pseudo[1:, 4] = np.nan
    found = jackknife(pseudo, 0.9)
    expected = []
    for unit in range(4):
        own = pseudo[np.isfinite(pseudo[:, unit]), unit]
        test = stats.ttest_1samp(own, 0, alternative="greater")
        expected.append(test.pvalue)
        interval = stats.ttest_1samp(own, 0).confidence_interval(0.9)
        np.testing.assert_allclose(found.interval[unit], interval)
        assert found.value[unit] == pytest.approx(own.mean())
    np.testing.assert_allclose(found.q[:4], adjusted_p(np.array(expected)))
    assert np.isnan(found.q[4])
    assert np.isnan(found.interval[4]).all()


def test_noise_q_needs_prompts_and_draws() -> None:
    draws, value = np.random.default_rng(2).standard_normal((50, 4)), np.ones(4)
    assert np.isnan(noise_q(value, draws, 1)).all()
    assert np.isnan(noise_q(value, draws[:1], 10)).all()
    assert np.isnan(noise_q(value, np.zeros((50, 4)), 10)).all()


PASSING = {
    "integration_q": np.array([0.01]),
    "excess_q": np.array([0.01]),
    "excess": np.array([[0.1], [0.1]]),
    "synergy_ccs": np.array([0.1]),
    "recurrence": np.array([0.9]),
}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, CORE),
        ({"integration_q": np.array([0.06])}, OUTSIDE),
        ({"excess_q": np.array([0.06])}, OUTSIDE),
        ({"excess": np.array([[0.1], [-0.1]])}, OUTSIDE),
        ({"synergy_ccs": np.array([-0.1])}, OUTSIDE),
        ({"recurrence": np.array([0.79])}, OUTSIDE),
        *[({name: values * np.nan}, NOT_ASSESSABLE) for name, values in PASSING.items()],
    ],
)
def test_every_part_of_the_core_is_needed(changed: dict, expected: int) -> None:
    assert call_core(assessable=True, **{**PASSING, **changed}).tolist() == [expected]
    assert call_core(assessable=False, **{**PASSING, **changed}).tolist() == [NOT_ASSESSABLE]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, []),
        ({"nulls": ("cross_prompt",)}, ["the window_shift null was not run"]),
        ({"synergy_ccs": None}, ["synergy under CCS was not computed"]),
        ({"prompts": 1}, ["one prompt gives no intervals"]),
        ({"draws": 1}, ["the pooled excess was not bootstrapped"]),
        ({"surrogates": 3}, ["3 surrogates", "3 surrogates"]),
        ({"null_error": 0.03}, ["the cross_prompt null is refused", "the window_shift null is"]),
    ],
)
def test_what_is_missing_is_said(options: dict, said: list[str]) -> None:
    atoms = make_atoms(**options)
    found = missing_ingredients(atoms, null_tests(atoms))
    assert len(found) == len(said)
    for sentence, start in zip(found, said, strict=True):
        assert sentence.startswith(start)


def test_a_same_step_null_that_was_not_run_is_missed() -> None:
    atoms = make_atoms()
    atoms["pooled_excess_draw"][:] = np.nan
    assert missing_ingredients(atoms, null_tests(atoms)) == ["the same_step null was not run"]
    atoms.attrs["nulls_left_out"] = '{"same_step": "no closed form"}'
    told = ["the same_step null was not run: no closed form"]
    assert missing_ingredients(atoms, null_tests(atoms)) == told


def test_a_run_under_ccs_lacks_mmi_and_not_ccs() -> None:
    atoms = make_atoms(synergy_ccs=None)
    atoms.attrs["redundancy"] = "ccs"
    assert missing_ingredients(atoms, null_tests(atoms)) == ["synergy under MMI was not computed"]

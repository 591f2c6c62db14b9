"""Warnings appear at their stated bound, with the numbers, and not before."""

import numpy as np
import pytest

from planted_atoms import make_atoms
from synatlas.rank.cautions import cautions
from synatlas.rank.controls import null_tests


def warnings_of(**options: object) -> list[str]:
    atoms = make_atoms(**options)  # type: ignore[arg-type]
    return cautions(atoms, null_tests(atoms))


def test_a_sound_recording_has_none() -> None:
    assert warnings_of() == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"trend": 0.3}, "explains 30%"),
        ({"layers": 7}, "at least 8 layers, here are 7"),
        ({"layers": 2}, "needs 3 layers, here are 2"),
        ({"prompts": 9}, "at least 10 prompts to be reliable, here 9"),
        ({"null_error": -0.03}, "-3.0% (bound 2%)"),
        ({"surrogates": 3}, "Not resolvable with 3 surrogates of the cross_prompt null"),
    ],
)
def test_each_warning_states_its_number(options: dict, said: str) -> None:
    assert any(said in sentence for sentence in warnings_of(**options))


@pytest.mark.parametrize("options", [{"trend": 0.25}, {"layers": 8}, {"prompts": 10}])
def test_a_bound_itself_is_allowed(options: dict) -> None:
    assert warnings_of(**options) == []


def test_periodic_replies_are_counted_above_one_in_ten() -> None:
    atoms = make_atoms(prompts=20)
    tests = null_tests(atoms)
    for periodic, expected in ((2, []), (3, ["3 of 20 replies are periodic"])):
        atoms["repetition"] = ("prompt", np.where(np.arange(20) < periodic, 0.51, 0.5))
        found = cautions(atoms, tests)
        assert len(found) == len(expected)
        assert all(s.startswith(e) for s, e in zip(found, expected, strict=True))


def test_a_null_that_was_asked_for_and_not_run_is_said() -> None:
    atoms = make_atoms()
    atoms.attrs["nulls_left_out"] = '{"same_step": "no closed form"}'
    told = ["The same_step null was left out: no closed form."]
    assert cautions(atoms, null_tests(atoms)) == told


def test_pairs_without_a_same_step_null_are_counted() -> None:
    atoms = make_atoms(layers=8, heads=2)
    atoms.attrs["same_step_pairs_left_out"] = 17
    (told,) = cautions(atoms, null_tests(atoms))
    assert told.startswith("17 of 120 pairs are left out of integration")


def test_undefined_pairs_are_counted_by_status() -> None:
    atoms = make_atoms(layers=8, heads=2)
    atoms["status"][:5] = 1
    atoms["status"][5:7] = 4
    assert cautions(atoms, null_tests(atoms)) == [
        "7 of 120 pairs are marked in at least one prompt: 5 constant, 2 too_short."
    ]

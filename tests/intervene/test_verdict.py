"""Words that are computed from the numbers of worlds whose truth is known."""

import numpy as np
import pytest

from divergence_factory import World, by_value, divergence
from synatlas.errors import ArtifactError
from synatlas.intervene.statistics import ablation_tests
from synatlas.intervene.verdict import verdict
from synatlas.rank.verdict import Verdict

LAYER = np.repeat(np.arange(4), 8)


def judged(world: World) -> Verdict:
    made = divergence(world)
    return verdict(made, ablation_tests(made, draws=100))


def holds(found: Verdict) -> dict[str, str]:
    return {one.name: one.holds for one in found.findings}


def test_a_core_is_said_to_matter_and_what_explains_it() -> None:
    found = judged(World())
    said = holds(found)
    assert said["more_than_random"] == said["more_than_random_depth_matched"] == "yes"
    assert said["more_than_redundant_first"] == "yes"
    assert said["depth_explains"] == "no"
    # Damage is a sum over units, and the order is that of what each damages alone.
    assert said["single_units_explain"] == said["near_oracle"] == "yes"
    assert said["catastrophic"] == "no"
    assert said["other_models"] == said["other_ablations"] == "cannot tell"
    assert "put down to what its units damage alone" in found.headline
    assert "more than random units of the same layers (p 0.005)" in found.headline
    assert Verdict.from_json(found.to_json()) == found


def test_an_order_that_says_nothing_of_damage_is_not_shown_to_matter() -> None:
    rng = np.random.default_rng(0)
    found = judged(World(orders={"rank_of_difference": rng.permutation(32)}))
    said = holds(found)
    assert said["more_than_random"] == said["more_than_random_depth_matched"] == "cannot tell"
    assert said["depth_explains"] == said["single_units_explain"] == "cannot tell"
    assert "is not shown to damage predictions more than random units" in found.headline


def test_depth_is_named_where_units_of_its_layers_damage_as_much() -> None:
    rng = np.random.default_rng(0)
    weight = np.where(LAYER == 1, 10.0, 1.0) * rng.uniform(0.95, 1.05, size=32)
    first, rest = np.flatnonzero(LAYER == 1), np.flatnonzero(LAYER != 1)
    order = np.concatenate([rng.permutation(first), rng.permutation(rest)])
    orders = {"rank_of_difference": order, "norm": by_value(weight)}
    found = judged(World(weight=weight, orders=orders, tested=(2, 4, 6), noise=0.02))
    said = holds(found)
    assert said["more_than_random"] == said["depth_explains"] == "yes"
    assert said["more_than_random_depth_matched"] == "no"
    assert "Which layers they are in explains it." in found.headline
    assert said["near_oracle"] == "yes"


def test_norm_is_named_where_it_is_the_same_order() -> None:
    weight = np.random.default_rng(1).gamma(1.0, size=32)
    order = by_value(weight)
    world = World(weight=weight, orders={"rank_of_difference": order, "norm": order})
    found = judged(world)
    assert holds(found)["norm_explains"] == "yes"
    assert "norm" in found.headline


def test_few_draws_are_not_resolvable_whatever_the_damage() -> None:
    found = judged(World(draws=19, curve_draws=2))
    assert holds(found)["more_than_random"] == "cannot tell"
    assert found.finding("more_than_random").why.startswith("Not resolvable: 19 draws")


def test_less_damage_is_said_to_be_less() -> None:
    weight = np.random.default_rng(1).gamma(1.0, size=32)
    found = judged(World(weight=weight, orders={"rank_of_difference": by_value(-weight)}))
    assert holds(found)["more_than_random"] == "no"
    assert "damages predictions less than random units" in found.headline
    assert holds(found)["near_oracle"] == "no"


def test_a_collapse_is_told_from_gradual_damage() -> None:
    weight = np.full(32, 0.05)
    order = np.random.default_rng(0).permutation(32)
    weight[order[9]] = 6.0
    orders = {"rank_of_difference": order}
    found = judged(World(weight=weight, orders=orders, tested=(4, 8, 16), noise=0.02, prompts=8))
    assert holds(found)["catastrophic"] == "yes"
    assert found.finding("catastrophic").numbers["units_after_it"] == 10


def test_what_was_not_run_is_left_out_or_said() -> None:
    made = divergence(World(items=0, prompts=2))
    # An order that was made from damage is no hypothesis about it.
    circular = made.assign_attrs(matched_to="single_unit")
    told = verdict(circular, ablation_tests(circular, draws=50)).warnings
    assert any("is no finding" in text for text in told)
    lean = made.sel(order=["rank_of_difference", "random"]).drop_vars("single_kl")
    found = verdict(lean, ablation_tests(lean, draws=50))
    said = holds(found)
    assert not {"more_than_random_depth_matched", "near_oracle", "norm_explains"} & set(said)
    assert said["single_units_explain"] == "cannot tell"
    assert any("prompts are few" in text for text in found.warnings)
    with pytest.raises(ArtifactError):
        verdict(made, made)

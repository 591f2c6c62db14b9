"""Both published rank definitions: properties, ties, undefined units, refused input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from synatlas.errors import ConfigError
from synatlas.rank.score import ordinal_ranks, rank_units

FEW = settings(derandomize=True, deadline=None, max_examples=40)
# Quarters are exact in binary, so differences tie exactly where they should.
LEVELS = st.integers(-8, 8).map(lambda k: k / 4)
WITH_GAPS = st.one_of(LEVELS, st.just(np.nan), st.just(np.inf))


def values(elements: st.SearchStrategy) -> st.SearchStrategy:
    return arrays(np.float64, st.integers(1, 15), elements=elements)


def two(elements: st.SearchStrategy) -> st.SearchStrategy:
    return st.integers(1, 15).flatmap(
        lambda n: st.tuples(*[arrays(np.float64, n, elements=elements)] * 2)
    )


@FEW
@given(values(LEVELS))
def test_ranks_are_scipys_ordinal_ranks(x: np.ndarray) -> None:
    assert (ordinal_ranks(x) == stats.rankdata(x, method="ordinal")).all()


@FEW
@given(values(WITH_GAPS))
def test_ranks_are_a_permutation_of_the_defined_units(x: np.ndarray) -> None:
    ranks = ordinal_ranks(x)
    defined = np.isfinite(x)
    assert (np.isfinite(ranks) == defined).all()
    assert sorted(ranks[defined]) == list(range(1, defined.sum() + 1))
    assert (ranks[defined] == ordinal_ranks(x[defined])).all()


@FEW
@given(two(LEVELS), st.sampled_from([0.5, 2.0, 1024.0]))
def test_ranks_ignore_scale_and_shift(pair: tuple[np.ndarray, np.ndarray], scale: float) -> None:
    synergy, redundancy = pair
    layer = np.zeros(synergy.size)
    one = rank_units(synergy, redundancy, layer)
    other = rank_units(scale * synergy + 1, scale * redundancy - 1, layer)
    assert (one.rank_of_difference == other.rank_of_difference).all()
    assert (one.difference_of_ranks == other.difference_of_ranks).all()


@FEW
@given(st.permutations(range(10)), st.integers(0, 100))
def test_units_keep_their_rank_in_any_order(order: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    synergy, redundancy = rng.standard_normal((2, 10))
    layer = np.arange(10) // 2
    one = rank_units(synergy, redundancy, layer)
    other = rank_units(synergy[order], redundancy[order], layer[order])
    for name in ("rank_of_difference", "difference_of_ranks"):
        assert (one[name].values[order] == other[name].values).all()
    assert other.profile.values == pytest.approx(one.profile.values)


def test_the_two_definitions_differ_where_they_should() -> None:
    """Head 2 has far the most synergy and the most redundancy: only one definition cares."""
    out = rank_units([0.1, 0.2, 0.9], [0.01, 0.0, 0.3], [0, 0, 1])
    assert out.rank_of_difference.values.tolist() == [1, 2, 3]
    assert out.difference_of_ranks.values.tolist() == [-1, 1, 0]
    expected = [[1.5, 3.0], [0.0, 0.0], [0.15, 0.9], [0.005, 0.3]]
    assert out.profile.values == pytest.approx(np.array(expected))
    assert out.score.values.tolist()[:2] == ["rank_of_difference", "difference_of_ranks"]
    assert out.depth.values.tolist() == [0, 1]


def test_ties_follow_unit_order() -> None:
    out = rank_units([1, 1, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0])
    assert out.rank_of_difference.values.tolist() == [2, 3, 1, 4]
    assert out.difference_of_ranks.values.tolist() == [1, 1, -2, 0]


def test_a_unit_without_a_value_is_unranked_in_both_and_counts_in_neither() -> None:
    out = rank_units([0.3, np.nan, 0.1, 0.2], [0.0, 0.0, np.nan, 0.1], [0, 1, 1, 2])
    assert out.rank_of_difference.values == pytest.approx([2, np.nan, np.nan, 1], nan_ok=True)
    assert out.difference_of_ranks.values == pytest.approx([1, np.nan, np.nan, -1], nan_ok=True)
    profile = out.profile.sel(score="rank_of_difference").values
    assert profile == pytest.approx([2, np.nan, 1], nan_ok=True)


def test_the_input_is_not_changed() -> None:
    synergy = np.array([0.2, 0.1])
    rank_units(synergy, [0.0, 0.0], [0, 1])
    assert synergy.tolist() == [0.2, 0.1]


@pytest.mark.parametrize(
    ("synergy", "redundancy", "layer", "said"),
    [
        ([1.0, 2.0], [0.0], [0, 1], "2 values of synergy, 1 values of redundancy"),
        ([1.0, 2.0], [0.0, 0.0], [0], "1 values of layer"),
        ([np.nan, 1.0], [0.0, np.nan], [0, 1], "no unit with both"),
        ([], [], [], "no unit with both"),
        ([1.0, 2.0], [0.0, 0.0], [0.0, 0.5], "layer 0.5 of unit 1"),
        ([1.0, 2.0], [0.0, 0.0], [0, -1], "layer -1.0 of unit 1"),
        ([1.0, 2.0], [0.0, 0.0], [0, np.nan], "layer nan of unit 1"),
        ([[1.0, 2.0]], [[0.0, 0.0]], [0, 1], "2 dimensions"),
        (["a", "b"], [0.0, 0.0], [0, 1], "not an array of numbers"),
    ],
)
def test_bad_input_is_named(synergy: object, redundancy: object, layer: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        rank_units(synergy, redundancy, layer)  # type: ignore[arg-type]

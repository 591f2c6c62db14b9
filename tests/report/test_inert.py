"""Text from outside stays text."""

import html
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synatlas.report.inert import clipped, plot_text, script_json, visible
from synatlas.report.verdict import _numbers, number

anything = st.text(st.characters(codec=None), max_size=60)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(anything)
def test_visible_text_can_be_encoded_and_is_stable(text: str) -> None:
    shown = visible(text)
    shown.encode("utf-8")
    assert visible(shown) == shown
    if text.isprintable() and text.isascii():
        assert shown == text


@settings(max_examples=100, deadline=None, derandomize=True)
@given(anything)
def test_plot_text_has_no_tag_and_reads_back(text: str) -> None:
    """Plotly splits at tags, then decodes entities: escaping undoes exactly that."""
    drawn = plot_text(text)
    assert not set("<>\n") & set(drawn)
    assert html.unescape(drawn) == visible(text).replace("\n", " ")


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.recursive(anything, lambda inner: st.lists(inner) | st.dictionaries(anything, inner)))
def test_script_json_reads_back_and_cannot_end_its_block(value: object) -> None:
    text = str(script_json([value]))
    assert json.loads(text) == [value]
    assert not set("<>&\u2028\u2029") & set(text)


@pytest.mark.parametrize(
    "character", ["\u202e", "\u2066", "\u200f", "\x00", "\x1b", "\ud800", "\ufeff", "\U000e0041"]
)
def test_unseen_characters_become_code_points(character: str) -> None:
    assert visible(f"a{character}b") == f"a⟨U+{ord(character):04X}⟩b"


@pytest.mark.parametrize("text", ["naïve 日本語 العربية", "👩‍🔬 family", "tab\tnew\nline"])
def test_text_of_any_language_is_unchanged(text: str) -> None:
    assert visible(text) == text


def test_clipped_says_what_it_leaves_out() -> None:
    assert clipped("abc", 3) == "abc"
    assert clipped("abcde", 3) == "abc … (2 more characters are in the recording)"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "not defined"),
        (float("nan"), "not defined"),
        (float("-inf"), "minus infinite"),
        (True, "yes"),
        (1664, "1,664"),
        (272.0, "272"),
        (12345.6, "12,346"),
        (0.000844321, "0.000844"),
        ([-0.5, 0.25], "-0.5 to 0.25"),
        ([None, 0.25], "not defined to 0.25"),
        ([1, 2, 3], "1, 2, 3"),
        ({"a": 1}, "a: 1"),
        ("as it is", "as it is"),
    ],
)
def test_numbers_as_a_reader_wants_them(value: object, text: str) -> None:
    assert number(value) == text


def test_bounds_stand_beside_the_number_that_they_bound() -> None:
    told = _numbers(
        {
            "effect_nat": 0.1,
            "lower_nat": 0.0,
            "upper_nat": 0.2,
            "rise": 1.5,
            "rise_lower": None,
            "rise_upper": None,
            "largest_upper_bound_nat": 0.3,
            "upper": 4.0,
        }
    )
    assert told == (
        ("effect", "0.1 nat (0 to 0.2)"),
        ("rise", "1.5 (interval not defined)"),
        ("largest upper bound", "0.3 nat"),
        ("upper", "4"),
    )

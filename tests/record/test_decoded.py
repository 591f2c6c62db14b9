"""Tokens and text fit together whatever the tokenizer does to single tokens."""

import pytest

from synatlas.record.decoded import token_ends
from tiny_models import tiny_tokenizer


def pieces(ends: tuple[int, ...], text: str) -> list[str]:
    return [text[a:b] for a, b in zip((0, *ends[:-1]), ends, strict=True)]


@pytest.mark.parametrize("text", ["a b", "é", "naïve 世界", "👩‍🚀 and\n\tמה", "<b>&amp;"])
def test_a_character_belongs_to_the_last_of_its_bytes(text: str) -> None:
    """One token is one byte here, so that most characters are cut in pieces."""
    tokenizer = tiny_tokenizer()
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    expected = [part for c in text for part in [""] * (len(c.encode()) - 1) + [c]]
    found = token_ends(lambda ids: str(tokenizer.decode(ids)), tokens, text)
    assert pieces(found, text) == expected


def test_bytes_that_are_no_text_leave_no_token_without_a_place() -> None:
    tokenizer = tiny_tokenizer()
    whole = tokenizer("世a", add_special_tokens=False)["input_ids"]
    broken = [whole[0], whole[3], whole[1], whole[3], whole[0]]
    text = str(tokenizer.decode(broken))
    found = token_ends(lambda ids: str(tokenizer.decode(ids)), broken, text)
    assert "".join(pieces(found, text)) == text
    assert text.count("a") == 2
    assert [piece for piece in pieces(found, text) if "a" in piece] == ["a", "a"]


def test_a_decoder_that_drops_the_first_space_and_mends_spaces_is_followed() -> None:
    words = ["▁Well", "▁,", "▁yes", "▁."]

    def decode(ids: list[int]) -> str:
        return "".join(words[i] for i in ids).replace("▁", " ").strip().replace(" ,", ",")

    text = decode([0, 1, 2, 3])
    assert pieces(token_ends(decode, [0, 1, 2, 3], text), text) == ["Well", ",", " yes", " ."]


def test_no_tokens_have_no_ends() -> None:
    assert token_ends(lambda ids: "", [], "") == ()

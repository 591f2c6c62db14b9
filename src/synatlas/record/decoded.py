"""Where each token of a reply stands in the reply's text."""

from collections.abc import Callable, Sequence


def token_ends(
    decode: Callable[[list[int]], str], tokens: Sequence[int], text: str
) -> tuple[int, ...]:
    """Characters of `text` up to the end of each token.

    Tokens are decoded together with those before them, because a tokenizer may decode a token
    differently alone: it drops a space, or shows part of a character as U+FFFD. A character of
    several tokens belongs to the last of them. Whatever is left of the text when all tokens are
    used belongs to the last token.

    Parameters
    ----------
    decode : text of tokens.
    tokens : of one reply.
    text : their text, as it is stored.

    Returns
    -------
    tuple
        One number per token, never falling, the last the length of `text`.

    Examples
    --------
    >>> words = ["Two", " words"]
    >>> token_ends(lambda ids: "".join(words[i] for i in ids), [0, 1], "Two words")
    (3, 9)
    """
    ends: list[int] = []
    for count in range(1, len(tokens)):
        so_far = decode(list(tokens[:count]))
        end = ends[-1] if ends else 0
        while end < min(len(so_far), len(text)) and so_far[end] == text[end]:
            end += 1
        ends.append(end)
    return (*ends, len(text)) if tokens else ()

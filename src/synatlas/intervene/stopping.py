"""When a reply that is being generated need not go on."""

from collections.abc import Sequence
from typing import Any, Final

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import StoppingCriteria

#: Stands for bytes that are not yet a whole character.
_HALF: Final = "\N{REPLACEMENT CHARACTER}"


class Answered(StoppingCriteria):
    """Ends a row at the end of its first line or at a text, or once it cannot be right any more.

    Parameters
    ----------
    tokenizer : turns tokens into text.
    prompt : places of a row before its reply.
    longest : most tokens of each reply.
    first_line : whether a line that is not blank is all that is asked for.
    end : a text behind which nothing counts; none where empty.
    answers : for each row the only right words, where a reply that departs from them is wrong.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        prompt: int,
        longest: Sequence[int],
        first_line: bool,
        end: str = "",
        answers: Sequence[str] | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._prompt = prompt
        self._longest = longest
        self._first_line = first_line
        self._end = end
        self._answers = answers
        self._spelled = None if answers is None else [spelled(tokenizer, a) for a in answers]
        # A token has a byte at least: the end of a reply in which `end` would be found.
        self._tail = len(end.encode())
        self._done: list[bool] = []

    def __call__(self, input_ids: Int[Tensor, "row place"], scores: Any, **kwargs: Any) -> Any:
        """Whether each row is done, as a boolean tensor."""
        del scores, kwargs
        replies = input_ids[:, self._prompt :].tolist()
        self._done = self._done or [False] * len(replies)
        for i, reply in enumerate(replies):
            self._done[i] = self._done[i] or self._is_done(i, reply)
        return torch.tensor(self._done, device=input_ids.device)

    def _is_done(self, row: int, reply: list[int]) -> bool:
        if len(reply) >= self._longest[row]:
            return True
        if self._spelled is not None and reply == self._spelled[row][: len(reply)]:
            return False
        if self._answers is not None:
            return is_settled(self._text(reply), self._answers[row])
        if self._first_line and "\n" in self._text(reply[-2:]):
            return has_line(self._text(reply))
        return bool(self._end) and self._end in self._text(reply[-self._tail :])

    def _text(self, reply: list[int]) -> str:
        return str(self._tokenizer.decode(reply, skip_special_tokens=True))


def spelled(tokenizer: Any, answer: str) -> list[int]:
    """Tokens of an answer as a model would write it behind "Answer:"."""
    return list(tokenizer(f" {answer}", add_special_tokens=False)["input_ids"])


def has_line(text: str) -> bool:
    """Whether a line that is not blank is complete."""
    return "\n" in text.lstrip()


def is_settled(text: str, answer: str) -> bool:
    """Whether no continuation of a text changes whether its first line has the answer's words."""
    if has_line(text):
        return True
    text = text.rstrip(_HALF)
    words, wanted = text.split(), answer.split()
    if not words:
        return False
    *before, last = words
    expected = [*wanted, ""][len(before)] if len(before) <= len(wanted) else ""
    may_grow = not text[-1].isspace()
    fits = expected.startswith(last) if may_grow else expected == last
    return before != wanted[: len(before)] or not fits

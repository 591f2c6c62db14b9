"""How many questions a model answers right while units are ablated."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Bool, Int8
from torch import Tensor

from synatlas.errors import ConfigError
from synatlas.intervene.items import MARKINGS, Items
from synatlas.intervene.stopping import Answered, spelled
from synatlas.models.batching import batching_of, groups
from synatlas.models.load import LanguageModel
from synatlas.models.units import UnitTable
from synatlas.progress import Progress, silent
from synatlas.record.asked import rendered_prompts
from synatlas.record.generate import continued
from synatlas.record.memory import rows_at_once, with_fewer_rows
from synatlas.record.styles import style_name
from synatlas.record.threads import fitting_threads
from synatlas.tasks.prompts import Prompts

#: Runs the model with row i's units ablated where ``keep[i]`` is False.
Applied = Callable[[Bool[Tensor, "row unit"]], AbstractContextManager[None]]

#: Tokens that a reply may have beyond those of its exact answer, which may be spelled otherwise
#: or follow blank lines.
_SPARE: Final = 8

#: What models that are asked in a style write when they go on to a question of their own.
_NEXT_QUESTION: Final = MappingProxyType({"question": "\nQuestion:"})


class _Row(NamedTuple):
    """A question and the set of units that are kept while it is answered."""

    mask: int
    item: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """Items as a model is asked them.

    Parameters
    ----------
    items : the questions.
    prompts : tokens of each.
    tokens : longest reply to each.
    end : text that ends a free reply, empty where there is none.
    """

    items: Items
    prompts: Sequence[Sequence[int]]
    tokens: Sequence[int]
    end: str


def correct(
    model: LanguageModel,
    units: UnitTable,
    keep: Bool[np.ndarray, "mask unit"],
    items: Items,
    *,
    applied: Applied,
    tokens: int | None = None,
    system: str = "",
    batch_size: int | None = None,
    progress: Progress = silent,
) -> Int8[np.ndarray, "mask item"]:
    """Which items a model answers right, greedily, under each of several sets of ablated units.

    Rows of a batch have sets of their own, so that few items do not make small batches. A reply
    ends at an end of sequence, at the line break where the task's answer is its first line, where
    a free reply goes on to another question, as soon as no continuation could make it right, or at
    its longest; none of this changes what is right. A set that keeps all units gives the accuracy
    of the clean model.

    Parameters
    ----------
    model : the model.
    units : its units, in the order of `keep`.
    keep : sets, False where a unit is ablated.
    items : questions, see :func:`synatlas.intervene.items.generated` and
        :func:`synatlas.intervene.items.read_items`.
    applied : given the masks of a batch's rows, a context in which they are applied.
    tokens : longest reply; by the items' marking where None: where answers are exact the tokens of
        each and 8 more, else 64 for a line and 256 for a free reply.
    system : system prompt, put before every question.
    batch_size : rows at once; by memory where None. No answer depends on it beyond rounding.
    progress : told how many of all replies are there.

    Returns
    -------
    numpy.ndarray
        (mask, item): 1 where right, 0 where wrong.

    Raises
    ------
    ConfigError
        The masks are not of these units, a number is below 1, or a question and its reply exceed
        the model's context.
    """
    check_masks(keep, units)
    _check(tokens=tokens, batch_size=batch_size)
    asked = _asked(model, items, tokens=tokens, system=system)
    out = np.zeros((len(keep), len(items)), dtype=np.int8)
    lengths = [len(p) + n for p, n in zip(asked.prompts, asked.tokens, strict=True)] * len(keep)
    rows = batch_size or (rows_at_once(model, lengths) if lengths else 1)
    done = 0
    with fitting_threads(model):
        for batch in _batches(model, asked, len(keep), rows):
            found = _answered(model, asked, batch, keep, applied, progress)
            for row, right in zip(batch, found, strict=True):
                out[row.mask, row.item] = right
            done += len(batch)
            progress("answering", done, out.size)
    return out


def check_asked(model: LanguageModel, items: Items) -> None:
    """Refuse questions that a model's context does not hold, before anything is run.

    Raises
    ------
    ConfigError
        A question and its longest reply exceed the context.
    """
    _asked(model, items, tokens=None, system="")


def check_masks(keep: Bool[np.ndarray, "mask unit"], units: UnitTable) -> None:
    """Refuse masks of other units than these."""
    if keep.shape[1] != len(units):
        raise ConfigError(
            given=f"masks of {keep.shape[1]} units",
            expected=f"masks of {len(units)}, in the order of the table",
            remedy="make the masks from the table that is given with them",
        )


def _check(**numbers: int | None) -> None:
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise ConfigError(
                given=f"{name} {value}", expected="at least 1", remedy="leave it out, or raise it"
            )


def _asked(model: LanguageModel, items: Items, *, tokens: int | None, system: str) -> _Asked:
    """Items in the form and the tokens of a model."""
    marking = MARKINGS[items.marking]
    style = style_name(items.style, model.tokenizer)
    most = tokens or marking.tokens
    longest = [most or len(spelled(model.tokenizer, a)) + _SPARE for a in items.answers]
    prompts = Prompts(items.ids, items.questions, items.categories)
    rendered = rendered_prompts(model, prompts, style, system, max(longest))
    return _Asked(
        items=items,
        prompts=[prompt.ids for prompt in rendered],
        tokens=longest,
        end="" if marking.first_line else _NEXT_QUESTION.get(style, ""),
    )


def _batches(model: LanguageModel, asked: _Asked, masks: int, rows: int) -> list[list[_Row]]:
    """Rows that are answered together: of the same or neighbouring sets, and of similar length.

    A batch takes as long as its longest reply, and under a damaging set most replies are soon
    known to be wrong: rows of one set end together.
    """
    together = batching_of(model.model).generate
    size = max(1, rows // len(asked.prompts))
    batches: list[list[_Row]] = []
    for first in range(0, masks, size):
        block = [
            _Row(mask, item)
            for item in range(len(asked.prompts))
            for mask in range(first, min(first + size, masks))
        ]
        for group in groups([len(asked.prompts[row.item]) for row in block], together):
            alike = [block[i] for i in group]
            alike.sort(key=lambda row: (asked.tokens[row.item], len(asked.prompts[row.item])))
            batches += [alike[i : i + rows] for i in range(0, len(alike), rows)]
    return batches


def _answered(
    model: LanguageModel,
    asked: _Asked,
    batch: list[_Row],
    keep: Bool[np.ndarray, "mask unit"],
    applied: Applied,
    progress: Progress,
) -> list[bool]:
    """Whether each row of a batch is right; fewer at once where memory does not hold them."""

    def attempt(rows: int) -> list[bool]:
        parts = (batch[i : i + rows] for i in range(0, len(batch), rows))
        return [right for part in parts for right in _marked(model, asked, part, keep, applied)]

    return with_fewer_rows(attempt, len(batch), progress)


def _marked(
    model: LanguageModel,
    asked: _Asked,
    batch: list[_Row],
    keep: Bool[np.ndarray, "mask unit"],
    applied: Applied,
) -> list[bool]:
    items, marking = asked.items, MARKINGS[asked.items.marking]
    prompts = [asked.prompts[row.item] for row in batch]
    longest = [asked.tokens[row.item] for row in batch]
    stop = Answered(
        model.tokenizer,
        prompt=max(map(len, prompts)),
        longest=longest,
        first_line=marking.first_line,
        end=asked.end,
        answers=[items.answers[row.item] for row in batch] if marking.exact else None,
    )
    masks = torch.from_numpy(keep[[row.mask for row in batch]]).to(model.device)
    with applied(masks):
        replies = continued(model, prompts, tokens=max(longest), stop_at_eos=True, stop=stop)
    # Where other rows went on, a reply is longer than its own longest.
    cut = [reply[:most] for reply, most in zip(replies, longest, strict=True)]
    texts = [str(model.tokenizer.decode(reply, skip_special_tokens=True)) for reply in cut]
    if asked.end:
        texts = [text.split(asked.end, maxsplit=1)[0] for text in texts]
    return [items.right[row.item](text) for row, text in zip(batch, texts, strict=True)]

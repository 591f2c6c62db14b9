"""What can be wrong with prompts and tokens, found before a model runs."""

from collections.abc import Sequence
from typing import Final

from synatlas.errors import ConfigError
from synatlas.models.layers import vocabulary_size
from synatlas.models.load import LanguageModel
from synatlas.record.styles import Rendered, check_ids, render
from synatlas.tasks.battery import battery
from synatlas.tasks.prompts import UNCATEGORISED, Prompts

#: Fewest tokens of a reply: fewer leave no series to decompose.
LEAST_TOKENS: Final = 8


def as_prompts(prompts: Prompts | Sequence[str] | None) -> Prompts:
    """Prompts as they are, texts with ids ``p000`` ..., or the built-in battery for None."""
    if prompts is None:
        return battery()
    if isinstance(prompts, str) or (not isinstance(prompts, Prompts) and len(prompts) == 0):
        raise ConfigError(
            given=f"prompts {prompts!r}",
            expected="a sequence of at least one text",
            remedy="pass a list of texts, or None for the built-in battery",
        )
    if isinstance(prompts, Prompts):
        return prompts
    return Prompts(
        ids=tuple(f"p{i:03d}" for i in range(len(prompts))),
        texts=tuple(prompts),
        categories=(UNCATEGORISED,) * len(prompts),
    )


def row_prompts(prompts: Prompts | None, decoded: Sequence[str]) -> Prompts:
    """Prompts of replayed rows, made from their decoded tokens where None were passed."""
    if prompts is None:
        return as_prompts(decoded)
    if len(prompts.ids) != len(decoded):
        raise ConfigError(
            given=f"{len(prompts.ids)} prompts with {len(decoded)} rows of tokens",
            expected="as many prompts as rows",
            remedy="pass one prompt per row, or none",
        )
    return prompts


def rendered_prompts(
    model: LanguageModel, asked: Prompts, style: str, system: str, tokens: int
) -> tuple[Rendered, ...]:
    """Prompts as the model sees them, checked against its vocabulary and context."""
    rendered = render(model.tokenizer, asked.texts, style, system)
    check_ids(asked.ids, rendered, vocabulary=vocabulary_size(model.model))
    longest = max(range(len(rendered)), key=lambda i: len(rendered[i].ids))
    length = len(rendered[longest].ids)
    if model.context_length is not None and length + tokens > model.context_length:
        raise ConfigError(
            given=f"prompt {asked.ids[longest]} of {length} tokens, and {tokens} to generate",
            expected=f"at most {model.context_length} tokens together, the model's context",
            remedy="shorten the prompt, or lower tokens",
        )
    return rendered


def check_tokens(tokens: int) -> None:
    """A reply must be long enough for a series."""
    if tokens < LEAST_TOKENS:
        raise ConfigError(
            given=f"tokens {tokens}",
            expected=f"at least {LEAST_TOKENS}",
            cause="shorter series leave nothing to estimate",
            remedy=f"pass {LEAST_TOKENS} or more",
        )


def as_prompt_lengths(rows: Sequence[Sequence[int]], lengths: Sequence[int] | int) -> list[int]:
    """One prompt length per row; all 0 (documents) or none."""
    found = [lengths] * len(rows) if isinstance(lengths, int) else [int(n) for n in lengths]
    if not rows or len(found) != len(rows):
        raise ConfigError(
            given=f"{len(rows)} rows of tokens and {len(found)} prompt lengths",
            expected="at least one row, and one prompt length per row",
            remedy="pass a prompt length for each row, or one number for all",
        )
    if any(n < 0 for n in found) or len({n == 0 for n in found}) > 1:
        raise ConfigError(
            given=f"prompt lengths from {min(found)} to {max(found)}",
            expected="0 for every row (documents), or at least 1 for every row (replies)",
            cause="their samples are aligned differently and cannot share one recording",
            remedy="replay documents and replies in two calls",
        )
    return found


def check_rows(model: LanguageModel, rows: Sequence[Sequence[int]], lengths: Sequence[int]) -> None:
    """Rows must have something after their prompt, fit the context, and hold known tokens."""
    vocabulary = vocabulary_size(model.model)
    for i, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        if len(row) <= length:
            raise ConfigError(
                given=f"row {i} of {len(row)} tokens with a prompt of {length}",
                expected="at least one token after the prompt",
                remedy="remove the row, or correct its prompt length",
            )
        if min(row) < 0 or max(row) >= vocabulary:
            raise ConfigError(
                given=f"row {i} with token {min(row) if min(row) < 0 else max(row)}",
                expected=f"tokens from 0 to {vocabulary - 1}, the rows of the model's embedding",
                cause="the tokens come from another tokenizer, or the row is padded",
                remedy="pass unpadded rows of this model's tokens",
            )
        if model.context_length is not None and len(row) > model.context_length:
            raise ConfigError(
                given=f"row {i} of {len(row)} tokens",
                expected=f"at most {model.context_length} tokens, the model's context",
                remedy="shorten the row",
            )

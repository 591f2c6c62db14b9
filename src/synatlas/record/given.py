"""Prompts and replies of a recording, to be fed to another model."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

import xarray as xr

from synatlas.artifact import open_artifact
from synatlas.errors import ConfigError
from synatlas.models.load import LanguageModel
from synatlas.models.quiet import quiet
from synatlas.record.recording import RECORDING
from synatlas.record.styles import render, storable
from synatlas.tasks.prompts import Prompts


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """Tokens that a model is to read.

    `rows` are prompt and reply together, `prompt_lengths` the tokens before each reply, `replies`
    the text of each reply, `fingerprint` that of the recording they come from.
    """

    rows: tuple[tuple[int, ...], ...]
    prompt_lengths: tuple[int, ...]
    prompts: Prompts
    replies: tuple[str, ...]
    fingerprint: str


def read_given(path: str | Path, tokens: int) -> Given:
    """The prompts of the recording at `path`, and the first `tokens` tokens of their replies.

    Parameters
    ----------
    path : a run folder, or a recording's file.
    tokens : tokens of each reply.

    Raises
    ------
    ConfigError
        There is no recording there, or a reply is shorter than `tokens`.
    """
    file = Path(path) / "recording.nc" if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise ConfigError(
            given=f"replies of {path}",
            expected="a run folder, or the recording.nc of one",
            cause="there is no recording",
            remedy="make one with synatlas record, and pass its folder",
        )
    recording = open_artifact(file)
    if recording.attrs.get("schema") != RECORDING.name:
        raise ConfigError(
            given=f"replies of {path}",
            expected="a recording",
            cause=f"the file holds {recording.attrs.get('schema')}",
            remedy="pass a run folder, or its recording.nc",
        )
    return given_of(recording, tokens)


def given_of(recording: xr.Dataset, tokens: int) -> Given:
    """As :func:`read_given`, of a recording in memory."""
    shortest = int(recording["n_steps"].min())
    if shortest < tokens:
        raise ConfigError(
            given=f"{tokens} tokens of each reply of the recording of {recording.attrs['model']}",
            expected=f"at most {shortest}, its shortest reply",
            remedy="ask for fewer tokens, or record longer replies",
        )
    before = [tuple(row[row >= 0].tolist()) for row in recording["prompt_token"].to_numpy()]
    after = [tuple(row[:tokens].tolist()) for row in recording["token"].to_numpy()]
    return Given(
        rows=tuple(b + a for b, a in zip(before, after, strict=True)),
        prompt_lengths=tuple(map(len, before)),
        prompts=Prompts(
            ids=tuple(recording["prompt"].to_numpy().tolist()),
            texts=tuple(recording["text"].to_numpy().tolist()),
            categories=tuple(recording["category"].to_numpy().tolist()),
        ),
        replies=tuple(recording["reply"].to_numpy().tolist()),
        fingerprint=recording.attrs["fingerprint"],
    )


def given_texts(model: LanguageModel, texts: Prompts, tokens: int) -> Given:
    """The first `tokens` tokens of every text, as documents: their series covers all of them.

    A beginning-of-sequence token is added by the tokenizer's own habit, and counts.

    Raises
    ------
    ConfigError
        A text has fewer tokens.
    """
    # transformers warns of texts that are longer than the context, which are cut below.
    with quiet():
        rendered = render(model.tokenizer, texts.texts, "raw")
    for name, text in zip(texts.ids, rendered, strict=True):
        if len(text.ids) < tokens:
            raise ConfigError(
                given=f"the text {name} of {len(text.ids)} tokens",
                expected=f"at least {tokens}, so that all series are as long as --tokens says",
                remedy="lower --tokens, or lengthen the text",
            )
    return Given(
        rows=tuple(text.ids[:tokens] for text in rendered),
        prompt_lengths=(0,) * len(rendered),
        prompts=texts,
        replies=("",) * len(rendered),
        fingerprint="",
    )


def check_same_tokens(model: LanguageModel, given: Given) -> None:
    """Raise :class:`ConfigError` where the model's tokenizer reads another text in the replies."""
    pairs = zip(given.rows, given.prompt_lengths, given.replies, strict=True)
    for prompt, (row, length, reply) in zip(given.prompts.ids, pairs, strict=True):
        decoded = storable(str(model.tokenizer.decode(list(row[length:]))))
        # Cut within a character, the text ends with a mark that the whole has not.
        if not reply.startswith(decoded.rstrip("\ufffd")):
            raise ConfigError(
                given=f"replies that {model.name} is to read",
                expected="tokens of its own tokenizer",
                cause=f"the reply to prompt {prompt} is another text in its tokens",
                remedy="choose a recording of a model with the same tokenizer",
            )

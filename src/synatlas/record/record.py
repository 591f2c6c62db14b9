"""Stage 1: model and prompts -> Recording."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import xarray as xr

from synatlas.artifact import fingerprint_of
from synatlas.models.load import LanguageModel, load
from synatlas.progress import Progress, silent
from synatlas.record.asked import (
    as_prompt_lengths,
    as_prompts,
    check_rows,
    check_tokens,
    rendered_prompts,
    row_prompts,
)
from synatlas.record.batches import Job
from synatlas.record.decoded import token_ends
from synatlas.record.live import check_stepped
from synatlas.record.memory import rows_at_once, with_fewer_rows
from synatlas.record.reading import (
    Options,
    Read,
    check_options,
    options_for,
    read_prompts,
    read_rows,
)
from synatlas.record.recording import RECORDING, Labels, assemble
from synatlas.record.reductions import check_capture
from synatlas.record.self_test import SelfTest, self_test
from synatlas.record.styles import render, storable, style_name
from synatlas.record.threads import fitting_threads
from synatlas.tasks.prompts import Prompts


def record(
    model: LanguageModel | str,
    prompts: Prompts | Sequence[str] | None = None,
    *,
    tokens: int = 100,
    units: str = "heads",
    site: str = "z",
    reduce: str = "norm",
    direction: Any = None,
    policy: str = "contribution",
    capture: str = "replay",
    prompt_style: str = "auto",
    system: str = "",
    stop_at_eos: bool = False,
    batch_size: int | None = None,
    parts: str | os.PathLike[str] | None = None,
    begin: Callable[[int], None] | None = None,
    progress: Progress = silent,
) -> xr.Dataset:
    """Let a model reply to prompts, and record every unit's activity at every generated token.

    Replies are generated greedily. Sample t of a series is the activity at the position that
    produces token t, so the first sample is the prompt's last position.

    Parameters
    ----------
    model : a loaded model, or the name of one.
    prompts : prompts, or texts; the built-in battery where None.
    tokens : tokens of each reply, at least 8.
    units : what is recorded: ``heads``, the query heads of attention; ``recurrent``, the heads or
        channel groups of mixers without attention, see :func:`synatlas.models.recurrent.recurrent`;
        ``experts``, the experts of every layer that has a router, and the experts that all tokens
        pass there; ``all``, these together; ``sublayers``, one unit each for what attention (or
        another mixer) gives, what the MLP gives, and what the whole layer adds to its input, see
        :func:`synatlas.models.sublayers.sublayers`.
    site : where: ``z``, a head's output before anything else; ``proj_in``, what the output
        projection reads of it, after a gate or a normalisation where the model has one; ``resid``,
        what that projection makes of it, without its bias (norm alone).
    reduce : how its vector becomes a number, in float32: ``norm``, the L2 norm; ``mean``, over its
        features; ``projection`` on `direction`; ``pc1``, projection on the direction along which
        the unit's vectors vary most over all recorded samples [1]_, its largest component
        positive. Replies are fed twice for it, and 8 bytes are held for every pair of features
        of every unit. The directions are stored with the recording.
    direction : for ``projection``: (unit, width) in the units' order, or (width,) for all alike;
        brought to length 1.
    policy : activity of routed experts: ``contribution``, the norm of the output times its weight,
        0 where the router passes the expert by; ``unweighted``, of the output itself, 0 there too;
        ``dense``, of every expert at every token, which costs as many times more as there are
        experts for each that is chosen. A shared expert's output is multiplied by its gate,
        where it has one, for ``contribution`` alone.
    capture : when the units are read: ``replay``, after a reply is generated without hooks, in one
        pass over prompt and reply, without a cache; ``live``, while it is generated, which saves
        that pass, and its memory. They agree to rounding where cached generation computes what a
        plain pass does (`live_replay_error` of the recording says how far). Where it does not,
        live reads what the model really did: recurrent units whose cached step is other code,
        which a replay refuses, and mixtures of experts in bfloat16, where a router near a tie
        chooses another expert in another batch. Replay gives what others can compute from the
        tokens, as :func:`replay` does. ``pc1`` needs it.
    prompt_style : ``chat``, ``question``, ``raw``, or ``auto``: chat where the tokenizer has a
        template, else question.
    system : system prompt, before every prompt; styles chat and question take one.
    stop_at_eos : let replies end early; series then end at `n_steps` and are NaN beyond.
        Otherwise end-of-sequence tokens are suppressed and all series have equal length.
    batch_size : prompts at once; see :func:`choose_batch_size` where None. It changes no value
        beyond rounding, unless rounding decides between two tokens that are equally likely.
        Where memory does not hold them, half as many are taken from the first prompt on.
    parts : folder where each finished batch is kept until the caller removes it; a later call
        with the same model, prompts, options and batch size takes them from there.
    begin : called with the batch size after every check has passed, before the model runs, and
        again before it runs with a smaller one.
    progress : told how many prompts are recorded.

    Returns
    -------
    xarray.Dataset
        The schema is :data:`synatlas.record.recording.RECORDING`.

    Raises
    ------
    ConfigError
        An option is out of range, there are no prompts, or prompt and reply together are longer
        than the model's context.
    ModelError
        As :func:`synatlas.models.load.load`; the tokenizer is not this model's; recurrent units
        differ between generating and replay, see :func:`synatlas.record.live.check_stepped`, and
        are replayed; the model does not run once for every token, and is read live.

    References
    ----------
    .. [1] Jolliffe (2002), Principal Component Analysis, Springer, doi:10.1007/b98835.
    """
    check_options(units, site, reduce, policy, has_direction=direction is not None)
    check_capture(capture, reduce=reduce)
    check_tokens(tokens)
    asked = as_prompts(prompts)
    model = load(model) if isinstance(model, str) else model
    options = options_for(
        model, units=units, site=site, reduce=reduce, direction=direction, policy=policy
    )
    style = style_name(prompt_style, model.tokenizer)
    rendered = rendered_prompts(model, asked, style, system, tokens)
    fingerprint = record_fingerprint(
        model,
        asked,
        tokens=tokens,
        units=units,
        site=site,
        reduce=reduce,
        direction=direction,
        policy=policy,
        capture=capture,
        prompt_style=style,
        system=system,
        stop_at_eos=stop_at_eos,
    )
    ids = [prompt.ids for prompt in rendered]
    job = Job(
        model=model,
        prompts=ids,
        tokens=tokens,
        stop_at_eos=stop_at_eos,
        units=options.table,
        reduce=options.reducers(),
        rows=batch_size or rows_at_once(model, [len(i) + tokens for i in ids]),
        parts=None if parts is None else Path(parts),
        fingerprint=fingerprint,
        capture=capture,
    )

    def attempt(rows: int) -> Read:
        if begin is not None:
            begin(rows)
        return read_prompts(replace(job, rows=rows), options, progress)

    with fitting_threads(model):
        if capture == "replay":
            check_stepped(model, ids, options.table)
        read = with_fewer_rows(attempt, job.rows, progress)
        tested = self_test(model, ids, read.reading, site=options.site, signed=options.signed)
    result = read.result
    return assemble(
        activity=result.activity,
        logprob=result.logprob,
        routed=result.routed,
        tokens=result.tokens,
        prompt_tokens=ids,
        labels=_labels(model, asked, [r.text for r in rendered], result.tokens),
        units=options.table,
        directions=read.directions,
        tested=tested.by_unit(),
        attrs={
            **_attrs(model, options, tested),
            "capture": capture,
            "alignment": "producing",
            "prompt_style": style,
            "end_of_sequence": "kept" if stop_at_eos else "suppressed",
            "decoding": "greedy",
        },
        fingerprint=fingerprint,
    )


def record_fingerprint(
    model: LanguageModel,
    prompts: Prompts | Sequence[str] | None = None,
    *,
    tokens: int = 100,
    units: str = "heads",
    site: str = "z",
    reduce: str = "norm",
    direction: Any = None,
    policy: str = "contribution",
    capture: str = "replay",
    prompt_style: str = "auto",
    system: str = "",
    stop_at_eos: bool = False,
) -> str:
    """Fingerprint that :func:`record` gives with these arguments, without running the model."""
    asked = as_prompts(prompts)
    return fingerprint_of(
        stage="record",
        version=RECORDING.version,
        config={
            **options_for(
                model, units=units, site=site, reduce=reduce, direction=direction, policy=policy
            ).config(),
            "model_revision": model.revision,
            "dtype": str(model.dtype),
            "prompts": _digest([list(asked.ids), list(asked.texts), list(asked.categories)]),
            "tokens": tokens,
            "capture": capture,
            "prompt_style": style_name(prompt_style, model.tokenizer),
            "system": system,
            "stop_at_eos": stop_at_eos,
        },
    )


def choose_batch_size(
    model: LanguageModel,
    prompts: Prompts | Sequence[str] | None = None,
    *,
    tokens: int = 100,
    prompt_style: str = "auto",
    system: str = "",
) -> int:
    """Prompts at once that fit in memory, at most 32 on a CPU and 256 on a GPU."""
    style = style_name(prompt_style, model.tokenizer)
    rendered = render(model.tokenizer, as_prompts(prompts).texts, style, system)
    return rows_at_once(model, [len(prompt.ids) + tokens for prompt in rendered])


def replay(
    model: LanguageModel | str,
    token_ids: Sequence[Sequence[int]],
    prompt_lengths: Sequence[int] | int,
    *,
    prompts: Prompts | None = None,
    units: str = "heads",
    site: str = "z",
    reduce: str = "norm",
    direction: Any = None,
    policy: str = "contribution",
    batch_size: int | None = None,
    progress: Progress = silent,
) -> xr.Dataset:
    """Record a model's units over tokens that were generated elsewhere.

    Parameters
    ----------
    model : a loaded model, or the name of one.
    token_ids : tokens of each row, prompt and reply together; rows may differ in length.
    prompt_lengths : tokens of each row that are its prompt, one number for all or one per row.
        The series covers the rest, as in :func:`record`. 0 means a document: the series covers
        all positions, and sample t is taken at the position of token t.
    prompts : ids, texts and categories of the rows; plain numbers where None.
    units, site, reduce, direction, policy : as in :func:`record`.
    batch_size : rows at once; chosen by memory where None.
    progress : told how many rows are done.

    Returns
    -------
    xarray.Dataset
        The schema is :data:`synatlas.record.recording.RECORDING`; its attribute `alignment` is
        ``producing`` or ``document``.

    Raises
    ------
    ConfigError
        An option is out of range; there are no rows; a row has nothing after its prompt, is
        longer than the model's context, or has a token that the model does not know; documents
        and prompts with replies are mixed.
    """
    check_options(units, site, reduce, policy, has_direction=direction is not None)
    model = load(model) if isinstance(model, str) else model
    options = options_for(
        model, units=units, site=site, reduce=reduce, direction=direction, policy=policy
    )
    rows = [[int(token) for token in row] for row in token_ids]
    lengths = as_prompt_lengths(rows, prompt_lengths)
    check_rows(model, rows, lengths)
    before = [row[:n] for row, n in zip(rows, lengths, strict=True)]
    after = [row[n:] for row, n in zip(rows, lengths, strict=True)]
    decoded = [model.tokenizer.decode(row) for row in before]
    asked = row_prompts(prompts, [storable(str(text)) for text in decoded])
    with fitting_threads(model):
        rows_at_first = batch_size or rows_at_once(model, [len(row) for row in rows])
        read = with_fewer_rows(
            lambda n: read_rows(model, before, after, options, n, progress),
            rows_at_first,
            progress,
        )
        tested = self_test(model, rows, read.reading, site=options.site, signed=options.signed)
    result = read.result
    return assemble(
        activity=result.activity,
        logprob=result.logprob,
        routed=result.routed,
        tokens=after,
        prompt_tokens=before,
        labels=_labels(model, asked, [storable(str(text)) for text in decoded], after),
        units=options.table,
        directions=read.directions,
        tested=tested.by_unit(),
        attrs={
            **_attrs(model, options, tested),
            "capture": "replay",
            "alignment": "producing" if lengths[0] else "document",
            "prompt_style": "given",
            "end_of_sequence": "given",
            "decoding": "given",
        },
        fingerprint=fingerprint_of(
            stage="replay",
            version=RECORDING.version,
            config={
                **options.config(),
                "model_revision": model.revision,
                "dtype": str(model.dtype),
                "tokens": _digest([rows, lengths]),
                "prompts": _digest([list(asked.ids), list(asked.texts), list(asked.categories)]),
            },
        ),
    )


def _attrs(model: LanguageModel, options: Options, tested: SelfTest) -> dict[str, object]:
    return {
        "model": model.name,
        "model_revision": model.revision,
        "model_type": model.model_type,
        "site": options.site,
        "reduce": options.reduce,
        **({} if options.directions is None else {"direction_digest": options.directions.digest()}),
        **({} if options.policy is None else {"policy": options.policy}),
        "dtype": str(model.dtype).removeprefix("torch."),
        **tested.attrs(),
    }


def _labels(
    model: LanguageModel,
    asked: Prompts,
    rendered: Sequence[str],
    replies: Sequence[Sequence[int]],
) -> Labels:
    def decode(tokens: list[int]) -> str:
        return storable(str(model.tokenizer.decode(tokens)))

    texts = [decode(list(reply)) for reply in replies]
    return Labels(
        ids=[storable(i) for i in asked.ids],
        categories=[storable(c) for c in asked.categories],
        texts=[storable(t) for t in asked.texts],
        rendered=rendered,
        replies=texts,
        ends=[token_ends(decode, *both) for both in zip(replies, texts, strict=True)],
    )


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()

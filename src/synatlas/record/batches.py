"""Recording batch by batch, finished batches kept on disk until the caller has all of them."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Float, Int8
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from synatlas.models.load import LanguageModel
from synatlas.models.reducers import Reducers
from synatlas.models.units import UnitTable
from synatlas.progress import Progress
from synatlas.record.captures import CAPTURE
from synatlas.record.generate import greedy
from synatlas.record.replay import Reading, replay_rows


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A recording that is to be made.

    Parameters
    ----------
    model : the model.
    prompts : token ids of each prompt.
    tokens : tokens of each reply.
    stop_at_eos : whether replies may end early.
    units : what is read.
    reduce : what is made of it; None where replies are generated and not yet read.
    rows : prompts at once.
    parts : folder of finished batches, or None.
    fingerprint : of the recording; it names the finished batches.
    capture : when the units are read, a key of :data:`synatlas.record.captures.CAPTURE`.
    """

    model: LanguageModel
    prompts: Sequence[Sequence[int]]
    tokens: int
    stop_at_eos: bool
    units: UnitTable
    reduce: Reducers | None
    rows: int
    parts: Path | None
    fingerprint: str
    capture: str = "replay"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Recorded series of all prompts in the user's order, and their tokens.

    `routed` is as in :class:`synatlas.record.replay.Samples`.
    """

    activity: Float[np.ndarray, "prompt step unit"]
    logprob: Float[np.ndarray, "prompt step"]
    tokens: list[list[int]]
    routed: Int8[np.ndarray, "prompt step unit"] | None = None


def record_batches(job: Job, progress: Progress) -> Result:
    """Record batch by batch, taking those that are in the parts folder already from there."""
    n_prompts = len(job.prompts)
    activity = np.empty((n_prompts, job.tokens, len(job.units)), dtype=np.float32)
    logprob = np.empty((n_prompts, job.tokens), dtype=np.float32)
    routed = None
    replies: list[list[int]] = [[] for _ in range(n_prompts)]
    done = 0
    progress("recording", done, n_prompts)
    for batch, chosen in enumerate(split([len(p) for p in job.prompts], job.rows)):
        arrays = _one_batch(job, batch, chosen)
        activity[chosen] = arrays["activity"]
        logprob[chosen] = arrays["logprob"]
        routed = _filled(routed, arrays.get("routed"), chosen, activity)
        for i, row, length in zip(chosen, arrays["token"], arrays["n_steps"], strict=True):
            replies[i] = row[:length].tolist()
        done += len(chosen)
        progress("recording", done, n_prompts)
    return Result(activity=activity, logprob=logprob, tokens=replies, routed=routed)


def generate_batches(job: Job, progress: Progress) -> list[list[int]]:
    """Replies to all prompts, generated batch by batch and not read."""
    replies: list[list[int]] = [[] for _ in job.prompts]
    done = 0
    progress("generating", done, len(replies))
    for batch, chosen in enumerate(split([len(p) for p in job.prompts], job.rows)):
        arrays = _one_batch(job, batch, chosen)
        for i, row, length in zip(chosen, arrays["token"], arrays["n_steps"], strict=True):
            replies[i] = row[:length].tolist()
        done += len(chosen)
        progress("generating", done, len(replies))
    return replies


def _one_batch(job: Job, batch: int, chosen: Sequence[int]) -> Mapping[str, np.ndarray]:
    path = None
    if job.parts is not None:
        path = part_path(job.parts, fingerprint=job.fingerprint, rows=job.rows, batch=batch)
        stored = load_part(path)
        if stored is not None:
            return stored
    prompts = [job.prompts[i] for i in chosen]
    options = {"tokens": job.tokens, "stop_at_eos": job.stop_at_eos}
    if job.reduce is None:
        replies, arrays = greedy(job.model, prompts, **options), {}
    else:
        reading = Reading(job.units, job.reduce)
        replies, read = CAPTURE[job.capture](job.model, prompts, reading=reading, **options)
        arrays = {"activity": read.activity, "logprob": read.logprob}
        arrays |= {} if read.routed is None else {"routed": read.routed}
    token = [[*reply, *[-1] * (job.tokens - len(reply))] for reply in replies]
    arrays |= {
        "token": np.array(token, dtype=np.int32),
        "n_steps": np.array([len(reply) for reply in replies], dtype=np.int32),
    }
    if path is not None:
        save_part(path, arrays)
    return arrays


def replay_batches(
    model: LanguageModel,
    before: Sequence[Sequence[int]],
    after: Sequence[Sequence[int]],
    reading: Reading,
    rows: int,
    progress: Progress,
    *,
    steps: int | None = None,
) -> Result:
    """Replay rows of given tokens, `before` and `after` the start of the series.

    `rows` are put through at once. `steps` is the length of the step axis, that of the longest row
    where None.
    """
    lengths = [len(b) + len(a) for b, a in zip(before, after, strict=True)]
    steps = steps or max(map(len, after))
    activity = np.empty((len(after), steps, len(reading.units)), dtype=np.float32)
    logprob = np.empty((len(after), steps), dtype=np.float32)
    routed = None
    done = 0
    for chosen in split(lengths, rows):
        replayed = replay_rows(
            model,
            [before[i] for i in chosen],
            [after[i] for i in chosen],
            steps=steps,
            reading=reading,
        )
        activity[chosen], logprob[chosen] = replayed.activity, replayed.logprob
        routed = _filled(routed, replayed.routed, chosen, activity)
        done += len(chosen)
        progress("replaying", done, len(after))
    tokens = [list(a) for a in after]
    return Result(activity=activity, logprob=logprob, tokens=tokens, routed=routed)


def _filled(
    routed: np.ndarray | None, read: np.ndarray | None, chosen: Sequence[int], like: np.ndarray
) -> np.ndarray | None:
    """`routed` with the rows of one batch filled in, where the batch has such rows."""
    if read is None:
        return routed
    routed = np.empty(like.shape, dtype=np.int8) if routed is None else routed
    routed[chosen] = read
    return routed


def split(lengths: Sequence[int], rows: int) -> list[list[int]]:
    """Indices of the prompts of each batch: of similar length, so that little is padded."""
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    return [order[i : i + rows] for i in range(0, len(order), rows)]


def part_path(folder: Path, *, fingerprint: str, rows: int, batch: int) -> Path:
    """File of a finished batch: another recording, or another batch size, has another name."""
    return folder / f"{fingerprint}-{rows:04d}-{batch:05d}.safetensors"


def save_part(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a finished batch under a temporary name, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_part(path: Path) -> dict[str, np.ndarray] | None:
    """A finished batch, or None where there is none that can be read."""
    try:
        return load_file(path)
    except (FileNotFoundError, SafetensorError):
        return None

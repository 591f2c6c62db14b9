"""When units are read: while a reply is generated, or in one pass over it afterwards."""

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from synatlas.errors import ModelError
from synatlas.models.load import LanguageModel
from synatlas.models.taps import Capture, capture
from synatlas.record.generate import batches, continued, greedy, surprise_of
from synatlas.record.replay import Reading, Samples, replay_rows

#: Of what a pass reads: the position that produces a token.
LAST: Final = slice(-1, None)


class Captured(NamedTuple):
    """Token ids of each reply, and what was read of them."""

    replies: list[list[int]]
    samples: Samples


def replayed(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    *,
    tokens: int,
    stop_at_eos: bool,
    reading: Reading,
) -> Captured:
    """Generate without hooks, then read in one pass, see
    :func:`synatlas.record.replay.replay_rows`.
    """
    replies = greedy(model, prompts, tokens=tokens, stop_at_eos=stop_at_eos)
    samples = replay_rows(model, prompts, replies, steps=tokens, reading=reading)
    return Captured(replies, samples)


def live(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    *,
    tokens: int,
    stop_at_eos: bool,
    reading: Reading,
) -> Captured:
    """Read at the last position of every pass while generating.

    The pass over the prompt produces the first token, every later pass the next one, so that
    sample t comes from pass t. The device is waited for once a batch.

    Parameters
    ----------
    model : the model.
    prompts : token ids of each prompt, at least one each.
    tokens, stop_at_eos : as in :func:`synatlas.record.generate.greedy`, whose replies these are.
    reading : what is read of the model.

    Raises
    ------
    ModelError
        The model's own generation does not run it once for every token.
    """
    replies: list[list[int]] = [[] for _ in prompts]
    size = (len(prompts), tokens)
    activity = np.full((*size, len(reading.units)), np.nan, dtype=np.float32)
    logprob = np.full(size, np.nan, dtype=np.float32)
    routed = np.full(activity.shape, -1, dtype=np.int8)
    is_routed = False
    for rows in batches(model, prompts):
        surprise = surprise_of(model, stop_at_eos=stop_at_eos)
        with capture(model.model, reading.units, reduce=reading.reduce, positions=LAST) as taken:
            alike = [prompts[i] for i in rows]
            said = continued(
                model, alike, tokens=tokens, stop_at_eos=stop_at_eos, surprise=surprise
            )
        _check_passes(model, taken, len(surprise.logprob))
        found = _joined(taken.units, taken.passes).float().cpu().numpy()
        logprobs = torch.stack(surprise.logprob, dim=1).cpu().numpy()
        is_routed = taken.routed() is not None
        choices = _joined(taken.routed, taken.passes).cpu().numpy() if is_routed else None
        for place, (i, reply) in enumerate(zip(rows, said, strict=True)):
            replies[i], steps = reply, len(reply)
            activity[i, :steps] = found[place, :steps]
            logprob[i, :steps] = logprobs[place, :steps]
            if choices is not None:
                routed[i, :steps] = choices[place, :steps]
    samples = Samples(activity=activity, logprob=logprob, routed=routed if is_routed else None)
    return Captured(replies, samples)


#: How units are read, by the names of :data:`synatlas.record.reductions.CAPTURES`.
CAPTURE: Final = MappingProxyType({"replay": replayed, "live": live})


def _joined(read: Callable[[int], Tensor | None], passes: int) -> Tensor:
    """What was read in each pass, (row, step, unit)."""
    steps = [read(which) for which in range(passes)]
    return torch.cat([step for step in steps if step is not None], dim=1)


def _check_passes(model: LanguageModel, taken: Capture, steps: int) -> None:
    seen = {len(kept) for kept in taken.per_source}
    if seen != {steps}:
        raise ModelError(
            given=f"the model {model.name}, which reads its units {max(seen)} times for {steps} "
            "tokens",
            expected="one pass for each token that is generated",
            cause="its own way of generating reads the prompt in pieces, or tokens together",
            remedy="record with capture replay",
        )

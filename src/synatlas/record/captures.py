"""When units are read: while a reply is generated, or in one pass over it afterwards."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from synatlas.errors import ModelError
from synatlas.models.load import LanguageModel
from synatlas.models.taps import Capture, capture
from synatlas.record.generate import batches, continued
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

    Log-probabilities are those of generating, so that the pass need not multiply by the whole
    vocabulary once more.
    """
    replies: list[list[int]] = [[] for _ in prompts]
    told = np.full((len(prompts), tokens), np.nan, dtype=np.float32)
    for rows in batches(model, prompts):
        steps = _Steps(model=model, count=tokens)
        alike = [prompts[i] for i in rows]
        said = continued(model, alike, tokens=tokens, stop_at_eos=stop_at_eos, tell=steps.add)
        read = steps.read["logprob"].cpu().numpy()
        for place, (i, reply) in enumerate(zip(rows, said, strict=True)):
            replies[i] = reply
            told[i, : len(reply)] = read[place, : len(reply)]
    samples = replay_rows(model, prompts, replies, steps=tokens, reading=reading, logprob=told)
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
        with capture(model.model, reading.units, reduce=reading.reduce, positions=LAST) as taken:
            steps = _Steps(model=model, taken=taken, count=tokens)
            alike = [prompts[i] for i in rows]
            said = continued(model, alike, tokens=tokens, stop_at_eos=stop_at_eos, tell=steps.add)
        read = {name: values.cpu().numpy() for name, values in steps.read.items()}
        is_routed = "routed" in read
        for place, (i, reply) in enumerate(zip(rows, said, strict=True)):
            replies[i], n = reply, len(reply)
            activity[i, :n] = read["activity"][place, :n]
            logprob[i, :n] = read["logprob"][place, :n]
            if is_routed:
                routed[i, :n] = read["routed"][place, :n]
    samples = Samples(activity=activity, logprob=logprob, routed=routed if is_routed else None)
    return Captured(replies, samples)


#: How units are read, by the names of :data:`synatlas.record.reductions.CAPTURES`.
CAPTURE: Final = MappingProxyType({"replay": replayed, "live": live})


@final
@dataclass(slots=True, kw_only=True)
class _Steps:
    """Log-probabilities of the passes so far, and what was read in them if anything is `taken`.

    Nothing else outlives a pass: small tensors left among the buffers of a growing cache would
    keep the memory between them from being used again.
    """

    model: LanguageModel
    count: int
    taken: Capture | None = None
    done: int = 0
    read: dict[str, Tensor] = field(default_factory=dict)

    def add(self, logprob: Float[Tensor, " row"]) -> None:
        """Move what the last pass read, and its log-probabilities, to their place."""
        self._put("logprob", logprob)
        if self.taken is not None:
            self._move(self.taken)
        self.done += 1

    def _move(self, taken: Capture) -> None:
        passes = {len(kept) for kept in taken.per_source}
        if passes != {1}:
            raise _in_pieces(self.model, max(passes))
        self._put("activity", taken.units()[:, 0].float())
        routed = taken.routed()
        if routed is not None:
            self._put("routed", routed[:, 0].to(torch.int8))
        taken.clear()

    def _put(self, name: str, values: Tensor) -> None:
        if name not in self.read:
            size = (len(values), self.count, *values.shape[1:])
            self.read[name] = values.new_empty(size)
        self.read[name][:, self.done] = values


def _in_pieces(model: LanguageModel, passes: int) -> ModelError:
    return ModelError(
        given=f"the model {model.name}, which reads its units {passes} times for one token",
        expected="one pass for each token that is generated",
        cause="its own way of generating reads the prompt in pieces, or tokens together",
        remedy="record with capture replay",
    )

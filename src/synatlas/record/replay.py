"""One teacher-forced pass over given tokens, with the units read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Float, Int, Int8
from torch import Tensor

from synatlas.models.batching import batching_of, groups
from synatlas.models.load import LanguageModel
from synatlas.models.padding import padded
from synatlas.models.reducers import Reducers
from synatlas.models.taps import capture, head_at
from synatlas.models.units import UnitTable
from synatlas.record.generate import batches, greedy

#: Logits that a pass may build at once, in values; 2^26 are 256 MB in float32.
LOGITS_AT_ONCE: Final = 2**26

#: Tokens of a pass on a CPU, of at least one row: more at once no longer make its products faster,
#: and what lies between them leaves the processor's caches.
CPU_TOKENS: Final = 1024

#: Tokens of the live-against-replayed comparison.
SELF_TEST_TOKENS: Final = 8


class Reading(NamedTuple):
    """Which units are read, and what is made of their outputs."""

    units: UnitTable
    reduce: Reducers


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """What was read of some rows.

    `activity` is (row, step, unit), NaN after a row's last step; `logprob` (row, step) in nats,
    NaN there and where nothing precedes the token. `routed` is 1 where the unit was computed for
    the token, 0 where a router passed it by, -1 after a row's last step; None without routed units.
    """

    activity: Float[np.ndarray, "row step unit"]
    logprob: Float[np.ndarray, "row step"]
    routed: Int8[np.ndarray, "row step unit"] | None = None


def replay_rows(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    replies: Sequence[Sequence[int]],
    *,
    steps: int,
    reading: Reading,
    logprob: Float[np.ndarray, "row step"] | None = None,
) -> Samples:
    """Activity at the position that produces each token of `replies`.

    Prompt and reply are fed together, without a cache. Sample t is taken at position
    ``len(prompt) - 1 + t``, where token t of the reply is predicted; the last token is therefore
    not fed. Rows are padded on the right, where causal attention never looks, unless the model
    allows no padding, see :mod:`synatlas.models.batching`.

    A row with an empty prompt is a document: it is fed whole, sample t is taken at the position
    of token t itself, and the first token has no log-probability.

    Parameters
    ----------
    model : the model.
    prompts : token ids before the reply; empty for a document.
    replies : token ids to be replayed, at most `steps` each, at least one.
    steps : length of the step axis.
    reading : what is read of the model.
    logprob : log-probabilities of the tokens where they are known; computed where None.
    """
    how = batching_of(model.model).replay if len(prompts) > 1 else "padded"
    lengths = [len(p) + len(r) - bool(p) for p, r in zip(prompts, replies, strict=True)]
    size = _rows_of_a_pass(model, steps=steps, longest=max(lengths))
    pieces = [
        together[i : i + size]
        for together in groups(lengths, how)
        for i in range(0, len(together), size)
    ]
    activity = np.empty((len(prompts), steps, len(reading.units)), dtype=np.float32)
    likely = np.empty((len(prompts), steps), dtype=np.float32)
    routed = None
    for chosen in pieces:
        rows, answers = [prompts[i] for i in chosen], [replies[i] for i in chosen]
        known = None if logprob is None else logprob[chosen]
        done = _pass(model, rows, answers, steps=steps, reading=reading, logprob=known)
        activity[chosen], likely[chosen] = done.activity, done.logprob
        if done.routed is not None:
            routed = np.empty(activity.shape, dtype=np.int8) if routed is None else routed
            routed[chosen] = done.routed
    return Samples(activity=activity, logprob=likely, routed=routed)


def _rows_of_a_pass(model: LanguageModel, *, steps: int, longest: int) -> int:
    per_row = steps * model.model.get_output_embeddings().weight.shape[0]  # type: ignore[operator]
    size = LOGITS_AT_ONCE // per_row
    if model.device.type == "cpu":
        size = min(size, CPU_TOKENS // longest)
    return max(1, size)


def _pass(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    replies: Sequence[Sequence[int]],
    *,
    steps: int,
    reading: Reading,
    logprob: Float[np.ndarray, "row step"] | None,
) -> Samples:
    fed = [[*p, *r[:-1]] if p else list(r) for p, r in zip(prompts, replies, strict=True)]
    device = model.device
    ids, mask = padded(fed, side="right", device=device)
    longest = ids.shape[1]
    # Steps beyond a row's last are read at some valid position and blanked afterwards.
    first = torch.tensor([max(len(p) - 1, 0) for p in prompts], device=device)
    positions = (first[:, None] + torch.arange(steps, device=device)).clamp(max=longest - 1)
    predicting = positions if prompts[0] else (positions - 1).clamp(min=0)
    if logprob is not None:
        # Nothing is to be predicted; one position, because no model expects none.
        predicting = predicting[:, :1]
    network: Any = model.model
    with (
        torch.no_grad(),
        capture(network, reading.units, reduce=reading.reduce, positions=positions) as taken,
        head_at(network, predicting),
    ):
        logits = network(input_ids=ids, attention_mask=mask, use_cache=False).logits
    activity = taken.units().float().cpu().numpy()
    chosen = taken.routed()
    routed = None if chosen is None else chosen.to(torch.int8).cpu().numpy()
    if logprob is None:
        logprob = _logprob(logits, _padded(replies, steps).to(device)).cpu().numpy()
    for row, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
        activity[row, len(reply) :] = np.nan
        logprob[row, len(reply) :] = np.nan
        if routed is not None:
            routed[row, len(reply) :] = -1
        if not prompt:
            logprob[row, 0] = np.nan
    return Samples(activity=activity, logprob=logprob, routed=routed)


def _padded(replies: Sequence[Sequence[int]], steps: int) -> Int[Tensor, "row step"]:
    return torch.tensor([[*r, *[0] * (steps - len(r))] for r in replies])


def _logprob(
    logits: Float[Tensor, "row step token"], tokens: Int[Tensor, "row step"]
) -> Float[Tensor, "row step"]:
    """Log-probability of `tokens` in nats, in float32."""
    logits = logits.float()
    chosen = logits.gather(-1, tokens[..., None])[..., 0]
    return chosen - logits.logsumexp(-1)


class Agreement(NamedTuple):
    """How far what is read while generating and what is replayed agree.

    `errors` is the greatest relative difference of each unit's activities that were routed alike;
    `rerouted` the share of an expert's choices that are made while generating and not in the
    replay, None where no unit is routed.
    """

    errors: Float[np.ndarray, " unit"]
    rerouted: float | None

    @property
    def error(self) -> float:
        """The greatest error of any unit."""
        return float(self.errors.max())


def live_against_replay(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    *,
    reading: Reading,
    signed: bool = False,
) -> Agreement:
    """Compare activities, read while generating and replayed.

    Two prompts of different length are continued by :data:`SELF_TEST_TOKENS` tokens. The error is
    max over samples of |live - replayed| / |replayed|: about 1e-6 in float32, and larger where the
    architecture or the dtype makes cached generation differ from a plain pass.

    Parameters
    ----------
    model : the model.
    prompts : two prompts' token ids.
    reading : what is read of the model.
    signed : whether it may cross 0; the size is then the root mean square of the unit's series.
    """
    replies: list[list[int]] = [[] for _ in prompts]
    live = np.zeros((len(prompts), SELF_TEST_TOKENS, len(reading.units)), dtype=np.float32)
    then = np.ones(live.shape, dtype=bool)
    for rows in batches(model, prompts):
        with capture(model.model, reading.units, reduce=reading.reduce) as taken:
            alike = [prompts[i] for i in rows]
            said = greedy(model, alike, tokens=SELF_TEST_TOKENS, stop_at_eos=False)
        for i, reply in zip(rows, said, strict=True):
            replies[i] = reply
        live[rows] = _over_passes(taken.units).float().numpy()
        if taken.routed() is not None:
            then[rows] = _over_passes(taken.routed).numpy()
    again = replay_rows(model, prompts, replies, steps=SELF_TEST_TOKENS, reading=reading)
    scale = np.abs(again.activity)
    if signed:
        square = again.activity.astype(np.float64) ** 2
        scale[:] = np.sqrt(np.mean(square, axis=1, keepdims=True))
    difference = np.abs(live - again.activity)
    rerouted = None
    if again.routed is not None:
        lost = then & (again.routed == 0)
        difference[then != (again.routed == 1)] = 0.0
        rerouted = float(lost.sum() / max(1, then.sum()))
    relative = np.divide(difference, scale, out=difference, where=scale > 0)
    return Agreement(relative.max(axis=(0, 1)), rerouted)


def _over_passes(read: Callable[..., Tensor | None]) -> Tensor:
    """What was read at the last position of each pass, (row, step, unit), on the CPU."""
    steps = [read(i, last=True) for i in range(SELF_TEST_TOKENS)]
    return torch.cat([step.cpu() for step in steps if step is not None], dim=1)

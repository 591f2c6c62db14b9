"""Whether what is recorded is what the model computes: three comparisons on two short prompts."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from synatlas.models.batching import batching_of, groups
from synatlas.models.load import LanguageModel
from synatlas.models.padding import padded
from synatlas.models.taps import capture
from synatlas.record.doubts import ROUTES, Figures
from synatlas.record.live import starts
from synatlas.record.replay import Agreement, Reading, live_against_replay
from synatlas.record.second_look import Fed, Look, second_look


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SelfTest:
    """What the three comparisons found.

    Parameters
    ----------
    live : activity read while generating against replayed.
    logits : greatest absolute difference of logits with taps and without.
    repeat : the same of two passes without taps; 0 where `logits` is, and it was not needed.
    looks : activity against its second computation, for each source.
    seconds : what the comparisons took.
    """

    live: Agreement
    logits: float
    repeat: float
    looks: Sequence[Look]
    seconds: float

    def attrs(self) -> dict[str, Any]:
        """Figures of the whole recording."""
        rerouted = self.live.rerouted
        return {
            "live_replay_error": self.live.error,
            **({} if rerouted is None else {"rerouted": rerouted}),
            "taps_logit_error": self.logits,
            "repeat_logit_error": self.repeat,
        }

    def by_unit(self) -> dict[str, np.ndarray]:
        """Figures of each unit, by the names that the recording gives them."""
        codes = {name: code for code, name in ROUTES.items()}
        of_source = [(codes[look.route], look.errors) for look in self.looks]
        return {
            "live_replay_unit_error": self.live.errors.astype(np.float32),
            "recomputed_unit_error": np.concatenate([e for _, e in of_source]).astype(np.float32),
            "second_route": np.concatenate(
                [np.full(len(e), code, dtype=np.int8) for code, e in of_source]
            ),
        }

    def figures(self, model: LanguageModel, reading: Reading) -> Figures:
        """All of them, to be judged by :func:`synatlas.record.doubts.doubts`."""
        routes = [name for look in self.looks for name in [look.route] * len(look.errors)]
        return Figures(
            dtype=str(model.dtype).removeprefix("torch."),
            capture="replay",
            label=np.array(reading.units.label),
            kind=np.array(reading.units.kind),
            live=self.live.errors,
            rerouted=self.live.rerouted,
            logits=self.logits,
            repeat=self.repeat,
            second=np.concatenate([look.errors for look in self.looks]),
            route=np.array(routes),
        )


def self_test(
    model: LanguageModel,
    rows: Sequence[Sequence[int]],
    reading: Reading,
    *,
    site: str,
    signed: bool,
) -> SelfTest:
    """Compare live with replayed, taps with none, and activity with a second computation.

    The starts of two rows are fed, at most twelve and seven tokens: eight more are generated from
    them, and three to five plain passes are made.

    Parameters
    ----------
    model : the model.
    rows : token ids of rows, of which the first and the last are used.
    reading : what is read of the model.
    site : where.
    signed : whether activity can be negative.
    """
    began = monotonic()
    short = starts(model, rows)
    live = live_against_replay(model, short, reading=reading, signed=signed)
    fed = _fed(model, short)
    network = model.model
    plain = fed.logits(network)
    with capture(network, reading.units, reduce=reading.reduce) as taken:
        tapped = fed.logits(network)
    logits = _greatest(plain, tapped)
    # What differs from itself, such as sums of no fixed order on a GPU, is no fault of the taps.
    repeat = _greatest(plain, fed.logits(network)) if logits else 0.0
    looks = second_look(network, reading, fed, taken.outputs(), site=site, signed=signed)
    return SelfTest(
        live=live, logits=logits, repeat=repeat, looks=looks, seconds=monotonic() - began
    )


def _fed(model: LanguageModel, rows: Sequence[Sequence[int]]) -> Fed:
    """The rows padded, or the longest of them where the model allows no padding."""
    together = groups([len(row) for row in rows], batching_of(model.model).replay)[-1]
    found = padded([rows[i] for i in together], side="right", device=model.device)
    return Fed(ids=found.ids, mask=found.mask)


def _greatest(one: Tensor, other: Tensor) -> float:
    """Greatest absolute difference, infinite where only one of the two is a number."""
    if torch.equal(one, other):
        return 0.0
    difference = (one.double() - other.double()).abs()
    both_lack = (one.isnan() & other.isnan()) | (one == other)
    return float(difference.masked_fill(both_lack, 0.0).nan_to_num(nan=torch.inf).max())

"""How far ablation moves what a model predicts: divergence over its own clean reply."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from synatlas.intervene.texts import Text
from synatlas.models.batching import batching_of
from synatlas.models.edits import edit
from synatlas.models.layers import vocabulary_size
from synatlas.models.load import LanguageModel
from synatlas.models.taps import head_at
from synatlas.models.units import UnitTable
from synatlas.record.memory import MOST_ROWS, rows_at_once

#: Logits that a pass may build, in values; 2^27 are 512 MB in float32.
LOGITS_AT_ONCE: Final = 2**27

#: Values of logits that are compared at once: what is computed on the way stays in a CPU's cache; a
#: GPU is kept busy, and waited for seldom.
VALUES_AT_ONCE: Final[Mapping[str, int]] = {"cpu": 2**18, "cuda": 2**24}

#: Given what each row keeps, and the numbers of the rows' masks: a context in which the model
#: runs so.
Applied = Callable[[Bool[Tensor, "row unit"], Sequence[int]], AbstractContextManager[None]]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """What sets of units do to the predictions over one text: means over its tokens.

    Parameters
    ----------
    kl : ``sum p log(p / q)``, p of the clean model and q of the ablated one, in nats.
    reverse_kl : ``sum q log(q / p)``, in nats.
    agreement : share of tokens at which both hold the same token most likely.
    noise_floor : greatest `kl` of the identity, one row of every batch.
    """

    kl: Float[np.ndarray, " mask"]
    reverse_kl: Float[np.ndarray, " mask"]
    agreement: Float[np.ndarray, " mask"]
    noise_floor: float


def damage(
    model: LanguageModel,
    text: Text,
    keep: Bool[np.ndarray, "mask unit"],
    applied: Applied,
    *,
    rows: int,
) -> Damage:
    """Divergence of predictions under each mask, over one text, the clean reply enforced.

    Many masks ride in one batch: its rows are the same tokens, and each row runs with units of its
    own ablated. The first row of each batch keeps all units. Distributions are compared in
    float32, a few rows at a time, and no more logits are kept than those of one batch.

    Parameters
    ----------
    model : the model.
    text : what it reads.
    keep : sets, False where a unit is ablated.
    applied : what ablation is, for rows and the numbers of their masks.
    rows : rows of a batch, see :func:`rows_of_a_pass`; 1 where no batch is possible.
    """
    ids = torch.tensor([text.fed], device=model.device)
    with torch.no_grad():
        clean = Clean.of(_logits(model, ids, text)[0])
        results, floors = [], []
        for numbers, kept in _batches(keep, rows):
            with applied(kept.to(model.device), numbers):
                logits = _logits(model, ids.expand(len(kept), -1), text)
            found = clean.compared(logits).cpu().numpy().astype(np.float64)
            is_identity = np.array([number < 0 for number in numbers])
            floors += found[is_identity, 0].tolist()
            results.append(found[~is_identity])
    kl, reverse, agreement = np.concatenate(results).T
    return Damage(
        kl=kl,
        reverse_kl=reverse,
        agreement=agreement,
        noise_floor=max(floors, default=float("nan")),
    )


def _batches(keep: Bool[np.ndarray, "mask unit"], rows: int) -> Any:
    """Numbers of masks and what their rows keep; the identity, number -1, is in each batch.

    Where a batch is one row the identity is the first of them.
    """
    identity = torch.ones(1, keep.shape[1], dtype=torch.bool)
    each = max(1, rows - 1)
    if rows == 1:
        yield [-1], identity
    for start in range(0, len(keep), each):
        numbers = list(range(start, min(start + each, len(keep))))
        kept = torch.from_numpy(keep[numbers])
        yield (numbers, kept) if rows == 1 else ([-1, *numbers], torch.cat([identity, kept]))


def rows_of_a_pass(model: LanguageModel, text: Text) -> int:
    """Rows of a batch: the most that the model computes right and that memory should hold."""
    if batching_of(model.model).replay == "alone":
        return 1
    most = MOST_ROWS.get(model.device.type, MOST_ROWS["cpu"])
    by_memory = rows_at_once(model, [len(text.fed)] * most)
    by_logits = LOGITS_AT_ONCE // (len(text.predicted) * vocabulary_size(model.model))
    return max(2, min(by_logits, by_memory))


def _logits(
    model: LanguageModel, ids: Int[Tensor, "row place"], text: Text
) -> Float[Tensor, "row step token"]:
    network: Any = model.model
    predicting = torch.arange(text.first, text.first + len(text.predicted), device=ids.device)
    with head_at(network, predicting.expand(len(ids), -1)):
        return network(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits


class Clean(NamedTuple):
    """What the clean model predicts at each step: probabilities and their logarithms."""

    log_p: Float[Tensor, "step token"]
    p: Float[Tensor, "step token"]
    likeliest: Int[Tensor, "step 1"]

    @classmethod
    def of(cls, logits: Float[Tensor, "step token"]) -> "Clean":
        """Of its logits."""
        found = _Predicted.of(logits.float())
        return cls(found.log_q, found.log_q.exp(), found.log_q.argmax(-1, keepdim=True))

    def compared(self, logits: Float[Tensor, "row step token"]) -> Float[Tensor, "row measure"]:
        """Both divergences and the agreement, means over steps."""
        steps, tokens = self.log_p.shape
        values = VALUES_AT_ONCE.get(logits.device.type, VALUES_AT_ONCE["cpu"])
        at_once = max(1, values // tokens)
        parts = [Clean(*part) for part in zip(*(x.split(at_once) for x in self), strict=True)]
        found = []
        for some in logits.split(max(1, at_once // steps)):
            pairs = zip(parts, some.split(at_once, dim=1), strict=True)
            found.append(torch.stack([part._summed(own.float()) for part, own in pairs]).sum(0))
        return torch.cat(found) / steps

    def _summed(self, logits: Float[Tensor, "row step token"]) -> Float[Tensor, "row measure"]:
        """The same, sums over steps."""
        other = _Predicted.of(logits)
        surprise = self.log_p - other.log_q
        forward = _expected(self.p, surprise)
        reverse = -_expected(other.odds, surprise) / other.total
        # Less than half the time of finding the likeliest token again.
        own = logits.gather(-1, self.likeliest.expand(len(logits), -1, -1))
        agree = (own == other.top)[..., 0].float()
        return torch.stack([forward.sum(-1), reverse.sum(-1), agree.sum(-1)], -1)


class _Predicted(NamedTuple):
    """Logarithms of probabilities, and on the way to them: one exponential serves them all."""

    log_q: Float[Tensor, "*row step token"]
    odds: Float[Tensor, "*row step token"]
    total: Float[Tensor, "*row step"]
    top: Float[Tensor, "*row step 1"]

    @classmethod
    def of(cls, logits: Float[Tensor, "*row step token"]) -> "_Predicted":
        """Of logits z: ``log q = z - max z - log t``, where ``t = sum exp(z - max z)``."""
        top = logits.amax(-1, keepdim=True)
        below = logits - top
        odds = below.exp()
        total = odds.sum(-1)
        return cls(below.sub_(total.log().unsqueeze(-1)), odds, total, top)


def _expected(
    p: Float[Tensor, "step token"] | Float[Tensor, "row step token"],
    values: Float[Tensor, "row step token"],
) -> Float[Tensor, "row step"]:
    """Expectations, to which a token without probability adds nothing."""
    found = torch.linalg.vecdot(p, values)
    if bool(found.isfinite().all()):
        return found
    return torch.where(p > 0, p * values, 0.0).sum(-1)


def gradient_importance(
    model: LanguageModel, units: UnitTable, text: Text
) -> Float[np.ndarray, " unit"]:
    """How much the loss over the reply would change if a unit's output were scaled.

    ``|dL / dm|`` at m = 1, where L is the mean of -log p of the reply's tokens in nats and the
    unit's output is multiplied by m.

    References
    ----------
    Michel, Levy, Neubig 2019, arXiv 1905.10650.
    """
    ids = torch.tensor([text.fed], device=model.device)
    targets = torch.tensor(text.predicted, device=model.device)
    keep = torch.ones(1, len(units), device=model.device, requires_grad=True)
    with torch.enable_grad(), edit(model.model, units, keep):
        logits = _logits(model, ids, text)[0].float()
        loss = torch.nn.functional.cross_entropy(logits, targets)
        (slope,) = torch.autograd.grad(loss, keep)
    return slope[0].abs().double().cpu().numpy()

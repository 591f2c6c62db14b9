"""Which rows of tokens a model may compute together: found by trying, not by its name."""

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, NamedTuple
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import GenerationConfig

from synatlas.models.layers import FORWARD_ERRORS, vocabulary_size
from synatlas.models.padding import padded
from synatlas.models.placement import input_device
from synatlas.models.quiet import quiet

#: Rows that may share a batch: of any length, padded; of one length; none.
Together = Literal["padded", "equal", "alone"]

#: Two rows of tokens by their lengths; the short one is padded by more than it has.
LENGTHS: Final = (5, 11)

#: Tokens that are generated, given ones.
STEPS: Final = 4

#: Greatest difference of logits in a batch and alone, relative to their spread: this, or eight
#: roundings of the model's dtype.
TOLERANCE: Final = 1e-4


class Batching(NamedTuple):
    """Rows that may share a batch, in generating and in one pass over given tokens.

    Padding is on the left in generating, where every row's next token then comes at the same
    place, and on the right in a pass, where no causal model should look.
    """

    generate: Together = "padded"
    replay: Together = "padded"


_KNOWN: Final[WeakKeyDictionary[nn.Module, Batching]] = WeakKeyDictionary()


def batching_of(model: nn.Module) -> Batching:
    """What :func:`find_batching` finds, found once for each model."""
    if model not in _KNOWN:
        _KNOWN[model] = find_batching(model)
    return _KNOWN[model]


def find_batching(model: nn.Module) -> Batching:
    """Compare what a model computes for rows in a batch with what it computes for each alone.

    Positions counted from the padded start, a recurrence that takes padding for text, a past
    compressed in blocks, and cached states that mix rows all show: for each way
    of batching the median over steps of the root mean square difference of logits is compared
    with their spread. A median, because a router may choose another expert at a near tie.

    Parameters
    ----------
    model : a causal language model in evaluation mode.

    Returns
    -------
    Batching
        The most that changes no value, ``alone`` where nothing else holds.
    """
    vocabulary = vocabulary_size(model)
    rows = [
        [(first + 2 * i) % vocabulary for i in range(length)]
        for first, length in zip((3, 40, 80), (*LENGTHS, LENGTHS[1]), strict=True)
    ]
    unequal, equal = rows[:2], rows[1:]
    return Batching(
        generate=_most(model, _generated, unequal, equal),
        replay=_most(model, _passed, unequal, equal),
    )


def groups(lengths: Sequence[int], together: Together) -> list[list[int]]:
    """Rows of each batch by their places, shorter ones first."""
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    if together == "padded":
        return [list(range(len(lengths)))]
    if together == "alone":
        return [[i] for i in order]
    return [[i for i in order if lengths[i] == n] for n in sorted(set(lengths))]


#: Logits that a model gives for rows, of each row (step, token).
Compute = Callable[[Any, Sequence[Sequence[int]]], list[Tensor]]


def _most(model: nn.Module, compute: Compute, unequal: list[Any], equal: list[Any]) -> Together:
    with torch.no_grad(), quiet():
        if _holds(model, compute, unequal):
            return "padded"
        return "equal" if _holds(model, compute, equal) else "alone"


def _holds(model: nn.Module, compute: Compute, rows: list[Any]) -> bool:
    try:
        alone = [compute(model, [row])[0] for row in rows]
        batch = compute(model, rows)
    except FORWARD_ERRORS:
        return False
    return all(len(a) == len(b) and _alike(a, b) for a, b in zip(alone, batch, strict=True))


def _alike(a: Float[Tensor, "step token"], b: Float[Tensor, "step token"]) -> bool:
    tolerance = max(TOLERANCE, 8 * torch.finfo(a.dtype).eps)
    difference = (a.float() - b.float()).square().mean(-1).sqrt()
    spread = a.float().std(-1)
    # Weights that are not numbers are the recording's affair.
    return not bool(difference.median() > tolerance * spread.median())


def _generated(model: Any, rows: Sequence[Sequence[int]]) -> list[Tensor]:
    fed = padded(rows, side="left", device=input_device(model))
    longest = fed.ids.shape[1]

    def forced(ids: Tensor, scores: Tensor) -> Tensor:
        """The token that comes next, whatever the logits: of each row its own first ones."""
        chosen = torch.full_like(scores, -torch.inf)
        step = ids.shape[1] - longest
        following = torch.tensor([[row[step % len(row)]] for row in rows], device=ids.device)
        return chosen.scatter_(1, following, 0.0)

    config = GenerationConfig(
        do_sample=False,
        max_new_tokens=STEPS,
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
        disable_compile=True,
    )
    output = model.generate(
        fed.ids, attention_mask=fed.mask, generation_config=config, logits_processor=[forced]
    )
    return list(torch.stack(output.logits, dim=1))


def _passed(model: Any, rows: Sequence[Sequence[int]]) -> list[Tensor]:
    fed = padded(rows, side="right", device=input_device(model))
    logits = model(input_ids=fed.ids, attention_mask=fed.mask, use_cache=False).logits
    return [logits[i, : len(row)] for i, row in enumerate(rows)]

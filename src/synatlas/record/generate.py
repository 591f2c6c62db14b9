"""Greedy continuation of prompts, in batches."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from synatlas.models.batching import batching_of, groups
from synatlas.models.layers import vocabulary_size
from synatlas.models.load import LanguageModel
from synatlas.models.padding import padded
from synatlas.models.quiet import quiet


def end_ids(model: LanguageModel) -> tuple[int, ...]:
    """Tokens that end a reply, by the model's generation settings and its tokenizer."""
    stated: list[Any] = [model.tokenizer.eos_token_id]
    settings: Any = model.model.generation_config
    if settings is not None:
        own = settings.eos_token_id
        stated += own if isinstance(own, list) else [own]
    vocabulary = vocabulary_size(model.model)
    return tuple(sorted({i for i in stated if isinstance(i, int) and 0 <= i < vocabulary}))


def greedy(
    model: LanguageModel, prompts: Sequence[Sequence[int]], *, tokens: int, stop_at_eos: bool
) -> list[list[int]]:
    """The most likely continuation of each prompt, token by token.

    The model's own generation settings (sampling, penalties, forced tokens) are set aside.

    Parameters
    ----------
    model : the model.
    prompts : token ids of each prompt, at least one each.
    tokens : length of each reply.
    stop_at_eos : let a reply end with its end-of-sequence token; otherwise these tokens are
        suppressed, so that every reply has `tokens` tokens.

    Returns
    -------
    list
        Token ids of each reply. Other prompts in the call do not matter, see :func:`batches`.
    """
    replies: list[list[int]] = [[] for _ in prompts]
    for rows in batches(model, prompts):
        alike = [prompts[i] for i in rows]
        found = continued(model, alike, tokens=tokens, stop_at_eos=stop_at_eos)
        for i, reply in zip(rows, found, strict=True):
            replies[i] = reply
    return replies


def batches(model: LanguageModel, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Prompts that may be continued together, by their places: see
    :mod:`synatlas.models.batching`.
    """
    if len(prompts) == 1:
        return [[0]]
    return groups([len(prompt) for prompt in prompts], batching_of(model.model).generate)


@final
@dataclass(frozen=True, slots=True)
class Surprise:
    """Suppresses tokens, and tells the log-probability of the one that is then most likely.

    The logits are those of the unmodified model, the sum over the vocabulary included; only one
    number of each row and step is kept.

    Parameters
    ----------
    suppressed : tokens that may not come.
    tell : given, after every step, each row's log-probability in nats.
    """

    suppressed: Int[Tensor, " token"]
    tell: Callable[[Float[Tensor, " row"]], None]

    def __call__(
        self, ids: Int[Tensor, "row place"], logits: Float[Tensor, "row token"]
    ) -> Float[Tensor, "row token"]:
        """The logits of one step, those of suppressed tokens -inf."""
        del ids
        # First, so that its exponentials and the copy below are not there together.
        total = logits.logsumexp(-1)
        allowed = logits.index_fill(1, self.suppressed, -torch.inf)
        self.tell((allowed.amax(-1) - total).float())
        return allowed


def continued(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    *,
    tokens: int,
    stop_at_eos: bool,
    tell: Callable[[Float[Tensor, " row"]], None] | None = None,
    stop: StoppingCriteria | None = None,
) -> list[list[int]]:
    """As :func:`greedy`, for prompts that may share a batch.

    `tell`, if given, is called after every step with the log-probability of each row's token in
    nats, under the unmodified model. `stop`, if given, says after every step which rows are done;
    what comes behind that in a reply, where others go on, is without meaning.
    """
    ends = end_ids(model)
    suppressed = () if stop_at_eos else ends
    at_steps: list[Any] | None = None
    if tell is not None:
        banned = torch.tensor(suppressed, dtype=torch.long, device=model.device)
        at_steps, suppressed = [Surprise(banned, tell)], ()
    # Any valid token does: padding is masked, and cut off after an end.
    pad = ends[0] if ends else 0
    config = GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=tokens,
        eos_token_id=list(ends) if stop_at_eos and ends else None,
        suppress_tokens=list(suppressed) or None,
        pad_token_id=pad,
        use_cache=True,
        disable_compile=True,
    )
    # On the left: every row's next token then comes at the same place.
    fed = padded(prompts, side="left", device=model.device, pad=pad)
    network: Any = model.model
    with quiet(), _settings(network, config), torch.no_grad():
        output = network.generate(
            fed.ids,
            attention_mask=fed.mask,
            generation_config=config,
            logits_processor=at_steps,
            stopping_criteria=StoppingCriteriaList([] if stop is None else [stop]),
        )
    replies = output[:, fed.ids.shape[1] :].tolist()
    return [_until_end(reply, ends) if stop_at_eos else reply for reply in replies]


def _until_end(reply: list[int], ends: tuple[int, ...]) -> list[int]:
    stop = next((i + 1 for i, token in enumerate(reply) if token in ends), len(reply))
    return reply[:stop]


@contextmanager
def _settings(network: Any, config: GenerationConfig) -> Iterator[None]:
    # generate() fills whatever a passed configuration leaves open from the model's own.
    stock = network.generation_config
    network.generation_config = config
    try:
        yield
    finally:
        network.generation_config = stock

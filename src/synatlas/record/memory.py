"""How many prompts go through the model at once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import torch

from synatlas.errors import ConfigError, first_line
from synatlas.models.layers import vocabulary_size
from synatlas.models.load import LanguageModel
from synatlas.models.units import Source
from synatlas.progress import Progress
from synatlas.record.replay import LOGITS_AT_ONCE

T = TypeVar("T")

#: Most prompts at once: beyond this a CPU gains nothing, and a GPU little.
MOST_ROWS: Final[Mapping[str, int]] = {"cpu": 32, "cuda": 256}

#: Memory that a batch may take on a CPU, in bytes; on a GPU it is half of what is free.
CPU_BYTES: Final = 2 * 2**30

#: Tensors as wide as the residual stream that a layer holds at once, by count.
LIVE_TENSORS: Final = 16

#: Of them for each expert of a token: what it reads, once as given and once sorted by experts, what
#: it gives, and that in the tokens' order again.
CHOICE_TENSORS: Final = 4

#: Tensors of logits in a replay of given tokens: the model's, in float32, and what sums over the
#: vocabulary hold.
LOGIT_TENSORS: Final = 3

#: Tensors of logits of a step of generating: the model's, in float32, and what sums over the
#: vocabulary hold or the same with tokens suppressed.
STEP_TENSORS: Final = 3


def rows_at_once(model: LanguageModel, lengths: Sequence[int]) -> int:
    """Prompts per batch, from an estimate of memory, spread evenly over the batches.

    A row takes what :func:`row_bytes` says; the logits of a replay are bounded by themselves and
    taken off first. Weights are not counted, they are there already.

    Parameters
    ----------
    model : the model.
    lengths : tokens of each prompt and its reply together.
    """
    budget = CPU_BYTES
    if model.device.type == "cuda":
        budget = torch.cuda.mem_get_info(model.device)[0] // 2
    most = MOST_ROWS.get(model.device.type, MOST_ROWS["cpu"])
    logits = max(lengths) * vocabulary_size(model.model) * min(most, len(lengths))
    budget -= LOGIT_TENSORS * 4 * min(LOGITS_AT_ONCE, logits)
    rows = min(most, max(1, budget // row_bytes(model, max(lengths))))
    batches = -(-len(lengths) // rows)
    return -(-len(lengths) // batches)


def row_bytes(model: LanguageModel, length: int) -> int:
    """Memory of a row of `length` tokens, in bytes.

    The key/value cache of all layers, the activations of one of them, and the logits of a step in
    float32. A layer of experts holds each token as often as it has experts for it, whether they
    are recorded or not: what these read, what lies between their matrices, and what they give.
    """
    embedding: Any = model.model.get_input_embeddings()  # type: ignore[operator]
    heads = [s for s in model.found.sources if s.kind == "head"]
    cached = sum(2 * len(set(s.kv_groups)) * s.width for s in heads)
    experts = (s for s in model.found.sources if s.kind == "expert")
    chosen = max((s.choices * _per_choice(model, s) for s in experts), default=0)
    per_token = cached + LIVE_TENSORS * embedding.weight.shape[1] + chosen
    itemsize = torch.finfo(model.dtype).bits // 8
    return per_token * itemsize * length + STEP_TENSORS * 4 * vocabulary_size(model.model)


def _per_choice(model: LanguageModel, source: Source) -> int:
    """Numbers that a layer holds for each expert of a token."""
    stacked = model.model.get_submodule(source.module).parameters(recurse=False)
    between = max(n for p in stacked if p.ndim >= 3 for n in p.shape[1:])
    return CHOICE_TENSORS * source.width + 2 * between


def with_fewer_rows(attempt: Callable[[int], T], rows: int, progress: Progress) -> T:
    """What `attempt` returns for `rows`, or for half as many wherever memory does not hold them.

    Each attempt begins anew, so that what comes out is what the smaller number gives by itself.

    Raises
    ------
    ConfigError
        A single row does not fit.
    """
    while True:
        try:
            return attempt(rows)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            cause = first_line(error)
        if rows == 1:
            raise ConfigError(
                given="a batch of one prompt",
                expected="memory for the prompt and its reply",
                cause=cause,
                remedy="generate fewer tokens, or choose a smaller model, dtype or another device",
            )
        # Outside the handler: its traceback holds the tensors that did not fit.
        rows = (rows + 1) // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        progress(f"out of memory: {rows} prompts at once", 0, 1)


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch ran out of memory; on a CPU it says so in words alone."""
    words = ("DefaultCPUAllocator: can't allocate memory", "not enough memory")
    return isinstance(error, torch.OutOfMemoryError) or any(w in str(error) for w in words)

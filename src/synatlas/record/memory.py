"""How many prompts go through the model at once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import torch

from synatlas.errors import ConfigError
from synatlas.models.load import LanguageModel
from synatlas.progress import Progress

T = TypeVar("T")

#: Most prompts at once: beyond this a CPU gains nothing, and a GPU little.
MOST_ROWS: Final[Mapping[str, int]] = {"cpu": 32, "cuda": 256}

#: Memory that a batch may take on a CPU, in bytes; on a GPU it is half of what is free.
CPU_BYTES: Final = 2 * 2**30

#: Tensors as wide as the residual stream that a layer holds at once, by count.
LIVE_TENSORS: Final = 16


def rows_at_once(model: LanguageModel, lengths: Sequence[int]) -> int:
    """Prompts per batch, from an estimate of memory, spread evenly over the batches.

    A row takes the key/value cache of all layers and the activations of one of them; weights are
    not counted, they are there already.

    Parameters
    ----------
    model : the model.
    lengths : tokens of each prompt and its reply together.
    """
    embedding: Any = model.model.get_input_embeddings()  # type: ignore[operator]
    itemsize = torch.finfo(model.dtype).bits // 8
    cached = sum(
        2 * len(set(s.kv_groups)) * s.width for s in model.found.sources if s.kind == "head"
    )
    per_token = (cached + LIVE_TENSORS * embedding.weight.shape[1]) * itemsize
    budget = CPU_BYTES
    if model.device.type == "cuda":
        budget = torch.cuda.mem_get_info(model.device)[0] // 2
    most = MOST_ROWS.get(model.device.type, MOST_ROWS["cpu"])
    rows = min(most, max(1, budget // (per_token * max(lengths))))
    batches = -(-len(lengths) // rows)
    return -(-len(lengths) // batches)


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
            cause = str(error).splitlines()[0]
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

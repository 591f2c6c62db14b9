"""How many threads a model runs on."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch

from synatlas.models.load import LanguageModel

#: Below this many parameters the products are too small to share: threads that wait for each
#: other cost more than they save, many times more on a busy machine.
ONE_THREAD_BELOW: Final = 30_000_000


def is_small(model: LanguageModel) -> bool:
    """Whether one thread is enough for a model."""
    return sum(p.numel() for p in model.model.parameters()) < ONE_THREAD_BELOW


@contextmanager
def fitting_threads(model: LanguageModel) -> Iterator[None]:
    """Run a small model on one thread, and restore torch's number of threads after.

    A number that the user chose with ``OMP_NUM_THREADS`` is kept.
    """
    before = torch.get_num_threads()
    if is_small(model) and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

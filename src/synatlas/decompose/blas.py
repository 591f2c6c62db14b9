"""One BLAS thread while many small products are taken.

Products of a tile are too small to share: threads that wait for each other cost far more than
they save, most of all on a busy machine.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold every loaded BLAS to one thread, and restore its number after; ten microseconds."""
    with _blas().limit(limits=1):
        yield


@cache
def _blas() -> ThreadpoolController:
    """The BLAS libraries loaded at first use; finding them takes milliseconds."""
    return ThreadpoolController().select(user_api="blas")

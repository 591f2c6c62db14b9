"""One BLAS thread while many small products are taken.

Products of a tile are too small to share: threads that wait for each other cost far more than
they save, most of all on a busy machine.
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold NumPy's bundled OpenBLAS to one thread, and restore its number after.

    A NumPy with another BLAS is left as it is; set that library's environment variable instead.
    """
    threads = _controls()
    if threads is None:
        yield
        return
    get, put = threads
    before = get()
    put(1)
    try:
        yield
    finally:
        put(before)


@cache
def _controls() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """Getter and setter of the number of threads of the OpenBLAS that NumPy's wheels carry."""
    package = Path(np.__file__).parent
    for folder in (package.parent / "numpy.libs", package / ".dylibs"):
        for path in sorted(folder.glob("*openblas*")):
            # Already loaded by NumPy: this is a second handle to it, not a second copy.
            library = ctypes.CDLL(str(path))
            try:
                get = library.scipy_openblas_get_num_threads64_
                put = library.scipy_openblas_set_num_threads64_
            except AttributeError:
                continue
            get.restype, get.argtypes = ctypes.c_int, ()
            put.restype, put.argtypes = None, (ctypes.c_int,)
            return get, put
    return None

"""Processes of one thread each that share a list of work."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from threading import Thread
from typing import Any, Final

#: Environment of a worker: one thread, and a heap of glibc that keeps what a pass gives back to it.
#: Else each pass asks the system for its pages again, a fifth of the time of a small model.
_SET: Final = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
}


@contextmanager
def processes(
    count: int, *, begin: Callable[..., None] | None = None, given: tuple[Any, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """So many fresh processes, each on one thread: together they fill the cores.

    Left by an exception, as by Ctrl-C, they end at once, whatever they are at: their work has to be
    such that it can be cut off. They end with the process that made them, however it ends.

    Parameters
    ----------
    count : processes.
    begin : called once in each with `given`, before its first work.
    given : arguments of `begin`.
    """
    context = get_context("spawn")
    told, tell = context.Pipe(duplex=False)
    with _environment(), told, tell:
        pool = ProcessPoolExecutor(
            count,
            mp_context=context,
            initializer=_begin,
            # Bytes, because reading them imports what they name: not before Ctrl-C is ignored.
            initargs=(told, bytes(ForkingPickler.dumps((begin, given)))),
        )
        is_done = False
        try:
            yield pool
            is_done = True
        finally:
            if not is_done:
                tell.close()
            # Not the pool's own context: its exit would let pending work run.
            pool.shutdown(cancel_futures=True)


def _begin(told: Connection, work: bytes) -> None:
    # Ctrl-C reaches every process of a terminal; one of them has to speak.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_when_told, args=(told,), daemon=True).start()
    begin, given = ForkingPickler.loads(work)  # pyright: ignore[reportAttributeAccessIssue]
    if begin is not None:
        begin(*given)


def _end_when_told(told: Connection) -> None:
    # A killed parent tells nobody: what it made would wait for work from it for ever.
    parent = parent_process()
    assert parent is not None
    wait([told, parent.sentinel])
    os._exit(1)


@contextmanager
def _environment() -> Iterator[None]:
    """What processes that start inside find set."""
    before = {name: os.environ.get(name) for name in _SET}
    os.environ.update(_SET)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

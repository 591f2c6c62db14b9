"""Worker processes: what they find set, and that they end with the process that made them."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest

from synatlas.processes import processes


def test_workers_have_one_thread_and_the_parent_keeps_its_environment() -> None:
    before = dict(os.environ)
    with processes(1) as pool:
        assert pool.submit(os.getenv, "OMP_NUM_THREADS").result() == "1"
        assert pool.submit(os.getenv, "MALLOC_TRIM_THRESHOLD_").result() is not None
    assert dict(os.environ) == before


def test_workers_end_at_once_after_an_exception() -> None:
    left = []

    def interrupted() -> None:
        with processes(1) as pool:
            pool.submit(os.getpid).result()
            left.extend(pool.submit(sleep, 60) for _ in range(20))
            raise KeyboardInterrupt

    begun = monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert monotonic() - begun < 50
    assert all(future.done() for future in left)


_PARENT = """
import os, time
from synatlas.processes import processes
if __name__ == "__main__":
    with processes(1) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600)
        time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(_PARENT)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    until = monotonic() + 20
    while _lives(worker) and monotonic() < until:
        sleep(0.05)
    assert not _lives(worker)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # Whoever adopts a dead process may not have waited for it yet.
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except FileNotFoundError:
        return False
    return state.rsplit(")", 1)[1].split()[0] != "Z"

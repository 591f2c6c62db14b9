"""Compiled code: the same digits however it came to be, and without a folder to keep it in."""

import os
import subprocess
import sys

import numba
import pytest

from synatlas.decompose.kernels import compiled

_DIGEST = """
import hashlib, numpy as np
from synatlas.decompose.kernels import add_tile
from synatlas.decompose.redundancy import mmi
from synatlas.decompose.tiles import sum_tiles
from synatlas.decompose.windows import standardise
windows = standardise(np.random.default_rng(0).normal(size=(3, 40, 70)).cumsum(axis=1), 1)
digest = hashlib.sha256()
for only in ("all", "extremes"):
    sums = sum_tiles(windows, windows, mmi, per_unit=True, threads=2, only=only)
    digest.update(sums.pair.tobytes() + sums.unit.tobytes())
print(digest.hexdigest(), sum(add_tile.stats.cache_hits.values()))
"""


@pytest.mark.slow
def test_a_kernel_from_the_cache_gives_the_digits_of_a_fresh_one(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    fresh, kept = (
        subprocess.run(
            [sys.executable, "-c", _DIGEST],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        ).stdout.split()
        for _ in range(2)
    )
    assert fresh[0] == kept[0]
    assert (fresh[1], kept[1]) == ("0", "1")


def test_without_a_cache_folder_code_is_compiled_all_the_same(monkeypatch):
    """A read-only installation and no home: numba raises when it is asked to keep code."""
    plain = numba.njit

    def njit(*args, **options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return plain(*args, **options)

    monkeypatch.setattr(numba, "njit", njit)
    assert compiled(set())(lambda x: x + 1)(1) == 2

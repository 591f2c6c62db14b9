"""Peak memory against the bounds that docs/benchmarks.md states."""

import tracemalloc

import numpy as np
import pytest
from time_series import var_series

from synatlas.decompose.pairs import sum_pairs
from synatlas.decompose.redundancy import mmi
from synatlas.decompose.tiles import measure_tiles, sum_tiles
from synatlas.decompose.windows import standardise

#: Bytes of one thread of the compiled engine, without its sums over units.
WORKSPACE = 3.5e6


def peak(work):
    """Most bytes held beyond what was held before, in a second call."""
    work()
    tracemalloc.start()
    work()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


@pytest.fixture(scope="module")
def series():
    rng = np.random.default_rng(0)
    return np.stack([var_series(rng, 40, 400) for _ in range(6)])


@pytest.mark.parametrize(("only", "rows"), [("all", 19), ("extremes", 5)])
@pytest.mark.parametrize("per_unit", [False, True])
@pytest.mark.parametrize("threads", [0, 1, 2])
def test_sums_hold_their_rows_and_a_workspace(series, only, rows, per_unit, threads):
    """No array of all pairs beside the sums; 0 threads are NumPy."""
    windows = standardise(series, 1)
    prompts, units, _ = windows.shape
    options = {"per_unit": per_unit, "only": only}
    engine = sum_tiles if threads else sum_pairs
    options |= {"threads": threads} if threads else {}
    most = peak(lambda: engine(windows, windows, mmi, **options))
    bound = 8 * rows * (units * (units - 1) // 2 + (prompts * units if per_unit else 0))
    tile = 2 * 8 * rows * 64 * prompts if per_unit else 0
    assert most < bound + max(1, threads) * (WORKSPACE + 2 * tile)


def test_measures_hold_their_rows_and_a_workspace(series):
    windows = standardise(series[:1], 1)
    assert peak(lambda: measure_tiles(windows, threads=1)) < 8 * 27 * 400 * 399 // 2 + WORKSPACE


def test_windows_are_made_in_parts(series):
    """Twice the series, and less than a megabyte."""
    many = np.concatenate([series] * 8)
    assert peak(lambda: standardise(many, 1)) < 2 * many.nbytes + 1.2e6

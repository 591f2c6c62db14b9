"""The engine: size alone decides for artifacts, repetition too for calls, values do not change."""

import subprocess
import sys

import pytest

from synatlas.decompose.engine import History, choose_engine
from synatlas.decompose.estimators import ESTIMATORS
from synatlas.decompose.pairs import sum_pairs
from synatlas.decompose.redundancy import ccs, ccs_compiled
from synatlas.decompose.tiles import sum_tiles


def test_without_history_size_alone_decides():
    """The kernel is loaded in this process, and a small artifact stays on NumPy all the same."""
    assert choose_engine("mmi", units=256, passes=1, threads=None).func is sum_pairs
    passes = ESTIMATORS["gaussian"].engines["mmi"].compile_from // (256 * 255 // 2) + 1
    assert choose_engine("mmi", units=256, passes=passes, threads=2).func is sum_tiles


def test_samples_count_where_each_is_visited():
    """30,000 pairs of 1,200 steps take NumPy a quarter of a minute under CCS, MMI a few ms."""
    work = {"units": 94, "passes": 7, "threads": None}
    assert choose_engine("ccs", samples=1200, **work).keywords["redundancy"] is ccs_compiled
    assert choose_engine("ccs", samples=100, **work).keywords["redundancy"] is ccs
    assert choose_engine("mmi", samples=1200, **work).func is sum_pairs


def test_repeated_calls_are_compiled_and_small_ones_never(monkeypatch):
    monkeypatch.delitem(sys.modules, "synatlas.decompose.kernels")
    history = History()
    kinds = [
        choose_engine("mmi", units=256, passes=1, threads=None, history=history).func
        for _ in range(9)
    ]
    assert kinds == [sum_pairs] * 8 + [sum_tiles]
    assert history.cases == 8 * 32_640
    assert choose_engine("mmi", units=64, passes=1, threads=None, history=history).func is sum_pairs
    again = choose_engine("ccs", units=256, passes=1, threads=None, history=history)
    assert again.keywords["redundancy"] is ccs_compiled


def test_a_loaded_kernel_is_used():
    assert "synatlas.decompose.kernels" in sys.modules
    history = History()
    assert (
        choose_engine("mmi", units=256, passes=1, threads=None, history=history).func is sum_tiles
    )
    assert history.cases == 0


@pytest.mark.parametrize("redundancy", ["mmi", "ccs"])
def test_repetition_changes_values_by_rounding_alone(redundancy):
    """In a fresh process: the first calls in NumPy, the last compiled."""
    script = (
        "import sys, numpy as np\n"
        "from synatlas.decompose import engine, series\n"
        "x = np.cumsum(np.random.default_rng(0).normal(size=(60, 100)), axis=0)\n"
        "engine.REPEATED_FROM = 8000\n"
        f"one, _, _, three = (series.phiid(x, redundancy={redundancy!r}) for _ in range(4))\n"
        "assert 'synatlas.decompose.kernels' in sys.modules\n"
        "print(float(abs(one - three)['atom'].max()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 1e-12

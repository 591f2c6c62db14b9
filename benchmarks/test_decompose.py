"""Speed of the decomposition. Run with: pytest benchmarks --benchmark-enable --benchmark-only."""

import numpy as np
import pytest

from synatlas.decompose.discrete import binarise
from synatlas.decompose.estimators import ESTIMATORS
from synatlas.decompose.pairs import sum_pairs
from synatlas.decompose.redundancy import ccs, ccs_compiled, mmi
from synatlas.decompose.series import phiid
from synatlas.decompose.windows import standardise


def memories(prompts, steps, units):
    """AR(1) series with common white drives."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(prompts, steps, units))
    rho = rng.uniform(0.1, 0.8, units)
    for t in range(1, steps):
        values[:, t] += rho * values[:, t - 1]
    return values + rng.normal(size=(prompts, steps, 4)) @ rng.normal(0, 0.4, (4, units)) + 3.0


@pytest.mark.parametrize("units", [64, 256])
def test_one_data_set(benchmark, units):
    """phiid with its labels, 100 steps."""
    series = memories(1, 100, units)
    benchmark(phiid, series)


@pytest.mark.parametrize(("prompts", "units"), [(1, 256), (60, 64), (60, 256)])
@pytest.mark.parametrize("per_unit", [False, True])
def test_compiled_sums(benchmark, prompts, units, per_unit):
    """Sums over prompts, one thread, compilation excluded."""
    from synatlas.decompose.tiles import sum_tiles

    windows = standardise(memories(prompts, 100, units), 1)
    sum_tiles(windows, windows, mmi, per_unit=per_unit, threads=1)
    benchmark(sum_tiles, windows, windows, mmi, per_unit=per_unit, threads=1)


@pytest.mark.parametrize(("prompts", "units"), [(1, 256), (60, 64)])
def test_plain_sums(benchmark, prompts, units):
    """The same in NumPy."""
    windows = standardise(memories(prompts, 100, units), 1)
    benchmark(sum_pairs, windows, windows, mmi, per_unit=False)


@pytest.mark.parametrize(
    ("redundancy", "units"), [(ccs, 64), (ccs_compiled, 64), (ccs_compiled, 256)]
)
def test_common_change(benchmark, redundancy, units):
    """Pointwise redundancy, 100 steps, with the informations that it starts from."""
    windows = standardise(memories(1, 100, units), 1)
    sum_pairs(windows, windows, redundancy, per_unit=False)
    benchmark(sum_pairs, windows, windows, redundancy, per_unit=False)


@pytest.mark.parametrize("redundancy", ["mmi", "ccs"])
@pytest.mark.parametrize(("kind", "units"), [("plain", 64), ("compiled", 64), ("compiled", 256)])
def test_binary_sums(benchmark, redundancy, kind, units):
    """Counts of binary windows, 100 steps, one thread."""
    windows = binarise(memories(1, 100, units), 1)
    engines = ESTIMATORS["binary"].engines[redundancy]
    engine = engines.compiled(1) if kind == "compiled" else engines.plain
    engine(windows, windows, per_unit=False)
    benchmark(engine, windows, windows, per_unit=False)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_windows(benchmark, estimator):
    """Sixty prompts of 256 series of 100 steps as windows."""
    benchmark(ESTIMATORS[estimator].windows, memories(60, 100, 256), 1)

"""Speed of the decomposition. Run with: pytest benchmarks --benchmark-enable --benchmark-only."""

import tracemalloc

import numpy as np
import pytest
from time_series import recording_of

from synatlas.decompose.discrete import binarise
from synatlas.decompose.engine import choose_engine
from synatlas.decompose.estimators import ESTIMATORS
from synatlas.decompose.groups import Group
from synatlas.decompose.nulls import NULLS, prepare
from synatlas.decompose.pairs import sum_pairs
from synatlas.decompose.pipeline import decompose
from synatlas.decompose.prediction import joint_prediction
from synatlas.decompose.redundancy import ccs, ccs_compiled, mmi
from synatlas.decompose.series import phiid
from synatlas.decompose.unit_nulls import null_rows
from synatlas.decompose.windows import standardise


def memories(prompts, steps, units):
    """AR(1) series with common white drives."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(prompts, steps, units))
    rho = rng.uniform(0.1, 0.8, units)
    for t in range(1, steps):
        values[:, t] += rho * values[:, t - 1]
    return values + rng.normal(size=(prompts, steps, 4)) @ rng.normal(0, 0.4, (4, units)) + 3.0


@pytest.mark.parametrize("atoms", ["all", "rtr+sts"])
@pytest.mark.parametrize("units", [64, 256])
def test_one_data_set(benchmark, units, atoms):
    """phiid with its labels, 100 steps."""
    series = memories(1, 100, units)
    benchmark.pedantic(phiid, (series,), {"atoms": atoms}, rounds=100, warmup_rounds=12)


@pytest.mark.parametrize(("prompts", "units"), [(1, 256), (60, 64), (60, 256)])
@pytest.mark.parametrize("per_unit", [False, True])
@pytest.mark.parametrize("only", ["all", "extremes"])
def test_compiled_sums(benchmark, prompts, units, per_unit, only):
    """Sums over prompts, one thread, compilation excluded."""
    from synatlas.decompose.tiles import sum_tiles

    windows = standardise(memories(prompts, 100, units), 1)
    options = {"per_unit": per_unit, "threads": 1, "only": only}
    sum_tiles(windows, windows, mmi, **options)
    benchmark(sum_tiles, windows, windows, mmi, **options)


def test_large_recording(benchmark):
    """Atoms of 1,728 units and 60 prompts without nulls, on two threads, warm."""
    recording = recording_of(memories(60, 100, 1728))
    benchmark.pedantic(
        decompose, (recording,), {"nulls": (), "threads": 2}, rounds=3, warmup_rounds=1
    )


@pytest.mark.parametrize("only", ["all", "extremes"])
def test_surrogates(benchmark, only):
    """A hundred cross-prompt surrogates of 272 units and 60 prompts, on two threads, warm."""
    null, way = NULLS["cross_prompt"], ESTIMATORS["gaussian"]
    groups = [Group(prompts=np.arange(60), series=memories(60, 100, 272))]
    engine = choose_engine("mmi", units=272, passes=6000, threads=2, only=only)

    def draw(surrogates):
        return null_rows(
            null,
            prepare(null, groups, way.windows, 1),
            engine,
            way,
            redundancy="mmi",
            surrogates=surrogates,
            seed=0,
            progress=lambda done, count: None,
        )

    draw(1)
    benchmark.pedantic(draw, (100,), rounds=1)


@pytest.mark.parametrize("units", [64, 272])
def test_joint_prediction(benchmark, units):
    """Sixty prompts of 100 steps, on one thread."""
    groups = [Group(prompts=np.arange(60), series=memories(60, 100, units))]
    benchmark(joint_prediction, groups, 1)


@pytest.mark.parametrize(("atoms", "bound"), [("all", 216), ("rtr+sts", 169)])
def test_memory_of_many_units(benchmark, atoms, bound):
    """Eight million pairs of one data set: bytes a pair beside fixed work space and the input."""
    series, pairs = memories(1, 100, 4000), 4000 * 3999 // 2
    phiid(series[..., :600])
    phiid(series, atoms=atoms)

    def peak():
        tracemalloc.start()
        phiid(series, atoms=atoms)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    most = benchmark.pedantic(peak, rounds=1)
    assert most < bound * pairs + 16 * series.size + 40e6


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

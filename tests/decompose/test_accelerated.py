"""The torch sums on CPU tensors against the plain ones: the same code runs on a GPU."""

import numpy as np
import pytest
import torch
import xarray as xr
from time_series import var_series

from synatlas.decompose import accelerated, series
from synatlas.decompose.accelerated import Accelerator, accelerator_of, sum_accelerated
from synatlas.decompose.engine import choose_engine
from synatlas.decompose.groups import mean_atoms
from synatlas.decompose.pairs import KEPT, sum_pairs
from synatlas.decompose.redundancy import ccs, mmi
from synatlas.decompose.series import phiid
from synatlas.decompose.windows import standardise

#: Precision -> greatest difference of an atom in nats.
AGREE = {True: 1e-9, False: 1e-5}


def difficult_windows(prompts=4, steps=50, units=24, seed=0):
    """Every status, series near to each other at every distance, random walks."""
    rng = np.random.default_rng(seed)
    values = np.stack([var_series(rng, steps, units) for _ in range(prompts)])
    near = 10.0 ** -np.arange(8)
    copies = values[:, :, :8] + near * rng.normal(size=(prompts, steps, 8))
    walks = np.cumsum(rng.normal(size=(prompts, steps, 6)), axis=1)
    values = np.concatenate([values, copies, walks], axis=2)
    values[0, :, 1] = 2.0
    values[1, :, 3] = values[1, :, 2]
    values[1, 3, 5] = np.nan
    values[2, 1:, 7] = values[2, :-1, 9]
    return standardise(values, 1)


def assert_agree(found, expected, double):
    limit = AGREE[double]
    assert np.array_equal(found.tally, expected.tally)
    atoms, plain = mean_atoms(found.pair), mean_atoms(expected.pair)
    assert np.array_equal(np.isnan(atoms), np.isnan(plain))
    assert np.nanmax(np.abs(atoms - plain)) < limit
    # Same-step correlations and counts too, which have no atoms.
    assert np.abs(found.pair - expected.pair).max() < 10 * limit
    if expected.unit is not None:
        assert np.abs(found.unit - expected.unit).max() < 100 * limit


@pytest.mark.parametrize("only", KEPT)
@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("cases", [2**20, 1500, 1])
def test_sums_are_the_plain_sums(monkeypatch, double, only, cases):
    """In one block, in several of several prompts, and in as many as there can be."""
    monkeypatch.setattr(accelerated, "CASES", cases)
    windows = difficult_windows()
    found = sum_accelerated(
        windows, windows, per_unit=True, accelerator=Accelerator("cpu", double), only=only
    )
    expected = sum_pairs(windows, windows, mmi, per_unit=True, only=only)
    assert_agree(found, expected, double)


@pytest.mark.parametrize("double", [True, False])
def test_sums_of_two_data_sets_are_the_plain_sums(double):
    windows = difficult_windows()
    other = windows.take(np.array([1, 2, 3, 0]))
    found = sum_accelerated(windows, other, per_unit=False, accelerator=Accelerator("cpu", double))
    assert_agree(found, sum_pairs(windows, other, mmi, per_unit=False), double)


@pytest.mark.parametrize(
    ("prompts", "units"), [(1, 2), (60, 64), (60, 1728), (3000, 300), (2, 9000)]
)
def test_blocks_hold_every_pair_once_and_bounded_memory(prompts, units):
    """What is held at a time depends on the size of a block alone."""
    start = 0
    for block in accelerated._blocks(prompts, units):
        assert block.start == start < block.stop
        start, done = block.stop, 0
        for chunk in block.chunks:
            assert chunk.start == done < chunk.stop
            done = chunk.stop
            cases = (block.stop - block.start) * (units - block.start) * (done - chunk.start)
            assert cases <= accelerated.CASES
        assert done == prompts
    assert start == units - 1


@pytest.mark.parametrize("samples", [100, 2000])
def test_single_precision_needs_its_pivot_rule(monkeypatch, samples):
    """With the rule within 1e-5 nat at any distance of two series; without it, not."""
    rng = np.random.default_rng(1)
    one = var_series(rng, samples, 20)
    distance = np.geomspace(0.5, 0.05, 20)
    windows = standardise(
        np.concatenate([one, one + distance * rng.normal(size=one.shape)], axis=1)[None], 1
    )
    expected = mean_atoms(sum_pairs(windows, windows, mmi, per_unit=False).pair)

    def difference():
        found = sum_accelerated(
            windows, windows, per_unit=False, accelerator=Accelerator("cpu", double=False)
        )
        return np.abs(mean_atoms(found.pair) - expected).max()

    assert difference() < AGREE[False]
    monkeypatch.setattr(accelerated, "LEAST_PIVOT_SINGLE", 1e-4)
    assert difference() > AGREE[False]


def test_products_are_full_precision_whatever_the_user_chose():
    """Reduced precision is the user's, before and after; it is no part of the sums."""
    windows = difficult_windows()
    chosen = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        sum_accelerated(windows, windows, per_unit=False, accelerator=Accelerator("cpu", False))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(chosen)


def test_only_tensors_on_a_device_are_accelerated():
    """A meta tensor has a device and no values: enough to choose by."""
    for elsewhere, double in ((torch.float64, True), (torch.float32, False), (torch.half, False)):
        tensor = torch.zeros(3, 2, dtype=elsewhere, device="meta")
        assert accelerator_of(tensor) == Accelerator("meta", double)
    values = np.zeros((3, 2))
    for here in (torch.zeros(3, 2), values, values.tolist(), xr.DataArray(values)):
        assert accelerator_of(here) is None


def test_ccs_stays_on_the_cpu():
    """It has no torch engine; nothing is approximated in its place."""
    place = Accelerator("meta", double=True)
    engine = choose_engine("ccs", units=9, passes=1, threads=None, accelerator=place)
    assert (engine.func, engine.keywords["redundancy"]) == (sum_pairs, ccs)


@pytest.mark.parametrize("double", [True, False])
def test_phiid_of_a_tensor_elsewhere_is_that_of_the_array(monkeypatch, double):
    """Nulls and statuses included; the CPU stands in for the device."""
    values = np.stack([var_series(np.random.default_rng(k), 40, 5) for k in range(3)])
    values[:, :, 4] = 1.0
    options = {"null": "window_shift", "surrogates": 3}
    plain = phiid(values, **options)
    monkeypatch.setattr(series, "accelerator_of", lambda _: Accelerator("cpu", double))
    found = phiid(torch.from_numpy(values), **options)
    assert np.array_equal(found["status"], plain["status"])
    for name in ("atom", "tdmi", "phi_r", "null_mean"):
        assert np.allclose(found[name], plain[name], atol=AGREE[double], rtol=0, equal_nan=True)

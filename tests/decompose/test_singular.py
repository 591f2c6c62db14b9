"""Nearly collinear pairs against 60-digit arithmetic."""

import numpy as np
import pytest
from time_series import ar_series

from reference.phiid_reference import exact_atoms
from synatlas.decompose.series import phiid


@pytest.mark.parametrize("size", [1e-1, 1e-2, 1e-3, 1e-4, 4e-5, 1e-5])
def test_a_noisy_copy_is_right_to_1e_7(size):
    """y = x + size * noise down to 1 - r of 1e-10, where plain log-determinants lose all."""
    rng = np.random.default_rng(0)
    x = ar_series(rng, 100, [0.6])[:, 0]
    y = x + size * rng.normal(size=100)
    atoms = phiid(np.stack([x, y], axis=1))
    assert atoms["status"].item() == 0
    assert np.abs(atoms["atom"].values[0] - exact_atoms(x, y)).max() < 1e-7


@pytest.mark.parametrize("size", [1e-2, 1e-4, 1e-5])
def test_a_nearly_shifted_copy_is_right_to_1e_7(size):
    rng = np.random.default_rng(1)
    source = ar_series(rng, 101, [0.5])[:, 0]
    x, y = source[1:], source[:-1] + size * rng.normal(size=100)
    atoms = phiid(np.stack([x, y], axis=1))
    assert atoms["status"].item() == 0
    assert np.abs(atoms["atom"].values[0] - exact_atoms(x, y)).max() < 1e-7


def test_smooth_series_are_right_to_1e_7():
    """Random walks with a shared trend: strong memory and strong collinearity together."""
    rng = np.random.default_rng(2)
    walk = np.cumsum(rng.normal(size=(100, 1)), axis=0) + np.arange(100)[:, None]
    series = walk + np.cumsum(rng.normal(0, 1e-2, (100, 3)), axis=0)
    atoms = phiid(series)["atom"].values
    for k, (i, j) in enumerate([(0, 1), (0, 2), (1, 2)]):
        assert np.abs(atoms[k] - exact_atoms(series[:, i], series[:, j])).max() < 1e-7

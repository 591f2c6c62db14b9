"""What the side-by-side benchmark computes itself, for packages that have no lattice."""

import importlib.util
from pathlib import Path

import numpy as np
from time_series import var_series

from reference.phiid_reference import mean_information, pair_atoms, windows_of

WORKER = Path(__file__).parents[2] / "benchmarks" / "peer_worker.py"


def test_atoms_are_assembled_from_nine_informations():
    spec = importlib.util.spec_from_file_location("peer_worker", WORKER)
    assert spec is not None
    assert spec.loader is not None
    worker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(worker)
    rows = {"x": (0,), "y": (1,), "xy": (0, 1), "a": (2,), "b": (3,), "ab": (2, 3)}
    series = var_series(np.random.default_rng(0), 60, 2)
    information = mean_information(np.cov(windows_of(series[:, 0], series[:, 1], 1)))
    known = {
        (past, future): information(rows[past], rows[future])
        for past in ("x", "y", "xy")
        for future in ("a", "b", "ab")
    }
    expected = pair_atoms(series[:, 0], series[:, 1])
    assert np.allclose(worker.assembled(known), expected.reshape(16), atol=1e-12)

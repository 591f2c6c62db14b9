"""The lattice against its order relation."""

import numpy as np
import pytest

from reference.phiid_reference import LATTICE
from synatlas.axes import SHORT_NAMES
from synatlas.decompose.lattice import AGGREGATES, SWAP, aggregate, grid, moebius, moebius_in_place


def test_moebius_inverts_the_order_relation():
    """Sums over the down-sets of any atoms are knowns from which the atoms come back."""
    atoms = np.random.default_rng(0).normal(size=(16, 7))
    assert np.allclose(moebius(list(LATTICE @ atoms)), atoms, atol=1e-14)


def test_swap_exchanges_the_unique_roles():
    names = [SHORT_NAMES[k] for k in SWAP]
    exchanged = [name.translate(str.maketrans("xy", "yx")) for name in SHORT_NAMES]
    assert names == exchanged


def test_aggregates_satisfy_their_identities():
    """Φ_R is everything but what either unit keeps or shares; both transfers share stx and str."""
    atoms = grid(np.random.default_rng(1).normal(size=(16, 5)))
    total = atoms.sum(axis=(1, 2))
    parts = sum(aggregate(name, atoms) for name in ("copy", "erasure"))
    assert np.allclose(
        aggregate("phi_r", atoms) + parts + atoms[:, 0, 0] + atoms[:, 1, 1] + atoms[:, 2, 2], total
    )
    known = (LATTICE @ atoms.reshape(5, 16).T).reshape(4, 4, 5)
    whole_minus_sum = known[3, 3] - known[1, 1] - known[2, 2]
    assert np.allclose(aggregate("phi_wms", atoms), whole_minus_sum)
    # Transfer entropy a to b is I(x; b | y) = I(xy; b) - I(y; b).
    assert np.allclose(aggregate("transfer_entropy_ab", atoms), known[3, 2] - known[2, 2])
    assert np.allclose(aggregate("transfer_entropy_ba", atoms), known[3, 1] - known[1, 1])


@pytest.mark.parametrize("name", AGGREGATES)
def test_an_aggregate_names_atoms_once(name):
    shorts = [short.removeprefix("-") for short in AGGREGATES[name]]
    assert len(set(shorts)) == len(shorts)
    assert set(shorts) <= set(SHORT_NAMES)


def test_the_inverse_in_place_is_the_inverse_digit_for_digit():
    known = np.random.default_rng(0).normal(size=(3, 4, 4, 5))
    expected = np.stack(moebius(list(np.moveaxis(known.reshape(3, 16, 5), 1, 0))), axis=1)
    moebius_in_place(known)
    assert np.array_equal(known.reshape(3, 16, 5), expected)

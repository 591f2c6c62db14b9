"""For each atom a system in which it leads, found under its own name and no other.

Planted systems: a message of memory 0.9 is written into the past in the manner of one role and
comes back in the future in the manner of another, over independent noise:

====  =====================================================================
red   both units carry the message, each with a little noise of its own
un1   the first unit carries it, the second is noise
un2   the second unit carries it, the first is noise
syn   the second unit is noise, the first the message under far louder copies
      of that noise: neither alone knows it, their difference does
====  =====================================================================

Then every information that can read the message is I(message; message') and every other is 0,
whatever the redundancy function, and one atom is all there is.

In bits the same is exact: the message is a fair coin, loud noise is added modulo 2 (so that a
difference is a parity), and samples hold every combination of coins once.

Stationary systems: a VAR(1), whose past and future have one distribution, cannot do that for every
atom; coefficients found by a search make each atom the largest of the sixteen all the same.
"""

from itertools import product

import numpy as np
import pytest
from time_series import planted_series, var_covariance

from synatlas.axes import ATOM_LABELS, ROLES, SHORT_NAMES
from synatlas.decompose.estimators import ESTIMATORS
from synatlas.decompose.gaussian import Correlations, closed_form
from synatlas.decompose.groups import mean_atoms
from synatlas.decompose.pairs import pair_index
from synatlas.decompose.series import phiid

MEMORY = 0.9

#: Matrix rows, correlation of the innovations, standard deviation of the second one, and share of
#: the sum of absolute atoms that the leading atom has.
STATIONARY = {
    # Nearly one series twice.
    "rtr": ([[-0.5, -0.3], [-0.5, -0.3]], 0.99, 1.0, 0.99),
    # y drives x' and hardly y'; x, which is correlated with y, says the same.
    "rtx": ([[0.3, -0.7], [0.0, 0.1]], -0.44, 0.5, 0.57),
    # Nearly one innovation at two scales hides what both remember but in a difference.
    "rts": ([[-0.1, 0.0], [-0.1, 0.1]], 0.99, 10.0, 0.96),
    # x drives both alike; y says little about either.
    "xtr": ([[0.6, -0.2], [0.6, -0.2]], 0.56, 1.0, 0.60),
    # Two unrelated series, one with memory.
    "xtx": ([[0.9, 0.0], [0.0, 0.0]], 0.0, 1.0, 0.99),
    # x is white and drives y.
    "xty": ([[0.0, 0.0], [0.9, 0.0]], 0.0, 1.0, 0.99),
    # x drives both alike, and opposite innovations hide it but in their sum.
    "xts": ([[0.6, 0.0], [0.6, 0.0]], -0.99, 1.0, 0.89),
    # The sum of two opposite series, which neither shows alone, drives both.
    "str": ([[1.0, 1.0], [-0.9, -0.9]], -0.83, 1.0, 0.75),
    # x' is the sum of both but for a little, y' is mostly its own innovation.
    "stx": ([[0.9, 0.9], [-0.3, -0.4]], -0.02, 10.0, 0.88),
    # The sum of two opposite innovations remembers itself.
    "sts": ([[0.2, 0.2], [0.2, 0.2]], -0.99, 1.0, 0.98),
}


def written(role, message, one, two):
    """Rows of a pair that carries `message` in the manner of a role; all are rows of sources."""
    return {
        "r": (message + 0.02 * one, message + 0.02 * two),
        "x": (message, one),
        "y": (one, message),
        "s": (message + 50 * one, one),
    }[role]


def planted(name, samples, seed=0):
    """A pair of series that carries one atom at ``lag=samples``."""
    message, change, *noise = np.eye(6)
    later = MEMORY * message + np.sqrt(1 - MEMORY**2) * change
    rows = (*written(name[0], message, *noise[:2]), *written(name[2], later, *noise[2:]))
    return planted_series(np.random.default_rng(seed), np.array(rows), samples=samples)


def value(result, name):
    past, future = ATOM_LABELS[name]
    return result["atom"].sel(past=past, future=future).item()


@pytest.mark.parametrize(("redundancy", "samples"), [("mmi", 40), ("ccs", 1000)])
@pytest.mark.parametrize("name", SHORT_NAMES)
def test_a_planted_atom_is_all_there_is(name, redundancy, samples):
    """The atom is I(message; message') within a hundredth, and 97 % of the sum of all sizes.

    Pure synergy under CCS only leads: there the four informations of single units are 0 but for
    rounding, and where all four happen to have one sign, CCS calls the rest redundant.
    """
    result = phiid(planted(name, samples), lag=samples, redundancy=redundancy)
    assert result["status"].item() == 0
    found, sizes = value(result, name), np.abs(result["atom"].values)
    if (name, redundancy) == ("sts", "ccs"):
        assert found > 1.5 * np.sort(sizes, axis=None)[-2]
        return
    assert np.isclose(found, -0.5 * np.log(1 - MEMORY**2), atol=0.01)
    assert found > 0.97 * sizes.sum()


@pytest.mark.parametrize("redundancy", ["mmi", "ccs"])
@pytest.mark.parametrize("name", SHORT_NAMES)
def test_one_bit_is_one_atom(name, redundancy):
    """ln 2 in its own cell and 0 in the fifteen others, to the last digits."""
    message, *noise = np.array(list(product([0, 1], repeat=5))).T

    def coins(role, one, two):
        return {
            "r": (message, message),
            "x": (message, one),
            "y": (one, message),
            "s": (message ^ one, one),
        }[role]

    past, future = coins(name[0], *noise[:2]), coins(name[2], *noise[2:])
    series = np.concatenate([np.stack(past, 1), np.stack(future, 1)])
    result = phiid(series, lag=32, redundancy=redundancy, estimator="binary")
    expected = np.log(2) * (np.array(SHORT_NAMES) == name).reshape(4, 4)
    assert np.allclose(result["atom"].values[0], expected, atol=1e-12)


@pytest.mark.parametrize("name", SHORT_NAMES)
def test_a_stationary_system_is_led_by_its_atom(name):
    mirrored = name.translate(str.maketrans("xy", "yx"))
    matrix, correlation, scale, share = STATIONARY.get(name) or STATIONARY[mirrored]
    matrix, noise = np.array(matrix), np.array([[1.0, correlation], [correlation, 1.0]])
    noise *= np.outer([1.0, scale], [1.0, scale])
    if name not in STATIONARY:
        matrix, noise = matrix[::-1, ::-1], noise[::-1, ::-1]
    covariance = var_covariance(matrix, noise)
    assert np.allclose(covariance[:2, :2], covariance[2:, 2:])
    scales = np.sqrt(np.diag(covariance))
    r = covariance / np.outer(scales, scales)
    six = (r[0, 1], r[2, 3], r[0, 2], r[1, 3], r[0, 3], r[1, 2])
    atoms = closed_form(Correlations(*map(np.asarray, six))).reshape(16)
    assert SHORT_NAMES[np.abs(atoms).argmax()] == name
    assert atoms.max() > share * np.abs(atoms).sum()


def test_names_are_the_cells_of_the_grid_one_by_one():
    """A name is past letter, t, future letter; hoi 0.0.7 gives `u2ts` the cell of `u2tu1`."""
    cells = [(past, future) for past in ROLES for future in ROLES]
    assert [ATOM_LABELS[name] for name in SHORT_NAMES] == cells
    letter = dict(zip(ROLES, "rxys", strict=True))
    assert list(SHORT_NAMES) == [f"{letter[past]}t{letter[future]}" for past, future in cells]


@pytest.mark.parametrize("name", [n for n in SHORT_NAMES if n[0] != n[2]])
def test_directed_atoms_keep_their_direction(name):
    """Time turned round gives the reversed atom, units exchanged the mirrored one, no other."""
    series = planted(name, 40)
    turned = phiid(series[::-1], lag=40)
    assert value(turned, name[::-1]) > 1.1 * np.abs(value(turned, name)) + 0.5
    exchanged = phiid(series[:, ::-1], lag=40)
    mirrored = name.translate(str.maketrans("xy", "yx"))
    assert np.isclose(value(exchanged, mirrored), value(phiid(series, lag=40), name), atol=1e-12)


def test_many_units_keep_direction_in_every_engine():
    """The sixteen pairs as 32 units of one array: nothing is symmetrised."""
    series = np.concatenate([planted(name, 40, seed=k) for k, name in enumerate(SHORT_NAMES)], 1)
    gaussian = ESTIMATORS["gaussian"]
    windows = gaussian.windows(series[None], 40)
    engines = gaussian.engines["mmi"]
    first = np.arange(0, 32, 2)
    where = pair_index(first, first + 1, 32)
    for engine in (engines.plain, engines.compiled(1)):
        atoms = mean_atoms(engine(windows, windows, per_unit=False).pair)[where]
        leading = np.abs(atoms).reshape(16, 16).argmax(axis=1)
        assert [SHORT_NAMES[k] for k in leading] == list(SHORT_NAMES)

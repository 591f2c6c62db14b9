"""Slow, obvious ΦID of one pair: entropies from determinants, lattice from its order relation.

Sources: Mediano et al. (2025), arXiv:2109.13186 (lattice); Barrett (2015), arXiv:1411.2832 (MMI);
Ince (2017), doi:10.3390/e19070318 (CCS). Every step is written for one pair and with no algebra.
"""

import math
from collections import Counter
from fractions import Fraction
from itertools import product

import mpmath
import numpy as np
from scipy.stats import norm, rankdata

# Nodes of the two-source lattice, as sets of sources: red, un1, un2, syn.
NODES = (({0}, {1}), ({0},), ({1},), ({0, 1},))


def below(lower, upper) -> bool:
    """Order of redundancy lattices: each source of `upper` contains a source of `lower`."""
    return all(any(a <= b for a in lower) for b in upper)


CELLS = list(product(range(4), repeat=2))

#: known = LATTICE @ atom.
LATTICE = np.array(
    [
        [float(below(NODES[p], NODES[past]) and below(NODES[f], NODES[future])) for p, f in CELLS]
        for past, future in CELLS
    ]
)


def windows_of(x, y, lag):
    """Rows x, y (pasts), a, b (futures)."""
    return np.array([x[:-lag], y[:-lag], x[lag:], y[lag:]], dtype=float)


def pair_atoms(x, y, lag=1, redundancy="mmi"):
    """(past, future) atoms of two series in nats."""
    return window_atoms(windows_of(x, y, lag), redundancy)


def copula_atoms(x, y, lag=1, redundancy="mmi"):
    """The same from the normal scores of each window's ranks."""
    ranks = rankdata(windows_of(x, y, lag), axis=1)
    return window_atoms(norm.ppf(ranks / (ranks.shape[1] + 1)), redundancy)


def binary_atoms(x, y, lag=1, redundancy="mmi"):
    """The same from the counts of samples above each window's mean."""
    windows = windows_of(x, y, lag)
    information = counted_information(windows > windows.mean(axis=1, keepdims=True))
    if redundancy == "ccs":
        return mean_atoms(knowns(information, CommonChange))
    return mean_atoms(knowns(lambda s, t: np.mean(information(s, t)), Least))


def window_atoms(windows, redundancy):
    if redundancy == "ccs":
        return mean_atoms(knowns(local_information(windows), CommonChange))
    return mean_atoms(knowns(mean_information(np.cov(windows)), Least))


def mean_atoms(known):
    return np.linalg.solve(LATTICE, [np.mean(known[cell]) for cell in CELLS]).reshape(4, 4)


def counted_information(bits):
    """I(sources; targets) of each sample: the logarithm of an exact fraction, 0 where it is 1."""

    def counts(rows):
        values = [tuple(column) for column in bits[list(rows)].T.tolist()]
        number = Counter(values)
        return [number[value] for value in values]

    def information(s, t):
        parts = zip(counts(s + t), counts(s), counts(t), strict=True)
        return np.array([math.log(Fraction(bits.shape[1] * st, a * b)) for st, a, b in parts])

    return information


def local_atoms(x, y, lag=1, redundancy="mmi"):
    """(sample, past, future) atoms of every sample in nats, as the reference code has them."""
    information = local_information(windows_of(x, y, lag))
    known = knowns(information, CommonChange if redundancy == "ccs" else LeastOnAverage)
    atoms = np.linalg.solve(LATTICE, np.array([known[cell] for cell in CELLS]))
    return atoms.T.reshape(-1, 4, 4)


def covariance_atoms(covariance):
    """(past, future) atoms of four Gaussian variables x, y, a, b under MMI."""
    known = knowns(mean_information(np.asarray(covariance)), Least)
    return np.linalg.solve(LATTICE, np.array([known[cell] for cell in CELLS])).reshape(4, 4)


def mean_information(covariance):
    """I(sources; targets) as a function of two tuples of rows."""

    def entropy(rows):
        return 0.5 * np.linalg.slogdet(covariance[np.ix_(rows, rows)])[1]

    return lambda s, t: entropy(s) + entropy(t) - entropy(s + t)


def local_information(windows):
    """The same for each sample, from the densities of the fitted Gaussian."""
    covariance = np.cov(windows)
    centred = windows - windows.mean(axis=1, keepdims=True)

    def surprisal(rows):
        part, some = covariance[np.ix_(rows, rows)], centred[list(rows)]
        distance = np.sum(some * np.linalg.solve(part, some), axis=0)
        return 0.5 * (distance + np.linalg.slogdet(2 * np.pi * part)[1])

    return lambda s, t: surprisal(s) + surprisal(t) - surprisal(s + t)


X, Y, A, B = (0,), (1,), (2,), (3,)
PASTS, FUTURES = {1: X, 2: Y, 3: X + Y}, {1: A, 2: B, 3: A + B}


def knowns(information, rule):
    """The 16 knowns by cell: informations, six redundancies, one double redundancy."""
    known = {
        (past, future): information(PASTS[past], FUTURES[future])
        for past in PASTS
        for future in FUTURES
    }
    for k in (1, 2, 3):
        known[0, k] = rule.single(known[1, k], known[2, k], known[3, k])
        known[k, 0] = rule.single(known[k, 1], known[k, 2], known[k, 3])
    known[0, 0] = rule.double(known)
    return known


class Least:
    """Minimum mutual information."""

    @staticmethod
    def single(one, two, both):
        return min(one, two)

    @staticmethod
    def double(known):
        return min(known[p, f] for p in (1, 2) for f in (1, 2))


class LeastOnAverage:
    """The whole local series of the information that is least on average."""

    @staticmethod
    def single(one, two, both):
        return one if np.mean(one) < np.mean(two) else two

    @staticmethod
    def double(known):
        return min((known[p, f] for p in (1, 2) for f in (1, 2)), key=np.mean)


class CommonChange:
    """Common change in surprisal, per sample."""

    @staticmethod
    def single(one, two, both):
        change = one + two - both
        agree = (np.sign(one) == np.sign(two)) & (np.sign(one) == np.sign(both))
        return np.where(agree & (np.sign(one) == np.sign(change)), change, 0.0)

    @staticmethod
    def double(known):
        # The double redundancy that makes the atoms co-information of the four variables.
        singles = [known[p, f] for p in (1, 2) for f in (1, 2)]
        change = -sum(singles) - known[3, 3]
        change = change + known[1, 3] + known[2, 3] + known[3, 1] + known[3, 2]
        change = change + known[0, 1] + known[0, 2] - known[0, 3]
        change = change + known[1, 0] + known[2, 0] - known[3, 0]
        agree = np.all([np.sign(i) == np.sign(change) for i in singles], axis=0)
        return np.where(agree, change, 0.0)


def exact_atoms(x, y, lag=1, digits=60):
    """MMI atoms with `digits` decimal digits throughout, as floats."""
    with mpmath.workdps(digits):
        rows = [[mpmath.mpf(float(v)) for v in row] for row in windows_of(x, y, lag)]
        count = len(rows[0])
        centred = [[v - mpmath.fsum(row) / count for v in row] for row in rows]
        covariance = [[mpmath.fdot(p, q) for q in centred] for p in centred]

        def entropy(some):
            part = mpmath.matrix([[covariance[i][j] for j in some] for i in some])
            return mpmath.log(mpmath.det(part)) / 2

        known = knowns(lambda s, t: entropy(s) + entropy(t) - entropy(s + t), Least)
        atoms = mpmath.lu_solve(
            mpmath.matrix(LATTICE.tolist()), mpmath.matrix([known[cell] for cell in CELLS])
        )
        return np.array([float(v) for v in atoms]).reshape(4, 4)

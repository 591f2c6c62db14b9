"""Theorems of the decomposition, from entropies that another library computes one by one.

The closed form never sees an entropy: it goes from correlations to conditional variances. Here all
fifteen subsets of the pasts x, y and futures a, b have theirs from `scipy.stats`, and every atom
and aggregate is an expression in them.
"""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import digamma
from scipy.stats import multivariate_normal
from time_series import planted_series, var_series

from synatlas.axes import ATOM_LABELS, SHORT_NAMES
from synatlas.decompose.gaussian import Correlations, closed_form
from synatlas.decompose.series import phiid

SUBSETS = [set(some) for size in (1, 2, 3, 4) for some in combinations("xyab", size)]


class Entropies:
    """Entropies in nats of the subsets of four Gaussian variables x, y, a, b."""

    def __init__(self, covariance):
        self.of = {}
        for some in SUBSETS:
            rows = ["xyab".index(letter) for letter in sorted(some, key="xyab".index)]
            part = multivariate_normal(cov=covariance[np.ix_(rows, rows)])
            self.of[frozenset(some)] = float(part.entropy())

    def h(self, letters):
        return self.of[frozenset(letters)]

    def i(self, past, future):
        return self.h(past) + self.h(future) - self.h(past + future)

    def given(self, one, two, condition):
        """I(one; two | condition)."""
        return self.i(one, two + condition) - self.i(one, condition)

    def o(self, letters):
        """O-information: total correlation minus dual total correlation."""
        alone = sum(self.h(one) for one in letters)
        rest = sum(self.h(letters.replace(one, "")) for one in letters)
        return (len(letters) - 2) * self.h(letters) + alone - rest


def atoms_of(entropies):
    """The sixteen atoms under MMI, each by its own expression."""
    i = entropies.i
    xa, xb, ya, yb = i("x", "a"), i("x", "b"), i("y", "a"), i("y", "b")
    rtr = min(xa, xb, ya, yb)
    rts = min(i("x", "ab"), i("y", "ab")) - min(xa, ya) - min(xb, yb) + rtr
    down = min(i("xy", "a"), i("xy", "b")) - min(xa, xb) - min(ya, yb) + rtr
    sts = i("xy", "ab") - max(i("x", "ab"), i("y", "ab")) - max(i("xy", "a"), i("xy", "b"))
    sts += max(xa, ya) + max(xb, yb) - min(xa, xb) - min(ya, yb) + rtr
    return {
        "rtr": rtr,
        "rtx": min(xa, ya) - rtr,
        "rty": min(xb, yb) - rtr,
        "rts": rts,
        "xtr": min(xa, xb) - rtr,
        "xtx": xa - min(xa, ya) - min(xa, xb) + rtr,
        "xty": xb - min(xb, yb) - min(xa, xb) + rtr,
        "xts": i("x", "ab") - max(xa, xb) - rts,
        "ytr": min(ya, yb) - rtr,
        "ytx": ya - min(xa, ya) - min(ya, yb) + rtr,
        "yty": yb - min(xb, yb) - min(ya, yb) + rtr,
        "yts": i("y", "ab") - max(ya, yb) - rts,
        "str": down,
        "stx": i("xy", "a") - max(xa, ya) - down,
        "sty": i("xy", "b") - max(xb, yb) - down,
        "sts": sts,
    }


def entropies_of(series, pair, lag=1):
    one, two = series[:, pair[0]], series[:, pair[1]]
    return Entropies(np.cov([one[:-lag], two[:-lag], one[lag:], two[lag:]]))


def named(result, pair):
    """Values of one pair: atoms by short name, then the aggregates."""
    row = result.isel(pair=pair)
    atoms = {
        name: row["atom"].sel(past=past, future=future).item()
        for name, (past, future) in ATOM_LABELS.items()
    }
    return atoms | {name: row[name].item() for name in result.data_vars if name != "atom"}


def test_every_atom_has_its_closed_form():
    """100 random covariances of four variables, so that every order of the informations occurs."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        factor = rng.normal(size=(4, 6))
        covariance = factor @ factor.T
        scale = np.sqrt(np.diag(covariance))
        r = covariance / np.outer(scale, scale)
        six = (r[0, 1], r[2, 3], r[0, 2], r[1, 3], r[0, 3], r[1, 2])
        found = closed_form(Correlations(*map(np.asarray, six))).reshape(16)
        expected = atoms_of(Entropies(covariance))
        assert tuple(expected) == SHORT_NAMES
        assert np.allclose(found, list(expected.values()), atol=1e-11)


@settings(derandomize=True, deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), lag=st.integers(1, 4))
def test_atoms_of_any_series_have_their_closed_forms(seed, lag):
    series = var_series(np.random.default_rng(seed), 50, 4, coupling=0.4)
    result = phiid(series, lag=lag)
    for k, pair in enumerate(combinations(range(4), 2)):
        found = named(result, k)
        for name, value in atoms_of(entropies_of(series, pair, lag)).items():
            assert np.isclose(found[name], value, atol=1e-10), name


@settings(derandomize=True, deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), redundancy=st.sampled_from(["mmi", "ccs"]))
def test_aggregates_are_the_measures_they_are_named_after(seed, redundancy):
    """Identities that hold whatever the redundancy function is."""
    series = var_series(np.random.default_rng(seed), 50, 4, coupling=0.4)
    result = phiid(series, redundancy=redundancy)
    for k, pair in enumerate(combinations(range(4), 2)):
        of, e = named(result, k), entropies_of(series, pair)
        whole_minus_sum = e.i("xy", "ab") - e.i("x", "a") - e.i("y", "b")
        time_delayed = sum(
            of[name] for name in ("storage", "transfer", "copy", "erasure", "upward", "downward")
        )
        identities = [
            (of["tdmi"], e.i("xy", "ab")),
            (time_delayed, e.i("xy", "ab")),
            (of["phi_r"] - of["rtr"], whole_minus_sum),
            (of["transfer_entropy_ab"], e.given("x", "b", "y")),
            (of["transfer_entropy_ba"], e.given("y", "a", "x")),
            # What each unit says about its own and about the other's future.
            (of["rtr"] + of["rtx"] + of["xtr"] + of["xtx"], e.i("x", "a")),
            (of["rtr"] + of["rty"] + of["xtr"] + of["xty"], e.i("x", "b")),
            # O-information of a triple is redundancy minus synergy of two about the third.
            (of["rtr"] + of["rtx"] - of["str"] - of["stx"], e.o("xya")),
            (of["rtr"] + of["rty"] - of["str"] - of["sty"], e.o("xyb")),
            (of["rtr"] + of["xtr"] - of["rts"] - of["xts"], e.o("xab")),
            (of["rtr"] + of["ytr"] - of["rts"] - of["yts"], e.o("yab")),
        ]
        for number, (found, expected) in enumerate(identities):
            assert np.isclose(found, expected, atol=1e-10), number


@settings(derandomize=True, deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32 - 1))
def test_rows_and_columns_are_decompositions_of_single_targets(seed):
    """Synergy of the pasts about both futures, and of the futures about both pasts, under MMI."""
    series = var_series(np.random.default_rng(seed), 50, 3, coupling=0.4)
    result = phiid(series)
    for k, pair in enumerate(combinations(range(3), 2)):
        of, e = named(result, k), entropies_of(series, pair)
        past = e.i("xy", "ab") - max(e.i("x", "ab"), e.i("y", "ab"))
        future = e.i("xy", "ab") - max(e.i("xy", "a"), e.i("xy", "b"))
        assert np.isclose(of["sts"] + of["downward"], past, atol=1e-10)
        assert np.isclose(of["sts"] + of["upward"], future, atol=1e-10)
        shared = min(e.i("x", "a"), e.i("x", "b")) + min(e.i("y", "a"), e.i("y", "b"))
        assert np.isclose(of["copy"], shared - 2 * of["rtr"], atol=1e-10)
        lost = min(e.i("x", "a"), e.i("y", "a")) + min(e.i("x", "b"), e.i("y", "b"))
        assert np.isclose(of["erasure"], lost - 2 * of["rtr"], atol=1e-10)
        assert min(of[name] for name in ("rtr", "copy", "erasure")) >= -1e-12


@pytest.mark.parametrize(("one", "two"), [(0.3, 0.8), (0.8, 0.3), (0.6, 0.6)])
def test_two_unrelated_memories_fill_the_grid_so(one, two):
    """Through phiid, on samples without any cross-correlation: exact, not in the limit."""
    rows = np.eye(4)
    rows[2, [0, 2]] = one, np.sqrt(1 - one**2)
    rows[3, [1, 3]] = two, np.sqrt(1 - two**2)
    series = planted_series(np.random.default_rng(0), rows, samples=50)
    of = named(phiid(series, lag=50), 0)
    s_x, s_y = -0.5 * np.log(1 - one**2), -0.5 * np.log(1 - two**2)
    least = min(s_x, s_y)
    expected = dict.fromkeys(SHORT_NAMES, 0.0)
    expected |= {"sts": 2 * least, "rts": least, "str": least, "xtx": s_x, "yty": s_y}
    # What is counted as shared is missing where one unit meets the pair.
    expected |= dict.fromkeys(("xts", "yts", "stx", "sty"), -least)
    for name in SHORT_NAMES:
        assert np.isclose(of[name], expected[name], atol=1e-12), name


@pytest.mark.parametrize("samples", [12, 40])
def test_bias_of_independent_samples_is_the_digamma_constant(samples):
    """(n - 1) S is Wishart: each information is too large by a constant, coupled or not [1]_.

    Past and future samples do not overlap, so they are independent of each other as the theorem
    wants; the atoms of the sums below are informations. Within five standard errors of 300 draws.

    References
    ----------
    .. [1] Misra, Singh, Demchuk (2005), doi:10.1016/j.jmva.2003.10.003.
    """

    def g(size):
        return 0.5 * digamma((samples - np.arange(1, size + 1)) / 2).sum()

    rng = np.random.default_rng(1)
    rows = np.eye(4)
    rows[1, 0], rows[2, :2], rows[3, 1:3] = 0.8, (0.5, -0.4), (0.6, 0.3)
    e = Entropies(rows @ rows.T)
    draws = []
    for _ in range(300):
        past_future = rows @ rng.normal(size=(4, samples))
        series = np.concatenate([past_future[:2], past_future[2:]], axis=1).T
        of = phiid(series, lag=samples)["atom"].values[0]
        draws.append((of.sum(), of[:, [0, 1]].sum(), of[:2, :2].sum(), of[::2, ::2].sum()))
    truth = [e.i("xy", "ab"), e.i("xy", "a"), e.i("x", "a"), e.i("y", "b")]
    bias = [2 * g(2) - g(4), g(2) + g(1) - g(3), 2 * g(1) - g(2), 2 * g(1) - g(2)]
    error = np.std(draws, axis=0, ddof=1) / np.sqrt(len(draws))
    assert (np.abs(np.mean(draws, axis=0) - truth - bias) < 5 * error).all()
    # The constants are seen: without them the test fails.
    assert (np.array(bias[:2]) > 5 * error[:2]).all()

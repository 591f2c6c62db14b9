"""Finite-sample bias of Gaussian informations, in closed form.

For n independent samples of k Gaussian variables, whose mean is estimated,
E ln|S| = ln|Σ| + Σ_{j<=k} ψ((n - j) / 2) + k ln(2 / (n - 1)) [1]_ [2]_. With
g_k = 1/2 Σ_{j<=k} ψ((n - j) / 2), the plug-in information of k and m variables is too large by
g_k + g_m - g_(k+m), whatever Σ is.

Under MMI only informations of equal dimensions are compared, so the correction changes none of
the minima, and by Möbius inversion four atoms alone: rtr by b11, rts and str by b12 - b11, and
sts by b22 - 2 b12 + b11. It makes the nine informations unbiased, not the atoms: a minimum of
noisy informations is biased by its own choice, near ties by more than this correction.

References
----------
.. [1] Goodman (1963), Ann. Math. Statist. 34(1), 178-180, doi:10.1214/aoms/1177704251.
.. [2] Misra, Singh & Demchuk (2005), J. Multivariate Anal. 92(2), 324-342,
   doi:10.1016/j.jmva.2003.10.003.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float

from synatlas.decompose.estimators import Engine
from synatlas.decompose.options import choose
from synatlas.decompose.pairs import DEFINED, EXTREME_ROWS, PairSums
from synatlas.decompose.windows import CODE, LEAST_SAMPLES, Windows
from synatlas.errors import ConfigError

#: Estimators that a correction fits, and how well.
FITS: Final = MappingProxyType(
    {
        "gaussian": "exact for informations of independent Gaussian samples; autocorrelated "
        "series have fewer effective samples and keep some bias",
        "copula": "approximate: ranks are made normal first; autocorrelated series have fewer "
        "effective samples and keep some bias",
    }
)


class Bias(NamedTuple):
    """Excess of plug-in informations in nats, by the numbers of variables on both sides."""

    b11: float
    b12: float
    b22: float

    def knowns(self) -> Float[np.ndarray, " known"]:
        """Of the 16 knowns under MMI, in grid order."""
        grid = np.full((4, 4), self.b11)
        grid[3, :] = grid[:, 3] = self.b12
        grid[3, 3] = self.b22
        return grid.ravel()

    def extremes(self) -> Float[np.ndarray, " atom"]:
        """Of red-red and syn-syn."""
        return np.array([self.b11, self.b22 - 2 * self.b12 + self.b11])


def wishart_bias(samples: int) -> Bias:
    """Bias of plug-in Gaussian informations of so many independent samples.

    Parameters
    ----------
    samples : number of samples, above 4.

    Returns
    -------
    Bias
        g_k + g_m - g_(k+m), in nats, positive; about km / (2 n).

    Examples
    --------
    >>> [round(float(b), 5) for b in wishart_bias(99)]
    [0.00518, 0.01042, 0.02094]
    """
    # A tenth of a second to import.
    from scipy.special import digamma

    g = np.concatenate([[0.0], np.cumsum(0.5 * digamma((samples - np.arange(1, 5)) / 2))])
    return Bias(2 * g[1] - g[2], g[1] + g[2] - g[3], 2 * g[2] - g[4])


#: From a number of samples to the bias of informations, by name.
CORRECTIONS: Final[Mapping[str, Callable[[int], Bias]]] = MappingProxyType(
    {"wishart": wishart_bias}
)


def check_correction(name: str | None, *, redundancy: str, estimator: str) -> None:
    """Refuse a correction where its theory does not hold."""
    if name is None:
        return
    choose(CORRECTIONS, name, "correction")
    if redundancy != "mmi" or estimator not in FITS:
        raise ConfigError(
            given=f"correction {name!r} with redundancy {redundancy!r}, estimator {estimator!r}",
            expected=f"redundancy 'mmi' and estimator {' or '.join(map(repr, FITS))}",
            cause="the bias of other redundancies and estimators has no closed form here",
            remedy="leave correction out, and compare with a null",
        )


def corrected(engine: Engine, name: str) -> Engine:
    """`engine` with the bias taken off the sums of every pair, by the samples of its windows.

    The informations of a duplicate all have the limit I(x; a), and so its bias. Regressors that
    were taken out of the series are not counted: white ones cost lagged informations no sample,
    and what slow ones leave is correlated in itself.

    Parameters
    ----------
    engine : gives sums of knowns under MMI, or of the extremes.
    name : a correction.
    """
    correction = CORRECTIONS[name]

    def run(left: Windows, right: Windows, *, per_unit: bool) -> PairSums:
        assert not per_unit
        sums = engine(left, right, per_unit=False)
        samples = left.shape[2]
        if samples >= LEAST_SAMPLES:
            _subtract(sums, correction(samples))
        return sums

    return run


def _subtract(sums: PairSums, bias: Bias) -> None:
    extremes = len(sums.pair) == EXTREME_ROWS
    each = bias.extremes() if extremes else bias.knowns()
    of_duplicate = bias._replace(b12=bias.b11, b22=bias.b11)
    rows = sums.pair[: each.size]
    rows -= each[:, None] * sums.pair[DEFINED]
    if sums.tally is not None:
        same = of_duplicate.extremes() if extremes else of_duplicate.knowns()
        rows += (each - same)[:, None] * sums.tally[CODE["duplicate"]]

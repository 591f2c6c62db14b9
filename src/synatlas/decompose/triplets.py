"""O-information of triplets of units: is what three series share redundant or synergistic?"""

from collections.abc import Iterator, Sequence
from itertools import combinations
from math import comb
from typing import Any, Final, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float, Int, Int8

from synatlas.decompose.atoms import STATUS
from synatlas.decompose.blas import one_blas_thread
from synatlas.decompose.columns import COLUMNS, Columns
from synatlas.decompose.groups import group_by_length
from synatlas.decompose.options import choose
from synatlas.decompose.pairs import LEAST_PIVOT
from synatlas.decompose.reading import read_series, read_tuples
from synatlas.decompose.singular import residual_square, triangle
from synatlas.decompose.windows import CODE
from synatlas.errors import ConfigError

#: Dimension of the result.
TRIPLET: Final = "triplet"

#: Triplets that are taken when none are named: those of 311 units.
MOST_TRIPLETS: Final = 5_000_000

#: Triplets at a time.
_BLOCK: Final = 8192

#: Pairs of a triplet.
_PAIRS: Final = tuple(combinations(range(3), 2))


class Shared(NamedTuple):
    """Informations of triplets in nats, and why they are undefined."""

    total: Float[np.ndarray, " triplet"]
    o_information: Float[np.ndarray, " triplet"]
    status: Int8[np.ndarray, " triplet"]


@one_blas_thread()
def o_information(
    series: Any,
    triplets: Sequence[Any] | None = None,
    *,
    estimator: str = "gaussian",
) -> xr.Dataset:
    """O-information of triplets of series at the same step, in nats [1]_.

    Ω = I(a; b) - I(a; b | c), in any order of the three: positive where redundancy prevails,
    negative where synergy does. It is the total correlation minus the dual total correlation,
    TC = ΣH(i) - H(abc) and DTC = H(abc) - ΣH(i | the others). For Gaussian variables with
    correlations r, TC = -1/2 ln det R and Ω = 1/2 ln[det R / Π(1 - r_ij²)].

    Parameters
    ----------
    series
        (step, unit) or (prompt, step, unit) as for :func:`synatlas.decompose.series.phiid`, or a
        Recording. It is not changed.
    triplets
        Triplets of unit labels or positions; all where None, up to 5 million.
    estimator
        ``"gaussian"``: correlations of the series; ``"copula"``: of the normal scores of their
        ranks, whatever their margins.

    Returns
    -------
    xarray.Dataset
        On (triplet): ``o_information``, of any sign; ``total_correlation`` and
        ``dual_total_correlation``, at least 0; means over the prompts in which the triplet is
        defined, ``n_defined`` of them; ``status`` as of `phiid`: 2 where two of the series are
        straight functions of each other in any prompt, 3 where a series is a linear function of
        both others. Both make TC infinite; values are NaN there. Coordinates ``unit_a``,
        ``unit_b``, ``unit_c``.

    Notes
    -----
    Of n independent samples of independent Gaussian variables the estimate of Ω is biased by
    1/2 [ψ((n-1)/2) - 2 ψ((n-2)/2) + ψ((n-3)/2)], -0.00005 nat at n = 100; TC and
    DTC by about 3 / (2n) each. Autocorrelation makes samples fewer than they look.

    Raises
    ------
    ConfigError
        An option, the shape of `series` or a triplet cannot be used, or there are too many.

    References
    ----------
    .. [1] Rosas, Mediano, Gastpar, Jensen (2019), Phys. Rev. E 100, 032305, arXiv:1902.11239.

    Examples
    --------
    >>> import numpy as np
    >>> x, y = np.random.default_rng(0).normal(size=(2, 500))
    >>> found = o_information(np.stack([x, y, x + y + 0.1 * x**3], axis=1))
    >>> bool(found["o_information"][0] < 0)
    True
    """
    columns_of = choose(COLUMNS, estimator, "estimator")
    given = read_series(series)
    table = _read_triplets(triplets, given.units)
    sums, tally = np.zeros((2, len(table))), np.zeros((len(STATUS), len(table)), dtype=np.int32)
    for group in group_by_length(given.values, given.n_steps):
        columns = columns_of(group.series)
        for prompt, part in _parts(len(group.prompts), len(table)):
            found = _shared(columns, prompt, table[part])
            fine = found.status == CODE["ok"]
            sums[:, part] += np.where(fine, found[:2], 0.0)
            tally[found.status, np.arange(len(table))[part]] += 1
    return _dataset(given.units, table, sums, tally).assign_attrs(estimator=estimator)


def _parts(prompts: int, triplets: int) -> Iterator[tuple[int, slice]]:
    for prompt in range(prompts):
        for begin in range(0, triplets, _BLOCK):
            yield prompt, slice(begin, min(begin + _BLOCK, triplets))


def _shared(columns: Columns, prompt: int, table: Int[np.ndarray, "triplet three"]) -> Shared:
    values = columns.values[prompt]
    correlation = values @ values.T
    r_ab, r_ac, r_bc = (correlation[table[:, i], table[:, j]] for i, j in _PAIRS)
    status = columns.reason[prompt][table].max(axis=1)
    alone = np.stack([(1 - r) * (1 + r) for r in (r_ab, r_ac, r_bc)])
    # What a leaves of b and c: determinants are never expanded.
    left = r_bc - r_ab * r_ac
    with np.errstate(divide="ignore", invalid="ignore"):
        det = alone[0] * alone[1] - left * left
        thin = np.flatnonzero((status == CODE["ok"]) & ~(det / alone.max(axis=0) >= LEAST_PIVOT))
        if thin.size:
            alone[:, thin], det[thin], status[thin] = _resolve(columns, prompt, table[thin])
        total = -0.5 * np.log(det)
        return Shared(total, 0.5 * np.log(det / alone.prod(axis=0)), status)


def _resolve(
    columns: Columns, prompt: int, table: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Squared residuals of every pair, the determinant, and the status, from the columns."""
    held = columns.values[prompt][table]
    floor = columns.resolution[prompt][table].sum(axis=1) ** 2
    alone = np.stack([residual_square(held[:, i], held[:, j]) for i, j in _PAIRS])
    last = triangle(held)[:, 2, 2] ** 2
    status = np.where(last > floor, CODE["ok"], CODE["deterministic"])
    status = np.where((alone > floor).all(axis=0), status, CODE["duplicate"])
    return alone, alone[0] * last, status.astype(np.int8)


def _dataset(
    units: tuple[str, ...], table: np.ndarray, sums: np.ndarray, tally: np.ndarray
) -> xr.Dataset:
    defined = tally[CODE["ok"]]
    with np.errstate(divide="ignore", invalid="ignore"):
        total, omega = sums / defined
    status = np.where(defined > 0, CODE["ok"], tally[1:].argmax(axis=0) + 1)
    status[tally[CODE["duplicate"]] > 0] = CODE["duplicate"]
    names = np.array(units)
    nat = {"units": "nat"}
    flags = {
        "units": "1",
        "long_name": "why a triplet is undefined",
        "flag_values": np.array(sorted(STATUS), dtype=np.int8),
        "flag_meanings": " ".join(STATUS[code] for code in sorted(STATUS)),
    }
    counted = {"units": "1", "long_name": "prompts in which the triplet is defined"}
    return xr.Dataset(
        {
            "o_information": (TRIPLET, omega, {"long_name": "O-information", **nat}),
            "total_correlation": (TRIPLET, total, nat),
            "dual_total_correlation": (TRIPLET, total - omega, nat),
            "status": (TRIPLET, status.astype(np.int8), flags),
            "n_defined": (TRIPLET, defined, counted),
        },
        coords={f"unit_{letter}": (TRIPLET, names[table[:, k]]) for k, letter in enumerate("abc")},
    )


def _read_triplets(
    triplets: Sequence[Any] | None, units: tuple[str, ...]
) -> Int[np.ndarray, "triplet three"]:
    if triplets is not None:
        return read_tuples(triplets, units, size=3)
    count = comb(len(units), 3)
    if not 0 < count <= MOST_TRIPLETS:
        raise ConfigError(
            given=f"{len(units)} units, which have {count:,} triplets",
            expected=f"at least one triplet, and at most {MOST_TRIPLETS:,}",
            remedy="name the triplets of interest, or choose fewer units"
            if count
            else "pass three series or more",
        )
    return np.concatenate([_beginning_with(i, len(units)) for i in range(len(units) - 2)])


def _beginning_with(first: int, units: int) -> Int[np.ndarray, "triplet three"]:
    second, third = np.triu_indices(units - first - 1, k=1)
    return np.stack([np.full_like(second, first), second + first + 1, third + first + 1], axis=1)

"""Local atoms: the sixteen atoms of chosen pairs at every step, whose means are the atoms.

The local information of one sample is i(s; t) = ln p(s, t) / (p(s) p(t)) under the fitted
distribution; it is negative where the sample is misinforming [1]_. Atoms are linear in informations
and redundancies, so the same Möbius inverse gives the atoms of every sample.

References
----------
.. [1] Lizier (2014), Measuring the dynamics of information processing on a local scale,
   doi:10.1007/978-3-642-54474-3_7.
"""

from collections.abc import Callable, Iterator, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float, Int, Int8

from synatlas.axes import FUTURE, PAIR, PAST, PROMPT, ROLES, STEP
from synatlas.decompose.atoms import STATUS
from synatlas.decompose.blas import one_blas_thread
from synatlas.decompose.estimators import ESTIMATORS
from synatlas.decompose.gaussian import Correlations, Informations, variances
from synatlas.decompose.groups import group_by_length
from synatlas.decompose.lattice import moebius
from synatlas.decompose.local_binary import binary_duplicates, binary_informations
from synatlas.decompose.nuisance import Facts, check_nuisance, facts_of, remove
from synatlas.decompose.options import check_lag, choose
from synatlas.decompose.pairs import LEAST_PIVOT
from synatlas.decompose.pointwise import local_changes, local_informations
from synatlas.decompose.reading import Series, read_series, read_tuples
from synatlas.decompose.singular import resolve
from synatlas.decompose.windows import CODE, LEAST_SAMPLES, Windows
from synatlas.errors import ConfigError
from synatlas.record.recording import RECORDING

#: Values of a result beyond which it is refused: four gigabytes.
MOST_VALUES: Final = 2**29

#: Samples of cases at a time: sixty arrays of this length stay in a cache.
_BLOCK: Final = 8192


class Cases(NamedTuple):
    """Pairs in prompts, as positions in :class:`synatlas.decompose.windows.Windows`."""

    prompt: Int[np.ndarray, " case"]
    first: Int[np.ndarray, " case"]
    second: Int[np.ndarray, " case"]

    def parts(self, samples: int) -> Iterator[slice]:
        """Slices of cases that fill the cache and no more."""
        size = max(1, _BLOCK // samples)
        for begin in range(0, self.prompt.size, size):
            yield slice(begin, begin + size)


class LocalAtoms(NamedTuple):
    """Sixteen atoms in grid order, NaN where `status` is neither ok nor duplicate."""

    atoms: list[Float[np.ndarray, "case sample"]]
    status: Int8[np.ndarray, " case"]


#: From local informations to the 16 knowns of every sample.
Rule = Callable[[Informations], list[np.ndarray]]


def least_on_average(i: Informations) -> list[np.ndarray]:
    """MMI: a redundancy is the local series of the information whose mean is least.

    Of two equal means the second is taken, of the four of the double redundancy the first, as in
    the reference code.
    """
    mean = Informations(*(values.mean(axis=-1, keepdims=True) for values in i))

    def lesser(one: str, two: str) -> np.ndarray:
        first = getattr(mean, one) < getattr(mean, two)
        return np.where(first, getattr(i, one), getattr(i, two))

    # Informations begin with the four of one past and one future.
    double = np.choose(np.argmin(mean[:4], axis=0), i[:4])
    return [
        *(double, lesser("xa", "ya"), lesser("xb", "yb"), lesser("x_ab", "y_ab")),
        *(lesser("xa", "xb"), i.xa, i.xb, i.x_ab),
        *(lesser("ya", "yb"), i.ya, i.yb, i.y_ab),
        *(lesser("xy_a", "xy_b"), i.xy_a, i.xy_b, i.xy_ab),
    ]


def common_changes(i: Informations) -> list[np.ndarray]:
    """CCS: common change in surprisal of each sample."""
    double, to_a, to_b, to_ab, to_x, to_y, to_xy = local_changes(i)
    return [
        *(double, to_a, to_b, to_ab),
        *(to_x, i.xa, i.xb, i.x_ab),
        *(to_y, i.ya, i.yb, i.y_ab),
        *(to_xy, i.xy_a, i.xy_b, i.xy_ab),
    ]


#: Redundancy functions of samples.
RULES: Final = MappingProxyType({"mmi": least_on_average, "ccs": common_changes})


class Local(NamedTuple):
    """An estimator's local informations, and why a case of its windows is undefined."""

    informations: Callable[[Float[np.ndarray, "case variable sample"]], Informations]
    status: Callable[[Windows, Cases, np.ndarray], Int8[np.ndarray, " case"]]


def local_atoms(windows: Windows, cases: Cases, local: Local, rule: Rule) -> LocalAtoms:
    """Local atoms of some cases, in nats."""
    held = _gather(windows, cases)
    status = local.status(windows, cases, held)
    if windows.shape[2] < LEAST_SAMPLES:
        return LocalAtoms([np.full(held[:, 0].shape, np.nan)] * 16, status)
    with np.errstate(divide="ignore", invalid="ignore"):
        known = local.informations(held)
        duplicate = status == CODE["duplicate"]
        if duplicate.any():
            # Every information of a duplicate is that of the one series.
            known = Informations(*(np.where(duplicate[:, None], known.xa, i) for i in known))
        atoms = moebius(rule(known))
    lost = (status != CODE["ok"]) & ~duplicate
    for values in atoms if lost.any() else ():
        values[lost] = np.nan
    return LocalAtoms(atoms, status)


def _gather(windows: Windows, cases: Cases) -> Float[np.ndarray, "case variable sample"]:
    """The windows x, y, a, b of each case."""
    out = np.empty((cases.prompt.size, 4, windows.shape[2]))
    out[:, 0::2] = windows.values[cases.prompt, :, cases.first]
    out[:, 1::2] = windows.values[cases.prompt, :, cases.second]
    return out


def _reason(windows: Windows, cases: Cases) -> Int8[np.ndarray, " case"]:
    first = windows.reason[cases.prompt, cases.first]
    return np.maximum(first, windows.reason[cases.prompt, cases.second])


def _binary_status(windows: Windows, cases: Cases, held: np.ndarray) -> Int8[np.ndarray, " case"]:
    status = _reason(windows, cases)
    status[binary_duplicates(held) & (status == CODE["ok"])] = CODE["duplicate"]
    return status


def _status(windows: Windows, cases: Cases, held: np.ndarray) -> Int8[np.ndarray, " case"]:
    """Why a case is undefined, decided as for mean atoms."""
    status = _reason(windows, cases)
    gram = np.matmul(held, held.transpose(0, 2, 1)).transpose(1, 2, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        left = variances(
            Correlations(
                *(gram[0, 1], gram[2, 3], gram[0, 2]), *(gram[1, 3], gram[0, 3], gram[1, 2])
            )
        )
        thin = np.flatnonzero(~(left.pivot >= LEAST_PIVOT) & (status == CODE["ok"]))
    if thin.size:
        resolution = windows.resolution[cases.prompt, cases.first]
        resolution = resolution + windows.resolution[cases.prompt, cases.second]
        status[thin] = resolve(held[thin], resolution[thin]).status
    return status


_CORRELATED: Final = Local(local_informations, _status)

#: By the name of the estimator.
LOCALS: Final = MappingProxyType(
    {
        "gaussian": _CORRELATED,
        "copula": _CORRELATED,
        "binary": Local(binary_informations, _binary_status),
    }
)


@one_blas_thread()
def local_phiid(
    series: Any,
    pairs: Sequence[Any] | None = None,
    *,
    lag: int = 1,
    redundancy: str = "mmi",
    estimator: str = "gaussian",
    nuisance: Sequence[str] = (),
) -> xr.Dataset:
    """Sixteen atoms of chosen pairs at every step, in nats; their means are those of `phiid`.

    Each of the nine informations is taken of one sample, i(s; t) = ln p(s, t) / (p(s) p(t)) with
    the distribution that was fitted to the prompt's whole series [1]_. Local atoms may be negative.

    Parameters
    ----------
    series
        (step, unit) or (prompt, step, unit), as for :func:`synatlas.decompose.series.phiid`, or a
        Recording. It is not changed.
    pairs
        Pairs of unit labels or positions, in the order in which `un1` and `un2` shall stand; all
        pairs where None.
    lag
        Steps from past to future.
    redundancy
        ``"mmi"``: the local series of that information whose mean over the prompt is least; at
        a tie the second, and for the redundancy of pasts and futures the first, as in the
        reference code [2]_. ``"ccs"``: common change in surprisal of the sample itself [3]_.
    estimator, nuisance
        As for `phiid`; of a Recording, nuisances of tokens can be taken out too.

    Returns
    -------
    xarray.Dataset
        ``atom([prompt,] pair, step, past, future)`` and ``status([prompt,] pair)``, with `prompt`
        where `series` has it. `step` is that of the future, from `lag` on: the atom at step t
        joins the past at t - lag with the future at t. The mean over `step` is the atom that
        `phiid` gives for that prompt. NaN where a pair is undefined and where a prompt has ended.
        Eight bytes for each value: for all pairs of many units see
        :func:`synatlas.decompose.local_units.local_units`.

    Raises
    ------
    ConfigError
        An option, the shape of `series` or a pair cannot be used, or the result would be greater
        than 4 GiB.

    References
    ----------
    .. [1] Lizier (2014), doi:10.1007/978-3-642-54474-3_7.
    .. [2] Mediano et al. (2025), PNAS 122(39), arXiv:2109.13186.
    .. [3] Ince (2017), Entropy 19(7), 318, doi:10.3390/e19070318.

    Examples
    --------
    >>> import numpy as np
    >>> from synatlas.decompose.series import phiid
    >>> noise = np.random.default_rng(0).normal(size=(200, 3))
    >>> local = local_phiid(noise, [("u0000", "u0002")])["atom"]
    >>> bool(np.allclose(local.mean("step"), phiid(noise)["atom"][1]))
    True
    """
    rule = choose(RULES, redundancy, "redundancy")
    way = choose(ESTIMATORS, estimator, "estimator")
    given, begin = read_for_local(series, lag, nuisance)
    first, second = _read_pairs(pairs, given.units)
    shape = (len(given.n_steps), first.size, given.values.shape[1] - lag, 16)
    _check_shape(shape)
    atom = np.full(shape, np.nan)
    status = np.empty(shape[:2], dtype=np.int8)
    for group in group_by_length(given.values, given.n_steps):
        windows = way.windows(group.series, lag)
        cases = _every(windows.shape[0], first, second)
        for part in cases.parts(max(1, windows.shape[2])):
            some = Cases(*(field[part] for field in cases))
            found = local_atoms(windows, some, LOCALS[estimator], rule)
            place = (group.prompts[some.prompt], np.arange(cases.prompt.size)[part] % first.size)
            status[place] = found.status
            atom[(*place, slice(windows.shape[2]))] = np.stack(found.atoms, axis=-1)
    found = _dataset(given, first, second, atom, status)
    found[STEP] = step_coordinate(begin, shape[2])
    return found.assign_attrs(local_attrs(lag, redundancy, estimator, nuisance))


class Prepared(NamedTuple):
    """Series without nuisances, and the step of the first future."""

    given: Series
    begin: int


def read_for_local(series: Any, lag: int, nuisance: Sequence[str]) -> Prepared:
    """Read series of any kind and take out nuisances, those of tokens from a Recording."""
    given = read_series(series)
    check_lag(lag, given.n_steps)
    recorded = isinstance(series, xr.Dataset) and series.attrs.get("schema") == RECORDING.name
    facts = facts_of(series) if recorded else Facts(given.n_steps)
    left = remove(given.values, nuisance, facts, lag=lag)
    # The first of the differences is that of the second step.
    begin = lag + given.values.shape[1] - left.values.shape[1]
    return Prepared(given._replace(values=left.values, n_steps=left.n_steps), begin)


def local_attrs(
    lag: int, redundancy: str, estimator: str, nuisance: Sequence[str]
) -> dict[str, str | int]:
    """How local atoms were made."""
    names = ", ".join(check_nuisance(nuisance)) or "none"
    return {"lag": lag, "redundancy": redundancy, "estimator": estimator, "nuisance": names}


def _every(prompts: int, first: np.ndarray, second: np.ndarray) -> Cases:
    """Every pair in every prompt."""
    return Cases(
        np.repeat(np.arange(prompts), first.size), np.tile(first, prompts), np.tile(second, prompts)
    )


def _dataset(
    given: Series, first: np.ndarray, second: np.ndarray, atom: np.ndarray, status: np.ndarray
) -> xr.Dataset:
    names = np.array(given.units)
    lead = () if given.prompts is None else (PROMPT,)
    if given.prompts is None:
        atom, status = atom[0], status[0]
    flags = {
        "units": "1",
        "long_name": "why a pair is undefined",
        "flag_values": np.array(sorted(STATUS), dtype=np.int8),
        "flag_meanings": " ".join(STATUS[code] for code in sorted(STATUS)),
    }
    grid = atom.reshape(*atom.shape[:-1], len(ROLES), len(ROLES))
    nat = {"units": "nat", "long_name": "atom of one step"}
    return xr.Dataset(
        {
            "atom": ((*lead, PAIR, STEP, PAST, FUTURE), grid, nat),
            "status": ((*lead, PAIR), status, flags),
        },
        coords={
            "unit_a": (PAIR, names[first]),
            "unit_b": (PAIR, names[second]),
            PAST: list(ROLES),
            FUTURE: list(ROLES),
            **({} if given.prompts is None else {PROMPT: list(given.prompts)}),
        },
    )


def step_coordinate(begin: int, count: int) -> xr.Variable:
    """Coordinate of local values: the step of the future."""
    named = {"long_name": "step of the future", "units": "1"}
    return xr.Variable((STEP,), np.arange(begin, begin + count), named)


def _read_pairs(
    pairs: Sequence[Any] | None, units: tuple[str, ...]
) -> tuple[Int[np.ndarray, " pair"], Int[np.ndarray, " pair"]]:
    if pairs is None:
        first, second = np.triu_indices(len(units), k=1)
        return first, second
    table = read_tuples(pairs, units, size=2)
    return table[:, 0], table[:, 1]


def _check_shape(shape: tuple[int, ...]) -> None:
    count = int(np.prod(shape, dtype=np.int64))
    if count > MOST_VALUES:
        raise ConfigError(
            given="{} prompts, {} pairs and {} steps".format(*shape[:3]),
            expected=f"at most {MOST_VALUES:,} values, 4 GiB; these are {count:,}",
            remedy="name the pairs of interest, or take means over partners with local_units",
        )

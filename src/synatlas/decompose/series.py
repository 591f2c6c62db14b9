"""ΦID of any time series: every pair of columns, decomposed into sixteen atoms."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import xarray as xr

from synatlas.axes import FUTURE, PAIR, PAST, ROLES
from synatlas.decompose.accelerated import accelerator_of
from synatlas.decompose.atoms import STATUS
from synatlas.decompose.blas import one_blas_thread
from synatlas.decompose.correction import FITS, check_correction, corrected
from synatlas.decompose.engine import History, choose_engine, measure
from synatlas.decompose.estimators import ESTIMATORS, Engine, Estimator
from synatlas.decompose.groups import (
    Group,
    Totals,
    group_by_length,
    mean_atoms,
    mean_row,
    statuses,
    total,
)
from synatlas.decompose.lattice import AGGREGATE_NAMES, AGGREGATES, aggregate, grid
from synatlas.decompose.nuisance import Facts, remove
from synatlas.decompose.nulls import INDEPENDENCE, NULLS, independence
from synatlas.decompose.options import check_null, choose, read_lags
from synatlas.decompose.pairs import TDMI
from synatlas.decompose.reading import read_series
from synatlas.decompose.redundancy import REDUNDANCIES
from synatlas.decompose.significance import Tested, same_step_test, surrogate_test
from synatlas.decompose.windows import Windows

#: Calls of :func:`phiid` in this process.
_CALLS: Final = History()

#: Which atoms -> what sums hold, see :data:`synatlas.decompose.pairs.KEPT`.
ONLY: Final = MappingProxyType({"all": "all", "rtr+sts": "extremes"})

_AT_THE_ENDS: Final = np.isin(np.arange(16).reshape(4, 4), [0, 15])


@one_blas_thread()
def phiid(
    series: Any,
    *,
    lag: int | Sequence[int] = 1,
    redundancy: str = "mmi",
    estimator: str = "gaussian",
    null: str | None = None,
    surrogates: int = 0,
    seed: int = 0,
    atoms: str = "all",
    nuisance: Sequence[str] = (),
    covariates: Any = None,
    correction: str | None = None,
) -> xr.Dataset:
    """Integrated information decomposition of every pair of series [1]_.

    For the pasts x, y and futures a, b (`lag` steps later) of two series, the sixteen atoms of
    I(xy; ab) are the Möbius inverse of informations and redundancies on the product lattice, in
    nats.

    Parameters
    ----------
    series
        (step, unit) or (prompt, step, unit): an array, nested list, tensor, DataArray or Dataset.
        It is not changed. Each series is its own column. With prompts, results are means over the
        prompts in which the pair is defined. NaN in every unit at the end of a prompt is padding.
    lag
        Steps from past to future, at least 1; at least lag + 5 steps are needed. Several lags give
        every variable a dimension `lag`.
    redundancy
        ``"mmi"``: the least information [2]_. Two independent series then have synergy
        2 min(I(x; a), I(y; b)) from their own memory alone: compare with a null.
        ``"ccs"``: common change in surprisal, sample by sample [3]_.
    estimator
        ``"gaussian"``: informations are -1/2 ln of conditional variances of the windows' sample
        correlations. ``"copula"``: the same of the
        normal scores of each window's ranks [4]_, which no increasing change of scale and no
        outlier changes; equal values share their mean rank, and a series is constant where fewer
        than five samples of a window differ from its most frequent value. ``"binary"``: plug-in
        informations of the counts of samples above each window's mean, at most ln 2 a window.
    null
        ``"window_shift"`` or ``"cross_prompt"`` with `surrogates`, or ``"same_step"``, which is in
        closed form, takes none and is not for binary series. See
        :data:`synatlas.decompose.nulls.NULLS`.
    surrogates
        Draws of the null.
    seed
        Seed of the null's draws.
    atoms
        ``"all"``, or ``"rtr+sts"`` for red-red and syn-syn alone, which under MMI takes less time:
        the other cells of every grid are then NaN, and the result has no ``tdmi`` and no
        aggregates.
    nuisance
        What is taken out of the series first, by least squares: ``"trend"``, ``"position"`` or
        ``"differences"``. See :data:`synatlas.decompose.nuisance.NUISANCES`.
    covariates
        (step, k) or (prompt, step, k): numbers that are taken out likewise, with a slope for
        every series and prompt. The attribute ``nuisance_degrees`` is the mean number of degrees
        of freedom that a series lost.
    correction
        ``"wishart"`` takes the finite-sample bias off ``tdmi`` and off the atoms rtr, rts, str and
        sts, and so off the aggregates, prompt by prompt; they may become negative. Under MMI
        alone. It makes informations of independent samples unbiased; atoms of short series keep
        the bias of their minima, so compare with a null all the same; a sampled null is corrected
        alike, the same-step null and what it is compared with are not. See
        :mod:`synatlas.decompose.correction`.

    Returns
    -------
    xarray.Dataset
        ``atom(pair, past, future)``, ``tdmi(pair)`` and aggregates such as ``phi_r(pair)`` in
        nats; ``status(pair)`` (0 ok, 1 constant, 2 duplicate, 3 deterministic, 4 too short,
        5 nonfinite): 0 where some prompt is defined, 2 where any prompt is a duplicate, else the
        most frequent reason. A duplicate (y a straight function of x) gives the limit: red-red is
        I(x; x'), the rest 0. Atoms of any other status are NaN.

        With `null`, on (pair, past, future): ``null_observed``, the atoms of the data prepared as
        the null needs them; ``null_mean``, ``null_sd``; ``z``; ``p_greater``, ``p_less`` and the
        two-sided ``p``, (1 + count) / (1 + draws) and never 0. For ``"same_step"`` observed and
        null are of correlations pooled over prompts, under MMI, and sd, z and p come from 199
        bootstraps of the prompts; they are NaN for a single prompt.

    Notes
    -----
    Large or repeated work is compiled: calls of 4,096 pair-prompts or more once earlier ones came
    to 250,000, which then take a tenth of the time. Both ways agree within 1e-12 nat.

    A torch tensor on a GPU is decomposed there under MMI: in double precision where it has it,
    within 1e-9 nat of the CPU, else in single precision, within 1e-5.

    Raises
    ------
    ConfigError
        An option or the shape of `series` cannot be used; the message says what to change.

    References
    ----------
    .. [1] Mediano et al. (2025), PNAS 122(39), arXiv:2109.13186.
    .. [2] Barrett (2015), Phys. Rev. E 91, 052802, arXiv:1411.2832.
    .. [3] Ince (2017), Entropy 19(7), 318, doi:10.3390/e19070318.
    .. [4] Ince et al. (2017), Human Brain Mapping 38(3), 1541-1573, doi:10.1002/hbm.23471.

    Examples
    --------
    >>> import numpy as np
    >>> noise = np.random.default_rng(0).normal(size=(200, 3))
    >>> atoms = phiid(noise)
    >>> bool(np.allclose(atoms["atom"].sum(("past", "future")), atoms["tdmi"]))
    True
    """
    choose(REDUNDANCIES, redundancy, "redundancy")
    way = choose(ESTIMATORS, estimator, "estimator")
    choose(ONLY, atoms, "atoms")
    check_correction(correction, redundancy=redundancy, estimator=estimator)
    given = read_series(series)
    lags = read_lags(lag, given.n_steps)
    facts = Facts(given.n_steps)
    left = remove(given.values, nuisance, facts, lag=max(lags), covariates=covariates)
    request = _Request(
        groups=group_by_length(left.values, left.n_steps),
        units=given.units,
        prompts=len(left.n_steps),
        redundancy=redundancy,
        way=way,
        atoms=atoms,
        null=independence(left.n_steps) if null == INDEPENDENCE else null,
        surrogates=surrogates,
        seed=seed,
        correction=correction,
        accelerator=accelerator_of(series),
    )
    if request.null is not None:
        chosen = choose({**NULLS, INDEPENDENCE: None}, request.null, "null")
        check_null(chosen, null, surrogates=surrogates, n_steps=left.n_steps, estimator=estimator)
    results = [_decomposed(request, each) for each in lags]
    dataset = results[0] if isinstance(lag, Integral) else _beside(results, lags)
    if null is not None:
        dataset.attrs |= {"null": null, "surrogates": surrogates, "seed": seed}
    return dataset.assign_attrs(
        lag=lag if isinstance(lag, Integral) else list(lags),
        redundancy=redundancy,
        estimator=estimator,
        atoms=atoms,
        prompts=request.prompts,
        **left.attrs,
        correction="none" if correction is None else f"{correction}, {FITS[estimator]}",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """Checked series and options: what is the same at every lag."""

    groups: list[Group]
    units: tuple[str, ...]
    prompts: int
    redundancy: str
    way: Estimator
    atoms: str
    null: str | None
    surrogates: int
    seed: int
    correction: str | None
    accelerator: Any


def _decomposed(request: _Request, lag: int) -> xr.Dataset:
    windows = [request.way.windows(group.series, lag) for group in request.groups]
    engine = choose_engine(
        request.redundancy,
        estimator=request.way,
        units=len(request.units),
        passes=request.prompts * (1 + request.surrogates),
        samples=request.groups[-1].series.shape[1],
        threads=None,
        history=_CALLS,
        only=ONLY[request.atoms],
        accelerator=request.accelerator,
    )
    if request.correction is not None:
        engine = corrected(engine, request.correction)
    dataset = _of_the_data(request, windows, engine)
    if request.null is None:
        return dataset
    tested = _tested(request, windows, engine, lag)
    for name, (values, attrs) in tested.variables.items():
        if request.atoms != "all":
            values[:, ~_AT_THE_ENDS] = np.nan
        dataset[name] = ((PAIR, PAST, FUTURE), values, attrs)
    return dataset.assign_attrs({"null_used": request.null, **tested.attrs})


def _of_the_data(request: _Request, windows: list[Windows], engine: Engine) -> xr.Dataset:
    rows = measure(engine, windows)
    if rows is not None:
        return _measured(rows, request.units)
    prompts = [group.prompts for group in request.groups]
    totals = total(windows, windows, prompts, engine, per_unit=False)
    every = request.atoms == "all"
    return _dataset(totals, request.units) if every else _extremes(totals, request.units)


def _tested(request: _Request, windows: list[Windows], engine: Engine, lag: int) -> Tested:
    assert request.null is not None
    null = NULLS[request.null]
    if null.draw is None:
        return same_step_test(windows, seed=request.seed)
    return surrogate_test(
        null,
        request.groups,
        request.way,
        engine,
        redundancy=request.redundancy,
        lag=lag,
        surrogates=request.surrogates,
        seed=request.seed,
    )


def _beside(results: list[xr.Dataset], lags: tuple[int, ...]) -> xr.Dataset:
    """Results of several lags along a dimension `lag`; numbers in attributes become lists."""
    joined = xr.concat(results, xr.Variable("lag", list(lags)), combine_attrs="drop")
    for name, values in ((k, [r.attrs[k] for r in results]) for k in results[0].attrs):
        joined.attrs[name] = values if isinstance(values[0], float) else values[0]
    return joined


def _dataset(totals: Totals, units: tuple[str, ...]) -> xr.Dataset:
    tdmi, status = mean_row(totals.pair, TDMI), statuses(totals)
    atom = mean_atoms(totals.pair, in_place=True)
    aggregates = {name: aggregate(name, atom) for name in AGGREGATE_NAMES}
    values = {"atom": atom, "tdmi": tdmi, "status": status, **aggregates}
    return _labelled(units).copy(data=values)


def _measured(rows: np.ndarray, units: tuple[str, ...]) -> xr.Dataset:
    """From rows of :func:`synatlas.decompose.engine.measure`."""
    aggregates = dict(zip(AGGREGATES, rows[17:], strict=True))
    status = np.zeros(rows.shape[1], dtype=np.int8)
    values = {"atom": grid(rows[:16]), "tdmi": rows[16], "status": status, **aggregates}
    return _labelled(units).copy(data=values)


def _extremes(totals: Totals, units: tuple[str, ...]) -> xr.Dataset:
    labelled = _labelled(units)[["atom", "status"]]
    return labelled.copy(data={"atom": mean_atoms(totals.pair), "status": statuses(totals)})


@lru_cache(maxsize=4)
def _labelled(units: tuple[str, ...]) -> xr.Dataset:
    """A result without values; making its labels takes as long as ten thousand pairs."""
    first, second = pair_labels(units)
    nat = {"units": "nat"}
    codes = np.array(sorted(STATUS), dtype=np.int8)
    codes.flags.writeable = False
    flags = {
        "units": "1",
        "long_name": "why a pair is undefined",
        "flag_values": codes,
        "flag_meanings": " ".join(STATUS[code] for code in sorted(STATUS)),
    }
    # One number in every place: copies replace the values.
    empty = np.broadcast_to(0.0, (first.size, len(ROLES), len(ROLES)))
    row = empty[:, 0, 0]
    return xr.Dataset(
        {
            "atom": ((PAIR, PAST, FUTURE), empty, {"long_name": "atom, mean over prompts", **nat}),
            "tdmi": (PAIR, row, nat),
            "status": (PAIR, row, flags),
            **{
                name: (PAIR, row, {"long_name": meaning, **nat})
                for name, meaning in AGGREGATE_NAMES.items()
            },
        },
        coords={
            "unit_a": (PAIR, first),
            "unit_b": (PAIR, second),
            PAST: list(ROLES),
            FUTURE: list(ROLES),
        },
    )


@lru_cache(maxsize=4)
def pair_labels(units: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the first and of the second unit of every pair, in pair order, read-only."""
    names = np.array(units)
    first, second = np.triu_indices(len(units), k=1)
    labels = names[first], names[second]
    for array in labels:
        array.flags.writeable = False
    return labels

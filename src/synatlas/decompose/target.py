"""Partial information decomposition: what each pair of series tells about one target series."""

from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float, Int, Int8

from synatlas.axes import PAIR, PROMPT, ROLE, ROLES, STEP, UNIT
from synatlas.decompose.atoms import STATUS
from synatlas.decompose.blas import one_blas_thread
from synatlas.decompose.columns import COLUMNS, Columns
from synatlas.decompose.groups import group_by_length
from synatlas.decompose.options import check_lag, choose
from synatlas.decompose.pairs import LEAST_PIVOT, pair_count, panels
from synatlas.decompose.pointwise import shared_change
from synatlas.decompose.reading import Series, numbers, read_series
from synatlas.decompose.series import pair_labels
from synatlas.decompose.singular import residual_square, triangle
from synatlas.decompose.windows import CODE
from synatlas.errors import ConfigError

#: Samples of pairs at a time: a dozen arrays of this length stay in a cache.
_BLOCK: Final = 8192


class Block(NamedTuple):
    """Some pairs of one prompt: their informations I(a; t), I(b; t), I(ab; t) in nats, and series.

    `one` and `two` are positions in `sources`.
    """

    sources: Float[np.ndarray, "unit sample"]
    target: Float[np.ndarray, " sample"]
    one: Int[np.ndarray, " pair"]
    two: Int[np.ndarray, " pair"]
    information: Float[np.ndarray, "three pair"]
    status: Int8[np.ndarray, " pair"]


#: Redundancy of the two sources of each pair about the target.
Redundancy = Callable[[Block], Float[np.ndarray, " pair"]]


def least_information(block: Block) -> Float[np.ndarray, " pair"]:
    """MMI: the lesser of both informations, in nats, at least 0."""
    return np.minimum(block.information[0], block.information[1])


def common_change(block: Block) -> Float[np.ndarray, " pair"]:
    """CCS: mean over samples of the common change in surprisal, in nats; may be negative."""
    scale = np.sqrt(block.target.size - 1)
    values, target = scale * block.sources, scale * block.target
    single = _local(target, _residual(np.broadcast_to(target, values.shape), values))
    out = np.empty(block.status.shape)
    count = max(1, _BLOCK // target.size)
    for begin in range(0, out.size, count):
        part = slice(begin, begin + count)
        one, two = values[block.one[part]], values[block.two[part]]
        left = _residual(np.broadcast_to(target, one.shape), one)
        both = _local(target, _residual(left, _residual(two, one)))
        i_one, i_two = single[block.one[part]], single[block.two[part]]
        duplicate = (block.status[part] == CODE["duplicate"])[:, None]
        out[part] = shared_change(i_one, i_two, np.where(duplicate, i_one, both)).mean(axis=1)
    return out


def _residual(target: np.ndarray, source: np.ndarray) -> np.ndarray:
    slope = np.einsum("cs,cs->c", source, target) / np.einsum("cs,cs->c", source, source)
    return target - slope[:, None] * source


def _local(target: np.ndarray, residual: np.ndarray) -> np.ndarray:
    variance = np.einsum("cs,cs->c", residual, residual)[:, None] / (target.shape[-1] - 1)
    return 0.5 * (target**2 - residual**2 / variance - np.log(variance))


#: Redundancy functions.
REDUNDANCIES: Final[MappingProxyType[str, Redundancy]] = MappingProxyType(
    {"mmi": least_information, "ccs": common_change}
)


@one_blas_thread()
def pid(
    series: Any,
    target: Any,
    *,
    lag: int = 0,
    redundancy: str = "mmi",
    estimator: str = "gaussian",
) -> xr.Dataset:
    """What every pair of series tells about one target series, in four parts [1]_.

    I(ab; t) = red + un1 + un2 + syn, where red + un1 = I(a; t) and red + un2 = I(b; t): once the
    redundancy of a pair is chosen, the rest follows.

    Parameters
    ----------
    series
        (step, unit) or (prompt, step, unit) as for :func:`synatlas.decompose.series.phiid`, or a
        Recording. It is not changed.
    target
        (step) or (prompt, step), as many as `series` has; or ``"surprisal"`` of a Recording,
        -logprob of the token at each step in nats. What lies beyond a prompt's end is ignored.
    lag
        Steps from the sources to the target, 0 or more. In a Recording of replies the activity
        of step t produces token t, so that lag 0 joins it with the surprisal of that token; in
        one of documents it has already read token t, whose first has no surprisal: pass lag 1.
    redundancy
        ``"mmi"``: the lesser of both informations, so that one of un1 and un2 is 0; for Gaussian
        variables it is that of every redundancy which depends on the pairs (a, t) and (b, t)
        alone [2]_. ``"ccs"``: common change in surprisal of each sample, averaged [3]_, from
        the fitted Gaussian itself as in `phiid`; every part may be negative.
    estimator
        ``"gaussian"``: correlations of the series; ``"copula"``: of the normal scores of their
        ranks, whatever their margins.

    Returns
    -------
    xarray.Dataset
        ``atom(pair, role)`` with role red, un1, un2, syn, and their sum ``information_ab(pair)``
        = I(ab; t); ``information(unit)`` = I(a; t); in nats, means over the prompts in which the
        pair or unit is defined. ``status(pair)`` as of `phiid`: 2 where both series are straight
        functions of each other in any prompt (then red is I(a; t), the rest 0); 3 where the
        target is a linear function of the sources; NaN for any other than 0 and 2.
        ``n_defined(pair)`` counts prompts.

    Notes
    -----
    The plug-in estimates have a bias of about 1 / (2n) in I(a; t) and 1 / n in I(ab; t) for n
    independent samples, so that syn of unrelated series is about 1 / (2n) and not 0.

    Raises
    ------
    ConfigError
        An option, or the shape of `series` or `target`, cannot be used.

    References
    ----------
    .. [1] Williams, Beer (2010), Nonnegative decomposition of multivariate information,
       arXiv:1004.2515.
    .. [2] Barrett (2015), Phys. Rev. E 91, 052802, arXiv:1411.2832.
    .. [3] Ince (2017), Entropy 19(7), 318, doi:10.3390/e19070318.

    Examples
    --------
    >>> import numpy as np
    >>> sources = np.random.default_rng(0).normal(size=(500, 2))
    >>> found = pid(sources, sources.sum(axis=1) + 0.5 * sources[::-1, 0])
    >>> found["atom"].sel(role="syn").item() > found["atom"].sel(role="red").item()
    True
    """
    rule = choose(REDUNDANCIES, redundancy, "redundancy")
    columns_of = choose(COLUMNS, estimator, "estimator")
    given = read_series(series)
    check_lag(lag, given.n_steps, least=0)
    aims = _read_target(target, series, given)
    units = len(given.units)
    atoms, tally = np.zeros((4, pair_count(units))), np.zeros((len(STATUS), pair_count(units)))
    single, seen = np.zeros(units), np.zeros(units)
    for group in group_by_length(given.values, given.n_steps):
        steps = group.series.shape[1]
        sources = columns_of(group.series[:, : max(steps - lag, 0)])
        aim = columns_of(aims[group.prompts, lag : max(steps, lag), None])
        for prompt in range(len(group.prompts)):
            information, fine = _single(sources, aim, prompt)
            single += np.where(fine, information, 0.0)
            seen += fine
            for pairs, block in _blocks(sources, aim, prompt):
                defined = np.isin(block.status, (CODE["ok"], CODE["duplicate"]))
                atoms[:, pairs] += np.where(defined, _parts(block, rule), 0.0)
                tally[block.status, np.arange(pairs.start, pairs.stop)] += 1
    attrs = {"lag": lag, "redundancy": redundancy, "estimator": estimator}
    named = target if isinstance(target, str) else "given"
    found = _dataset(given.units, atoms, tally, single / np.where(seen > 0, seen, np.nan))
    return found.assign_attrs(attrs, target=named)


def _single(
    sources: Columns, aim: Columns, prompt: int
) -> tuple[Float[np.ndarray, " unit"], np.ndarray]:
    """I(a; t) of every unit, and where it is defined."""
    values, target = sources.values[prompt], aim.values[prompt, 0]
    left = residual_square(np.broadcast_to(target, values.shape), values)
    fine = (sources.reason[prompt] == CODE["ok"]) & (aim.reason[prompt, 0] == CODE["ok"])
    fine &= left > (sources.resolution[prompt] + aim.resolution[prompt, 0]) ** 2
    return -0.5 * np.log(np.where(fine, left, 1.0)), fine


def _blocks(sources: Columns, aim: Columns, prompt: int) -> Iterator[tuple[slice, Block]]:
    values, target = sources.values[prompt], aim.values[prompt, 0]
    with_target = values @ target
    reason = np.maximum(sources.reason[prompt], aim.reason[prompt, 0])
    for panel in panels(values.shape[0]):
        one, two = panel.first, panel.second
        between = values[panel.start : panel.stop] @ values.T
        r = between[one - panel.start, two]
        r_one, r_two = with_target[one], with_target[two]
        status = np.maximum(reason[one], reason[two])
        with np.errstate(divide="ignore", invalid="ignore"):
            apart = (1 - r) * (1 + r)
            v_one, v_two = ((1 - r_t) * (1 + r_t) for r_t in (r_one, r_two))
            v_both = v_one - (r_two - r * r_one) ** 2 / apart
            left = np.stack([v_one, v_two, v_both])
            thin = np.flatnonzero(
                (status == CODE["ok"]) & ~(np.minimum(apart, v_both) >= LEAST_PIVOT)
            )
            if thin.size:
                left[:, thin], status[thin] = _resolve(sources, aim, prompt, one[thin], two[thin])
            information = -0.5 * np.log(left)
        yield panel.pairs, Block(values, target, one, two, information, status)


def _resolve(
    sources: Columns, aim: Columns, prompt: int, one: np.ndarray, two: np.ndarray
) -> tuple[Float[np.ndarray, "three pair"], Int8[np.ndarray, " pair"]]:
    """Squared residuals of the target and the status, from the columns themselves."""
    target = np.broadcast_to(aim.values[prompt], sources.values[prompt][one].shape)
    held = np.stack([sources.values[prompt][one], sources.values[prompt][two], target], axis=1)
    resolution = sources.resolution[prompt]
    floor = (resolution[one] + resolution[two] + aim.resolution[prompt, 0]) ** 2
    upper = triangle(held)
    left = np.stack(
        [
            residual_square(held[:, 0], held[:, 2]),
            residual_square(held[:, 1], held[:, 2]),
            upper[:, 2, 2] ** 2,
        ]
    )
    duplicate = upper[:, 1, 1] ** 2 <= floor
    left[1:, duplicate] = left[0, duplicate]
    status = np.where(duplicate, CODE["duplicate"], CODE["ok"])
    status = np.where(left[2] <= floor, CODE["deterministic"], status)
    return left, status.astype(np.int8)


def _parts(block: Block, rule: Redundancy) -> Float[np.ndarray, "role pair"]:
    """Red, un1, un2, syn; whatever for pairs that are not defined."""
    with np.errstate(divide="ignore", invalid="ignore"):
        red = rule(block)
        one, two, both = block.information
        return np.stack([red, one - red, two - red, both - one - two + red])


def _dataset(
    units: tuple[str, ...], atoms: np.ndarray, tally: np.ndarray, single: np.ndarray
) -> xr.Dataset:
    defined = tally[CODE["ok"]] + tally[CODE["duplicate"]]
    with np.errstate(divide="ignore", invalid="ignore"):
        atoms = atoms / defined
    reasons = tally.copy()
    reasons[CODE["ok"]] = 0
    status = np.where(defined > 0, CODE["ok"], reasons.argmax(axis=0)).astype(np.int8)
    status[tally[CODE["duplicate"]] > 0] = CODE["duplicate"]
    first, second = pair_labels(units)
    nat = {"units": "nat"}
    flags = {
        "units": "1",
        "long_name": "why a pair is undefined",
        "flag_values": np.array(sorted(STATUS), dtype=np.int8),
        "flag_meanings": " ".join(STATUS[code] for code in sorted(STATUS)),
    }
    counted = {"units": "1", "long_name": "prompts in which the pair is defined"}
    both = {"long_name": "information of both units about the target", **nat}
    return xr.Dataset(
        {
            "atom": ((PAIR, ROLE), atoms.T, {"long_name": "part of the information", **nat}),
            "information_ab": (PAIR, atoms.sum(axis=0), both),
            "information": (UNIT, single, {"long_name": "information about the target", **nat}),
            "status": (PAIR, status, flags),
            "n_defined": (PAIR, defined.astype(np.int32), counted),
        },
        coords={
            "unit_a": (PAIR, first),
            "unit_b": (PAIR, second),
            ROLE: list(ROLES),
            UNIT: list(units),
        },
    )


def _read_target(target: Any, series: Any, given: Series) -> Float[np.ndarray, "prompt step"]:
    prompts, steps, _ = given.values.shape
    if isinstance(target, str):
        if target != "surprisal" or not isinstance(series, xr.Dataset) or "logprob" not in series:
            raise ConfigError(
                given=f"target {target!r}",
                expected='an array of numbers, or "surprisal" of a Recording',
                remedy="pass the target's values, or a Recording with its logprob",
            )
        target = -series["logprob"].astype(np.float64)
    if isinstance(target, xr.DataArray) and {PROMPT, STEP} == set(target.dims):
        target = target.transpose(PROMPT, STEP)
    values = numbers(target.values if isinstance(target, xr.DataArray) else target)
    if values.ndim == 1 and given.prompts is None:
        values = values[None]
    if values.shape != (prompts, steps):
        raise ConfigError(
            given=f"a target of shape {values.shape}",
            expected=f"({steps},)" if given.prompts is None else f"({prompts}, {steps})",
            cause="the target needs one value for each step of the series",
            remedy="pass (step) with (step, unit), or (prompt, step) with (prompt, step, unit)",
        )
    return values

"""Planning: the least excess that a recording of a given size would show, before it is made."""

import math
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple, cast

import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy import stats
from scipy.optimize import brentq

from synatlas.decompose.blas import one_blas_thread
from synatlas.decompose.engine import choose_engine
from synatlas.decompose.estimators import ESTIMATORS
from synatlas.decompose.groups import group_by_length
from synatlas.decompose.nulls import INDEPENDENCE, NULLS, independence, prepare
from synatlas.decompose.options import check_lag, check_null, choose
from synatlas.decompose.pipeline import default_surrogates
from synatlas.decompose.rearrange import STRATUM, by_memory, exchange
from synatlas.decompose.series import phiid
from synatlas.decompose.unit_nulls import null_rows
from synatlas.errors import ConfigError
from synatlas.inference import COUNTED_SURROGATES, FDR_LEVEL, standard_errors, student_holds
from synatlas.rank.controls import POWER
from synatlas.simulate.uncoupled import independent_ar

#: Atoms whose excess can be planned: where they stand in a grid.
PLANNED: Final = MappingProxyType({"sts": (3, 3), "rtr": (0, 0)})

#: Nulls that are drawn from series alone, and the default call.
DRAWN: Final = (
    INDEPENDENCE,
    *(name for name, null in NULLS.items() if null.draw is not None and not null.needs_category),
)

LEVELS: Final = ("pair", "unit")

#: Values of `status`.
OK: Final = 0
UNRESOLVED: Final = 1
UNREACHABLE: Final = 2
STATUS: Final = MappingProxyType({OK: "ok", UNRESOLVED: "unresolved", UNREACHABLE: "unreachable"})

#: What is simulated at most. More prompts and units enter by the square root of their number, as
#: independent ones do (docs/validity.md); of prompts longer than `LONG` steps, fewer.
UNITS: Final = 24
PROMPTS: Final = 60
LONG: Final = 400

#: Prompts that are simulated at least, in several data sets where one is planned with fewer.
LEAST_PROMPTS: Final = 10

#: Excess in standard deviations of the null beyond which none is called detectable.
LARGEST: Final = 1000.0


class _Plan(NamedTuple):
    """Checked options."""

    prompts: int
    steps: int
    units: int
    memory: tuple[float, ...]
    atom: str
    lag: int
    estimator: str
    null: str
    surrogates: int
    alpha: float
    power: float
    seed: int


class _Found(NamedTuple):
    """What simulated independent series give; spreads are medians, of the size that is planned."""

    sd: Float[np.ndarray, " level"]
    mean: float
    unit_draws: Float[np.ndarray, "surrogate unit"]


@one_blas_thread()
def detectable_excess(
    *,
    prompts: int,
    steps: int,
    units: int = 2,
    memory: float | Sequence[float] = 0.5,
    atom: str = "sts",
    lag: int = 1,
    estimator: str = "gaussian",
    null: str = INDEPENDENCE,
    surrogates: int | None = None,
    alpha: float = FDR_LEVEL,
    power: float = POWER,
    seed: int = 0,
) -> xr.Dataset:
    r"""Least excess of synergy or redundancy over its null that a recording of this size shows.

    Independent autoregressive series of the given memory are decomposed with their null as a
    recording would be. With s the standard deviation of the null, K surrogates and
    :math:`S = s \sqrt{1 + 1/K}`,

    .. math:: \mathtt{minimum\_detectable} = (t_{1-\tau} + t_{power}) S,

    Student's t with K - 1 degrees of freedom, is the number of the atlas
    (``null_minimum_detectable``): it holds for an effect that leaves all spreads as they are.
    Coupling widens two. Excess is of second order in correlations: of a noncentral chi-square
    with excess e and n degrees of freedom, n = prompts x partners, the variance is that of the
    null times 1 + 2 √2 e / (s √n). And an exchange of prompts leaves about one prompt of each set
    in its place, now more, now fewer, by which surrogates of coupled series differ by κ e;
    κ = √(sets) / (prompts - sets), 0 for nulls that exchange none. ``detectable`` solves

    .. math:: e = t_{1-\tau} S \sqrt{1 + κ^2 e^2 / s^2} +
              t_{power} S \sqrt{1 + 2 \sqrt 2\, e / (s \sqrt n)}.

    Parameters
    ----------
    prompts, steps
        Size of the recording: prompts of equal length, and steps of each, at least lag + 5.
    units
        Units that are recorded, 2 or more. A unit is the mean over its ``units - 1`` partners.
    memory
        Correlation of a series with itself one step later, below 1: one number, or lowest and
        highest of the units, evenly spread.
    atom
        ``"sts"``, synergy, or ``"rtr"``, redundancy; of MMI.
    lag, estimator
        As in :func:`synatlas.phiid`.
    null
        A sampled null of :data:`synatlas.decompose.nulls.NULLS`, or ``"independence"``:
        ``cross_prompt`` from five prompts on, else ``window_shift``.
    surrogates
        Draws of the null, 2 or more; by default those of :func:`synatlas.decompose`, 199 up to
        300 units and 39 beyond.
    alpha
        Level. A pair is called by the two-sided p of :func:`synatlas.phiid`, uncorrected: τ is
        alpha / 2. A unit is called by :func:`synatlas.rank`, above its null, at false discovery
        rate alpha: a lone one among N needs τ = alpha / N.
    power
        Probability of the call.
    seed
        Of the simulation.

    Returns
    -------
    xarray.Dataset
        On ``level`` (pair, unit), in nats: ``null_sd``, ``null_mean`` (the atom of independent
        series, which under MMI is not 0), ``minimum_detectable`` and ``detectable``, medians over
        pairs or units; ``share`` is detectable / null_mean. ``status`` is 1 where so many
        surrogates resolve no p that low, or their distribution is not that of Student's t, as
        :func:`synatlas.rank` would find, and both are NaN; 2 where no excess solves the equation,
        and ``detectable`` is NaN. The attribute ``explanation`` says why. All settings are
        attributes; ``null_used`` is the null.

    Raises
    ------
    ConfigError
        An option is out of range; the message says what to change.

    Notes
    -----
    An excess is the mean of what is found, which in short windows is not its value at infinite
    length: the minimum in MMI costs a part of it. For pairs and fewer than 20 prompts `detectable`
    is optimistic. Units that correlate with each other have a larger spread than independent
    ones: for recorded heads the figures of the unit level are a lower bound. docs/validity.md has
    what was found where 80 % were planned.

    At most 24 units and 60 prompts are simulated; larger numbers enter as 1 / √(prompts (units -
    1)).

    References
    ----------
    Varley, arXiv 2407.16601 (synergy of independent series under MMI); Benjamini, Hochberg
    (1995), https://doi.org/10.1111/j.2517-6161.1995.tb02031.x

    Examples
    --------
    >>> plan = detectable_excess(prompts=60, steps=100, units=64)
    >>> float(plan["detectable"].sel(level="unit").round(4))
    0.0018
    """
    count = default_surrogates(_count(units, "units", 2)) if surrogates is None else surrogates
    plan = _Plan(
        prompts=_count(prompts, "prompts", 1),
        steps=_count(steps, "steps", 1),
        units=units,
        memory=_memory(memory),
        atom=atom,
        lag=lag,
        estimator=estimator,
        null=_null(null, prompts),
        surrogates=_count(count, "surrogates", 2),
        alpha=_share(alpha, "alpha", FDR_LEVEL),
        power=_share(power, "power", POWER),
        seed=_count(seed, "seed", 0),
    )
    choose(PLANNED, atom, "atom")
    choose(ESTIMATORS, estimator, "estimator")
    lengths = np.full(prompts, steps)
    check_lag(lag, lengths)
    check_null(NULLS[plan.null], null, surrogates=count, n_steps=lengths, estimator=estimator)
    return _dataset(plan, _simulate(plan), null)


def _count(value: Any, name: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ConfigError(
            given=f"{name} {value!r}",
            expected=f"a whole number, {least} or more",
            remedy=f"pass another number of {name}" if name != "seed" else "choose another seed",
        )
    return int(value)


def _share(value: float, name: str, usual: float) -> float:
    if not 0 < value < 1:
        raise ConfigError(
            given=f"{name} {value!r}",
            expected="a probability between 0 and 1",
            cause="a percentage" if value > 1 else "",
            remedy=f"pass for example {usual}",
        )
    return float(value)


def _memory(memory: float | Sequence[float]) -> tuple[float, ...]:
    given = np.asarray(memory, dtype=np.float64).reshape(-1)
    if given.size not in (1, 2) or not (np.abs(given) < 1).all():
        raise ConfigError(
            given=f"memory {memory!r}",
            expected="one correlation between -1 and 1, or the lowest and the highest",
            cause="a correlation of 1 or more has no stationary series",
            remedy="pass for example 0.5, or (0.3, 0.7)",
        )
    return tuple(map(float, given))


def _null(name: str, prompts: int) -> str:
    choose(dict.fromkeys(DRAWN), name, "null")
    return independence(np.ones(prompts)) if name == INDEPENDENCE else name


def _simulate(plan: _Plan) -> _Found:
    """Decompose independent series with their null, pairs and units each as a recording's are."""
    rng = np.random.default_rng(plan.seed)
    few = max(LEAST_PROMPTS, PROMPTS * LONG // max(plan.steps, LONG))
    prompts, units = min(plan.prompts, few), min(plan.units, UNITS)
    pair_sd, mean, draws = [], [], []
    for _ in range(max(1, LEAST_PROMPTS // prompts)):
        rho = rng.permutation(np.linspace(plan.memory[0], plan.memory[-1], UNITS))
        made = independent_ar(rho, prompts=prompts, steps=plan.steps, seed=rng)
        series = made["activity"].to_numpy()
        pairs = phiid(
            series,
            lag=plan.lag,
            estimator=plan.estimator,
            null=plan.null,
            surrogates=plan.surrogates,
            seed=plan.seed,
            atoms="rtr+sts",
        )
        cell = (slice(None), *PLANNED[plan.atom])
        pair_sd.append(pairs["null_sd"].to_numpy()[cell])
        mean.append(pairs["null_mean"].to_numpy()[cell])
        draws += [
            _unit_draws(series[:, :, begin : begin + units], plan)
            for begin in range(0, UNITS - units + 1, units)
        ]
    unit_draws = np.concatenate(draws, axis=1)
    unit_sd = np.median(unit_draws.std(axis=0, ddof=1)) * math.sqrt((units - 1) / (plan.units - 1))
    sd = np.array([np.median(pair_sd), unit_sd]) * math.sqrt(prompts / plan.prompts)
    return _Found(sd, float(np.median(mean)), unit_draws)


def _unit_draws(
    series: Float[np.ndarray, "prompt step unit"], plan: _Plan
) -> Float[np.ndarray, "surrogate unit"]:
    """The atom of every unit in every surrogate."""
    prompts, steps, units = series.shape
    way = ESTIMATORS[plan.estimator]
    groups = group_by_length(series, np.full(prompts, steps))
    passes = prompts * (1 + plan.surrogates)
    rows = null_rows(
        NULLS[plan.null],
        prepare(NULLS[plan.null], groups, way.windows, plan.lag),
        choose_engine(
            "mmi", estimator=way, units=units, passes=passes, threads=None, only="extremes"
        ),
        way,
        redundancy="mmi",
        surrogates=plan.surrogates,
        seed=plan.seed,
        progress=lambda done, total: None,
    )
    return np.asarray(rows["null_draw"])[(slice(None), slice(None), *PLANNED[plan.atom])]


def _dataset(plan: _Plan, found: _Found, null: str) -> xr.Dataset:
    partners = plan.units - 1
    levels = (
        _call(found.sd[0], plan.alpha / 2, plan.prompts, _pair_unresolved(plan), plan),
        _call(
            found.sd[1],
            plan.alpha / plan.units,
            plan.prompts * partners,
            _unit_unresolved(plan, found.unit_draws),
            plan,
        ),
    )
    out = xr.Dataset(coords={"level": list(LEVELS)})
    for name, meaning in _MEANING.items():
        values = [getattr(level, name) for level in levels]
        out[name] = ("level", values, {"long_name": meaning, "units": "nat"})
    out["null_mean"] = ("level", [found.mean] * 2, {"long_name": _OF_NULL, "units": "nat"})
    out["share"] = out["detectable"] / out["null_mean"]
    out["share"].attrs = {"long_name": "detectable excess beside the null's mean", "units": "1"}
    codes = np.array(sorted(STATUS), dtype=np.int8)
    out["status"] = ("level", np.array([level.status for level in levels], dtype=np.int8))
    out["status"].attrs = {
        "long_name": "whether the call can be made",
        "units": "1",
        "flag_values": codes,
        "flag_meanings": " ".join(STATUS[code] for code in codes),
    }
    said = list(dict.fromkeys(level.said for level in levels if level.said))
    settings = {**plan._asdict(), "memory": list(plan.memory), "null": null}
    explanation = " ".join(said) or "Both calls can be made."
    return out.assign_attrs(**settings, null_used=plan.null, explanation=explanation)


class _Call(NamedTuple):
    """What one level needs to be called, and what is in the way."""

    null_sd: float
    minimum_detectable: float
    detectable: float
    status: int
    said: str


_OF_NULL: Final = "atom of independent series"

_MEANING: Final = MappingProxyType(
    {
        "null_sd": "standard deviation of the null",
        "minimum_detectable": "excess that is called if all spreads stay those of the null",
        "detectable": "excess that is called with the spreads of coupled series",
    }
)


def _call(sd: float, tail: float, pooled: int, unresolved: str, plan: _Plan) -> _Call:
    if unresolved:
        return _Call(sd, math.nan, math.nan, UNRESOLVED, unresolved)
    least, most = _shift(sd, tail, plan), _coupled(sd, tail, pooled, plan)
    if math.isfinite(most):
        return _Call(sd, least, most, OK, "")
    why = (
        f"No excess is large enough: an exchange of {plan.prompts} prompts leaves so many in "
        "their place that surrogates spread with it. Take more prompts."
    )
    return _Call(sd, least, math.nan, UNREACHABLE, why)


def _shift(sd: float, tail: float, plan: _Plan) -> float:
    scale = sd * math.sqrt(1 + 1 / plan.surrogates)
    return standard_errors(tail, plan.power, plan.surrogates - 1) * scale


def _coupled(sd: float, tail: float, pooled: int, plan: _Plan) -> float:
    """The excess that solves the equation of `detectable`; NaN where none does."""
    wide = math.sqrt(1 + 1 / plan.surrogates)
    a = wide * float(stats.t.isf(tail, plan.surrogates - 1))
    b = wide * float(stats.t.ppf(plan.power, plan.surrogates - 1))
    h, k = 2 * math.sqrt(2 / pooled), _mixing(plan)

    def lacking(e: float) -> float:
        return a * math.sqrt(1 + (k * e) ** 2) + b * math.sqrt(1 + h * e) - e

    if not lacking(LARGEST) < 0 < a + b:
        return math.nan
    return sd * float(cast("float", brentq(lacking, 0.0, LARGEST)))


def _mixing(plan: _Plan) -> float:
    """Standard deviation of the share of prompts in place, beside the share that is exchanged."""
    null = NULLS[plan.null]
    if null.draw is not exchange:
        return 0.0
    sets = max(1, plan.prompts // STRATUM) if null.sets is by_memory else 1
    return math.sqrt(sets) / (plan.prompts - sets)


def _pair_unresolved(plan: _Plan) -> str:
    if 2 / (1 + plan.surrogates) <= plan.alpha:
        return ""
    return (
        f"{plan.surrogates} surrogates resolve no two-sided p of {plan.alpha:g} of a pair: "
        f"take {math.ceil(2 / plan.alpha) - 1}."
    )


def _unit_unresolved(plan: _Plan, draws: Float[np.ndarray, "surrogate unit"]) -> str:
    k = plan.surrogates
    counted = k >= COUNTED_SURROGATES and plan.units / (1 + k) <= plan.alpha
    if counted or student_holds(draws):
        return ""
    return (
        f"{k} surrogates resolve no lone unit of {plan.units}: they are too few to be counted, "
        "and not distributed as Student's t. Take more prompts or more surrogates."
    )

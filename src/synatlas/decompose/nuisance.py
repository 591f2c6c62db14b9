"""Nuisances: what every unit follows by itself, taken out of the series before decomposition.

Two units that follow the same drift, or the same token, share information without exchanging
any. A nuisance names such a thing; series are replaced by their residuals from least squares.

``trend``, ``surprisal``, ``frequency`` and covariates have a slope of their own in every series of
every prompt. ``position`` and ``token`` are one value per unit and step, or token, over all
prompts. All that are asked for are fitted together, besides a constant per series; ``differences``
are taken last. Residuals have a memory of their own: k slow regressors leave white noise of T steps
with a lagged correlation of about -k / T.

Token, surprisal and frequency are those of the token that is READ at the position: it comes before
what the units do there. The token that is produced there comes after, and taking it out could
make dependence.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from synatlas.decompose.options import choose
from synatlas.decompose.regression import Effect, basis_within, residual_across, residual_within
from synatlas.decompose.windows import LEAST_SAMPLES
from synatlas.errors import ConfigError

#: Fewest occurrences of a token with a mean of its own; rarer ones keep their values.
TOKEN_LEAST: Final = 5

#: Most tokens with a mean of their own, the most frequent ones.
TOKEN_MOST: Final = 512

#: Most steps with a mean of their own: the equations are of as many unknowns.
POSITION_MOST: Final = 4096


class Facts(NamedTuple):
    """What is known of each sample; entries from `n_steps` on mean nothing.

    `token` is the token read at the position, `surprisal` its -log p in nats, NaN where unknown.
    """

    n_steps: Int[np.ndarray, " prompt"]
    token: Int[np.ndarray, "prompt step"] | None = None
    surprisal: Float[np.ndarray, "prompt step"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Nuisance:
    """One nuisance.

    Parameters
    ----------
    meaning : what is taken out.
    within : regressor with a slope per series and prompt.
    across : indicators with a mean per unit, over all prompts.
    needs_tokens : whether it needs a Recording.
    """

    meaning: str
    within: Callable[[Facts, int], Float[np.ndarray, "prompt step"]] | None = None
    across: Callable[[Facts, int], Effect] | None = None
    needs_tokens: bool = False


def _step(facts: Facts, steps: int) -> Int[np.ndarray, "prompt step"]:
    return np.broadcast_to(np.arange(steps), (facts.n_steps.size, steps))


def trend(facts: Facts, steps: int) -> Float[np.ndarray, "prompt step"]:
    """The step, so that a straight line is taken out of every series."""
    return _step(facts, steps).astype(np.float64)


def surprisal(facts: Facts, steps: int) -> Float[np.ndarray, "prompt step"]:
    """-log p of the token read, in nats; the prompt's mean where it is unknown."""
    assert facts.surprisal is not None
    values = facts.surprisal
    known = np.isfinite(values) & (_step(facts, steps) < facts.n_steps[:, None])
    count = np.maximum(known.sum(axis=1), 1)
    mean = np.where(known, values, 0.0).sum(axis=1) / count
    return np.where(known, values, mean[:, None])


def frequency(facts: Facts, steps: int) -> Float[np.ndarray, "prompt step"]:
    """Log of how often the token read is read at the recorded positions of all prompts."""
    code = _read(facts, steps)
    _, index, count = np.unique(code, return_inverse=True, return_counts=True)
    return np.log(count)[index].reshape(code.shape)


def position(facts: Facts, steps: int) -> Effect:
    """Every step that two prompts reach."""
    _check_position(facts.n_steps.size, steps)
    code = np.where(_step(facts, steps) < facts.n_steps[:, None], _step(facts, steps), -1)
    return Effect(code, 2, POSITION_MOST)


def token(facts: Facts, steps: int) -> Effect:
    """Every token that is read at least `TOKEN_LEAST` times, at most `TOKEN_MOST` of them."""
    return Effect(_read(facts, steps), TOKEN_LEAST, TOKEN_MOST)


def _read(facts: Facts, steps: int) -> Int[np.ndarray, "prompt step"]:
    assert facts.token is not None
    return np.where(_step(facts, steps) < facts.n_steps[:, None], facts.token, -1)


#: Nuisances by name, in the order in which they are reported.
NUISANCES: Final = MappingProxyType(
    {
        "trend": Nuisance(meaning="a straight line over the steps of each prompt", within=trend),
        "position": Nuisance(meaning="the mean over prompts at each step", across=position),
        "surprisal": Nuisance(
            meaning="a multiple of the surprisal of the token read",
            within=surprisal,
            needs_tokens=True,
        ),
        "frequency": Nuisance(
            meaning="a multiple of the log frequency of the token read",
            within=frequency,
            needs_tokens=True,
        ),
        "token": Nuisance(
            meaning="the mean over occurrences of the token read", across=token, needs_tokens=True
        ),
        "differences": Nuisance(meaning="the step before: first differences are decomposed"),
    }
)


class Residuals(NamedTuple):
    """Series without their nuisances.

    `lost` is the number of degrees of freedom that a series of each prompt lost, beside its mean;
    `names` are the nuisances in the registry's order.
    """

    values: Float[np.ndarray, "prompt step unit"]
    n_steps: Int[np.ndarray, " prompt"]
    names: tuple[str, ...]
    lost: Float[np.ndarray, " prompt"]

    @property
    def attrs(self) -> dict[str, Any]:
        """Attributes of a result."""
        mean = float(self.lost.mean())
        return {"nuisance": ", ".join(self.names) or "none", "nuisance_degrees": mean}


def check_nuisance(names: Sequence[str]) -> tuple[str, ...]:
    """Known names, each once, in the registry's order."""
    given = (names,) if isinstance(names, str) else tuple(names)
    for name in given:
        choose(NUISANCES, name, "nuisance")
    return tuple(name for name in NUISANCES if name in given)


def facts_of(recording: xr.Dataset) -> Facts:
    """Tokens read at the recorded positions of a Recording, and their surprisal.

    A reply's sample t is taken where token t is produced, so token t - 1 is read there, and at
    first the prompt's last token, whose surprisal is not recorded. A document's sample t is taken
    at token t itself.
    """
    produced = recording["token"].values.astype(np.int64)
    cost = -recording["logprob"].values.astype(np.float64)
    n_steps = recording["n_steps"].values.astype(np.int64)
    if recording.attrs["alignment"] == "document":
        return Facts(n_steps, produced, cost)
    before = recording["prompt_token"].values
    last = before[np.arange(len(before)), np.maximum((before >= 0).sum(axis=1) - 1, 0)]
    return Facts(
        n_steps,
        np.concatenate([last[:, None], produced[:, :-1]], axis=1),
        np.concatenate([np.full((len(before), 1), np.nan), cost[:, :-1]], axis=1),
    )


def remove(
    values: Float[np.ndarray, "prompt step unit"],
    names: Sequence[str],
    facts: Facts,
    *,
    lag: int,
    covariates: Any = None,
) -> Residuals:
    """Series without the nuisances `names` and without `covariates`.

    Residuals of least squares, all nuisances together: an SVD within each prompt, normal equations
    for the means over prompts [1]_. A series that is explained up to the rounding of its values
    becomes 0, and so constant. Series with a value that is not finite stay as they are, and other
    prompts of their unit are fitted without them. A prompt that is left fewer than lag + 5
    degrees of freedom is cut to that number of steps, and so too short. The input is not changed.

    Parameters
    ----------
    values : series, in any unit.
    names : names from :data:`NUISANCES`.
    facts : true lengths and, for nuisances of tokens, the tokens.
    lag : steps from past to future.
    covariates : (prompt, step, covariate), or (step, covariate) for all prompts alike.

    Raises
    ------
    ConfigError
        A name is unknown, needs tokens that are not there or prompts that are too few; covariates
        do not fit; no prompt has enough degrees of freedom.

    References
    ----------
    .. [1] Björck (1996), Numerical Methods for Least Squares Problems, SIAM,
       doi:10.1137/1.9781611971484.
    """
    chosen = check_nuisance(names)
    own = read_covariates(covariates, values.shape[:2], facts.n_steps)
    if not chosen and own.shape[2] == 0:
        return Residuals(values, facts.n_steps, (), np.zeros(len(values)))
    _check_tokens(chosen, facts)
    fitted = _regressed(values, chosen, facts, own)
    steps = facts.n_steps
    if "differences" in chosen:
        with np.errstate(invalid="ignore"):
            fitted = Fitted(np.diff(fitted.values, axis=1), fitted.lost + 1, fitted.size)
        steps = np.maximum(steps - 1, 1)
    left = _without_rounding(fitted, steps, held_as(values))
    kept = np.floor(facts.n_steps - fitted.lost).astype(np.int64)
    _check_left(int(kept.max()), int(facts.n_steps.max()), lag)
    short = kept < lag + LEAST_SAMPLES
    steps = np.where(short, np.clip(kept, 1, steps), steps)
    left[_step(Facts(steps), left.shape[1]) >= steps[:, None]] = np.nan
    return Residuals(left, steps, chosen, fitted.lost)


class Fitted(NamedTuple):
    """Residuals, degrees of freedom each prompt lost beside the mean, size before the fit."""

    values: Float[np.ndarray, "prompt step unit"]
    lost: Float[np.ndarray, " prompt"]
    size: Float[np.ndarray, "prompt unit"]


def _regressed(
    values: Float[np.ndarray, "prompt step unit"],
    names: tuple[str, ...],
    facts: Facts,
    covariates: Float[np.ndarray, "prompt step covariate"],
) -> Fitted:
    prompts, steps, _ = values.shape
    inside = (_step(facts, steps) < facts.n_steps[:, None])[:, :, None]
    broken = np.any(~np.isfinite(values) & inside, axis=1)
    usable = inside & ~broken[:, None, :]
    # A power of two changes no digit, and keeps sums from overflowing.
    y = np.where(usable, values, 0.0)
    size = np.abs(y).max(axis=1)
    power = np.exp2(-np.clip(np.frexp(size.max(axis=0))[1], -1000, 1000))
    y *= power
    within = [f(facts, steps) for name in names if (f := NUISANCES[name].within)]
    across = [f(facts, steps) for name in names if (f := NUISANCES[name].across)]
    lost = np.zeros(prompts)
    if within or across or covariates.shape[2]:
        regressors = np.concatenate([*(w[:, :, None] for w in within), covariates], axis=2)
        basis = basis_within(regressors, facts.n_steps)
        y = residual_within(y, basis.columns)
        lost += basis.rank - 1
        if across:
            y, rank = residual_across(y, across, basis, broken)
            lost += rank / prompts
            size = np.broadcast_to(size.max(axis=0), size.shape)
    return Fitted(np.where(usable, y / power, values), lost, size)


def held_as(values: Float[np.ndarray, "..."]) -> float:
    """Relative rounding of the values: that of float32 where it holds all of them exactly."""
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    if np.array_equal(single, values, equal_nan=True):
        return float(np.finfo(np.float32).eps)
    return float(32 * np.finfo(np.float64).eps)


def _without_rounding(
    fitted: Fitted, n_steps: Int[np.ndarray, " prompt"], relative: float
) -> Float[np.ndarray, "prompt step unit"]:
    """Residuals, 0 where they vary by no more than the rounding of the values they are left of."""
    left = fitted.values.copy()
    for prompt, steps in enumerate(n_steps):
        with np.errstate(invalid="ignore", over="ignore"):
            spread = np.ptp(left[prompt, :steps], axis=0)
            left[prompt, :steps, spread <= 4 * relative * fitted.size[prompt]] = 0.0
    return left


def read_covariates(
    covariates: Any, shape: tuple[int, int], n_steps: Int[np.ndarray, " prompt"]
) -> Float[np.ndarray, "prompt step covariate"]:
    """Covariates as (prompt, step, covariate), 0 beyond each prompt's end."""
    if covariates is None:
        return np.zeros((*shape, 0))
    try:
        given = np.asarray(covariates)
    except ValueError as error:
        raise _no_covariates("rows of different lengths", shape) from error
    if given.dtype.kind not in "fiub":
        raise _no_covariates(f"values of type {given.dtype}", shape)
    if given.ndim == 2:
        given = np.broadcast_to(given, (shape[0], *given.shape))
    if given.ndim != 3 or given.shape[:2] != shape:
        raise _no_covariates(f"an array of shape {np.shape(covariates)}", shape)
    inside = (np.arange(shape[1]) < n_steps[:, None])[:, :, None]
    values = np.where(inside, given.astype(np.float64), 0.0)
    if not np.isfinite(values).all():
        raise _no_covariates("a value that is not finite", shape)
    return values


def _no_covariates(given: str, shape: tuple[int, int]) -> ConfigError:
    prompts, steps = shape
    return ConfigError(
        given=f"covariates: {given}",
        expected=f"finite numbers of shape ({steps}, k), or ({prompts}, {steps}, k) by prompt",
        remedy="pass one column per covariate, with the steps of the series along the rows",
    )


def _check_tokens(names: tuple[str, ...], facts: Facts) -> None:
    for name in names:
        if NUISANCES[name].needs_tokens and facts.token is None:
            known = [other for other, nuisance in NUISANCES.items() if not nuisance.needs_tokens]
            raise ConfigError(
                given=f"nuisance {name!r} with series alone",
                expected=f"one of {', '.join(known)}",
                cause="series have no tokens",
                remedy="pass a Recording to synatlas.decompose, or pass covariates",
            )


def check_room(names: Sequence[str], *, prompts: int, steps: int, lag: int) -> None:
    """Refuse nuisances for which prompts or steps are too few, before anything is recorded."""
    chosen = check_nuisance(names)
    if "position" in chosen:
        _check_position(prompts, steps)
    own = sum(NUISANCES[name].within is not None or name == "differences" for name in chosen)
    _check_left(steps - own, steps, lag)


def _check_position(prompts: int, steps: int) -> None:
    if prompts < 2 or steps > POSITION_MOST:
        raise ConfigError(
            given=f"nuisance position with {prompts} prompts of up to {steps} steps",
            expected=f"at least 2 prompts, of at most {POSITION_MOST} steps",
            cause="the mean over prompts at each step is taken out",
            remedy="take the nuisance trend, which needs one prompt",
        )


def _check_left(kept: int, steps: int, lag: int) -> None:
    if kept < lag + LEAST_SAMPLES:
        raise ConfigError(
            given=f"nuisances that leave {max(kept, 0)} degrees of freedom of {steps} steps",
            expected=f"at least lag + {LEAST_SAMPLES} = {lag + LEAST_SAMPLES}",
            remedy="pass fewer nuisances or covariates, longer series, or more prompts",
        )

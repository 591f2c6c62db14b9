"""Checks of the options of a decomposition."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from synatlas.decompose.estimators import CORRELATED, ESTIMATORS
from synatlas.decompose.nulls import Null
from synatlas.decompose.windows import LEAST_SAMPLES
from synatlas.errors import ConfigError


def choose(registry: Mapping[str, Any], name: Any, what: str) -> Any:
    """Entry of a registry, or a :class:`ConfigError` that lists the known names."""
    if not isinstance(name, str) or name not in registry:
        raise ConfigError(
            given=f"{what} {name!r}",
            expected=f"one of {', '.join(registry)}",
            remedy=f"pass one of these as {what}",
        )
    return registry[name]


def check_lag(lag: Any, n_steps: np.ndarray, *, least: int = 1) -> None:
    """Refuse a lag that leaves no prompt enough lagged samples."""
    if not _whole(lag) or lag < least:
        raise ConfigError(
            given=f"lag {lag!r}",
            expected=f"a whole number of steps, {least} or more",
            remedy="pass lag=1 for the next step",
        )
    longest = int(n_steps.max())
    if longest - lag < LEAST_SAMPLES:
        raise ConfigError(
            given=f"series of {longest} steps at most, with lag {lag}",
            expected=f"at least lag + {LEAST_SAMPLES} = {lag + LEAST_SAMPLES} steps",
            cause="four variables cannot be told apart from fewer lagged samples",
            remedy="pass longer series or a shorter lag",
        )


def read_lags(lag: Any, n_steps: np.ndarray) -> tuple[int, ...]:
    """One lag or several, each checked."""
    lags = (lag,) if _whole(lag) or np.ndim(lag) == 0 else tuple(lag)
    if not lags:
        raise ConfigError(
            given="no lag", expected="at least one", remedy="pass lag=1 for the next step"
        )
    for each in lags:
        check_lag(each, n_steps)
    return tuple(int(each) for each in lags)


def check_surrogates(surrogates: Any) -> None:
    """Refuse anything but a count."""
    if not _whole(surrogates) or surrogates < 0:
        raise ConfigError(
            given=f"surrogates {surrogates!r}",
            expected="a whole number, 0 or more",
            remedy="pass surrogates=199 to resolve p = 0.005",
        )


def check_null(
    null: Null | None,
    name: str | None,
    *,
    surrogates: Any,
    n_steps: np.ndarray,
    estimator: str = "gaussian",
) -> None:
    """Refuse a null that the estimator, the number of surrogates or the prompts do not allow."""
    check_surrogates(surrogates)
    if null is None:
        return
    if not has_form(null, estimator):
        raise ConfigError(
            given=f"null {name!r} with estimator {estimator!r}",
            expected=f"one of the estimators {', '.join(CORRELATED)}",
            cause="the closed form of this null is one of correlations",
            remedy="take the null window_shift",
        )
    if null.draw is None:
        return
    if null.needs_category:
        raise ConfigError(
            given=f"null {name!r} with series alone",
            expected="a Recording, whose prompts have categories",
            remedy="pass the recording to synatlas.decompose, or take the null cross_prompt",
        )
    if surrogates == 0:
        raise ConfigError(
            given=f"null {name!r} with surrogates 0",
            expected="at least one surrogate",
            cause="this null is sampled, and the default draws nothing",
            remedy="pass surrogates=199 to resolve p = 0.005",
        )
    if not can_run(null, n_steps):
        raise ConfigError(
            given=f"null {name!r} with {n_steps.size} prompts",
            expected=f"at least {null.least_prompts} prompts of one length",
            remedy="pass (prompt, step, unit), or take the null window_shift",
        )


def has_form(null: Null, estimator: str) -> bool:
    """Whether `null` is drawn, or in closed form under this estimator."""
    return null.draw is not None or ESTIMATORS[estimator].correlated


def can_run(null: Null, n_steps: np.ndarray) -> bool:
    """Whether some prompts of one length are as many as `null` needs."""
    return int(np.unique(n_steps, return_counts=True)[1].max()) >= null.least_prompts


def _whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)

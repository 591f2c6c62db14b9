"""The verdict as text: headline, findings with their numbers, warnings."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import xarray as xr

from synatlas.errors import ArtifactError
from synatlas.rank.verdict import Verdict as Judged
from synatlas.report.inert import visible

_UNDEFINED: Final = "not defined"

#: Name of a number that is one end of an interval.
_BOUND: Final = re.compile(r"(?:(?P<base>.*)_)?(?P<end>lower|upper)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One row of the findings table; `tone` is yes, no or open, for its style."""

    claim: str
    holds: str
    tone: str
    numbers: tuple[tuple[str, str], ...]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the rank stage concluded, ready to print."""

    headline: str
    findings: tuple[Finding, ...]
    warnings: tuple[str, ...]


def read_verdict(atlas: xr.Dataset) -> Verdict:
    """The verdict and the warnings of an atlas.

    Raises
    ------
    ArtifactError
        The attributes do not hold a verdict as the rank stage writes it.
    """
    verdict = _json(atlas, "verdict", dict)
    warnings = _json(atlas, "warnings", list)
    try:
        return Verdict(
            headline=visible(verdict["headline"]),
            findings=tuple(_finding(row) for row in verdict["findings"]),
            warnings=tuple(visible(sentence) for sentence in warnings),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise _malformed("verdict", f"{type(error).__name__}: {error}") from error


def told(verdict: Judged) -> Verdict:
    """A verdict that another stage made, ready to print."""
    return Verdict(
        headline=visible(verdict.headline),
        findings=tuple(_finding(asdict(one)) for one in verdict.findings),
        warnings=tuple(visible(sentence) for sentence in verdict.warnings),
    )


def core_missing(atlas: xr.Dataset) -> tuple[str, ...]:
    """What the call of the core lacks; empty where it was made."""
    return tuple(visible(text) for text in _json(atlas, "core_missing", list))


def _json(atlas: xr.Dataset, name: str, kind: type) -> Any:
    try:
        value = json.loads(atlas.attrs[name])
    except (TypeError, ValueError) as error:
        raise _malformed(name, str(error)) from error
    if not isinstance(value, kind):
        raise _malformed(name, f"it is a JSON {type(value).__name__}")
    return value


def _malformed(name: str, cause: str) -> ArtifactError:
    return ArtifactError(
        given=f"an atlas whose attribute {name!r} cannot be read",
        expected="JSON as the rank stage writes it",
        cause=cause,
        remedy="rank the atoms again",
    )


def _finding(row: Mapping[str, Any]) -> Finding:
    holds = {True: "yes", False: "no", None: "cannot tell"}.get(row["holds"], row["holds"])
    return Finding(
        claim=visible(row["claim"]),
        holds=visible(holds),
        tone=holds if holds in ("yes", "no") else "open",
        numbers=_numbers(row["numbers"]),
        why=visible(row["why"]),
    )


def _numbers(values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Names as words, units behind values, bounds in brackets after the number they bound.

    ``{"effect_nat": .1, "lower_nat": 0, "upper_nat": .2}`` is ``effect: 0.1 nat (0 to 0.2)``.
    """
    told: dict[str, str] = {}
    for name, value in values.items():
        stem, unit = (name[:-4], " nat") if name.endswith("_nat") else (name, "")
        bound = _BOUND.fullmatch(stem)
        if bound and {_end(name, "lower"), _end(name, "upper")} <= set(values):
            if bound["end"] == "upper":
                base = _words(bound["base"]) if bound["base"] else next(reversed(told), "")
                interval = number([values[_end(name, "lower")], value])
                if base not in told:
                    told[base] = interval
                elif told[base] != interval:
                    what = "interval " if interval == _UNDEFINED else ""
                    told[base] += f" ({what}{interval})"
        else:
            told[_words(stem)] = number(value) + (unit if _is_number(value) else "")
    return tuple(told.items())


def _end(name: str, end: str) -> str:
    """The name of the other end, or the same, of the interval that `name` bounds."""
    head, unit = (name[:-4], "_nat") if name.endswith("_nat") else (name, "")
    return f"{head[:-5]}{end}{unit}"


def _words(name: str) -> str:
    return visible(name).replace("_", " ")


def number(value: object) -> str:
    """A value as a reader wants it: three significant digits, intervals as ``a to b``.

    >>> number([0.123456, 2])
    '0.123 to 2'
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    match value:
        case None | [None, None]:
            return _UNDEFINED
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return _digits(value)
        case [low, high] if None in (low, high) or (_is_number(low) and _is_number(high)):
            return f"{number(low)} to {number(high)}"
        case list() | tuple():
            return ", ".join(number(item) for item in value)
        case Mapping():
            return "; ".join(f"{visible(key)}: {number(item)}" for key, item in value.items())
        case _:
            return visible(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _digits(value: float) -> str:
    if np.isnan(value):
        return _UNDEFINED
    if np.isinf(value):
        return "infinite" if value > 0 else "minus infinite"
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"

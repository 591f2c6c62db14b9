"""What a course of training shows, in words that are computed from its numbers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import pandas as pd

from synatlas.report.verdict import Finding
from synatlas.study.course import ALL, APERIODIC, State, since, trend
from synatlas.study.emerge import COMMON, CONTROLS, OWN

#: The published score, and the number that the criterion is about.
SCORE: Final = "rank_of_difference"
NUMBER: Final = "curvature"

#: How controls are spoken of.
SPOKEN: Final = {"random_init": "fresh weights", "shuffled": "shuffled weights"}

CRITERION: Final = (
    "A step is told apart from a control where the 95 % interval of the difference in curvature "
    "excludes 0, prompts, units and networks of the control drawn anew; and from a step on where "
    "that holds at it and at every later one. Each interval stands for itself: nothing is "
    "corrected for the number of steps."
)


#: A row of the table of a course.
Row = Mapping[str, Any]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Headline, findings and warnings of a course of training."""

    headline: str
    findings: tuple[Finding, ...]
    warnings: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Rows of one score over one kind of replies and prompts, in the order of steps."""

    rows: tuple[Row, ...]

    @property
    def last(self) -> Row:
        """The last step."""
        return self.rows[-1]

    def steps(self, column: str) -> list[tuple[int, bool]]:
        """Whether something holds, step by step."""
        return [(r["step"], r[column] is True) for r in self.rows]


def along(table: pd.DataFrame, score: str, replies: str, counted: str) -> Course:
    """The rows of the steps of training."""
    found = select(table, kind=("step",), score=score, replies=replies, counted=counted)
    return Course(rows=tuple(sorted(found, key=lambda row: row["step"])))


def select(table: pd.DataFrame, *, kind: Sequence[str], **chosen: str) -> list[Row]:
    """Rows with these values; a number that a row lacks is NaN."""
    rows: list[dict[Any, Any]] = table.to_dict("records")
    return [
        row
        for row in rows
        if row["kind"] in kind and all(row[name] == value for name, value in chosen.items())
    ]


def counted_prompts(table: pd.DataFrame) -> str:
    """Prompts that the findings over common tokens count: all where few replies are aperiodic."""
    rows = along(table, SCORE, COMMON, APERIODIC).rows
    return APERIODIC if all(row["status"] == "complete" for row in rows) else ALL


def judge(table: pd.DataFrame, states: Sequence[State]) -> Judgement:
    """Judge a course of training.

    Parameters
    ----------
    table : as :func:`synatlas.study.course.course` makes it.
    states : what it was made of.
    """
    counted = counted_prompts(table)
    main = along(table, SCORE, COMMON, counted)
    findings = (
        _shape_of_last(main),
        *(_against(main, kind, "The criterion stands below.") for kind in CONTROLS),
        _own(along(table, SCORE, OWN, APERIODIC), table),
        _like_the_last(main, table, counted),
        _no_longer_apart(main),
        _baseline(along(table, "synergy", COMMON, counted)),
        *(_above(table, counted, kind) for kind in CONTROLS),
        *(_other(table, score, counted) for score in ("difference_of_ranks", "synergy")),
        _other(table, "joint_prediction", ALL),
        *(_with(states, counted, other) for other in ("loss", "accuracy")),
    )
    return Judgement(
        headline=_headline(main, table, counted),
        findings=findings,
        warnings=_warnings(table, main, counted),
    )


def _headline(main: Course, table: pd.DataFrame, counted: str) -> str:
    last, first = int(main.last["step"]), main.rows[0]
    apart = {kind: since(main.steps(f"{kind}_{NUMBER}_differs")) for kind in CONTROLS}
    told = [
        f"from {SPOKEN[kind]} " + ("at no step" if step is None else f"from step {step} on")
        for kind, step in sorted(apart.items(), key=lambda item: item[1] is None)
    ]
    lines = [
        f"On the replies of the last step ({last}), the shape of {SCORE} over depth is told apart "
        f"{' and '.join(told)}."
    ]
    whole = all(step is not None for step in apart.values())
    early = any(first[f"{kind}_{NUMBER}_differs"] is True for kind in CONTROLS)
    if whole and not early:
        later = max(step for step in apart.values() if step is not None)
        lines.append(f"By this criterion it emerges in training, at step {later} of those mapped.")
    else:
        why = "one control is not excluded" if not whole else "the first step differs already"
        lines.append(f"By this criterion it is not shown to emerge in training: {why}.")
    return " ".join([*lines, _headline_of_baseline(table, counted)])


def _headline_of_baseline(table: pd.DataFrame, counted: str) -> str:
    at = along(table, "synergy", COMMON, counted).last
    above = along(table, "synergy_above_baseline", COMMON, counted).last
    r = f"r {at['baseline_profile_r']:.2f}"
    apart = all(above[f"{kind}_{NUMBER}_differs"] is True for kind in CONTROLS)
    if at[f"baseline_{NUMBER}_differs"] is not True:
        return (
            "The shape of synergy at the last step is not told apart from what autocorrelation "
            f"alone gives ({r} over layers)."
        )
    if not apart:
        return (
            "What synergy has beyond autocorrelation is not told apart from both controls "
            f"({r} of synergy with its autocorrelation baseline over layers)."
        )
    return (
        "What synergy has beyond autocorrelation is told apart from both controls too "
        f"({r} of synergy with its autocorrelation baseline over layers)."
    )


def _shape_of_last(main: Course) -> Finding:
    low, high = main.last[f"{NUMBER}_low"], main.last[f"{NUMBER}_high"]
    holds = _sign(low, high, {-1: "yes", 1: "no: a valley"})
    return Finding(
        claim=f"The last step's profile of {SCORE} is an arch",
        holds=holds or "not shown",
        tone=_tone(holds),
        numbers=_numbers(main.last, NUMBER) + _numbers(main.last, "mid_minus_ends"),
        why="Curvature below 0 is an arch over depth.",
    )


def _against(course: Course, kind: str, why: str) -> Finding:
    name = f"{kind}_{NUMBER}"
    step = since(course.steps(f"{name}_differs"))
    numbers = _numbers(course.last, name, shown="last step minus control")
    return Finding(
        claim=f"The shape is told apart from {SPOKEN[kind]} on the same tokens",
        holds=_from(step),
        tone="open" if step is None else "yes",
        numbers=numbers,
        why=why,
    )


def _own(course: Course, table: pd.DataFrame) -> Finding:
    """Own replies, where those that are periodic are left out."""
    controls = select(table, kind=tuple(CONTROLS), score=SCORE, replies=OWN, counted=APERIODIC)
    usable = [row for row in controls if row["status"] == "complete"]
    periodic = ", ".join(f"{row['periodic_replies']:.0f}" for row in course.rows)
    steps = [kind for kind in CONTROLS if _defined(course, f"{kind}_{NUMBER}")]
    apart = {k: since(course.steps(f"{k}_{NUMBER}_differs")) for k in steps}
    return Finding(
        claim="So too on replies of their own, periodic ones left out",
        holds=_how_many(apart),
        tone="yes" if len(apart) == len(CONTROLS) and None not in apart.values() else "open",
        numbers=(
            *_since_each(apart),
            ("controls with 10 such replies", f"{len(usable)} of {len(controls)}"),
            ("periodic at each step", periodic),
        ),
        why="A periodic reply measures its loop; where fewer than 10 others are left there is no "
        "number.",
    )


def _defined(course: Course, column: str) -> bool:
    return any(math.isfinite(row.get(column, math.nan)) for row in course.rows)


def _like_the_last(main: Course, table: pd.DataFrame, counted: str) -> Finding:
    controls = select(table, kind=tuple(CONTROLS), score=SCORE, replies=COMMON, counted=counted)
    bound = max(row["profile_r_high"] for row in controls)
    before = main.rows[:-1]
    holds = [(r["step"], r["profile_r_low"] > bound) for r in before]
    step = since(holds)
    numbers = [("controls at most", f"{bound:.2f}")]
    numbers += [
        (f"step {r['step']}", _value(*(r[f"profile_r{end}"] for end in ("", "_low", "_high"))))
        for r in before[-4:]
    ]
    return Finding(
        claim="The profile is more like that of the last step than any control's is",
        holds=_from(step),
        tone="open" if step is None else "yes",
        numbers=tuple(numbers),
        why="Where the interval of the correlation lies above those of all controls.",
    )


def _no_longer_apart(main: Course) -> Finding:
    before = main.steps(f"last_{NUMBER}_differs")[:-1]
    step = since((at, not differs) for at, differs in before)
    return Finding(
        claim="The shape is no longer told apart from that of the last step",
        holds=_from(step),
        tone="open",
        numbers=(("differs at step", ", ".join(str(at) for at, d in before if d) or "none"),),
        why="Not told apart is not the same: the wider the intervals, the sooner it holds.",
    )


def _baseline(course: Course) -> Finding:
    name = f"baseline_{NUMBER}"
    differs = course.steps(f"{name}_differs")
    at = [step for step, true in differs if true]
    r = [row["baseline_profile_r"] for row in course.rows]
    return Finding(
        claim="Synergy's shape is another than that of its autocorrelation baseline",
        holds=f"at {len(at)} of {len(differs)} steps",
        tone="yes" if course.last[f"{name}_differs"] is True else "no",
        numbers=(
            ("steps", ", ".join(map(str, at)) or "none"),
            *_numbers(course.last, name, shown="last step minus baseline"),
            ("correlation over layers, last step", f"{course.last['baseline_profile_r']:.2f}"),
            ("least over steps", f"{min(r):.2f}"),
        ),
        why="Where the shapes agree, autocorrelation explains that of synergy.",
    )


def _above(table: pd.DataFrame, counted: str, kind: str) -> Finding:
    course = along(table, "synergy_above_baseline", COMMON, counted)
    found = _against(course, kind, "Synergy minus its autocorrelation baseline.")
    claim = f"What synergy has beyond autocorrelation is told apart from {SPOKEN[kind]}"
    return Finding(
        claim=claim, holds=found.holds, tone=found.tone, numbers=found.numbers, why=found.why
    )


def _other(table: pd.DataFrame, score: str, counted: str) -> Finding:
    course = along(table, score, COMMON, counted)
    apart = {kind: since(course.steps(f"{kind}_{NUMBER}_differs")) for kind in CONTROLS}
    numbers = _since_each(apart) + _numbers(course.last, NUMBER)
    for kind in CONTROLS:
        shown = f"last step minus {SPOKEN[kind]}"
        numbers += _numbers(course.last, f"{kind}_{NUMBER}", shown=shown)
    return Finding(
        claim=f"The shape of {score} is told apart from both controls",
        holds=_how_many(apart),
        tone="yes" if None not in apart.values() else "open",
        numbers=numbers,
        why="Its pseudo-values belong to all prompts together, so none is left out."
        if score == "joint_prediction"
        else "The same criterion for another score.",
    )


def _with(states: Sequence[State], counted: str, other: str) -> Finding:
    found = trend(states, SCORE, NUMBER, counted, other, replies=COMMON)
    step = trend(states, SCORE, NUMBER, counted, "step", replies=COMMON)
    holds = _sign(found.lower, found.upper, {-1: "falls with it", 1: "grows with it"})
    return Finding(
        claim=f"Over {found.steps} steps curvature goes with {other}",
        holds=holds or "not shown",
        tone="open",
        numbers=(
            ("Spearman", _value(found.value, found.lower, found.upper)),
            ("Spearman with the step", _value(step.value, step.lower, step.upper)),
        ),
        why="What changes throughout training goes with everything else that does. The interval is "
        "over prompts and units.",
    )


def _from(step: int | None) -> str:
    return "no" if step is None else f"from step {step} on"


def _how_many(apart: Mapping[str, int | None]) -> str:
    """Whether something holds from a step on against both controls, one, or none."""
    if not apart:
        return "not defined"
    true = [kind for kind, step in apart.items() if step is not None]
    return "yes" if len(true) == len(CONTROLS) else "in part" if true else "no"


def _since_each(apart: Mapping[str, int | None]) -> tuple[tuple[str, str], ...]:
    return tuple((SPOKEN[kind], _from(step)) for kind, step in apart.items())


def _sign(low: float, high: float, words: dict[int, str]) -> str:
    if high < 0:
        return words[-1]
    return words[1] if low > 0 else ""


def _tone(holds: str) -> str:
    return "open" if not holds else "no" if holds.startswith("no") else "yes"


def _numbers(row: Row, name: str, *, shown: str = "") -> tuple[tuple[str, str], ...]:
    words = shown or name.replace("_", " ")
    if name not in row or not math.isfinite(row[name]):
        return ((words, "not defined"),)
    return ((words, _value(row[name], row[f"{name}_low"], row[f"{name}_high"])),)


def _value(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        return "not defined"
    return f"{value:+.2f} ({low:+.2f} to {high:+.2f})"


def _warnings(table: pd.DataFrame, main: Course, counted: str) -> tuple[str, ...]:
    found = []
    if counted == ALL:
        found.append(
            "The replies of the last step are periodic but for fewer than 10: the common tokens "
            "are mostly loops, and all of them count."
        )
    first = main.rows[0]
    prompts, periodic = int(first["prompts"]), int(main.last["periodic_replies"])
    if periodic:
        found.append(
            f"{periodic} replies of the last step are periodic; {prompts} prompts count over the "
            "common tokens."
        )
    seeds = {kind: len({row["seed"] for row in select(table, kind=(kind,))}) for kind in CONTROLS}
    each = " and ".join(f"{n} with {SPOKEN[kind]}" for kind, n in seeds.items())
    found.append(f"Controls are {each}; this is one training of one model, and no law over models.")
    return tuple(found)

"""The page of a course of training: profiles step by step, shape beside loss and accuracy."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from synatlas.report.style import (
    DASHES,
    DEPTH_TITLE,
    MUTED,
    PALETTE,
    TEMPLATE,
    add_band,
    error_bars,
    spoken,
)
from synatlas.study.course import ALL, State
from synatlas.study.emerge import COMMON, CONTROLS, OWN, Emergence
from synatlas.study.emerge_verdict import (
    CRITERION,
    NUMBER,
    SCORE,
    SPOKEN,
    Course,
    Judgement,
    along,
    counted_prompts,
    select,
)
from synatlas.study.page import Page, Section, Table, figure_plot, write_page

#: Scores whose profiles are drawn step by step.
DRAWN: Final = (SCORE, "difference_of_ranks", "synergy", "synergy_above_baseline")

#: Colours of what the lines stand for.
COLOURS: Final[Mapping[str, str]] = {
    COMMON: PALETTE[0],
    OWN: PALETTE[1],
    "random_init": PALETTE[2],
    "shuffled": PALETTE[3],
}

#: What a score is measured in.
_UNITS: Final = {
    SCORE: "rank / units",
    "difference_of_ranks": "difference of ranks / units",
}

_COLUMNS: Final = 4

REFERENCES: Final = (
    (
        "A Brain-like Synergistic Core in LLMs Drives Behaviour and Learning, arXiv:2601.06851",
        "https://arxiv.org/abs/2601.06851",
    ),
    (
        "Varley (2024): what autocorrelation alone gives under minimum mutual information, "
        "arXiv:2407.16601",
        "https://arxiv.org/abs/2407.16601",
    ),
)


def emergence_page(
    path: Path,
    laid: Emergence,
    states: Sequence[State],
    table: pd.DataFrame,
    judgement: Judgement,
    failures: Sequence[str] = (),
) -> Path:
    """Write the page of a course of training.

    Parameters
    ----------
    path : of the HTML file.
    laid : what was studied.
    states, table : as :mod:`synatlas.study.course` makes them.
    judgement : as :func:`synatlas.study.emerge_verdict.judge` makes it.
    failures : names of cells that could not be made, with their reasons.
    """
    return write_page(
        path,
        Page(
            title=f"Training of {laid.training.model}",
            summary=_summary(laid, states),
            headline=judgement.headline,
            findings=judgement.findings,
            warnings=(*failures, *judgement.warnings),
            sections=_sections(states, table),
            references=REFERENCES,
        ),
    )


def _summary(laid: Emergence, states: Sequence[State]) -> str:
    own = next(s for s in states if s.kind == "step")
    left = len(laid.training.left_out)
    return (
        f"{len(laid.chosen)} of {len(laid.training.revisions)} revisions, {own.layer.size} units "
        f"in {np.unique(own.layer).size} layers, {own.aperiodic.size} prompts"
        + (f"; {left} other names are no revisions of this line" if left else "")
    )


def _sections(states: Sequence[State], table: pd.DataFrame) -> tuple[Section, ...]:
    counted = counted_prompts(table)
    return (
        Section(
            name="course",
            title="Shape over training",
            text=(CRITERION,),
            plots=(
                figure_plot(
                    "course",
                    "Shape, loss and accuracy over training",
                    course_figure(table, counted),
                    "How to read it: curvature below 0 is an arch over depth. Points are steps with"
                    " their 95 % interval; dashed lines are the controls on the same tokens, the"
                    " shade their intervals together. Loss is in nats per token of held questions.",
                ),
            ),
        ),
        Section(
            name="slider",
            title="One profile over training",
            text=("Move the slider through training.",),
            plots=(
                figure_plot(
                    "slider",
                    f"Profile of {spoken(SCORE)}",
                    slider_figure(states, counted),
                    "How to read it: the line is the mean over the units of a layer on the replies"
                    " of the last step, its shade the interval over prompts; dotted is the last"
                    " step; thin lines are the controls on the same tokens.",
                ),
            ),
        ),
        Section(
            name="steps",
            title="Profiles at every step",
            text=("One panel for each step, all on one scale.",),
            choose="Score",
            plots=tuple(
                figure_plot(
                    f"steps-{score.replace('_', '-')}",
                    spoken(score),
                    steps_figure(states, score, counted),
                    "How to read it: blue on the replies of the last step, orange dashed on replies"
                    " of its own, periodic ones left out where ten others are there; shades are"
                    " intervals over prompts; dotted is the last step."
                    + (" Grey is what autocorrelation alone gives." if score == "synergy" else ""),
                )
                for score in DRAWN
            ),
        ),
        Section(
            name="table",
            title="Every step and control",
            text=(
                "Curvature, likeness to the last step, and differences in curvature from controls, "
                "with 95 % intervals. The file emergence.parquet holds every score.",
            ),
            tables=tuple(
                _table(table, replies, counted if replies == COMMON else "aperiodic")
                for replies in (COMMON, OWN)
            ),
        ),
    )


def positions(steps: Sequence[int]) -> np.ndarray:
    """Steps on a logarithmic axis; step 0, which has no place there, half as far as the first."""
    first = min((s for s in steps if s > 0), default=1)
    return np.array([s if s > 0 else first / 2 for s in steps], dtype=float)


def course_figure(table: pd.DataFrame, counted: str) -> go.Figure:
    """Curvature, middle minus ends, loss and accuracy against the step."""
    common = along(table, SCORE, COMMON, counted)
    own = along(table, SCORE, OWN, "aperiodic")
    rows = (
        ("curvature", f"curvature of<br>{spoken(SCORE)}"),
        ("mid_minus_ends", "middle<br>minus ends"),
        ("baseline", "curvature of<br>synergy"),
        ("loss", "loss<br>(nat per token)"),
        ("accuracy", "accuracy"),
    )
    figure: Any = make_subplots(rows=len(rows), cols=1, shared_xaxes=True, vertical_spacing=0.035)
    figure.update_layout(template=TEMPLATE, height=980, margin={"t": 70})
    for at, (name, title) in enumerate(rows, start=1):
        place: Any = {"row": at, "col": 1}
        if name in {"curvature", "mid_minus_ends"}:
            _controls(figure, table, common, name, counted, place, legend=at == 1)
            _points(figure, common, name, COMMON, place, legend=at == 1)
            _points(figure, own, name, OWN, place, legend=at == 1)
        elif name == "baseline":
            _with_baseline(figure, table, counted, place)
        else:
            _measure(figure, along(table, SCORE, OWN, ALL), name, place)
        figure.update_yaxes(title_text=title, **place)
    steps = [row["step"] for row in common.rows]
    figure.update_xaxes(
        type="log", tickvals=positions(steps), ticktext=[f"{s:,}" for s in steps], tickangle=0
    )
    figure.update_xaxes(title_text="step of training (log)", row=len(rows), col=1)
    figure.update_layout(legend={"y": 1.01})
    return figure


def _points(
    figure: go.Figure,
    course: Course,
    number: str,
    name: str,
    place: Any,
    *,
    legend: bool,
    shown: str = "",
    colour: str = "",
    dash: str = "",
) -> None:
    rows = [r for r in course.rows if math.isfinite(r.get(number, math.nan))]
    figure.add_scatter(
        x=positions([r["step"] for r in rows]) if rows else [],
        y=[r[number] for r in rows],
        error_y=error_bars(
            [r[f"{number}_high"] - r[number] for r in rows],
            [r[number] - r[f"{number}_low"] for r in rows],
            thickness=1,
        ),
        customdata=[[r["step"], r["prompts"]] for r in rows],
        mode="lines+markers",
        line={"color": colour or COLOURS[name], "dash": dash or _dash(name)},
        marker={"size": 7, "symbol": "circle" if name == COMMON else "diamond"},
        name=shown or _replies(name),
        showlegend=legend,
        hovertemplate="step %{customdata[0]:,}, %{customdata[1]} prompts<br>%{y:.3g}"
        "<extra>%{fullData.name}</extra>",
        **place,
    )


def _dash(name: str) -> str:
    return "solid" if name == COMMON else "dash"


def _replies(name: str) -> str:
    return "replies of the last step" if name == COMMON else "own replies, not periodic"


def _controls(
    figure: go.Figure,
    table: pd.DataFrame,
    common: Course,
    number: str,
    counted: str,
    place: Any,
    *,
    legend: bool,
) -> None:
    x = positions([row["step"] for row in common.rows])
    ends = np.array([x.min(), x.max()])
    for position, kind in enumerate(CONTROLS):
        rows = select(table, kind=(kind,), score=SCORE, replies=COMMON, counted=counted)
        low, high = (
            np.full(2, f([r[f"{number}_{end}"] for r in rows]))
            for f, end in ((min, "low"), (max, "high"))
        )
        add_band(figure, ends, low, high, colour=COLOURS[kind], **place)
        for at, row in enumerate(rows):
            figure.add_scatter(
                x=ends,
                y=[row[number]] * 2,
                mode="lines",
                line={"color": COLOURS[kind], "width": 1.2, "dash": DASHES[1 + position]},
                name=SPOKEN[kind],
                showlegend=legend and at == 0,
                hovertemplate=f"{SPOKEN[kind]}, seed {row['seed']:.0f}<br>%{{y:.3g}}"
                "<extra></extra>",
                **place,
            )


def _with_baseline(figure: go.Figure, table: pd.DataFrame, counted: str, place: Any) -> None:
    lines = (
        ("synergy", PALETTE[5], "solid"),
        ("autocorrelation_baseline", MUTED, "dot"),
        ("synergy_above_baseline", PALETTE[4], "longdash"),
    )
    for score, colour, dash in lines:
        course = along(table, score, COMMON, counted)
        shown = spoken(score)
        _points(
            figure,
            course,
            NUMBER,
            COMMON,
            place,
            legend=True,
            shown=shown,
            colour=colour,
            dash=dash,
        )


def _measure(figure: go.Figure, course: Course, name: str, place: Any) -> None:
    rows = [r for r in course.rows if math.isfinite(r[name])]
    figure.add_scatter(
        x=positions([r["step"] for r in rows]) if rows else [],
        y=[r[name] for r in rows],
        mode="lines+markers",
        line={"color": PALETTE[6]},
        showlegend=False,
        hovertemplate="%{y:.3g}<extra></extra>",
        **place,
    )


def _profile(state: State, score: str, counted: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth, profile, and its bounds; of NaN where too few replies count."""
    made = state.shapes[ALL]
    depth = made["depth"].to_numpy()
    if counted not in state.shapes:
        return depth, np.full(depth.size, np.nan), np.full((depth.size, 2), np.nan)
    at = state.shapes[counted].sel(score=score)
    return depth, at["profile"].to_numpy(), at["profile_interval"].to_numpy()


def _ordered(states: Sequence[State], replies: str) -> list[State]:
    found = [s for s in states if s.kind == "step" and s.replies == replies]
    return sorted(found, key=lambda s: s.step)


def slider_figure(states: Sequence[State], counted: str) -> go.Figure:
    """The profile of the published score at one step, chosen by a slider."""
    steps = _ordered(states, COMMON)
    figure: Any = go.Figure(layout={"template": TEMPLATE, "height": 470})
    figure.update_xaxes(title_text=DEPTH_TITLE)
    figure.update_yaxes(title_text=f"{spoken(SCORE)} ({_UNITS[SCORE]})")
    for kind in CONTROLS:
        for state in (s for s in states if s.kind == kind and s.replies == COMMON):
            depth, values, _ = _profile(state, SCORE, counted)
            name = f"{SPOKEN[kind]}, seed {state.seed}"
            _line(figure, depth, values, COLOURS[kind], name, width=1.0, dash="dot")
    depth, values, _ = _profile(steps[-1], SCORE, counted)
    _line(figure, depth, values, MUTED, f"step {steps[-1].step:,}, the last", dash="dash")
    always = len(figure.data)
    groups = []
    for state in steps:
        before = len(figure.data)
        depth, values, bounds = _profile(state, SCORE, counted)
        add_band(figure, depth, bounds[:, 0], bounds[:, 1], colour=COLOURS[COMMON])
        _line(figure, depth, values, COLOURS[COMMON], f"step {state.step:,}", width=2.5)
        groups.append(range(before, len(figure.data)))
    total = len(figure.data)
    shown = [[i < always or i in group for i in range(total)] for group in groups]
    for trace, visible in zip(figure.data, shown[-1], strict=True):
        trace.visible = visible
    figure.update_layout(
        margin={"b": 120},
        sliders=[
            {
                "active": len(steps) - 1,
                "currentvalue": {"prefix": "step "},
                "pad": {"t": 45},
                "steps": [
                    {"label": f"{s.step:,}", "method": "restyle", "args": [{"visible": v}]}
                    for s, v in zip(steps, shown, strict=True)
                ],
            }
        ],
    )
    return figure


def _line(
    figure: go.Figure,
    x: np.ndarray,
    y: np.ndarray,
    colour: str,
    name: str,
    *,
    width: float = 2,
    dash: str = "solid",
    legend: bool = True,
    **place: Any,
) -> None:
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines",
        line={"color": colour, "width": width, "dash": dash},
        name=name,
        showlegend=legend,
        hovertemplate="depth %{x:.2f}<br>%{y:.4g}<extra>%{fullData.name}</extra>",
        **place,
    )


def steps_figure(states: Sequence[State], score: str, counted: str) -> go.Figure:
    """A panel for each step: profiles on both kinds of replies, and the last step's."""
    common, own = _ordered(states, COMMON), {s.step: s for s in _ordered(states, OWN)}
    count = -(-len(common) // _COLUMNS)
    figure: Any = make_subplots(
        rows=count,
        cols=_COLUMNS,
        shared_xaxes=True,
        shared_yaxes=True,
        horizontal_spacing=0.02,
        vertical_spacing=0.22 / count,
        subplot_titles=[f"step {s.step:,}" for s in common],
    )
    figure.update_layout(template=TEMPLATE, height=120 + 190 * count, margin={"t": 60})
    _, last, _ = _profile(common[-1], score, counted)
    for at, state in enumerate(common):
        place: Any = {"row": at // _COLUMNS + 1, "col": at % _COLUMNS + 1}
        first = at == 0
        depth = state.shapes[ALL]["depth"].to_numpy()
        _line(figure, depth, last, MUTED, "last step", width=1.2, dash="dot", legend=first, **place)
        if score == "synergy":
            _, base, _ = _profile(state, "autocorrelation_baseline", counted)
            name = "autocorrelation baseline"
            _line(figure, depth, base, MUTED, name, width=1.2, dash="dash", legend=first, **place)
        for replies, of in ((OWN, own.get(state.step)), (COMMON, state)):
            if of is None or (replies == OWN and at == len(common) - 1):
                continue
            which = counted if replies == COMMON else "aperiodic"
            _, values, bounds = _profile(of, score, which)
            add_band(figure, depth, bounds[:, 0], bounds[:, 1], colour=COLOURS[replies], **place)
            name, dash = _replies(replies), _dash(replies)
            _line(figure, depth, values, COLOURS[replies], name, dash=dash, legend=first, **place)
    figure.update_xaxes(title_text="depth", row=count)
    figure.update_yaxes(matches="y")
    figure.update_yaxes(title_text=_UNITS.get(score, "nat"), col=1)
    if score == "synergy":
        # Untrained networks have a hundred times more.
        figure.update_yaxes(type="log")
    figure.update_layout(legend={"y": 1.0 + 40 / (120 + 190 * count)})
    return figure


def _table(table: pd.DataFrame, replies: str, counted: str) -> Table:
    kinds = ("step", *CONTROLS)
    rows = select(table, kind=kinds, score=SCORE, replies=replies, counted=counted)
    ordered = sorted(rows, key=lambda r: (r["kind"] != "step", r["kind"], r["step"], r["seed"]))
    return Table(
        label="On the replies of the last step" if replies == COMMON else "On replies of their own",
        columns=(
            "network", "prompts", "curvature", "r with last", "minus fresh", "minus shuffled",
            "loss", "accuracy",
        ),
        rows=tuple(_cells(row) for row in ordered),
    )  # fmt: skip


def _cells(row: Mapping[Any, Any]) -> tuple[str, ...]:
    name = f"step {row['step']:,}"
    if row["kind"] != "step":
        name = f"{SPOKEN[row['kind']]}, seed {row['seed']:.0f}"
    numbers = (NUMBER, "profile_r", f"random_init_{NUMBER}", f"shuffled_{NUMBER}")
    measured = (_number(row["loss"]), _number(row["accuracy"]))
    return (name, str(row["prompts"]), *(_with_interval(row, n) for n in numbers), *measured)


def _with_interval(row: Mapping[Any, Any], column: str) -> str:
    low, high = (row.get(f"{column}_{end}", math.nan) for end in ("low", "high"))
    interval = f" ({low:.2f} to {high:.2f})" if math.isfinite(low) else ""
    return f"{_number(row.get(column))}{interval}"


def _number(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) and math.isfinite(value) else "–"

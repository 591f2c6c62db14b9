"""The page of a comparison: profiles side by side, shapes with controls, agreement."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from plotly.subplots import make_subplots

from synatlas.report.inert import plot_text
from synatlas.report.profiles import titles_left
from synatlas.report.style import (
    DIVERGING,
    MUTED,
    PALETTE,
    TEMPLATE,
    add_band,
    add_line,
    canvas,
    error_bars,
    spoken,
)
from synatlas.report.verdict import number
from synatlas.study import contrast
from synatlas.study.compare import COMMON, FRESH, OWN
from synatlas.study.compare_verdict import findings, headline, listed, warnings
from synatlas.study.contrast import View
from synatlas.study.page import Page, Plot, Section, Table, figure_plot
from synatlas.study.shapes import RANKS

#: Roles with their colour and dash.
_LOOK: Final = {
    OWN: (PALETTE[0], "solid"),
    COMMON: (PALETTE[1], "dash"),
    FRESH: (MUTED, "dot"),
}

_COLUMNS: Final = 3

REFERENCES: Final = (
    (
        "A Brain-like Synergistic Core in LLMs Drives Behaviour and Learning",
        "https://arxiv.org/abs/2601.06851",
    ),
    (
        "Varley: Considering dynamical synergy and integrated information; the unusual case of"
        " minimum mutual information",
        "https://arxiv.org/abs/2407.16601",
    ),
    (
        "Hedges (1981): Distribution theory for Glass's estimator of effect size",
        "https://doi.org/10.3102/10769986006002107",
    ),
)


def compare_page(found: Sequence[View], table: pd.DataFrame, failed: Sequence[str]) -> Page:
    """The page of a comparison.

    Parameters
    ----------
    found : views of the study's cells.
    table : its tidy table.
    failed : cells that could not be run.
    """
    numbers, fresh = contrast.numbers(found), contrast.against_fresh(found)
    pairs = contrast.pairs(found)
    judged = findings(numbers, fresh, pairs)
    known = set(numbers["score"]) if "score" in numbers else set()
    scores = [s for s in contrast.SCORES if s in known]
    return Page(
        title="Models compared",
        summary=f"{listed(found)} · {len(found)} maps",
        headline=headline(judged),
        findings=judged,
        warnings=warnings(found, failed),
        sections=(
            Section(
                name="profiles",
                title="Profiles over depth",
                text=(
                    "How to read it: one panel for each model, the mean over the units of a layer "
                    "against depth; the band is the bootstrap interval over prompts. Dashed: the "
                    "same model reading the replies of the first model with its tokenizer. Dotted: "
                    "its architecture with fresh weights, reading these too.",
                    "Periodic replies are left out. Ranks are divided by the number of units.",
                ),
                plots=tuple(_profiles(found, score) for score in scores),
                choose="Score",
            ),
            Section(
                name="shapes",
                title="Middle minus ends",
                text=(
                    "How to read it: mean over the middle third of depth minus the mean over the "
                    "rest, each profile scaled to 0..1, with bootstrap intervals over prompts and "
                    "units; what a model shows is due to training only as far as it leaves the "
                    "grey points of its fresh weights.",
                ),
                plots=tuple(_forest(numbers, score) for score in scores),
                choose="Score",
                tables=(_shape_table(numbers), _fresh_table(fresh)),
            ),
            Section(
                name="pairs",
                title="Model against model",
                text=(
                    "How to read it: Spearman's correlation of two profiles over common depths; "
                    "the table adds how far their middle-minus-ends differ, in standard errors.",
                ),
                plots=tuple(_agreements(pairs, score) for score in scores),
                choose="Score",
                tables=(_pair_table(pairs),),
            ),
            Section(
                name="models",
                title="Models and runs",
                text=(
                    "Loss in nats per token on solved questions that no bundled model was trained "
                    "on, accuracy over six categories of such questions; tokens of different "
                    "tokenizers are not of one size.",
                ),
                tables=(_model_table(table),),
            ),
        ),
        references=REFERENCES,
    )


def _profiles(found: Sequence[View], score: str) -> Plot:
    names = contrast.models(found)
    rows = -(-len(names) // _COLUMNS)
    figure = make_subplots(
        rows=rows,
        cols=min(_COLUMNS, len(names)),
        shared_xaxes=True,
        shared_yaxes=score in RANKS,
        subplot_titles=[plot_text(name) for name in names],
        vertical_spacing=min(0.12, 0.4 / rows),
        horizontal_spacing=0.06,
    )
    figure.update_layout(template=TEMPLATE, height=120 + 210 * rows, showlegend=False)
    for view in found:
        if view.shapes is None or score not in view.shapes["score"]:
            continue
        at = view.shapes.sel(score=score)
        position = names.index(view.model)
        place: dict[str, Any] = {"row": position // _COLUMNS + 1, "col": position % _COLUMNS + 1}
        colour, dash = _LOOK[view.role]
        depth, layers = at["depth"].to_numpy(), np.arange(at.sizes["layer"])
        if view.role == OWN:
            low, high = at["profile_interval"].transpose("ci_bound", "layer").to_numpy()
            add_band(figure, depth, low, high, colour=colour, **place)
        told = view.role if view.role != FRESH else f"{view.role}, seed {view.seed}"
        add_line(
            figure, depth, at["profile"].to_numpy(), layers, colour=colour, name=told, dash=dash,
            markers=view.role == OWN, width=2.0 if view.role == OWN else 1.3, **place,
        )  # fmt: skip
    figure.update_xaxes(title_text="depth", row=rows)
    title = f"{spoken(score)} / number of units" if score in RANKS else f"{spoken(score)} (nat)"
    figure.update_yaxes(title_text=title, col=1)
    caption = "Solid: replies of its own; dashed: common tokens; dotted: fresh weights."
    return figure_plot(f"profiles-{score}", spoken(score), titles_left(figure), caption)


def _forest(numbers: pd.DataFrame, score: str) -> Plot:
    rows: Any = numbers[numbers["score"] == score]
    names = list(dict.fromkeys(numbers["model"]))
    figure = canvas(height=110 + 56 * len(names), x_title="middle minus ends (profile 0..1)")
    for role, offset in ((OWN, 0.22), (COMMON, 0.0), (FRESH, -0.22)):
        part = rows[rows["role"] == role]
        value, low, high = (
            part[f"mid_minus_ends{end}"].to_numpy() for end in ("", "_low", "_high")
        )
        figure.add_scatter(
            x=value,
            y=[names.index(m) + offset for m in part["model"]],
            mode="markers",
            name=role,
            marker={
                "color": _LOOK[role][0],
                "size": 8,
                "symbol": ("circle", "diamond", "x")[(OWN, COMMON, FRESH).index(role)],
            },
            error_x=error_bars(high - value, value - low),
            hovertemplate="%{x:.3g}<extra>" + role + "</extra>",
        )
    figure.add_vline(x=0, line={"color": MUTED, "width": 1, "dash": "dot"})
    figure.update_yaxes(
        tickvals=list(range(len(names))), ticktext=[plot_text(n) for n in names],
        range=[len(names) - 0.5, -0.5],
    )  # fmt: skip
    caption = "Points with 95 % intervals; grey crosses are fresh weights, one for each seed."
    return figure_plot(f"shapes-{score}", spoken(score), figure, caption)


def _agreements(pairs: pd.DataFrame, score: str) -> Plot:
    rows: Any = pairs[pairs["score"] == score]
    names = list(dict.fromkeys([*pairs["first"], *pairs["second"]]))
    grid = np.full((len(names), len(names)), np.nan)
    for row in rows.to_dict("records"):
        i, j = names.index(row["first"]), names.index(row["second"])
        grid[i, j] = grid[j, i] = row["agreement"]
    shown = [plot_text(name) for name in names]
    figure = canvas(height=160 + 44 * len(names))
    figure.add_heatmap(
        z=grid, x=shown, y=shown, zmin=-1, zmax=1, colorscale=[list(c) for c in DIVERGING],
        text=[["" if np.isnan(v) else f"{v:+.2f}" for v in line] for line in grid],
        texttemplate="%{text}", hovertemplate="%{x}<br>%{y}<br>%{z:.2f}<extra></extra>",
        colorbar={"title": "Spearman"},
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed")
    caption = "Blank where two profiles share too few depths, or one is constant."
    return figure_plot(f"pairs-{score}", spoken(score), figure, caption)


def _bounded(row: Any, name: str, low: str = "", high: str = "") -> str:
    bounds = [row[low or f"{name}_low"], row[high or f"{name}_high"]]
    if not np.isfinite(row[name]):
        return "not defined"
    return f"{number(float(row[name]))} ({number([float(b) for b in bounds])})"


def _shape_table(numbers: pd.DataFrame) -> Table:
    rows = tuple(
        (
            row["model"],
            f"{row['role']} {row['init_seed']}" if row["role"] == FRESH else row["role"],
            row["score"].replace("_", " "),
            f"{row['aperiodic']} of {row['prompts']}",
            _bounded(row, "mid_minus_ends"),
            _bounded(row, "mid_minus_ends_raw"),
            _bounded(row, "effect_size"),
            _bounded(row, "curvature"),
        )
        for row in numbers.to_dict("records")
        if isinstance(row.get("score"), str)
    )
    return Table(
        label="Numbers of every profile, with 95 % intervals",
        columns=(
            "model", "run", "score", "prompts", "middle minus ends", "in its unit", "Hedges' g",
            "curvature",
        ),
        rows=rows,
        text_columns=3,
    )  # fmt: skip


def _fresh_table(fresh: pd.DataFrame) -> Table:
    return Table(
        label="Middle minus ends, less that of fresh weights on the same tokens",
        columns=("model", "score", "seed", "difference", "in standard errors"),
        rows=tuple(
            (
                row["model"],
                row["score"].replace("_", " "),
                str(row["init_seed"]),
                _bounded(row, "difference", "low", "high"),
                number(float(row["effect"])),
            )
            for row in fresh.to_dict("records")
        ),
        text_columns=2,
    )


def _pair_table(pairs: pd.DataFrame) -> Table:
    return Table(
        label="Every two models",
        columns=(
            "first", "second", "tokens", "score", "difference", "in standard errors", "agreement",
        ),
        rows=tuple(
            (
                row["first"],
                row["second"],
                row["tokens"],
                row["score"].replace("_", " "),
                _bounded(row, "difference", "low", "high"),
                number(float(row["effect"])),
                _bounded(row, "agreement"),
            )
            for row in pairs.to_dict("records")
        ),
        text_columns=4,
    )  # fmt: skip


def _model_table(table: pd.DataFrame) -> Table:
    cells = table.drop_duplicates("cell")
    shares = [c for c in table.columns if c.startswith("accuracy_")]
    rows = tuple(
        (
            str(row["cell"]),
            str(row["role"]),
            str(row["status"]) if row["status"] != "complete" else "",
            *(_count(row.get(name)) for name in ("units", "layers", "periodic_replies")),
            *(_share(row.get(name)) for name in ("loss", "accuracy", *shares)),
        )
        for row in cells.to_dict("records")
    )
    heads = [name.removeprefix("accuracy_").replace("_", " ") for name in shares]
    return Table(
        label="Runs",
        columns=(
            "run", "role", "failure", "units", "layers", "periodic", "loss", "accuracy", *heads,
        ),
        rows=rows,
        text_columns=3,
    )  # fmt: skip


def _count(value: Any) -> str:
    return "" if pd.isna(value) else f"{value:.0f}"


def _share(value: Any) -> str:
    return "" if pd.isna(value) else f"{value:.3g}"

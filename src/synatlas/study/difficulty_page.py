"""Figures, tables and page of the study of difficulty."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from synatlas.report.inert import plot_text
from synatlas.report.style import PALETTE, TEMPLATE, error_bars, faded
from synatlas.report.verdict import number
from synatlas.study.difficulty import ABOVE, BASELINE, DIFFERENCE
from synatlas.study.difficulty_changes import SCORES, VIEWS, Change, Sides, find
from synatlas.study.difficulty_words import SAID, Words, told
from synatlas.study.forms import ABRUPT, FORMS
from synatlas.study.page import Page, Section, Table, figure_plot, write_page

#: Views that are drawn, each with its colour.
_DRAWN: Final = {"asked": PALETTE[1], "packed": PALETTE[0]}
_COLUMNS: Final = 3
_ROW: Final = 250

_REFERENCES: Final = (
    ("Zhang, Shen, Xiong, Dong (2026), arXiv 2603.29735", "https://arxiv.org/abs/2603.29735"),
    ("Varley (2024), arXiv 2407.16601", "https://arxiv.org/abs/2407.16601"),
    ("Freedman, Lane (1983)", "https://doi.org/10.1080/07350015.1983.10509354"),
    ("Pauly, Brunner, Konietschke (2015)", "https://doi.org/10.1111/rssb.12073"),
    ("Stone (1977)", "https://doi.org/10.1111/j.2517-6161.1977.tb01603.x"),
)

#: Draws the panel of one category.
Panel = Callable[[go.Figure, str, bool, dict[str, int]], None]


def write(
    path: Path, found: Sequence[Change], sides: Sequence[Sides], words: Words, summary: str
) -> Path:
    """Write the page of the study of the leading model."""
    model = found[0].model
    mine = [c for c in found if c.model == model]
    page = Page(
        title=f"Difficulty: {model}",
        summary=summary,
        headline=words.headline,
        findings=words.findings,
        warnings=words.warnings,
        sections=(
            _order(mine),
            _weights(mine),
            _susceptibility(mine),
            _answers([s for s in sides if s.model == model]),
            _forms(mine),
            _method(),
        ),
        references=_REFERENCES,
    )
    return write_page(path, page)


def spoken(name: str) -> str:
    """A name as words."""
    return name.replace("_", " ")


def _categories(found: Sequence[Change]) -> list[str]:
    return list(dict.fromkeys(c.category for c in found))


def _panels(categories: Sequence[str], y_title: str, draw: Panel) -> go.Figure:
    """Small multiples, a panel for each category."""
    columns = min(_COLUMNS, len(categories))
    rows = -(-len(categories) // columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[plot_text(spoken(c)) for c in categories],
        vertical_spacing=0.32 / rows,
        horizontal_spacing=0.07,
    )
    figure.update_layout(template=TEMPLATE, height=_ROW * rows + 90)
    figure.update_layout(legend={"y": 1.0 + 0.12 / rows}, margin={"t": 80})
    for i, category in enumerate(categories):
        place = {"row": i // columns + 1, "col": i % columns + 1}
        draw(figure, category, i == 0, place)
        last = i + columns >= len(categories)
        figure.update_xaxes(
            title_text="difficulty" if last else "", dtick=1, row=place["row"], col=place["col"]
        )
        figure.update_yaxes(
            title_text=y_title if place["col"] == 1 else "", row=place["row"], col=place["col"]
        )
    return figure


def _points(
    figure: go.Figure,
    change: Change,
    values: np.ndarray,
    interval: np.ndarray,
    name: str,
    *,
    colour: str,
    legend: bool,
    place: dict[str, int],
    symbol: str = "circle",
    shift: float = 0.0,
) -> None:
    figure.add_scatter(
        x=change.difficulty + shift,
        y=values,
        error_y=error_bars(interval[:, 1] - values, values - interval[:, 0], width=2),
        mode="markers",
        marker={"color": colour, "size": 7, "symbol": symbol},
        name=name,
        legendgroup=name,
        showlegend=legend,
        hovertemplate="difficulty %{x:.0f}: %{y:.4g}<extra>" + name + "</extra>",
        **place,
    )


def _line(
    figure: go.Figure,
    x: np.ndarray,
    y: np.ndarray,
    name: str,
    *,
    colour: str,
    dash: str,
    legend: bool,
    place: dict[str, int],
    shape: str = "linear",
) -> None:
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines",
        line={"color": colour, "width": 1.5, "dash": dash, "shape": shape},
        name=name,
        legendgroup=name,
        showlegend=legend,
        hoverinfo="skip",
        **place,
    )


def chosen_form(change: Change) -> str:
    """The form whose curve is drawn: what is called, else the one of least AIC."""
    if change.verdict in ("constant", "linear", "step", "sigmoid"):
        return change.verdict
    if change.verdict in ABRUPT:
        return min(("step", "sigmoid"), key=lambda form: change.aic[form])
    return min(FORMS, key=lambda form: change.aic[form])


def _order(found: Sequence[Change]) -> Section:
    model, categories = found[0].model, _categories(found)

    def draw_for(score: str) -> Panel:
        def draw(figure: go.Figure, category: str, first: bool, place: dict[str, int]) -> None:  # noqa: FBT001
            for i, (view, colour) in enumerate(_DRAWN.items()):
                one = find(found, model=model, view=view, category=category, score=score)
                if one.means is None:
                    continue
                shift = 0.12 * i - 0.06
                _points(
                    figure, one, 1e3 * one.means.mean, 1e3 * one.means.interval(), view,
                    colour=colour, legend=first, place=place, shift=shift,
                )  # fmt: skip
                form = chosen_form(one)
                if form != "free":
                    _line(
                        figure, one.difficulty, 1e3 * one.curves[form], f"{view}, form of least "
                        "AIC", colour=colour, dash="solid", legend=first, place=place,
                        shape="hvh" if form == "step" else "linear",
                    )  # fmt: skip
            base = find(found, model=model, view="packed", category=category, score=BASELINE)
            if base.means is not None and score != BASELINE:
                _line(
                    figure, base.difficulty, 1e3 * base.means.mean, "packed, baseline",
                    colour=PALETTE[2], dash="dash", legend=first, place=place,
                )  # fmt: skip

        return draw

    y_title = "10⁻³ nat"
    plots = tuple(
        figure_plot(
            f"order-{i}",
            spoken(score),
            _panels(categories, y_title, draw_for(score)),
            "Mean over the units of the middle third of depth less that of the other layers, of "
            "each prompt; means by difficulty with 95 % bootstrap intervals over prompts. Lines: "
            "the form that is called, else that of least AIC (none where it is one mean for each "
            "difficulty). Dashed: the autocorrelation baseline over the packed texts.",
        )
        for i, score in enumerate(SCORES)
    )
    return Section(
        name="order",
        title="Order parameter by difficulty",
        text=(
            " ".join(f"{name}: {view.says}." for name, view in VIEWS.items()),
            *_without_number(found),
        ),
        plots=plots,
        choose="Score",
        tables=(_verdicts(found),),
    )


def _without_number(found: Sequence[Change]) -> list[str]:
    """Which views of which categories have no number, and why."""
    reasons: dict[str, list[str]] = {}
    for c in found:
        if c.status and c.score == DIFFERENCE:
            reasons.setdefault(c.view, []).append(f"{spoken(c.category)} ({c.status})")
    return [f"No number in the view {v}: {'; '.join(each)}." for v, each in reasons.items()]


def _verdicts(found: Sequence[Change]) -> Table:
    """What is said of the leading score and its controls in every view."""
    shown = [c for c in found if c.score in (DIFFERENCE, ABOVE, BASELINE)]
    rows = tuple(
        (
            spoken(c.score),
            spoken(c.category),
            c.view,
            SAID[c.verdict],
            number(c.q),
            f"{c.rise_sd.value:+.2f} ({c.rise_sd.low:+.2f} to {c.rise_sd.high:+.2f})",
        )
        for c in sorted(shown, key=lambda c: SCORES.index(c.score))
        if not c.status
    )
    return Table(
        label="What changes; rise: harder less easier half of difficulties, in SD of a prompt",
        columns=("score", "category", "view", "form", "q", "rise (95 %)"),
        rows=rows,
        text_columns=4,
    )


def _weights(found: Sequence[Change]) -> Section:
    model, categories = found[0].model, _categories(found)
    drawn = (
        ("packed", DIFFERENCE, "trained", PALETTE[0], "circle"),
        ("packed", BASELINE, "trained, baseline", PALETTE[2], "square"),
        ("fresh weights", DIFFERENCE, "fresh weights", PALETTE[3], "diamond"),
    )

    def draw(figure: go.Figure, category: str, first: bool, place: dict[str, int]) -> None:  # noqa: FBT001
        for i, (view, score, name, colour, symbol) in enumerate(drawn):
            one = find(found, model=model, view=view, category=category, score=score)
            if one.means is None:
                continue
            deviation = float(np.sqrt(one.means.spread.mean()))
            middle = float(one.means.mean.mean())
            _points(
                figure, one, (one.means.mean - middle) / deviation,
                (one.means.interval() - middle) / deviation, name, colour=colour, legend=first,
                place=place, symbol=symbol, shift=0.12 * (i - 1),
            )  # fmt: skip
            _line(
                figure, one.difficulty + 0.12 * (i - 1), (one.means.mean - middle) / deviation,
                name, colour=faded(colour, 0.6), dash="dot", legend=False, place=place,
            )  # fmt: skip

    plot = figure_plot(
        "fresh",
        "Trained and fresh weights on the same texts",
        _panels(categories, "standard deviations", draw),
        "Synergy less redundancy, middle less other layers, over packed texts, less its mean over "
        "difficulties, in standard deviations of a prompt: scores of fresh weights are larger by "
        "orders of magnitude. What fresh weights show too is a change of the tokens. Dots with "
        "95 % intervals.",
    )
    return Section(
        name="controls",
        title="Trained and fresh weights on the same texts",
        text=("Every batch is read by another network of fresh weights.",),
        plots=(plot,),
    )


def _susceptibility(found: Sequence[Change]) -> Section:
    model, categories = found[0].model, _categories(found)

    def draw(figure: go.Figure, category: str, first: bool, place: dict[str, int]) -> None:  # noqa: FBT001
        for i, (view, colour) in enumerate(_DRAWN.items()):
            one = find(found, model=model, view=view, category=category)
            if one.means is None:
                continue
            _points(
                figure, one, 1e6 * one.means.susceptibility(),
                1e6 * one.means.susceptibility_interval(), view, colour=colour, legend=first,
                place=place, shift=0.12 * i - 0.06,
            )  # fmt: skip

    plot = figure_plot(
        "susceptibility",
        "Susceptibility",
        _panels(categories, "10⁻⁶ nat²", draw),
        "Prompts of a difficulty times the variance of their mean over bootstrap draws, of synergy "
        "less redundancy; bars: 95 % interval of the variance of a prompt, which it estimates. A "
        "peak at the turn of an abrupt change would be expected of a transition.",
    )
    return Section(name="susceptibility", title="Susceptibility", plots=(plot,))


def _answers(sides: Sequence[Sides]) -> Section:
    leading = {s.category: s for s in sides if s.score == DIFFERENCE}

    def draw(figure: go.Figure, category: str, first: bool, place: dict[str, int]) -> None:  # noqa: FBT001
        side = leading[category]
        for name, values, count, colour, symbol in (
            ("right", side.right, side.count_right, PALETTE[0], "circle"),
            ("wrong", side.wrong, side.count_wrong, PALETTE[1], "x"),
        ):
            figure.add_scatter(
                x=side.difficulty,
                y=1e3 * values,
                customdata=count,
                mode="lines+markers",
                line={"color": colour, "width": 1, "dash": "dot"},
                marker={"color": colour, "symbol": symbol, "size": 8},
                name=name,
                legendgroup=name,
                showlegend=first,
                hovertemplate="%{y:.4g}, %{customdata} answers<extra>" + name + "</extra>",
                **place,
            )

    figure = _panels(list(leading), "10⁻³ nat", draw)
    plot = figure_plot(
        "answers",
        "Right and wrong answers",
        figure,
        "Synergy less redundancy, middle less other layers, of prompts answered right and wrong "
        "(the first line of the reply that is not blank).",
    )
    rows = []
    for side in leading.values():
        low, high = side.accuracy_interval.T
        value, lower, upper = (1e3 * v for v in side.difference)
        shares = " · ".join(
            f"{100 * a:.0f} ({100 * b:.0f}-{100 * c:.0f})"
            for a, b, c in zip(side.accuracy, low, high, strict=True)
        )
        rows.append(
            (
                spoken(side.category),
                shares,
                side.status or "",
                number(value),
                number([lower, upper]),
            )
        )
    table = Table(
        label="Accuracy and the difference of right and wrong answers within difficulties",
        columns=(
            "category", "accuracy by difficulty, % (95 %)", "why there is no number",
            "right less wrong (10⁻³ nat)", "95 % interval",
        ),
        rows=tuple(rows),
        text_columns=3,
    )  # fmt: skip
    return Section(
        name="answers",
        title="Right and wrong answers",
        text=(
            "Within one difficulty, prompts that are answered right and wrong differ in nothing "
            "that difficulty decides.",
        ),
        plots=(plot,),
        tables=(table,),
    )


def _forms(found: Sequence[Change]) -> Section:
    rows = []
    for c in found:
        if c.score != DIFFERENCE or c.status:
            continue
        least = min(c.aic.values(), default=0.0)
        rows.append(
            (
                spoken(c.category),
                c.view,
                told(c),
                f"{c.prompts:,}",
                *(f"{c.aic[form] - least:.1f}" if c.aic else "" for form in FORMS),
            )
        )
    table = Table(
        label="AIC of every form on held-out seeds, less the least of them",
        columns=("category", "view", "what is said", "prompts", *FORMS),
        rows=tuple(rows),
        text_columns=3,
    )
    return Section(
        name="forms",
        title="Forms of the change",
        text=(
            "AIC = 2 k - 2 log L, the likelihood that of each seed under a fit to the other seeds; "
            "a difference below 4 decides nothing.",
        ),
        tables=(table,),
    )


def _method() -> Section:
    return Section(
        name="method",
        title="How it is decided",
        text=(
            "No change: a permutation test of difficulties within seeds at 5 % (q over the "
            "categories of a view, Benjamini and Hochberg), levels weighted by their own variance.",
            "Forms: a constant, a line, a step, a sigmoid and one mean for each difficulty are "
            "fitted to all seeds but one and judged on that one. A line is called where its AIC is "
            "lower by 4 than that of step and sigmoid, and the reverse; free means where they are "
            "lower by 4 than all the others; else the form is not told. How often this is right is "
            "in docs/validity.md: a line is taken for something abrupt in less than 5 %.",
            "Lengths: tokens of question and answer are regressed out within the category. Where "
            "difficulty decides 90 % of the variance of one of them, no number is given.",
            "Transition: only where the change is abrupt in models of at least two sizes, narrower "
            "from 10 to 90 % in each than in the next smaller one, and the smallest model's width "
            "less the largest one's is above zero with its 95 % interval. The paper's criterion is "
            "not known to us: this one is ours.",
        ),
    )

"""Figures over depth: profiles, nulls, categories, and models side by side."""

import textwrap
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from synatlas.artifact import require
from synatlas.errors import ConfigError
from synatlas.rank.atlas import ATLAS
from synatlas.rank.unit_scores import PREDICTION_PARTS
from synatlas.report.inert import plot_text, visible
from synatlas.report.style import (
    DASHES,
    DEPTH_TITLE,
    MUTED,
    PALETTE,
    TEMPLATE,
    add_band,
    add_line,
    axis_title,
    canvas,
    depth_of,
    layer_mean,
    profile_of,
    spoken,
    unit_depth,
)

#: Categories drawn; more are left to the atlas, and the caption says so.
CATEGORIES_SHOWN: Final = 12
#: Characters in a line of a panel's title.
TITLE_WIDTH: Final = 22


def profile(atlas: xr.Dataset, score: str = "rank_of_difference") -> go.Figure:
    """Mean of `score` over the units of each layer, against depth, with its bootstrap interval.

    The profile of `synergy` also shows every null and the autocorrelation baseline, that of
    `joint_prediction` its two parts.

    Parameters
    ----------
    atlas : an atlas; see :data:`synatlas.rank.atlas.ATLAS`.
    score : one of ``atlas.score``.

    Returns
    -------
    plotly.graph_objects.Figure
        One line per profile; undefined layers are gaps.

    Raises
    ------
    ConfigError
        The atlas has no such score.
    """
    chosen = profile_of(require(atlas, ATLAS), score)
    depth, layers = depth_of(atlas), atlas["layer"].values
    figure = canvas(height=360, x_title=DEPTH_TITLE, y_title=axis_title(atlas, score))
    lower, upper = _bounds(chosen["profile_interval"])
    add_band(figure, depth, lower, upper, colour=PALETTE[0], name=_interval_name(atlas))
    if score == "synergy":
        _add_nulls(figure, atlas)
    if score == "joint_prediction":
        _add_parts(figure, atlas)
    add_line(figure, depth, chosen["profile"].values, layers, colour=PALETTE[0], name=spoken(score))
    flat = {
        "rank_of_difference": (atlas.sizes["unit"] + 1) / 2,
        **dict.fromkeys(("difference_of_ranks", "joint_prediction", *PREDICTION_PARTS), 0.0),
    }
    if score in flat:
        figure.add_hline(y=flat[score], line={"color": MUTED, "width": 1, "dash": "dot"})
    return figure


def _bounds(interval: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    return interval.sel(ci_bound="lower").values, interval.sel(ci_bound="upper").values


def _interval_name(atlas: xr.Dataset) -> str:
    return f"{float(atlas.attrs['ci_prob']):.0%} bootstrap interval"


def _add_nulls(figure: go.Figure, atlas: xr.Dataset) -> None:
    depth, layers = depth_of(atlas), atlas["layer"].values
    synergy = profile_of(atlas, "synergy")["profile"].values
    for position, null in enumerate(atlas["null"].values):
        add_line(
            figure,
            depth,
            # A null may prepare the series first; drawn from the synergy of the unprepared series,
            # the gap between the lines is the excess and nothing else.
            synergy - atlas["profile_excess"].isel(null=position).values,
            layers,
            colour=PALETTE[1 + position % (len(PALETTE) - 2)],
            dash=DASHES[position % len(DASHES)],
            name=_null_name(atlas, position, str(null)),
            markers=False,
        )
    add_line(
        figure,
        depth,
        layer_mean(atlas, atlas["autocorrelation_baseline"].values),
        layers,
        colour=MUTED,
        dash="dot",
        name="autocorrelation baseline",
        markers=False,
        width=1.5,
    )


def _add_parts(figure: go.Figure, atlas: xr.Dataset) -> None:
    known = atlas["score"].values.tolist()
    for position, part in enumerate(PREDICTION_PARTS):
        if part in known:
            add_line(
                figure,
                depth_of(atlas),
                profile_of(atlas, part)["profile"].values,
                atlas["layer"].values,
                colour=PALETTE[1 + position],
                dash=DASHES[position],
                name=spoken(part.removeprefix("joint_prediction_")),
                markers=False,
                width=1.5,
            )


def _null_name(atlas: xr.Dataset, position: int, null: str) -> str:
    accepted = bool(atlas["null_accepted"].values[position])
    return f"null: {spoken(null)}" + ("" if accepted else " (refused)")


def nulls(atlas: xr.Dataset) -> go.Figure:
    """Synergy minus each null, and integration, per unit and per layer.

    Dots are units, the line the mean of the layer's units with its interval.

    Parameters
    ----------
    atlas : an atlas; it may have no null, then only integration over the same-step null is drawn.

    Returns
    -------
    plotly.graph_objects.Figure
        One panel per null, sharing depth; each panel has its own scale, in nats.
    """
    require(atlas, ATLAS)
    names = [str(null) for null in atlas["null"].values]
    titles = [f"synergy − {_null_name(atlas, i, name)}" for i, name in enumerate(names)]
    titles.append("integration: revised Phi − same-step null")
    excess, layers = atlas["excess"], atlas["profile_excess"]
    panels = [
        (excess[i].values, layers[i].values, *_bounds(atlas["profile_excess_interval"][i]))
        for i in range(len(names))
    ]
    panels.append(_integration_panel(atlas))
    figure = make_subplots(
        rows=len(panels), cols=1, shared_xaxes=True, subplot_titles=titles, vertical_spacing=0.09
    )
    figure.update_layout(template=TEMPLATE, height=110 + 190 * len(panels), showlegend=False)
    for row, panel in enumerate(panels, start=1):
        _add_excess(figure, atlas, *panel, colour=PALETTE[row % 5], row=row)
    figure.update_xaxes(title_text=DEPTH_TITLE, row=len(panels), col=1)
    return titles_left(figure)


def _integration_panel(
    atlas: xr.Dataset,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Per unit, per layer, lower and upper bound; the last three undefined without a profile."""
    units = atlas["integration"].values
    if "integration" not in atlas["score"].values:
        nothing = np.full(atlas.sizes["layer"], np.nan)
        return units, layer_mean(atlas, units), nothing, nothing
    chosen = profile_of(atlas, "integration")
    return units, chosen["profile"].values, *_bounds(chosen["profile_interval"])


def _add_excess(
    figure: go.Figure,
    atlas: xr.Dataset,
    units: np.ndarray,
    mean: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    *,
    colour: str,
    row: int,
) -> None:
    place: dict[str, Any] = {"row": row, "col": 1}
    figure.add_scatter(
        x=unit_depth(atlas),
        y=units,
        mode="markers",
        marker={"size": 5 if len(units) <= 400 else 3, "color": MUTED, "opacity": 0.45},
        text=[plot_text(unit) for unit in atlas["unit"].values],
        hovertemplate="%{text}<br>%{y:.4g} nat<extra></extra>",
        **place,
    )
    depth, layers = depth_of(atlas), atlas["layer"].values
    add_band(figure, depth, lower, upper, colour=colour, **place)
    add_line(figure, depth, mean, layers, colour=colour, name="layer mean", **place)
    figure.add_hline(y=0, line={"color": MUTED, "width": 1}, **place)
    figure.update_yaxes(title_text="excess (nat)", **place)


def titles_left(figure: go.Figure) -> go.Figure:
    """Panel titles above the left end of their panel, in the size of the axis titles."""
    for position, note in enumerate(figure.layout.annotations, start=1):
        axis = figure.layout[f"xaxis{position}" if position > 1 else "xaxis"]
        note.update(font={"size": 13}, x=axis.domain[0], xanchor="left", yshift=2)
    return figure


def categories(atlas: xr.Dataset, score: str = "rank_of_difference") -> go.Figure:
    """Profile of `score` over the prompts of each category; grey: over all prompts.

    Parameters
    ----------
    atlas : an atlas with at least one category.
    score : one of ``atlas.score``.

    Returns
    -------
    plotly.graph_objects.Figure
        Two panels a row on common axes, at most :data:`CATEGORIES_SHOWN` of them.

    Raises
    ------
    ConfigError
        The atlas has no such score, or no category.
    """
    chosen = profile_of(require(atlas, ATLAS), score)
    names = [str(name) or "(no category)" for name in atlas["category"].values][:CATEGORIES_SHOWN]
    if not names:
        raise ConfigError(
            given="an atlas without categories",
            expected="at least one category",
            remedy="give the prompts categories, and record again",
        )
    rows = -(-len(names) // 2)
    figure = make_subplots(
        rows=rows,
        cols=min(2, len(names)),
        shared_xaxes=True,
        shared_yaxes=True,
        subplot_titles=[_panel_title(name) for name in names],
        vertical_spacing=min(0.11, 0.4 / rows),
        horizontal_spacing=0.04,
    )
    figure.update_layout(template=TEMPLATE, height=130 + 180 * rows, showlegend=False)
    depth, layers = depth_of(atlas), atlas["layer"].values
    for position, name in enumerate(names):
        place: dict[str, Any] = {"row": position // 2 + 1, "col": position % 2 + 1}
        everything, here = chosen["profile"].values, chosen["category_profile"].values[position]
        add_line(
            figure, depth, everything, layers, colour="#9aa5b1", name="all prompts",
            markers=False, width=1.5, dash="dash", **place,
        )  # fmt: skip
        add_line(figure, depth, here, layers, colour=PALETTE[0], name=plot_text(name), **place)
    for row in range(1, rows + 1):
        figure.update_yaxes(title_text=spoken(score), row=row, col=1)
    for column in range(1, min(2, len(names)) + 1):
        last = rows if column == 1 or len(names) % 2 == 0 else rows - 1
        figure.update_xaxes(title_text="depth (0 to 1)", showticklabels=True, row=last, col=column)
    return titles_left(figure)


def _panel_title(name: str) -> str:
    """A category's name in at most two short lines, so that it fits a panel on a telephone."""
    lines = textwrap.wrap(visible(name), width=TITLE_WIDTH, max_lines=2, placeholder=" …")
    return "<br>".join(plot_text(line) for line in lines)


def comparison(atlases: Mapping[str, xr.Dataset], score: str = "rank_of_difference") -> go.Figure:
    """Profiles of several atlases over common depth, for example trained and randomly initialised.

    Ranks are divided by the number of units, so that models of different size share an axis.

    Parameters
    ----------
    atlases : name shown in the legend -> atlas.
    score : a score that every atlas has.

    Returns
    -------
    plotly.graph_objects.Figure
        One line with its bootstrap interval per atlas, in the order given.

    Raises
    ------
    ConfigError
        No atlas was given, or one has no such score.
    """
    if not atlases:
        raise ConfigError(
            given="no atlas",
            expected="a mapping from names to atlases",
            remedy="pass at least one atlas",
        )
    ranked = score in ("rank_of_difference", "difference_of_ranks")
    first = next(iter(atlases.values()))
    title = f"{spoken(score)} / number of units" if ranked else axis_title(first, score)
    figure = canvas(height=380, x_title=DEPTH_TITLE, y_title=title)
    for position, (name, atlas) in enumerate(atlases.items()):
        chosen = profile_of(require(atlas, ATLAS), score)
        scale = atlas.sizes["unit"] if ranked else 1
        colour = PALETTE[position % len(PALETTE)]
        depth, layers = depth_of(atlas), atlas["layer"].values
        lower, upper = _bounds(chosen["profile_interval"] / scale)
        add_band(figure, depth, lower, upper, colour=colour)
        add_line(
            figure,
            depth,
            chosen["profile"].values / scale,
            layers,
            colour=colour,
            name=plot_text(name),
            dash=("solid", *DASHES)[position % (1 + len(DASHES))],
        )
    return figure

"""How figures look: palette, axes, and the parts that several figures share."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from synatlas.errors import ConfigError
from synatlas.report.inert import plot_text

INK: Final = "#1f2933"
MUTED: Final = "#616e7c"
GRID: Final = "#e4e7eb"

#: Okabe and Ito's palette without yellow, which vanishes on white: distinct under every common
#: form of colour blindness. Lines also differ by dash, so colour is never the only sign.
PALETTE: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
DASHES: Final = ("dash", "dot", "dashdot", "longdash", "longdashdot")

#: Perceptually uniform and the same for readers with red-green colour blindness.
SEQUENTIAL: Final = "Cividis"
#: Blue below zero, orange above.
DIVERGING: Final = (
    (0.0, "#0b4f8a"),
    (0.25, "#7fb2d9"),
    (0.5, "#f7f7f7"),
    (0.75, "#eda766"),
    (1.0, "#a34a00"),
)

_AXIS: Final[dict[str, Any]] = {
    "gridcolor": GRID,
    "zeroline": False,
    "linecolor": "#9aa5b1",
    "showline": True,
    "ticks": "outside",
    "tickcolor": "#9aa5b1",
    "ticklen": 4,
    "automargin": True,
    "title": {"standoff": 8, "font": {"size": 13}},
    "tickfont": {"size": 12},
}

TEMPLATE: Final = go.layout.Template(
    layout={
        "font": {
            "family": "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif",
            "size": 13,
            "color": INK,
        },
        "colorway": PALETTE,
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "margin": {"l": 56, "r": 12, "t": 28, "b": 48},
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": "#ffffff", "bordercolor": "#9aa5b1", "font": {"color": INK}},
        "legend": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1.02,
            "yanchor": "bottom",
            "font": {"size": 12},
        },
        "xaxis": _AXIS,
        "yaxis": _AXIS,
    }
)

DEPTH_TITLE: Final = "depth (0: first layer, 1: last layer)"


def canvas(*, height: int, x_title: str = "", y_title: str = "") -> go.Figure:
    """An empty figure in the house style; the width follows the page."""
    figure = go.Figure(layout={"template": TEMPLATE, "height": height})
    figure.update_xaxes(title_text=x_title)
    figure.update_yaxes(title_text=y_title)
    return figure


def spoken(name: str) -> str:
    """A score's or null's name as words."""
    return plot_text(name.replace("_", " "))


def unit_of(atlas: xr.Dataset, score: str) -> str:
    """The unit that an axis of `score` names."""
    if score == "rank_of_difference":
        return f"rank, 1 to {atlas.sizes['unit']}"
    if score == "difference_of_ranks":
        return "difference of ranks"
    declared = atlas[score].attrs.get("units", "1") if score in atlas.variables else "1"
    return "dimensionless" if declared == "1" else plot_text(declared)


def axis_title(atlas: xr.Dataset, score: str) -> str:
    """Name and unit of `score`, as an axis title."""
    if score == "rank_of_difference":
        return f"rank of synergy − redundancy (1 to {atlas.sizes['unit']})"
    if score == "difference_of_ranks":
        return "rank of synergy − rank of redundancy"
    return f"{spoken(score)} ({unit_of(atlas, score)})"


def profile_of(atlas: xr.Dataset, score: str) -> xr.Dataset:
    """The variables of `atlas` at one score, or an error that lists the known ones."""
    known = [str(name) for name in atlas["score"].values]
    if score not in known:
        raise ConfigError(
            given=f"the score {score!r}",
            expected=f"one of {', '.join(known)}",
            remedy="choose a score of this atlas",
        )
    return atlas.isel(score=known.index(score))


def depth_of(atlas: xr.Dataset) -> np.ndarray:
    """Depth of every layer; a model of one layer has its layer at depth 0."""
    return np.nan_to_num(np.asarray(atlas["depth"].values, dtype=float), nan=0.0)


def unit_depth(atlas: xr.Dataset) -> np.ndarray:
    """Depth of every unit, from the depth of its layer."""
    depth = dict(zip(atlas["layer"].values.tolist(), depth_of(atlas).tolist(), strict=True))
    return np.array([depth.get(layer, np.nan) for layer in atlas["unit_layer"].values.tolist()])


def layer_mean(atlas: xr.Dataset, values: np.ndarray) -> np.ndarray:
    """Mean of a value per unit over the defined units of every layer; NaN where there is none."""
    layers = atlas["unit_layer"].values
    means = np.full(atlas.sizes["layer"], np.nan)
    for position, layer in enumerate(atlas["layer"].values):
        inside = values[(layers == layer) & np.isfinite(values)]
        if inside.size:
            means[position] = inside.mean()
    return means


def faded(colour: str, opacity: float) -> str:
    """A hexadecimal `colour` with an opacity."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def finite_runs(*series: np.ndarray) -> list[slice]:
    """Stretches of neighbouring positions at which every series is finite."""
    good = np.isfinite(np.vstack(series)).all(axis=0)
    edges = np.flatnonzero(np.diff(np.r_[False, good, False].astype(int)))
    return [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def add_band(
    figure: go.Figure,
    x: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    *,
    colour: str,
    name: str = "",
    **place: Any,
) -> None:
    """Shade the interval from `lower` to `upper`; undefined stretches stay empty.

    The first stretch carries the legend entry `name`; without a name there is none.
    """
    for position, run in enumerate(finite_runs(x, lower, upper)):
        figure.add_scatter(
            x=np.r_[x[run], x[run][::-1]],
            y=np.r_[lower[run], upper[run][::-1]],
            mode="lines",
            fill="toself",
            fillcolor=faded(colour, 0.2),
            line={"width": 1, "color": faded(colour, 0.2)},
            hoverinfo="skip",
            name=name,
            showlegend=bool(name) and position == 0,
            **place,
        )


def error_bars(
    above: Sequence[float] | np.ndarray,
    below: Sequence[float] | np.ndarray,
    *,
    thickness: int | float = 1.2,
    width: int = 3,
) -> dict[str, Any]:
    """Bars from each point `above` it and `below` it, as plotly takes them for ``error_x/y``."""
    bars = {"type": "data", "symmetric": False, "array": above, "arrayminus": below}
    return {**bars, "thickness": thickness, "width": width}


def add_line(
    figure: go.Figure,
    x: np.ndarray,
    y: np.ndarray,
    layers: Sequence[int] | np.ndarray,
    *,
    colour: str,
    name: str,
    dash: str = "solid",
    markers: bool = True,
    width: float = 2,
    legend: bool = True,
    **place: Any,
) -> None:
    """A line over depth whose hover names layer and value."""
    figure.add_scatter(
        x=x,
        y=y,
        customdata=np.asarray(layers),
        mode="lines+markers" if markers else "lines",
        line={"color": colour, "width": width, "dash": dash},
        marker={"size": 6 if len(x) <= 40 else 4},
        name=name,
        showlegend=legend,
        hovertemplate=(
            "layer %{customdata}, depth %{x:.2f}<br>%{y:.4g}<extra>%{fullData.name}</extra>"
        ),
        **place,
    )

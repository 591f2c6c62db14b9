"""Figures of units as points: two quantities of every unit, coloured by depth."""

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from synatlas.artifact import require
from synatlas.rank.atlas import ATLAS
from synatlas.report.inert import plot_text
from synatlas.report.style import MUTED, SEQUENTIAL, axis_title, canvas, spoken, unit_depth


def synergy_redundancy(atlas: xr.Dataset) -> go.Figure:
    """Redundancy across, synergy up, one point per unit, coloured by depth, in nats."""
    return _scatter(require(atlas, ATLAS), x="redundancy", y="synergy")


def synergy_baseline(atlas: xr.Dataset) -> go.Figure:
    """Synergy against what independent series of the same autocorrelation would give.

    Under minimum mutual information, independent series with self-information S have synergy
    2 min(S_a, S_b) (Varley, arXiv:2407.16601). Points on the identity line are explained by it.
    """
    figure = _scatter(require(atlas, ATLAS), x="autocorrelation_baseline", y="synergy")
    both = np.r_[atlas["autocorrelation_baseline"].values, atlas["synergy"].values]
    finite = both[np.isfinite(both)]
    if finite.size:
        ends = [float(finite.min()), float(finite.max())]
        figure.add_scatter(
            x=ends,
            y=ends,
            mode="lines",
            line={"color": MUTED, "width": 1.5, "dash": "dash"},
            name="synergy = baseline",
            hoverinfo="skip",
        )
        figure.update_layout(showlegend=True)
    return figure


def _scatter(atlas: xr.Dataset, *, x: str, y: str) -> go.Figure:
    figure = canvas(height=420, x_title=axis_title(atlas, x), y_title=axis_title(atlas, y))
    many = atlas.sizes["unit"] > 400
    figure.add_scatter(
        x=atlas[x].values,
        y=atlas[y].values,
        mode="markers",
        name="unit",
        showlegend=False,
        text=[plot_text(unit) for unit in atlas["unit"].values],
        hovertemplate=(
            f"%{{text}}<br>{spoken(x)}: %{{x:.4g}} nat<br>{spoken(y)}: %{{y:.4g}} nat"
            "<extra></extra>"
        ),
        marker={
            "size": 5 if many else 9,
            "color": unit_depth(atlas),
            "cmin": 0,
            "cmax": 1,
            "colorscale": SEQUENTIAL,
            "line": {"width": 0.5, "color": "#ffffff"},
            "opacity": 0.8 if many else 1,
            "colorbar": {
                "title": {"text": "depth", "side": "top", "font": {"size": 13}},
                "thickness": 10,
                "outlinewidth": 0,
                "len": 0.8,
                "tickvals": [0, 0.5, 1],
            },
        },
    )
    return figure

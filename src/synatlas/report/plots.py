"""Figures as the page embeds them: identity, caption, and data as JSON."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import plotly.graph_objects as go
import xarray as xr
from markupsafe import Markup

from synatlas.report import figures
from synatlas.report.figures import CAPTIONS
from synatlas.report.inert import script_json, visible
from synatlas.report.profiles import CATEGORIES_SHOWN

#: Scores of the unit map, the first shown first; those that an atlas lacks are skipped.
MAP_SCORES: Final = (
    "joint_prediction", "joint_prediction_linear", "joint_prediction_interaction",
    "rank_of_difference", "difference_of_ranks", "synergy", "redundancy", "integration",
    "transfer", "phi_r", "phi_wms", "tdmi", "synergy_per_tdmi", "redundancy_per_tdmi",
    "synergy_ccs", "self_information", "gateway",
)  # fmt: skip

#: Scores whose profile has a place of its own; all others share a chooser.
_LEADING: Final = ("joint_prediction", "rank_of_difference", "difference_of_ranks", "synergy")

#: Scores of one category's prompts; joint prediction has none.
_PER_CATEGORY: Final = _LEADING[1:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """One figure of the page; `shares` names the plot whose hover data it uses."""

    name: str
    title: str
    caption: str
    description: str
    height: int
    payload: Markup
    shares: str = ""


def figure_plot(
    name: str, title: str, figure: go.Figure, caption: str, *, shares: str = ""
) -> Plot:
    """A figure as a page embeds it; `name` is its anchor, `caption` says how to read it."""
    content: dict[str, Any] = json.loads(figure.to_json() or "{}")
    if shares:
        for hover in ("text", "customdata"):
            content["data"][0].pop(hover, None)
    return Plot(
        name=name,
        title=title,
        caption=caption,
        description=f"Figure: {title}. {caption}",
        height=int(figure.layout.height),
        payload=script_json({"data": content["data"], "layout": content["layout"]}),
        shares=shares,
    )


def _words(score: str) -> str:
    return visible(score.replace("_", " "))


def leading_profiles(atlas: xr.Dataset) -> dict[str, Plot]:
    """Profiles of joint prediction, of both rank definitions and of synergy, where there."""
    titles = {
        "joint_prediction": "Joint prediction",
        "rank_of_difference": "Rank of difference (the published code's definition)",
        "difference_of_ranks": "Difference of ranks (the published text's definition)",
        "synergy": "Synergy and its nulls",
    }
    known = set(atlas["score"].values.tolist())
    return {
        score: figure_plot(
            f"profile-{score}", title, figures.profile(atlas, score), CAPTIONS[score]
        )
        for score, title in titles.items()
        if score in known
    }


def other_profiles(atlas: xr.Dataset) -> list[Plot]:
    """Profiles of every other score of the atlas."""
    others = [str(name) for name in atlas["score"].values if name not in _LEADING]
    return [
        figure_plot(
            f"profile-{i}", _words(score), figures.profile(atlas, score), CAPTIONS["profile"]
        )
        for i, score in enumerate(others)
    ]


def unit_maps(atlas: xr.Dataset) -> list[Plot]:
    """Unit maps of the main scores; hover data are stored with the first alone."""
    scores = [name for name in MAP_SCORES if name in atlas.variables]
    caption = CAPTIONS["unit_map"]
    return [
        figure_plot(
            f"map-{score}",
            _words(score),
            figures.unit_map(atlas, score),
            caption,
            shares="" if score == scores[0] else f"data-map-{scores[0]}",
        )
        for score in scores
    ]


def pair_matrices(atoms: xr.Dataset) -> list[Plot]:
    """Synergy and redundancy of every pair, each with its own figure."""
    size = figures.block_size(atoms)
    averaged = (
        f" Each cell is the mean over blocks of {size} x {size} units of the same layers, because"
        f" {atoms.sizes['unit']:,} units do not fit."
        if size > 1
        else ""
    )
    return [
        figure_plot(
            f"matrix-{name}",
            f"{name.capitalize()} of pairs",
            figures.matrices(atoms, (name,)),
            CAPTIONS["matrices"] + averaged,
        )
        for name in ("synergy", "redundancy")
    ]


def scatters(atlas: xr.Dataset) -> list[Plot]:
    """Synergy against redundancy, and against what autocorrelation alone gives."""
    made: Mapping[str, tuple[str, Callable[[xr.Dataset], go.Figure]]] = {
        "synergy_redundancy": ("Synergy and redundancy of units", figures.synergy_redundancy),
        "synergy_baseline": ("Synergy and its autocorrelation baseline", figures.synergy_baseline),
    }
    return [
        figure_plot(name.replace("_", "-"), title, make(atlas), CAPTIONS[name])
        for name, (title, make) in made.items()
    ]


def null_plot(atlas: xr.Dataset) -> Plot:
    """Excess over every null, and integration."""
    return figure_plot("nulls", "Excess over each null", figures.nulls(atlas), CAPTIONS["nulls"])


def category_plots(atlas: xr.Dataset) -> list[Plot]:
    """Profiles per category for both rank definitions and synergy; none without categories."""
    if not atlas.sizes["category"]:
        return []
    known = set(atlas["score"].values.tolist())
    count = atlas.sizes["category"]
    cut = f" The first {CATEGORIES_SHOWN} of {count} are shown." if count > CATEGORIES_SHOWN else ""
    return [
        figure_plot(
            f"categories-{score}",
            _words(score),
            figures.categories(atlas, score),
            CAPTIONS["categories"] + cut,
        )
        for score in _PER_CATEGORY
        if score in known
    ]

"""Figures on grids: units by layer and index, and pairs as matrices."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from jaxtyping import Float
from plotly.subplots import make_subplots

from synatlas.artifact import require
from synatlas.decompose.atoms import ATOMS
from synatlas.errors import ConfigError
from synatlas.rank.atlas import ATLAS
from synatlas.report.inert import plot_text
from synatlas.report.style import (
    DIVERGING,
    SEQUENTIAL,
    TEMPLATE,
    axis_title,
    canvas,
    spoken,
    unit_of,
)

#: Cells on a side of a matrix: about as many as the page has pixels for, and small enough that
#: two matrices with their values stay under a megabyte. More units are averaged in blocks.
MATRIX_CELLS: Final = 300

#: What a matrix can show: name -> role, past and future alike.
QUANTITIES: Final = {"synergy": "syn", "redundancy": "red"}

#: Shown on hover, in this order, where the atlas has them.
HOVER: Final = (
    "joint_prediction", "joint_prediction_linear", "joint_prediction_interaction",
    "joint_prediction_q",
    "rank_of_difference", "difference_of_ranks", "synergy", "redundancy", "synergy_ccs", "tdmi",
    "transfer", "phi_r", "integration", "integration_q", "self_information",
    "autocorrelation_baseline", "excess_q", "core_recurrence",
)  # fmt: skip


def unit_map(atlas: xr.Dataset, score: str = "rank_of_difference") -> go.Figure:
    """Every unit's `score` at its layer (across) and index (up); hover shows all its numbers.

    Parameters
    ----------
    atlas : an atlas.
    score : a variable of the atlas on `unit`, such as ``"synergy"`` or ``"integration"``.

    Returns
    -------
    plotly.graph_objects.Figure
        A heatmap; undefined units are blank. Scores with both signs are centred on 0.

    Raises
    ------
    ConfigError
        The atlas has no such variable on units.
    """
    require(atlas, ATLAS)
    if score not in _scores(atlas):
        raise ConfigError(
            given=f"the score {score!r}",
            expected=f"one of {', '.join(_scores(atlas))}",
            remedy="choose a score of this atlas that has a value per unit",
        )
    return value_map(atlas, atlas[score].values.astype(float), axis_title(atlas, score))


def value_map(
    atlas: xr.Dataset, values: Float[np.ndarray, " unit"], title: str, *, hover: str = ""
) -> go.Figure:
    """A value of every unit of the atlas at its layer and index; hover shows its scores.

    Parameters
    ----------
    atlas : an atlas.
    values : of its units.
    title : of the colours, as plotly text.
    hover : what the value is called on hover; it is not shown where empty.
    """
    grid = _UnitGrid.of(atlas)
    cells = grid.spread(values)
    figure = canvas(
        height=int(np.clip(150 + 20 * len(grid.rows), 260, 720)),
        x_title="layer",
        y_title="unit index within the layer",
    )
    shown = [name for name in HOVER if name in atlas.variables]
    figure.add_heatmap(
        x=grid.layers,
        y=np.arange(len(grid.rows)),
        z=cells,
        text=grid.spread_text([plot_text(unit) for unit in atlas["unit"].values]),
        customdata=np.stack([grid.spread(atlas[name].values) for name in shown], axis=-1).astype(
            np.float32
        ),
        hovertemplate=_hover(atlas, shown, first=f"{hover}: %{{z:.4g}}" if hover else ""),
        hoverongaps=False,
        xgap=1,
        ygap=1,
        **_colours(cells, title=title),
    )
    figure.update_yaxes(tickvals=grid.tick_positions(), ticktext=grid.tick_labels())
    figure.update_xaxes(showgrid=False, tickvals=grid.layers[:: 1 + len(grid.layers) // 20])
    figure.update_yaxes(showgrid=False)
    figure.update_layout(margin={"t": 60})
    return figure


def _scores(atlas: xr.Dataset) -> list[str]:
    """Variables on units that hold numbers other than labels."""
    # Not as arrays: the making of one, with its coordinates, for every variable takes longer.
    return [
        str(name)
        for name, variable in atlas.variables.items()
        if name not in atlas.coords and variable.dims == ("unit",) and variable.dtype.kind == "f"
    ]


def _hover(atlas: xr.Dataset, shown: list[str], *, first: str = "") -> str:
    lines = [
        f"{spoken(name)}: %{{customdata[{i}]:.4g}}"
        + (f" {unit}" if (unit := unit_of(atlas, name)) == "nat" else "")
        for i, name in enumerate(shown)
    ]
    return "<br>".join(["%{text}", *filter(None, [first]), *lines]) + "<extra></extra>"


def _colours(values: np.ndarray, *, title: str) -> dict[str, Any]:
    """Colour scale and bar: sequential, or centred on 0 where values have both signs."""
    finite = values[np.isfinite(values)]
    bar = {
        "orientation": "h",
        "x": 0,
        "xanchor": "left",
        "y": 1.02,
        "yanchor": "bottom",
        "len": 0.6,
        "thickness": 10,
        "outlinewidth": 0,
        "nticks": 5,
        "title": {"text": title, "side": "top", "font": {"size": 13}},
        "tickfont": {"size": 12},
    }
    if finite.size == 0:
        return {"colorscale": SEQUENTIAL, "showscale": False}
    if finite.min() < 0 < finite.max():
        reach = float(np.abs(finite).max())
        return {"colorscale": DIVERGING, "zmin": -reach, "zmax": reach, "colorbar": bar}
    return {
        "colorscale": SEQUENTIAL,
        "zmin": float(finite.min()),
        "zmax": float(finite.max()),
        "colorbar": bar,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _UnitGrid:
    """Where each unit stands: rows are (kind, index), columns layers."""

    rows: list[tuple[str, int]]
    layers: np.ndarray
    row: np.ndarray
    column: np.ndarray

    @classmethod
    def of(cls, atlas: xr.Dataset) -> "_UnitGrid":
        keys = list(zip(atlas["kind"].values.tolist(), atlas["index"].values.tolist(), strict=True))
        rows = sorted(set(keys))
        position = {key: i for i, key in enumerate(rows)}
        layers = np.unique(atlas["unit_layer"].values)
        # A layer without units stays visible as a gap.
        layers = np.arange(layers.min(), layers.max() + 1)
        return cls(
            rows=rows,
            layers=layers,
            row=np.array([position[key] for key in keys]),
            column=np.searchsorted(layers, atlas["unit_layer"].values),
        )

    def spread(self, values: np.ndarray) -> np.ndarray:
        """One value per unit, as a row x column array; NaN where there is no unit."""
        grid = np.full((len(self.rows), len(self.layers)), np.nan)
        grid[self.row, self.column] = values
        return grid

    def spread_text(self, texts: list[str]) -> list[list[str]]:
        """One text per unit, as rows of columns; empty where there is no unit."""
        grid = [[""] * len(self.layers) for _ in self.rows]
        for row, column, text in zip(self.row, self.column, texts, strict=True):
            grid[row][column] = text
        return grid

    def tick_positions(self) -> list[int]:
        step = -(-len(self.rows) // 16)
        return list(range(0, len(self.rows), step))

    def tick_labels(self) -> list[str]:
        """The index; with its kind where the units are of several kinds."""
        several = len({kind for kind, _ in self.rows}) > 1
        chosen = [self.rows[i] for i in self.tick_positions()]
        return [plot_text(f"{kind} {index}") if several else str(index) for kind, index in chosen]


def matrices(
    atoms: xr.Dataset, quantities: tuple[str, ...] = ("synergy", "redundancy")
) -> go.Figure:
    """Synergy and redundancy of every pair as symmetric matrices, units sorted by layer.

    Above :data:`MATRIX_CELLS` units, a cell is the mean over the defined pairs of two blocks of
    neighbouring units of the same layer; :func:`block_size` says of how many.

    Parameters
    ----------
    atoms : atoms; see :data:`synatlas.decompose.atoms.ATOMS`.
    quantities : some of ``"synergy"``, ``"redundancy"``; one panel each.

    Returns
    -------
    plotly.graph_objects.Figure
        Colours end at the 1st and 99th percentile of the cells; undefined pairs are blank.

    Raises
    ------
    ConfigError
        Another quantity, or none.
    """
    require(atoms, ATOMS)
    unknown = [name for name in quantities if name not in QUANTITIES]
    if unknown or not quantities:
        raise ConfigError(
            given=f"the quantities {quantities!r}",
            expected=f"some of {', '.join(QUANTITIES)}",
            remedy="choose from these",
        )
    figure = make_subplots(rows=1, cols=len(quantities), horizontal_spacing=0.12)
    figure.update_layout(template=TEMPLATE, height=500, margin={"t": 64, "l": 48, "r": 8})
    blocks = _Blocks.of(atoms)
    for column, name in enumerate(quantities, start=1):
        _add_matrix(figure, atoms, blocks, name, column=column, columns=len(quantities))
    return figure


def block_size(atoms: xr.Dataset) -> int:
    """Units per block of :func:`matrices`; 1 where every pair has its own cell."""
    return _Blocks.of(atoms).size


@dataclass(frozen=True, slots=True, kw_only=True)
class _Blocks:
    """Units by layer, kind and index, gathered into blocks that never cross a layer."""

    size: int
    block: np.ndarray
    labels: list[str]
    layer: np.ndarray

    @classmethod
    def of(cls, atoms: xr.Dataset) -> "_Blocks":
        layer = atoms["layer"].values
        order = np.lexsort((atoms["index"].values, atoms["kind"].values, layer))
        per_layer = np.unique(layer, return_counts=True)[1]
        size = 1
        while (-(-per_layer // size)).sum() > max(MATRIX_CELLS, len(per_layer)):
            size += 1
        within = np.concatenate([np.arange(count) // size for count in per_layer])
        new = np.r_[True, (np.diff(within) != 0) | (np.diff(layer[order]) != 0)]
        number = np.cumsum(new) - 1
        block = np.empty(len(layer), dtype=int)
        block[order] = number
        names = [plot_text(unit) for unit in atoms["unit"].values[order]]
        first = np.flatnonzero(new)
        last = np.r_[first[1:], len(names)] - 1
        labels = [
            names[a] if a == b else f"{names[a]} to {names[b]}"
            for a, b in zip(first, last, strict=True)
        ]
        return cls(size=size, block=block, labels=labels, layer=layer[order][first])

    def average(self, atoms: xr.Dataset, values: np.ndarray) -> np.ndarray:
        """Mean of a value per pair over the defined pairs of every two blocks."""
        position = {unit: i for i, unit in enumerate(atoms["unit"].values.tolist())}
        a = self.block[[position[unit] for unit in atoms["unit_a"].values.tolist()]]
        b = self.block[[position[unit] for unit in atoms["unit_b"].values.tolist()]]
        count = len(self.labels)
        good = np.isfinite(values)
        cell = a[good] * count + b[good]
        total = np.bincount(cell, weights=values[good], minlength=count**2).reshape(count, count)
        number = np.bincount(cell, minlength=count**2).reshape(count, count)
        with np.errstate(invalid="ignore", divide="ignore"):
            return (total + total.T) / (number + number.T)


def _add_matrix(
    figure: go.Figure, atoms: xr.Dataset, blocks: _Blocks, name: str, *, column: int, columns: int
) -> None:
    role = QUANTITIES[name]
    atom = atoms["atom"].sel(past=role, future=role).values
    values = blocks.average(atoms, atom).astype(np.float32)
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, [1, 99]) if finite.size else (0.0, 1.0)
    width = 1 / columns
    figure.add_heatmap(
        z=values,
        x=blocks.labels,
        y=blocks.labels,
        colorscale=SEQUENTIAL,
        zmin=float(low),
        zmax=float(high),
        showscale=bool(finite.size),
        hoverongaps=False,
        hovertemplate="%{y} and %{x}<br>%{z:.4g} nat<extra></extra>",
        colorbar={
            "orientation": "h",
            "x": (column - 1) * width,
            "xanchor": "left",
            "y": 1.02,
            "yanchor": "bottom",
            "len": 0.8 * width,
            "thickness": 10,
            "outlinewidth": 0,
            "nticks": 5,
            "title": {"text": f"{name} of the pair (nat)", "side": "top", "font": {"size": 13}},
            "tickfont": {"size": 12},
        },
        row=1,
        col=column,
    )
    ticks = _layer_ticks(blocks.layer)
    place = {"row": 1, "col": column}
    axis = {
        "type": "category",
        "tickvals": [blocks.labels[i] for i in ticks],
        "ticktext": [str(blocks.layer[i]) for i in ticks],
        "showgrid": False,
        "constrain": "domain",
        **place,
    }
    figure.update_xaxes(title_text="layer of the unit", **axis)
    figure.update_yaxes(
        title_text="layer of its partner",
        autorange="reversed",
        scaleanchor="x" if column == 1 else f"x{column}",
        **axis,
    )


def _layer_ticks(layer: np.ndarray) -> list[int]:
    """First position of every layer, thinned to at most ten."""
    starts = np.flatnonzero(np.r_[True, np.diff(layer) != 0])
    return starts[:: -(-len(starts) // 10)].tolist()

"""The section on ablation: what is damaged in which order, beside random units."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from scipy.stats import binomtest

from synatlas.inference import percentile_interval, resampling_weights
from synatlas.intervene.decline import DECLINES
from synatlas.intervene.measured import Measured, measured
from synatlas.intervene.orders import DEPTH_MATCHED, RANDOM
from synatlas.intervene.tested import LAYERS_DIFFER, STATUSES, TESTED
from synatlas.intervene.verdict import CRITERIA, verdict
from synatlas.report.inert import visible
from synatlas.report.maps import unit_map, value_map
from synatlas.report.plots import Plot, figure_plot
from synatlas.report.style import DASHES, INK, MUTED, PALETTE, add_band, canvas, spoken
from synatlas.report.tables import Table
from synatlas.report.verdict import Verdict, number, told

#: Orders drawn first, beside the leading one; the others have a figure of their own.
MAIN: Final = ("redundant_first", "norm", "single_unit")

#: What an outcome is called, and what it is measured in.
MEASURES: Final = {
    "kl": ("KL(clean || ablated)", "nat per token"),
    "reverse_kl": ("KL(ablated || clean)", "nat per token"),
    "disagreement": ("tokens whose most likely token changed", "share"),
    "lost_accuracy": ("questions lost", "share"),
}

#: Colours of controls, and how they are spoken of.
_CONTROLS: Final = {
    RANDOM: (MUTED, "random units", "dash"),
    DEPTH_MATCHED: (INK, "random units, same layers", "dot"),
}

#: Bootstraps of prompts behind the bands.
_DRAWS: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationSection:
    """The section ready to print; figures that need what was not run are left out."""

    verdict: Verdict
    text: tuple[str, ...]
    curves: list[Plot]
    accuracy: Plot | None
    maps: list[Plot]
    categories: Plot | None
    tables: tuple[Table, ...]


def ablation_section(
    divergence: xr.Dataset, tests: xr.Dataset, atlas: xr.Dataset
) -> AblationSection:
    """The section of a report about an ablation experiment.

    Parameters
    ----------
    divergence : a Divergence artifact.
    tests : as :func:`synatlas.intervene.statistics.ablation_tests` makes them of it.
    atlas : the atlas whose scores ordered the units, with the same units.

    Raises
    ------
    ArtifactError
        One of them is another artifact.
    """
    judged = verdict(divergence, tests)
    found = measured(divergence)
    return AblationSection(
        verdict=told(judged),
        text=(*CRITERIA, _ablated(divergence)),
        curves=_curves(divergence, tests, found),
        accuracy=_accuracy(divergence, tests),
        maps=_maps(divergence, atlas),
        categories=_categories(tests),
        tables=(_orders_table(tests), _counts_table(tests)),
    )


def _ablated(divergence: xr.Dataset) -> str:
    tested = ", ".join(str(n) for n in np.atleast_1d(divergence.attrs["tested"]).tolist())
    return (
        f"Ablation: {visible(divergence.attrs['ablation'])}, at every position, prompt included; "
        f"damage is the mean over the tokens of the clean reply. Sets of {tested} of "
        f"{divergence.sizes['unit']} units are tested against {divergence.attrs['draws']} random "
        f"ones of each kind; the greatest noise floor is "
        f"{number(float(divergence['noise_floor'].max()))} nat."
    )


def _curves(divergence: xr.Dataset, tests: xr.Dataset, found: dict[str, Measured]) -> list[Plot]:
    leading = str(tests.attrs["leading"])
    names = [n for n in tests["order"].values.tolist() if n != leading]
    main = [n for n in MAIN if n in names]
    others = [n for n in names if n not in main]
    fraction = divergence["fraction"].to_numpy()
    plots = []
    for outcome, one in found.items():
        what, _ = MEASURES[outcome]
        if outcome == "lost_accuracy":
            continue
        shown = {"": [leading, *main]} | ({", other orders": [leading, *others]} if others else {})
        for suffix, orders in shown.items():
            if suffix and outcome != "kl":
                continue
            plots.append(
                figure_plot(
                    f"ablation-{outcome.replace('_', '-')}{'-others' if suffix else ''}",
                    f"{what}{suffix}",
                    curve_figure(one, fraction, outcome, orders),
                    "How to read it: the share of units ablated across, the mean damage over "
                    "prompts up. Bands are 95 % intervals over prompts. Dashed and dotted lines are"
                    " the mean of the random orders followed along the curve; bars on them hold 5"
                    " to 95 % of all draws at the tested numbers of units: a line above a bar is"
                    " above 95 of 100 random sets.",
                )
            )
    return plots


def curve_figure(one: Measured, fraction: np.ndarray, outcome: str, orders: list[str]) -> go.Figure:
    """Damage against the share of units ablated, of some orders and the controls."""
    what, unit = MEASURES[outcome]
    figure = canvas(height=470, x_title="share of units ablated", y_title=f"{what} ({unit})")
    samples = one.values.shape[3]
    rng = np.random.default_rng(0)
    weights = resampling_weights(samples, _DRAWS if samples > 1 else 0, rng)
    for position, order in enumerate(orders):
        values = one.of(order)
        run = np.isfinite(values).all(axis=1)
        colour = PALETTE[position % (len(PALETTE) - 1)]
        if len(weights) and len(orders) <= 1 + len(MAIN):
            bounds = percentile_interval(weights @ values[run].T, 0.95)
            add_band(figure, fraction[run], bounds[:, 0], bounds[:, 1], colour=colour)
        dash = "solid" if position < len(PALETTE) - 1 else DASHES[position % len(DASHES)]
        _line(figure, fraction[run], values[run].mean(axis=1), one.counts[run], spoken(order),
              colour=colour, dash=dash, width=2.5 if position == 0 else 1.6)  # fmt: skip
    for control in _CONTROLS:
        if control in one.orders:
            _control(figure, one, fraction, control)
    figure.update_yaxes(rangemode="tozero")
    return figure


def _line(
    figure: go.Figure, x: np.ndarray, y: np.ndarray, counts: np.ndarray, name: str, **style: Any
) -> None:
    figure.add_scatter(
        x=np.r_[0.0, x],
        y=np.r_[0.0, y],
        customdata=np.r_[0, counts],
        mode="lines",
        line={"color": style["colour"], "dash": style["dash"], "width": style["width"]},
        name=name,
        hovertemplate="%{customdata} units (%{x:.0%})<br>%{y:.4g}<extra>%{fullData.name}</extra>",
    )


def _control(figure: go.Figure, one: Measured, fraction: np.ndarray, control: str) -> None:
    colour, name, dash = _CONTROLS[control]
    everywhere = np.ones(one.counts.size, dtype=bool)
    along = one.draws_of(control, everywhere)
    if len(along):
        _line(figure, fraction, along.mean(axis=(0, 2)), one.counts,
              f"{name}, mean of {len(along)}", colour=colour, dash=dash, width=1.8)  # fmt: skip
    at = np.flatnonzero(one.tested)
    draws = [one.draws_of(control, np.arange(one.counts.size) == n)[:, 0].mean(axis=1) for n in at]
    kept = [(n, d) for n, d in zip(at.tolist(), draws, strict=True) if len(d)]
    if not kept:
        return
    mean = np.array([d.mean() for _, d in kept])
    low, high = (np.array([np.quantile(d, q) for _, d in kept]) for q in (0.05, 0.95))
    # Two controls stand side by side at the same number of units.
    aside = 0.004 if control == RANDOM else -0.004
    figure.add_scatter(
        x=fraction[[n for n, _ in kept]] + aside,
        y=mean,
        error_y={
            "type": "data", "symmetric": False, "array": high - mean, "arrayminus": mean - low,
            "color": colour, "thickness": 2, "width": 5,
        },
        customdata=np.stack([low, high], axis=-1),
        mode="markers",
        marker={"color": colour, "size": 6},
        name=f"{name}, 5 to 95 % of {max(len(d) for _, d in kept)}",
        hovertemplate="%{y:.4g} (%{customdata[0]:.4g} to %{customdata[1]:.4g})"
        "<extra>%{fullData.name}</extra>",
    )  # fmt: skip


def _accuracy(divergence: xr.Dataset, tests: xr.Dataset) -> Plot | None:
    if "lost_accuracy" not in tests["outcome"].values:
        return None
    return figure_plot(
        "ablation-accuracy",
        "Answers",
        accuracy_figure(divergence, tests),
        "How to read it: the share of questions answered right with the first units of an order"
        " ablated; the line is the clean model. Bars of orders have 95 % intervals over questions"
        " (Wilson); those of random units hold 5 to 95 % of the draws.",
    )


def accuracy_figure(divergence: xr.Dataset, tests: xr.Dataset) -> go.Figure:
    """Accuracy of orders and controls at the tested numbers of units."""
    clean = float(divergence["clean_correct"].mean())
    at = tests.sel(outcome="lost_accuracy")
    leading = str(tests.attrs["leading"])
    known = tests["order"].values.tolist()
    orders = [leading, *(n for n in (*MAIN, "gradient") if n in known and n != leading)]
    controls = [c for c in _CONTROLS if c in tests["control"].values]
    names = [spoken(order) for order in orders] + [_CONTROLS[c][1] for c in controls]
    figure = canvas(height=130 + 62 * len(names), x_title="share answered right")
    for k, n in enumerate(at["tested"].values.tolist()):
        right = divergence["correct"].sel(order=orders, n_ablated=n).isel(draw=0)
        found = [binomtest(int(row.sum()), row.size).proportion_ci(0.95, "wilson") for row in right]
        mean = at["control_damage"].sel(control=controls).values[:, k]
        spread = at["control_quantile"].sel(control=controls).values[:, k]
        value = np.r_[right.mean("item"), clean - mean]
        low = np.r_[[one.low for one in found], clean - spread[:, 1]]
        high = np.r_[[one.high for one in found], clean - spread[:, 0]]
        figure.add_bar(
            y=names,
            x=value,
            orientation="h",
            name=f"{n} units",
            marker={"color": PALETTE[k % len(PALETTE)]},
            error_x={
                "type": "data", "symmetric": False, "array": np.maximum(high - value, 0),
                "arrayminus": np.maximum(value - low, 0), "thickness": 1.2, "width": 3,
                "color": INK,
            },
            customdata=np.stack([low, high], axis=-1),
            hovertemplate="%{x:.3f} (%{customdata[0]:.3f} to %{customdata[1]:.3f})"
            "<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    figure.add_vline(x=clean, line={"color": INK, "width": 1.5, "dash": "dash"})
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(rangemode="tozero")
    figure.update_layout(margin={"t": 70})
    return figure


def _maps(divergence: xr.Dataset, atlas: xr.Dataset) -> list[Plot]:
    if "single_kl" not in divergence:
        return []
    alone = divergence["single_kl"].mean("prompt").sel(unit=atlas["unit"].values).to_numpy()
    return [
        figure_plot(
            "ablation-single",
            "Damage of each unit alone",
            value_map(
                atlas,
                alone.astype(float),
                "kl of the unit ablated alone (nat per token)",
                hover="kl alone",
            ),
            "How to read it: one cell per unit, its layer across and its index within the layer up."
            " What a unit damages together with others may be more or less.",
        ),
        figure_plot(
            "ablation-rank",
            "The atlas' rank",
            unit_map(atlas, "rank_of_difference"),
            "How to read it: the same units, by rank of synergy minus redundancy; equal patterns"
            " would say that the rank finds units that damage most alone.",
        ),
    ]


def _categories(tests: xr.Dataset) -> Plot | None:
    controls = [c for c in _CONTROLS if c in tests["control"].values]
    ratio = tests["category_ratio"].sel(outcome="kl", control=controls)
    if not np.isfinite(ratio).any():
        return None
    return figure_plot(
        "ablation-categories",
        "Damage by category",
        category_figure(tests),
        "How to read it: damage (KL) of the leading order's sets over that of the mean random set,"
        " mean over the tested numbers of units, with 95 % intervals over prompts and draws; 1 is"
        " what random units do in the same prompts.",
    )


def category_figure(tests: xr.Dataset) -> go.Figure:
    """Ratio of damage to the mean draw in every category of prompts."""
    at = tests.sel(outcome="kl")
    there = at["category_count"].values > 0
    names = [spoken(name) or "(no category)" for name in at["category"].values[there]]
    figure = canvas(height=150 + 44 * len(names), x_title="damage / damage of the mean random set")
    for position, control in enumerate(c for c in _CONTROLS if c in tests["control"].values):
        _, name, _ = _CONTROLS[control]
        symbol = ("circle", "diamond")[position]
        value = at["category_ratio"].sel(control=control).values[there]
        low, high = at["category_ratio_interval"].sel(control=control).values[there].T
        figure.add_scatter(
            x=value,
            y=np.arange(len(names)) + (position - 0.5) * 0.2,
            mode="markers",
            marker={"color": PALETTE[position], "size": 9, "symbol": symbol},
            error_x={
                "type": "data", "symmetric": False, "array": high - value,
                "arrayminus": value - low, "thickness": 1.5, "width": 4,
            },
            customdata=np.stack([low, high], axis=-1),
            name=f"against {name}",
            hovertemplate="%{x:.3g} (%{customdata[0]:.3g} to %{customdata[1]:.3g})"
            "<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    figure.add_vline(x=1, line={"color": MUTED, "width": 1})
    figure.update_yaxes(tickvals=list(range(len(names))), ticktext=names, autorange="reversed")
    return figure


def _orders_table(tests: xr.Dataset) -> Table:
    """Every order against every control, over all tested numbers of units."""
    at = tests.sel(outcome="kl")
    controls = [c for c in _CONTROLS if c in tests["control"].values]
    columns = ["order", "area (nat)", "interval"]
    for control in controls:
        name = _CONTROLS[control][1]
        columns += [f"p, {name}", "adjusted p", "effect (SD of draws)", "area ratio", "interval"]
    columns += ["oracle's share", "decline", "largest rise"]
    rows = []
    for i, order in enumerate(at["order"].values.tolist()):
        one = at.isel(order=i)
        row = [spoken_text(order), number(one["area"].item()), _interval(one["area_interval"])]
        for control in controls:
            row += _among(one.sel(control=control))
        said = DECLINES[int(one["decline"].item())].replace("_", " ")
        rise = one["jump_share"].item()
        row += [number(one["oracle_share"].item()), said, number(rise)]
        rows.append(tuple(row))
    return Table(label="Every order against random units", columns=tuple(columns), rows=tuple(rows))


def _among(one: xr.Dataset) -> list[str]:
    """p, adjusted p, effect and ratio of areas; the status where there is none."""
    status = int(one["status"].item())
    if status == LAYERS_DIFFER:
        p = "other layers"
    else:
        p = number(one["p_more"].item())
        p += "" if status == TESTED else f" ({STATUSES[status].replace('_', ' ')})"
    ratio = number(one["area_ratio"].item()) if status != LAYERS_DIFFER else ""
    interval = _interval(one["area_ratio_interval"]) if status != LAYERS_DIFFER else ""
    if status == LAYERS_DIFFER:
        return [p, "", "", ratio, interval]
    return [p, number(one["q_more"].item()), number(one["effect"].item()), ratio, interval]


def _counts_table(tests: xr.Dataset) -> Table:
    """Damage at every tested number of units, by every outcome, beside that of the draws."""
    controls = [c for c in _CONTROLS if c in tests["control"].values]
    columns = ["outcome", "order", "units", "damage", "interval"]
    for control in controls:
        columns += [f"{_CONTROLS[control][1]}", "5 to 95 %", "p", "ratio"]
    rows = []
    for outcome in tests["outcome"].values.tolist():
        for order in tests["order"].values.tolist():
            for n in tests["tested"].values.tolist():
                one = tests.sel(outcome=outcome, order=order, tested=n)
                row = [MEASURES[outcome][0], spoken_text(order), str(n)]
                row += [number(one["damage"].item()), _interval(one["damage_interval"])]
                for control in controls:
                    drawn = one.sel(control=control)
                    row += [
                        number(drawn["control_damage"].item()),
                        _interval(drawn["control_quantile"]),
                        number(drawn["p_more_at"].item()),
                        number(drawn["ratio_at"].item()),
                    ]
                rows.append(tuple(row))
    return Table(
        label="Damage at each tested number of units",
        columns=tuple(columns),
        rows=tuple(rows),
        text_columns=2,
    )


def spoken_text(name: str) -> str:
    """A name as words, for a table."""
    return visible(name).replace("_", " ")


def _interval(bounds: xr.DataArray) -> str:
    values = bounds.to_numpy()
    return "not defined" if np.isnan(values).all() else number(values.tolist())

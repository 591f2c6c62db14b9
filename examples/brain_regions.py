# %% [markdown]
# # Synergy between brain regions
#
# Seven subjects, 94 regions, 1,200 samples: every option of `synatlas.phiid` on the same array, and
# what each of them changes. The array is random, with a coupling that is known: the first twelve
# regions pass something on to their successors, and every region has a memory of its own. What
# a method finds beyond the twelve, it has made up.
#
# Run it as a script, `python examples/brain_regions.py --page regions.html`, or cell by cell.

# %%
"""Every option of `synatlas.phiid` on an array of subjects, regions and samples."""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

import synatlas as sa
from synatlas.axes import ATOM_LABELS

# %% [markdown]
# ## The array
#
# Recordings usually come as (subject, region, sample). synatlas wants time before units:
# (prompt, step, unit), where a subject takes the place of a prompt. A transpose makes one from the
# other; labels are optional and come back in the result.


# %%
def recordings(
    subjects: int = 7, regions: int = 94, samples: int = 1200, coupled: int = 12, seed: int = 0
) -> np.ndarray:
    """Random (subject, region, sample): own memories, and a chain through the first regions."""
    rng = np.random.default_rng(seed)
    memory = rng.uniform(0.1, 0.8, regions)
    memory[:coupled] = 0.4
    values = rng.normal(size=(subjects, regions, samples))
    for t in range(1, samples):
        before = values[:, :, t - 1]
        values[:, :, t] += memory * before
        values[:, 1:coupled, t] += 0.3 * before[:, : coupled - 1]
    return values


def labelled(values: np.ndarray) -> xr.DataArray:
    """(subject, region, sample) as (prompt, step, unit) with names."""
    names = [f"R{k:03d}" for k in range(values.shape[1])]
    return xr.DataArray(
        values.transpose(0, 2, 1), dims=("prompt", "step", "unit"), coords={"unit": names}
    )


# %% [markdown]
# ## One decomposition
#
# The result is a Dataset over pairs: sixteen atoms, their aggregates and a status. A mean over
# partners makes a value per region of it.


# %%
def per_region(values: xr.DataArray) -> pd.Series:
    """Mean over partners of a value per pair, by region."""
    first = values.to_series().groupby(values["unit_a"].to_numpy())
    second = values.to_series().groupby(values["unit_b"].to_numpy())
    return first.sum().add(second.sum(), fill_value=0) / (
        first.count().add(second.count(), fill_value=0)
    )


def named_atom(result: xr.Dataset, name: str, of: str = "atom") -> xr.DataArray:
    """One atom of every pair by its short name, such as ``sts``."""
    past, future = ATOM_LABELS[name]
    return result[of].sel(past=past, future=future)


# %% [markdown]
# ## Options, one by one
#
# The table says how far each option agrees with the defaults about which regions are synergistic
# rather than redundant: the rank correlation of `sts - rtr` over regions. Several lags are one
# call, whose result has a dimension `lag`.


# %%
def gradient(result: xr.Dataset) -> pd.Series:
    """Synergy minus redundancy of each region, in nats."""
    return per_region(named_atom(result, "sts") - named_atom(result, "rtr"))


def settings(series: xr.DataArray, lags: tuple[int, ...]) -> dict[str, dict[str, Any]]:
    """Options of `synatlas.phiid`; all but the first differ from the defaults in what they name."""
    everywhere = series.mean("unit").to_numpy()[..., None]
    return {
        "defaults": {"lag": lags},
        "CCS": {"redundancy": "ccs"},
        "copula": {"estimator": "copula"},
        "copula, CCS": {"estimator": "copula", "redundancy": "ccs"},
        "binary": {"estimator": "binary"},
        "binary, CCS": {"estimator": "binary", "redundancy": "ccs"},
        "bias corrected": {"correction": "wishart"},
        "without a trend": {"nuisance": ("trend",)},
        "without the mean region": {"covariates": everywhere},
    }


def settings_table(series: xr.DataArray, lags: tuple[int, ...]) -> pd.DataFrame:
    """Means over pairs in nats, agreement with the first lag, and seconds of each call."""
    rows, first = [], None
    for name, options in settings(series, lags).items():
        start = time.perf_counter()
        result = sa.phiid(series, **options)
        seconds = time.perf_counter() - start
        parts = {name: result}
        if "lag" in result.dims:
            parts = {f"{name}, lag {lag}": result.sel(lag=lag) for lag in lags}
        for part, values in parts.items():
            mine = gradient(values)
            first = mine if first is None else first
            rows.append(
                {"option": part}
                | {atom: float(named_atom(values, atom).mean()) for atom in ("sts", "rtr")}
                | {name: float(values[name].mean()) for name in ("tdmi", "phi_r", "transfer")}
                | {"agreement": mine.corr(first, method="spearman"), "seconds": seconds}
            )
    return pd.DataFrame(rows)


# %% [markdown]
# ## Nulls
#
# Two series that have nothing to do with each other have synergy 2 min(S_a, S_b) under MMI, from
# their memories alone. A null says how much: `window_shift` and `cross_prompt` draw surrogates,
# `same_step` is a closed form. `independence` chooses one of the first two by the number of
# prompts, and says which in the attribute `null_used`. `atoms="rtr+sts"` leaves the other fourteen
# atoms out and takes less time.


# %%
def nulls_table(series: xr.DataArray, coupled: int, surrogates: int) -> pd.DataFrame:
    """Synergy, its null, and the share of coupled and of other pairs with p below 0.05."""
    rows = []
    for null, draws in (
        ("independence", surrogates),
        ("window_shift", surrogates),
        ("cross_prompt", surrogates),
        ("same_step", 0),
    ):
        start = time.perf_counter()
        result = sa.phiid(series, null=null, surrogates=draws, atoms="rtr+sts", seed=1)
        seconds = time.perf_counter() - start
        low = named_atom(result, "sts", "p") < 0.05
        chained = _chained(result, coupled)
        rows.append(
            {
                "null": null,
                "used": result.attrs.get("null_used", null),
                "surrogates": draws,
                "sts": float(named_atom(result, "sts", "null_observed").mean()),
                "sts of the null": float(named_atom(result, "sts", "null_mean").mean()),
                "found in the chain": float(low[chained].mean()),
                "found elsewhere": float(low[~chained].mean()),
                "seconds": seconds,
            }
        )
    return pd.DataFrame(rows)


def _chained(result: xr.Dataset, coupled: int) -> np.ndarray:
    """Pairs of neighbours in the chain of coupled regions."""
    first = np.array([int(name[1:]) for name in result["unit_a"].to_numpy()])
    second = np.array([int(name[1:]) for name in result["unit_b"].to_numpy()])
    return (second == first + 1) & (second < coupled)


# %% [markdown]
# ## A picture
#
# Left: what is published as a gradient from redundant to synergistic regions, against what a region
# knows about its own next sample. Right: transfer entropy from row to column, where the chain is.


# %%
def picture(series: xr.DataArray, result: xr.Dataset, coupled: int) -> go.Figure:
    """The synergy gradient against memory, and transfer entropy between the first regions."""
    order = list(series["unit"].to_numpy())
    values = gradient(result).reindex(order)
    past, future = series[:, :-1].to_numpy(), series[:, 1:].to_numpy()
    r = [
        [np.corrcoef(past[s, :, k], future[s, :, k])[0, 1] for k in range(len(order))]
        for s in range(len(series))
    ]
    memory = np.mean(-0.5 * np.log1p(-np.square(r)), axis=0)
    shown = min(2 * coupled, len(order))
    entropy = np.full((len(order), len(order)), np.nan)
    first = [order.index(name) for name in result["unit_a"].to_numpy()]
    second = [order.index(name) for name in result["unit_b"].to_numpy()]
    entropy[first, second] = result["transfer_entropy_ab"]
    entropy[second, first] = result["transfer_entropy_ba"]
    figure = make_subplots(
        1, 2, subplot_titles=["synergy minus redundancy", "transfer entropy, row to column"]
    )
    for name, some in (("coupled", slice(coupled)), ("not coupled", slice(coupled, None))):
        figure.add_scatter(
            x=memory[some], y=values.iloc[some], text=order[some], mode="markers", name=name
        )
    figure.add_heatmap(
        z=entropy[:shown, :shown],
        x=order[:shown],
        y=order[:shown],
        colorbar={"title": "nat"},
        row=1,
        col=2,
    )
    figure.update_xaxes(title_text="self-information [nat]", row=1, col=1)
    figure.update_yaxes(title_text="sts - rtr [nat]", row=1, col=1)
    figure.update_yaxes(autorange="reversed", row=1, col=2)
    figure.update_layout(
        width=1000,
        height=420,
        margin={"t": 50, "b": 60, "l": 70, "r": 10},
        template="simple_white",
        legend={"x": 0.02, "y": 0.98},
    )
    return figure


# %% [markdown]
# ## All of it


# %%
def main(
    *,
    subjects: int = 7,
    regions: int = 94,
    samples: int = 1200,
    coupled: int = 12,
    lags: tuple[int, ...] = (1, 2, 5),
    surrogates: int = 99,
    page: Path | None = None,
) -> dict[str, pd.DataFrame]:
    """Print both tables, write the picture, and return the tables."""
    series = labelled(recordings(subjects, regions, samples, coupled))
    tables = {
        "options": settings_table(series, lags),
        "nulls": nulls_table(series, coupled, surrogates),
    }
    for table in tables.values():
        print(table.to_string(index=False, float_format="{:.4f}".format), end="\n\n")
    result = sa.phiid(series)
    if page is not None:
        picture(series, result, coupled).write_html(page, config={"displayModeBar": False})
        print(f"picture in {page}")
    return tables


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", type=Path, default=Path("brain_regions.html"))
    parser.add_argument("--surrogates", type=int, default=99)
    given = parser.parse_args()
    main(page=given.page, surrogates=given.surrogates)

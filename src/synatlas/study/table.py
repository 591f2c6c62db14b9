"""The table of a study: a row for each cell and score."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import xarray as xr

from synatlas.artifact import open_artifact
from synatlas.folder import FILES
from synatlas.rank.cautions import PERIODIC
from synatlas.run import Run
from synatlas.study.cells import Cell
from synatlas.study.measures import read_measures
from synatlas.study.shapes import RANKS, at_depths
from synatlas.study.travel import Row, Travelled

#: Numbers of a profile's shape, each with an interval in the atlas.
SHAPES: Final = ("curvature", "rise", "fall", "mid_minus_ends")

#: Columns that say how a cell went; `status` is ``complete`` or what was wrong.
ABOUT: Final = (
    "cell", "status", "model", "model_revision", "units", "layers", "prompts", "steps",
    "periodic_replies", "mean_logprob", "live_replay_error",
)  # fmt: skip


def tidy(outcomes: Sequence[Travelled]) -> pd.DataFrame:
    """One row for each cell and score; NaN and a status for a cell that failed.

    Columns are the labels of the cells, those of :data:`ABOUT`, and of each score: ``score``,
    its mean over units ``mean`` (in the score's unit), ``curvature``, ``rise``, ``fall`` and
    ``mid_minus_ends`` of its profile, scaled to 0..1 first, each with ``_low`` and ``_high``, and
    ``split_half``. ``mean_logprob`` is in nats per token, of the replies that were read. Of cells
    whose model was measured: ``loss`` in nats per token on held texts, ``accuracy`` and
    ``accuracy_CATEGORY``, see :func:`synatlas.study.measures.measure`.
    """
    return pd.DataFrame([row for outcome in outcomes for row in _rows(outcome)])


def _rows(outcome: Travelled) -> Sequence[Row]:
    if outcome.failure:
        told = {"cell": outcome.cell.name, "status": outcome.failure}
        return [{**outcome.cell.labels, **told}]
    return outcome.rows


def rows_of(cell: Cell, run: Run) -> tuple[Row, ...]:
    """The rows of a cell whose run has an atlas; none where it was not taken so far."""
    if "atlas" not in run.artifacts:
        return ()
    recording, atoms, atlas = run.recording, run.atoms, run.atlas
    row: Row = {
        **cell.labels,
        "cell": cell.name,
        "status": "complete",
        "model": atlas.attrs["model"],
        "model_revision": atlas.attrs["model_revision"],
        "units": atlas.sizes["unit"],
        "layers": int(atlas.attrs["n_layers"]),
        "prompts": recording.sizes["prompt"],
        "steps": recording.sizes["step"],
        "periodic_replies": int((atoms["repetition"] > PERIODIC).sum()),
        "mean_logprob": float(recording["logprob"].mean()),
        "live_replay_error": float(recording.attrs["live_replay_error"]),
    }
    row |= _measures(run.folder) if cell.measured else {}
    return tuple(row | _score(atlas, name) for name in atlas["score"].to_numpy().tolist())


def _measures(folder: Path) -> dict[str, float]:
    found = read_measures(folder)
    if found is None:
        return {}
    by_category = {f"accuracy_{name}": share for name, share in found["categories"].items()}
    return {"loss": found["loss"], "accuracy": found["accuracy"], **by_category}


def _score(atlas: xr.Dataset, name: str) -> dict[str, Any]:
    at = atlas.sel(score=name)
    found: dict[str, Any] = {
        "score": name,
        "mean": _mean(atlas[name].to_numpy()),
        "split_half": float(at["split_half"]),
    }
    for shape in SHAPES:
        low, high = at[f"{shape}_interval"].to_numpy()
        found |= {shape: float(at[shape]), f"{shape}_low": low, f"{shape}_high": high}
    return found


def _mean(values: np.ndarray) -> float:
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if defined.size else float("nan")


def profiles(outcomes: Sequence[Travelled], score: str) -> xr.DataArray:
    """Profile of a score in every complete cell, over depth on one grid.

    Parameters
    ----------
    outcomes : cells of a study.
    score : its name in the atlas.

    Returns
    -------
    xarray.DataArray
        (cell, depth): linear between the depths of a cell's own layers; NaN where a cell has
        fewer than two layers with units, and outside of their depths. The score is that of the
        atlas, ranks divided by the number of units, so that models of any size compare.
    """
    done = [o for o in outcomes if not o.failure]
    atlases = [open_artifact(o.folder / FILES["atlas"]) for o in done]
    finest = max((a.sizes["layer"] for a in atlases), default=2)
    depth = np.linspace(0.0, 1.0, max(finest, 2))
    rows = [_profile_at(a, score, depth) for a in atlases]
    return xr.DataArray(
        np.array(rows).reshape(len(done), depth.size),
        dims=("cell", "depth"),
        coords={"cell": [o.cell.name for o in done], "depth": depth},
        name=score,
    )


def _profile_at(atlas: xr.Dataset, score: str, depth: np.ndarray) -> np.ndarray:
    values = atlas["profile"].sel(score=score).to_numpy()
    if score in RANKS:
        values = values / atlas.sizes["unit"]
    return at_depths(atlas["depth"].to_numpy(), values[None], depth)[0]


def write_table(table: pd.DataFrame, folder: Path, name: str = "table") -> Path:
    """Write a table as NAME.parquet, under a temporary name first."""
    path = folder / f"{name}.parquet"
    unfinished = path.with_name(f".{path.name}.tmp")
    table.to_parquet(unfinished, index=False)
    unfinished.replace(path)
    return path

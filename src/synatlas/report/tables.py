"""Tables of the report: rows of text made from the artifacts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import xarray as xr

from synatlas.decompose.nulls import NULLS
from synatlas.rank.cautions import PERIODIC
from synatlas.rank.controls import CORE
from synatlas.report.inert import clipped, visible
from synatlas.report.verdict import number

#: Prompts listed, and characters of each text: what keeps any report small. All are in the
#: recording, and the page says what it leaves out.
PROMPTS_SHOWN: Final = 200
TEXT_SHOWN: Final = 2000
#: Rows of the table of core units.
CORE_SHOWN: Final = 200

#: Attributes that have a place of their own on the page.
_ELSEWHERE: Final = frozenset(
    {
        "schema",
        "schema_version",
        "fingerprint",
        "verdict",
        "warnings",
        "core_missing",
        "content_digest",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table ready to print; the first `text_columns` columns are text, the others numbers."""

    label: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: int = 1
    kind: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptRow:
    """One prompt with its reply."""

    name: str
    category: str
    prompt: str
    reply: str
    steps: str
    repetition: str
    flagged: bool


def _interval(bounds: np.ndarray) -> str:
    return "not defined" if np.isnan(bounds).all() else number(bounds.tolist())


def layer_table(atlas: xr.Dataset) -> Table:
    """Profile and interval of the main scores, one row per layer."""
    wanted = (
        "joint_prediction",
        "rank_of_difference",
        "difference_of_ranks",
        "synergy",
        "redundancy",
    )
    known = [str(name) for name in atlas["score"].values]
    scores = [name for name in wanted if name in known]
    columns = ["layer", "depth"]
    for name in scores:
        columns += [name, "interval"]
    rows = []
    for i, layer in enumerate(atlas["layer"].values.tolist()):
        row = [str(layer), number(float(atlas["depth"].values[i]))]
        for name in scores:
            at = known.index(name)
            row.append(number(float(atlas["profile"].values[at, i])))
            row.append(_interval(atlas["profile_interval"].values[at, i]))
        rows.append(tuple(row))
    return Table(label="Profiles by layer", columns=tuple(columns), rows=tuple(rows))


def shape_table(atlas: xr.Dataset) -> Table:
    """Tests of the shape of every profile, and how far the controls explain the score."""
    with_interval = ("curvature", "rise", "fall", "mid_minus_ends")
    columns = ["score"]
    for name in with_interval:
        columns += [name.replace("_", " "), "interval"]
    columns += ["turn", "split-half", "p if layers were exchangeable"]
    columns += [
        f"{kind} {visible(control).replace('_', ' ')}"
        for control in atlas["control"].values
        for kind in ("correlation with", "partial")
    ]
    rows = []
    for i, score in enumerate(atlas["score"].values):
        row = [visible(score)]
        for name in with_interval:
            row.append(number(float(atlas[name].values[i])))
            row.append(_interval(atlas[f"{name}_interval"].values[i]))
        row += [
            number(float(atlas[name].values[i]))
            for name in ("turn", "split_half", "layer_permutation_p")
        ]
        for j in range(atlas.sizes["control"]):
            row.append(number(float(atlas["correlation"].values[i, j])))
            row.append(number(float(atlas["partial_correlation"].values[i, j])))
        rows.append(tuple(row))
    return Table(label="Shape and controls by score", columns=tuple(columns), rows=tuple(rows))


def null_table(atlas: xr.Dataset) -> Table:
    """How well each null keeps what it should keep, and what synergy has over it."""
    rows = []
    for i, null in enumerate(atlas["null"].values):
        at = atlas.isel(null=i)
        rows.append(
            (
                visible(null),
                "accepted" if at["null_accepted"].item() else "refused",
                _level(str(null)),
                f"{at['null_self_information_error'].item():+.2%}",
                number(at["null_same_step_error"].item()),
                number(at["null_surrogates"].item()),
                number(at["null_effect"].item()),
                _interval(at["null_effect_interval"].values),
                number(at["null_minimum_detectable"].item()),
            )
        )
    return Table(
        label="Nulls: matching error and effect",
        columns=(
            "null",
            "matching",
            "level",
            "error of self-information",
            "error of same-step correlation",
            "surrogates",
            "mean excess (nat)",
            "interval",
            "minimum detectable in a unit (nat)",
        ),
        rows=tuple(rows),
        text_columns=3,
    )


def _level(null: str) -> str:
    """Whether the level of a null holds where nothing is coupled; "not measured" of others."""
    if null not in NULLS:
        return "not measured"
    return NULLS[null].level or "holds"


def topology_table(atlas: xr.Dataset) -> Table:
    """Measures of every graph beside its nulls; a null's cell holds its mean, z and p."""
    graphs, nulls = (atlas[dim].values.tolist() for dim in ("graph", "graph_null"))
    # Dividing all weights by one number changes efficiency alone.
    shown = [
        (measure, weighting)
        for weighting in atlas["weighting"].values.tolist()
        for measure in atlas["measure"].values.tolist()
        if weighting != "normalised" or measure == "efficiency"
    ]
    tested = [g for g in graphs if atlas["topology_null"].sel(graph=g).notnull().any()]
    columns, rows = ["measure", "weights"], []
    for graph in graphs:
        columns.append(_spoken(graph))
        if graph in tested:
            columns += [f"{_spoken(graph)}, {_spoken(null)}" for null in nulls]
    for measure, weighting in shown:
        at = atlas.sel(measure=measure, weighting=weighting)
        row = [_spoken(measure), _spoken(weighting)]
        for graph in graphs:
            here = at.sel(graph=graph)
            row.append(number(here["topology"].item()))
            if graph in tested:
                row += [_null_cell(here.sel(graph_null=null)) for null in nulls]
        rows.append(tuple(row))
    return Table(
        label="Topology of the graphs of pairs",
        columns=tuple(columns),
        rows=tuple(rows),
        text_columns=2,
    )


def _null_cell(at: xr.Dataset) -> str:
    mean, z, p = (at[f"topology_{name}"].item() for name in ("null", "z", "p"))
    # Digits of a smaller p would be those of the tail of a distribution fitted to few draws.
    told = "p < 0.001" if p < 0.001 else f"p {number(p)}"
    return f"{number(mean)} (z {number(z)}, {told})"


def _spoken(name: object) -> str:
    return visible(name).replace("_", " ")


def topology_counts(atlas: xr.Dataset) -> str:
    """How many nodes and edges the graphs have, and what is missing from them, as a sentence."""
    edges = atlas["graph_edges"].sel(graph="synergy")
    raw, matched = (int(edges.sel(weighting=w).item()) for w in ("raw", "density_matched"))
    parts = [
        f"{number(raw)} pairs have an edge in the synergy graph, {number(matched)} in each"
        " density-matched one"
    ]
    undefined = int(atlas["graph_undefined"].max().item())
    if undefined:
        parts.append(f"{number(undefined)} pairs without a value have none")
    negative = atlas["graph_negative"]
    parts += [
        f"{number(int(count))} negative values of {_spoken(graph)} count as no edge"
        for graph, count in zip(negative["graph"].values, negative.values, strict=True)
        if count
    ]
    return "; ".join(parts) + "."


def core_table(atlas: xr.Dataset) -> Table:
    """Units that pass every control, those of greatest integration first."""
    integration = atlas["integration"].values
    core = np.flatnonzero(atlas["core"].values == CORE)
    core = core[np.argsort(-np.nan_to_num(integration[core], nan=-np.inf), kind="stable")]
    nulls = [visible(name) for name in atlas["null"].values]
    rows = tuple(
        (
            visible(atlas["unit"].values[i]),
            number(float(integration[i])),
            _interval(atlas["integration_interval"].values[i]),
            number(float(atlas["integration_q"].values[i])),
            *(number(float(excess)) for excess in atlas["excess"].values[:, i]),
            number(float(atlas["excess_q"].values[i])),
            number(float(atlas["core_recurrence"].values[i])),
        )
        for i in core[:CORE_SHOWN]
    )
    return Table(
        label="Core units",
        columns=(
            "unit",
            "integration (nat)",
            "interval",
            "q of integration",
            *(f"excess over {name} (nat)" for name in nulls),
            "q of excess",
            "recurrence",
        ),
        rows=rows,
    )


def prompt_rows(recording: xr.Dataset, atoms: xr.Dataset | None) -> tuple[PromptRow, ...]:
    """The first prompts with their replies; repetition is known where atoms were given."""
    repetition = {} if atoms is None else _repetition(atoms)
    rows = []
    for i, name in enumerate(recording["prompt"].values[:PROMPTS_SHOWN].tolist()):
        share = repetition.get(name, np.nan)
        rows.append(
            PromptRow(
                name=visible(name),
                category=visible(recording["category"].values[i]),
                prompt=clipped(visible(recording["text"].values[i]), TEXT_SHOWN),
                reply=clipped(visible(recording["reply"].values[i]), TEXT_SHOWN),
                steps=number(int(recording["n_steps"].values[i])),
                repetition="" if np.isnan(share) else f"{share:.0%}",
                flagged=bool(share > PERIODIC),
            )
        )
    return tuple(rows)


def _repetition(atoms: xr.Dataset) -> dict[str, float]:
    shares = atoms["repetition"].values.tolist()
    return dict(zip(atoms["prompt"].values.tolist(), shares, strict=True))


def settings_table(artifacts: Iterable[xr.Dataset], settings: Mapping[str, object]) -> Table:
    """What the run was asked for, then what each artifact says of itself, each name once."""
    merged = {str(name): value for name, value in settings.items() if name != "environment"}
    for dataset in artifacts:
        for name, value in dataset.attrs.items():
            if name not in _ELSEWHERE:
                merged.setdefault(str(name), value)
    rows = tuple((visible(name), _plain(value)) for name, value in sorted(merged.items()))
    return _facts("Settings", rows)


def _plain(value: object) -> str:
    """A setting exactly as it was given: digits are not rounded."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value) or "none"
    if isinstance(value, Mapping):
        return "; ".join(f"{visible(key)}: {_plain(item)}" for key, item in value.items())
    return "not set" if value is None or value == "" else clipped(visible(value), TEXT_SHOWN)


def version_table(settings: Mapping[str, object]) -> Table:
    """Versions under ``settings["environment"]``; empty where none were passed."""
    found = settings.get("environment", {})
    rows = (
        tuple((visible(name), visible(version)) for name, version in found.items())
        if isinstance(found, Mapping)
        else ()
    )
    return _facts("Versions", rows)


def fingerprint_table(artifacts: Iterable[xr.Dataset]) -> Table:
    """Fingerprint and schema version of every artifact."""
    rows = tuple(
        (
            visible(f"{dataset.attrs['schema']}, schema {dataset.attrs['schema_version']}"),
            visible(dataset.attrs["fingerprint"]),
        )
        for dataset in artifacts
    )
    return _facts("Fingerprints", rows)


def _facts(label: str, rows: tuple[tuple[str, ...], ...]) -> Table:
    return Table(label=label, columns=(), rows=rows, text_columns=2, kind="facts")

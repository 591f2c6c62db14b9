"""Markdown tables of the results of planted.py."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

#: Scores that the tables show; the results hold more.
SHOWN = (
    "gaussian mmi: sts",
    "gaussian mmi: rank of difference",
    "gaussian mmi: difference of ranks",
    "gaussian mmi: balance",
    "gaussian mmi: sts / tdmi",
    "gaussian mmi: tdmi",
    "gaussian mmi: transfer",
    "gaussian mmi: phi_r",
    "gaussian mmi: phi_wms",
    "gaussian mmi: te",
    "gaussian ccs: sts",
    "gaussian ccs - cross_prompt: sts",
    "gaussian ccs - cross_prompt: phi_r",
    "gaussian mmi - cross_prompt: sts",
    "gaussian mmi - cross_prompt: z sts",
    "gaussian mmi - cross_prompt: phi_r",
    "gaussian mmi - cross_prompt: te",
    "gaussian mmi - cross_prompt_plain: sts",
    "gaussian mmi - cross_prompt_plain: te",
    "gaussian mmi - window_shift: sts",
    "gaussian mmi - window_shift: phi_r",
    "gaussian mmi - window_shift: te",
    "pooled - same_step: sts",
    "pooled - same_step: tdmi",
    "pooled - same_step: transfer",
    "pooled - same_step: phi_r",
    "pooled - same_step: downward",
    "pooled - same_step: te",
    "copula mmi: sts",
    "copula mmi - cross_prompt: sts",
    "copula mmi - cross_prompt: te",
    "binary mmi: sts",
    "binary mmi - cross_prompt: sts",
    "binary mmi - cross_prompt: phi_r",
    "binary mmi - cross_prompt: te",
    "binary mmi - cross_prompt_plain: te",
    "cross-lag: joint",
    "cross-lag: total",
    "cross-lag: guarded joint",
    "cross-lag: guarded interaction",
    "cross-lag: guarded total",
)

#: Tests whose rates are shown.
TESTED = (
    "gaussian mmi - cross_prompt: sts",
    "gaussian mmi - cross_prompt_plain: sts",
    "gaussian mmi - window_shift: sts",
    "gaussian mmi - cross_prompt: te",
    "gaussian mmi - cross_prompt_plain: te",
    "gaussian mmi - window_shift: te",
    "pooled - same_step: phi_r",
    "pooled - same_step: te",
    "cross-lag: total",
    "cross-lag: guarded total",
)

#: Scores of the shorter tables.
BRIEF = (
    "gaussian mmi: sts",
    "gaussian mmi: rank of difference",
    "gaussian mmi: difference of ranks",
    "gaussian mmi - cross_prompt: sts",
    "gaussian mmi - cross_prompt: te",
    "gaussian mmi - cross_prompt_plain: te",
    "gaussian mmi - window_shift: sts",
    "gaussian mmi - window_shift: te",
    "gaussian ccs - cross_prompt: sts",
    "pooled - same_step: sts",
    "pooled - same_step: phi_r",
    "pooled - same_step: te",
    "binary mmi - cross_prompt: sts",
    "binary mmi - cross_prompt: te",
    "cross-lag: joint",
    "cross-lag: total",
    "cross-lag: guarded joint",
    "cross-lag: guarded interaction",
    "cross-lag: guarded total",
)

#: Columns of the tables.
PLANTS = ("suppressor", "coupled", "parity", "product", "envelope", "triplet")
PROFILES = ("flat", "arch", "valley")
CONFOUNDS = ("drift", "onset", "drive", "delayed copies", "sign per prompt")

#: Families whose data sets are counted, by how the names of their scores begin.
FAMILIES = ("gaussian mmi", "gaussian ccs", "copula mmi", "binary mmi", "cross-lag")

#: Kinds of cell, by a part of the name; the first that fits.
KINDS = {
    "uncoupled": "uncoupled/",
    "plant and confound": "+",
    "weaker plant": "@",
    "plant by profile and place": "/",
}

Rows = list[dict[str, Any]]


def read(paths: Iterable[Path]) -> Rows:
    """Rows of all files, joined where they are of the same data set; later files win."""
    joined: dict[tuple[str, int], dict[str, Any]] = {}
    for path in paths:
        with path.open() as lines:
            for row in map(json.loads, lines):
                mine = joined.setdefault((row["cell"], row["repetition"]), {"cell": row["cell"]})
                for part, values in row.items():
                    if isinstance(values, dict):
                        mine.setdefault(part, {}).update(values)
    return list(joined.values())


def table(
    title: str, rows: Iterable[str], columns: Iterable[str], cell: Callable[[str, str], str]
) -> str:
    """A Markdown table; rows in which no cell says anything are left out."""
    columns = list(columns)
    lines = [f"| {title} | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for row in rows:
        cells = [cell(row, column) for column in columns]
        if any(cells):
            lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def by_cell(rows: Rows, part: str) -> dict[str, dict[str, list[float]]]:
    """Score -> cell -> values over repetitions."""
    out: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for name, value in row.get(part, {}).items():
            out[name][row["cell"]].append(value)
    return out


def mean_and_worst(values: dict[str, list[float]], prefix: str) -> str:
    """Mean over cells whose name starts with `prefix`, and the worst cell's mean."""
    means = [np.mean(v) for name, v in values.items() if name.startswith(prefix)]
    return f"{np.mean(means):.2f} ({np.min(means):.2f})" if means else ""


def mean_of(values: dict[str, list[float]], name: str) -> str:
    """Mean over the repetitions of one cell."""
    return f"{np.mean(values[name]):.2f}" if name in values else ""


def tables(paths: Iterable[Path]) -> dict[str, str]:
    """Every table of docs/validity.md, section on planted cores, by name."""
    rows = read(paths)
    cells = sorted({row["cell"] for row in rows})
    area, decoys, profile, false, power = (
        by_cell(rows, part) for part in ("auroc", "auroc_decoys", "profile", "false", "power")
    )
    added = {what: [c for c in cells if c.endswith(f"+{what}")] for what in CONFOUNDS}
    plain = [c for c in cells if c.startswith("uncoupled/")]
    places = [f"{memory}, {place}" for memory in PROFILES for place in ("low", "mid", "high")]
    strengths = [c for c in cells if "@" in c]
    return {
        "size": f"{len(rows)} data sets in {len(cells)} cells; cells × repetitions:\n\n"
        + table("kind of cell", KINDS, FAMILIES, lambda r, c: _size(rows, r, c)),
        "auroc": table("score", SHOWN, PLANTS, lambda r, c: mean_and_worst(area[r], f"{c}/")),
        "decoys": table("score", BRIEF, PLANTS, lambda r, c: mean_and_worst(decoys[r], f"{c}/")),
        "profile": table("score", BRIEF, PLANTS, lambda r, c: mean_and_worst(profile[r], f"{c}/")),
        "confounds": table("score", BRIEF, CONFOUNDS, lambda r, c: _each(area[r], added[c])),
        "memory": table("score", BRIEF, places, lambda r, c: _by_memory(area[r], c)),
        "strength": table("score", BRIEF, strengths, lambda r, c: mean_of(area[r], c)),
        "false": table("series", plain, TESTED, lambda r, c: mean_of(false[c], r)),
        "power": table("test", TESTED, PLANTS, lambda r, c: mean_and_worst(power[r], f"{c}/")),
    }


def _size(rows: Rows, kind: str, family: str) -> str:
    """Cells times repetitions of the data sets that a family has scored."""
    counts = Counter(
        row["cell"]
        for row in rows
        if next(k for k, part in KINDS.items() if part in row["cell"]) == kind
        and any(n.startswith(family) for n in {**row.get("auroc", {}), **row["false"]})
    )
    if not counts:
        return ""
    least, most = min(counts.values()), max(counts.values())
    return f"{len(counts)} × {least}" + (f" to {most}" if most > least else "")


def _by_memory(values: dict[str, list[float]], column: str) -> str:
    memory, place = column.split(", ")
    means = [
        np.mean(v)
        for name, v in values.items()
        for parts in [name.split("/")]
        if parts[0] in {"suppressor", "coupled"} and parts[1] == memory and parts[-1] == place
    ]
    return f"{np.mean(means):.2f}" if means else ""


def _each(values: dict[str, list[float]], cells: Iterable[str]) -> str:
    """Each plant's mean, in the order of PLANTS."""
    ordered = [name for p in PLANTS for name in cells if name.startswith(f"{p}+")]
    return " / ".join(f"{np.mean(values[name]):.2f}" for name in ordered if name in values)

"""Table of ablated runs: python recipes/ablation_tables.py RUN ... [--into docs/papers.md].

Each RUN is a folder that `synatlas ablate` has finished.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from math import isnan
from pathlib import Path
from typing import Final

import xarray as xr

import synatlas as sa

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from marked_tables import show_tables

#: Orders of the table, and what they are called there.
ORDERS: Final = {
    "rank_of_difference": "rank(sts - rtr), published",
    "redundant_first": "redundant first",
    "integration": "integration",
    "joint_prediction": "joint prediction",
    "autocorrelation_baseline": "autocorrelation baseline",
    "norm": "norm",
    "gradient": "gradient",
    "single_unit": "single unit (oracle)",
}
CONTROLS: Final = {"random": "random", "random_depth_matched": "random, same layers"}

#: Share of units of the columns of damage.
SHARE: Final = 0.25


def damage_row(run: Path) -> Iterator[list[str]]:
    """Rows of one model: each order's damage, p, and area."""
    divergence, tests = sa.open(run / "divergence.nc"), sa.open(run / "ablation_tests.nc")
    at = int(abs(divergence["fraction"] - SHARE).argmin("n_ablated"))
    count = int(divergence["n_ablated"][at])
    asked = divergence.sizes["item"] > 0
    units = f"{count} of {divergence.sizes['unit']} {kinds_of(divergence)}"
    draws = json.loads(divergence.attrs["settings"])["draws"]
    name = f"{divergence.attrs['model']}, {units}, {divergence.sizes['prompt']} prompts, "
    name += f"{draws} draws"
    for control, spoken in CONTROLS.items():
        drawn = divergence["kl"].sel(order=control, n_ablated=count).mean("prompt")
        low, high = (float(drawn.quantile(q)) for q in (0.05, 0.95))
        answers = divergence["accuracy"].sel(order=control, n_ablated=count).mean()
        yield [
            name, spoken, f"{float(drawn.mean()):.3g} ({low:.3g} to {high:.3g})", "", "", "",
            f"{float(answers):.2f}" if asked else "-", "",
        ]  # fmt: skip
        name = ""
    for order, spoken in ORDERS.items():
        if order not in divergence["order"].values:
            continue
        one = tests.sel(outcome="kl", order=order)
        own = float(divergence["kl"].sel(order=order, n_ablated=count).isel(draw=0).mean())
        answers = float(divergence["accuracy"].sel(order=order, n_ablated=count).isel(draw=0))
        yield [
            "",
            spoken,
            f"{own:.3g}",
            p_of(one, "random"),
            p_of(one, "random_depth_matched"),
            interval(one.sel(control="random"), "area_ratio"),
            f"{answers:.2f}" if asked else "-",
            p_of(tests.sel(outcome="lost_accuracy", order=order), "random") if asked else "-",
        ]


def kinds_of(divergence: xr.Dataset) -> str:
    """What the units are."""
    found = sorted({str(kind) for kind in divergence["kind"].values})
    return " and ".join("recurrent heads" if kind == "recurrent" else f"{kind}s" for kind in found)


def p_of(one: xr.Dataset, control: str) -> str:
    """The p over all tested numbers of units, a dash where the comparison does not hold."""
    p = float(one["p_more"].sel(control=control))
    return "-" if isnan(p) else f"{p:.3g}"


def interval(one: xr.Dataset, name: str) -> str:
    """A number and its interval."""
    low, high = one[f"{name}_interval"].values.tolist()
    return f"{float(one[name]):.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    """Write or print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--into", type=Path)
    given = parser.parse_args()
    head = [
        "model", "ablated first", "KL at a quarter, nat", "p among random",
        "p among the same layers", "area over random", "accuracy", "p, answers lost",
    ]  # fmt: skip
    rows = [head, ["---"] * len(head), *(row for run in given.runs for row in damage_row(run))]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    show_tables({"ablation": table}, given.into)


if __name__ == "__main__":
    main()

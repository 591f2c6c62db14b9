"""Whether planned excesses are found as often as planned, on coupled series of that excess.

Run with: python benchmarks/planning.py run RESULTS.jsonl, which can be interrupted and taken up
again, then python benchmarks/planning.py tables RESULTS.jsonl --into docs/validity.md.

Every data set has six pairs, or one unit among 24, of one memory m. Units of `raised` pairs
correlate within the step, and not one step apart beyond their own memory (suppressors), as the
planted unit does with its partners; `lowered` pairs follow x' = m x + g y + e.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from marked_tables import show_tables
from scipy.optimize import brentq

from synatlas.decompose.engine import choose_engine
from synatlas.decompose.estimators import ESTIMATORS
from synatlas.decompose.groups import group_by_length
from synatlas.decompose.nulls import NULLS, independence, prepare
from synatlas.decompose.series import phiid
from synatlas.decompose.unit_nulls import null_rows
from synatlas.inference import surrogate_test
from synatlas.planning import detectable_excess
from synatlas.rank.controls import minimum_detectable
from synatlas.simulate.simulated import least_variance, stationary
from synatlas.simulate.uncoupled import independent_ar

PAIRS: Final = 6
UNITS: Final = 24
SURROGATES: Final = 79
LEVEL: Final = 0.05

#: (memory, prompts, steps) of every row.
CELLS: Final = (
    *((0.5, prompts, 100) for prompts in (60, 20, 5, 1)),
    *((0.2, prompts, 100) for prompts in (60, 20)),
    *((0.9, prompts, 100) for prompts in (60, 20)),
    *((0.5, 20, steps) for steps in (50, 400)),
)

#: Partners of the planted unit, and the memory at which it is planted: elsewhere no coupling of
#: this kind has the excess that is planned.
PARTNERS: Final = 3
PLANTED_UNIT: Final = 0.5


class Plant(NamedTuple):
    """Where units are coupled, and whether within the step alone."""

    where: np.ndarray
    within: bool


def pairs_of(*, within: bool) -> Plant:
    """Disjoint pairs (0, 1), (2, 3), ..."""
    where = np.zeros((2 * PAIRS, 2 * PAIRS))
    even = np.arange(0, 2 * PAIRS, 2)
    where[even, even + 1] = where[even + 1, even] = 1
    return Plant(where, within)


def star() -> Plant:
    """The first unit with its partners, within the step."""
    where = np.zeros((UNITS, UNITS))
    where[0, 1 : 1 + PARTNERS] = where[1 : 1 + PARTNERS, 0] = 1
    return Plant(where, True)


PLANTS: Final = {"raised": pairs_of(within=True), "lowered": pairs_of(within=False), "unit": star()}


def system(plant: Plant, memory: float, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Matrix and covariance of x' = A x + e."""
    coupled = strength * plant.where
    one = np.eye(len(coupled))
    if plant.within:
        covariance = one + coupled
        return memory * np.linalg.inv(covariance), covariance
    matrix = memory * one + coupled
    # Innovations are white, so that C = I + A² + A⁴ + ...
    covariance = np.linalg.inv(one - matrix @ matrix)
    return matrix, covariance / covariance[0, 0]


def strongest(plant: Plant, memory: float) -> float:
    """Strength up to which series are stationary."""
    grid = np.linspace(0, 1, 200)[:-1]
    if not plant.within:
        grid = grid[grid < 0.97 - memory]
    ok = [least_variance(*system(plant, memory, s)) > 1e-3 for s in grid]
    return float(grid[np.argmin([*ok, False]) - 1])


def excess_and_p(
    plant: Plant,
    name: str,
    cell: tuple[float, int, int],
    strength: float,
    seed: int,
    surrogates: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Excess and p of the planted pairs or unit of one data set."""
    memory, prompts, steps = cell
    a, c = system(plant, memory, strength)
    rng = np.random.default_rng([seed, prompts, steps])
    series = stationary(a, c, prompts=prompts, steps=steps, rng=rng)
    if name == "unit":
        test = units_tested(series, surrogates, seed)
        return test.excess[:1], test.p_greater[:1] * UNITS
    found = phiid(series, null="independence", surrogates=surrogates, seed=seed, atoms="rtr+sts")
    planted = plant.where[np.triu_indices(len(plant.where), k=1)] > 0
    excess = (found["null_observed"] - found["null_mean"]).values[planted, 3, 3]
    return excess, found["p"].values[planted, 3, 3]


def units_tested(series: np.ndarray, surrogates: int, seed: int):
    """Units against their null, as `rank` tests them."""
    prompts, steps, units = series.shape
    null = NULLS[independence(np.full(prompts, steps))]
    way = ESTIMATORS["gaussian"]
    rows = null_rows(
        null,
        prepare(null, group_by_length(series, np.full(prompts, steps)), way.windows, 1),
        choose_engine(
            "mmi",
            estimator=way,
            units=units,
            passes=prompts * (1 + surrogates),
            threads=1,
            only="extremes",
        ),
        way,
        redundancy="mmi",
        surrogates=surrogates,
        seed=seed,
        progress=lambda done, total: None,
    )
    return surrogate_test(rows["null_observed"][:, 3, 3], rows["null_draw"][:, :, 3, 3])


def measure(name: str, cell: tuple[float, int, int], sets: int) -> dict[str, object]:
    """The plan, and the share of plants found whose mean excess is the planned one."""
    memory, prompts, steps = cell
    plan = detectable_excess(
        prompts=prompts, steps=steps, units=UNITS, memory=memory, surrogates=SURROGATES
    )
    at = plan.sel(level="unit" if name == "unit" else "pair")
    row: dict[str, object] = {"plant": name, "cell": cell, "strength": None}
    row |= {k: float(at[k]) for k in ("null_sd", "null_mean", "minimum_detectable", "detectable")}
    if name == "unit":
        row["ranked"] = ranked(cell)
        if memory != PLANTED_UNIT:
            return row
    strength = strength_of(name, cell, float(at["detectable"]))
    if strength is None:
        return row
    count = range(sets * (3 if name == "unit" else 1))
    found = [excess_and_p(PLANTS[name], name, cell, strength, 1000 + k, SURROGATES) for k in count]
    excess, p = np.concatenate(found, axis=1)
    excess = excess if PLANTS[name].within else -excess
    return row | {
        "strength": strength,
        "excess": float(np.mean(excess)),
        "sd": float(np.std(excess)),
        "found": float(np.mean((p <= LEVEL) & (excess > 0))),
        "plants": int(p.size),
    }


def ranked(cell: tuple[float, int, int]) -> list[float]:
    """What an atlas reports as detectable, for five recordings without coupling."""
    memory, prompts, steps = cell
    made = (
        independent_ar(np.full(UNITS, memory), prompts=prompts, steps=steps, seed=seed)
        for seed in range(100, 105)
    )
    tests = [units_tested(each["activity"].values, SURROGATES, 0) for each in made]
    return [minimum_detectable(test, SURROGATES) for test in tests]


def strength_of(name: str, cell: tuple[float, int, int], wanted: float) -> float | None:
    """Strength at which the mean excess is as wanted; None where no coupling has that much."""
    plant, (memory, prompts, _) = PLANTS[name], cell
    sign = 1 if plant.within else -1

    def missing(strength: float) -> float:
        sets = range(max(12, 80 // prompts))
        found = [excess_and_p(plant, name, cell, strength, k, 9)[0] for k in sets]
        return sign * float(np.mean(found)) - wanted

    # Close to where series stop being stationary their excess falls again.
    for share in (0.3, 0.5, 0.7, 0.9):
        top = share * strongest(plant, memory)
        if missing(top) > 0:
            return float(brentq(missing, 0.0, top, xtol=0.002, rtol=0.01))
    return None


def run(path: Path, sets: int) -> None:
    """Measure what `path` does not hold yet."""
    done = {(r["plant"], tuple(r["cell"])) for r in read(path)} if path.exists() else set()
    for cell in CELLS:
        for name in PLANTS:
            if (name, cell) not in done:
                row = measure(name, cell, sets)
                print(row, file=sys.stderr, flush=True)
                with path.open("a") as file:
                    file.write(json.dumps(row) + "\n")


def read(path: Path) -> list[dict]:
    """Rows of a results file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def table(rows: list[dict]) -> str:
    """Markdown table of all cells."""
    at = {(r["plant"], tuple(r["cell"])): r for r in rows}

    def found(row: dict) -> str:
        if row["strength"] is None:
            return "-"
        return f"{row['found']:.0%} at {row['excess'] / row['detectable']:.2f}"

    def line(cell: tuple[float, int, int]) -> list[str]:
        raised, lowered, unit = (at[name, cell] for name in PLANTS)
        memory, prompts, steps = cell
        ranked = np.array(unit["ranked"]) / unit["minimum_detectable"]
        return [
            *(f"{memory}", f"{prompts}", f"{steps}"),
            f"{1e3 * raised['null_sd']:.2f}",
            *(f"{1e3 * raised[k]:.1f}" for k in ("null_mean", "minimum_detectable", "detectable")),
            *(found(raised), found(lowered)),
            f"{1e3 * unit['detectable']:.2f}",
            found(unit),
            f"{np.nanmedian(ranked):.2f}" if np.isfinite(ranked).any() else "NaN",
        ]

    head = ["memory", "prompts", "steps", "null sd", "synergy of the null", "shift", "planned"]
    head += ["raised", "lowered", "planned, unit of 24", "unit", "atlas / shift, unit"]
    body = [line(cell) for cell in CELLS if all((name, cell) in at for name in PLANTS)]
    return "\n".join("| " + " | ".join(r) + " |" for r in (head, ["---"] * len(head), *body))


def main() -> None:
    """Run, or print the table or write it into a document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("run", "tables"))
    parser.add_argument("results", type=Path)
    parser.add_argument("--sets", type=int, default=24, help="data sets to a cell, 6 pairs each")
    parser.add_argument("--into", type=Path, help="document with the marked table")
    options = parser.parse_args()
    if options.what == "run":
        run(options.results, options.sets)
        return
    show_tables({"planning": table(read(options.results))}, options.into)


if __name__ == "__main__":
    main()

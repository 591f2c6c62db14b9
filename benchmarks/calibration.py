"""How often each null rejects where nothing is coupled, and where something is.

Run with: python benchmarks/calibration.py run RESULTS.jsonl, which can be interrupted and taken up
again, then python benchmarks/calibration.py tables RESULTS.jsonl --into docs/validity.md.

Every cell is data sets of 12 units, all 66 pairs of each, 100 steps; two-sided p at 0.05.
"""

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
from marked_tables import show_tables
from scipy.linalg import solve_discrete_lyapunov

from synatlas.decompose.gaussian import Correlations, closed_form
from synatlas.decompose.nulls import NULLS
from synatlas.decompose.series import phiid
from synatlas.simulate.uncoupled import (
    ar_per_prompt,
    independent_ar,
    linear_trend,
    onset,
    same_step_correlated,
    shared_drift,
)

UNITS: Final = 12
STEPS: Final = 100
SURROGATES: Final = 199
LEVEL: Final = 0.05
PROMPTS: Final = (1, 20, 60)


class Coupled(NamedTuple):
    """Pairs (x, y): x' = memory x + strength y + noise, y' = memory y + sign strength x + noise."""

    memory: float
    sign: int
    strength: dict[int, float]


#: Pairs of the power rows, their strength by prompts: one lowers synergy, the other raises it.
POWER: Final = MappingProxyType(
    {
        "alike": Coupled(0.5, 1, {1: 0.4, 20: 0.15, 60: 0.1}),
        "opposite": Coupled(0.1, -1, {1: 0.5, 20: 0.25, 60: 0.2}),
    }
)


def memory(rho: float) -> Callable[[int, int], np.ndarray]:
    """Independent AR(1) series of one coefficient."""
    return lambda prompts, seed: (
        independent_ar(np.full(UNITS, rho), prompts=prompts, steps=STEPS, seed=seed)[
            "activity"
        ].values
    )


def flat(make: Callable, **options: object) -> Callable[[int, int], np.ndarray]:
    """A generator on series of memory 0.5."""
    return lambda prompts, seed: (
        make(np.full(UNITS, 0.5), prompts=prompts, steps=STEPS, seed=seed, **options)[
            "activity"
        ].values
    )


def varying(low: float, high: float) -> Callable[[int, int], np.ndarray]:
    """Memory drawn for each prompt, the same for all units."""
    return lambda prompts, seed: (
        ar_per_prompt(UNITS, low=low, high=high, prompts=prompts, steps=STEPS, seed=seed)[
            "activity"
        ].values
    )


#: Series without lagged coupling, by what they hold.
UNCOUPLED: Final = MappingProxyType(
    {
        "AR .3": memory(0.3),
        "AR .6": memory(0.6),
        "AR .9": memory(0.9),
        "AR .97": memory(0.97),
        "AR .2 to .6 by prompt": varying(0.2, 0.6),
        "AR .1 to .9 by prompt": varying(0.1, 0.9),
        "shared line by prompt": flat(shared_drift, shape="linear"),
        "onset, decay 5": flat(onset, decay=5.0),
        "onset, decay 10": flat(onset, decay=10.0),
        "linear trend": flat(linear_trend),
        "shared walk by prompt": flat(shared_drift, shape="walk"),
    }
)

#: Series that correlate within the step and are not coupled beyond it, for the same-step null.
CORRELATED: Final = MappingProxyType(
    {
        f"AR {low} to {high}, innovations {r}": (
            lambda prompts, seed, low=low, high=high, r=r: (
                same_step_correlated(
                    np.linspace(low, high, UNITS),
                    correlation=r,
                    prompts=prompts,
                    steps=STEPS,
                    seed=seed,
                )["activity"].values
            )
        )
        for low, high in ((0.3, 0.6), (0.3, 0.9), (0.9, 0.97))
        for r in (0.0, 0.3, 0.6)
    }
)

#: Nulls that are measured beside the default call.
BESIDE: Final = tuple(name for name in NULLS if name not in ("same_step", "cross_prompt_category"))


def coupled(kind: str, prompts: int, seed: int) -> np.ndarray:
    """Disjoint pairs (0, 1), (2, 3), ... of a kind of :data:`POWER`."""
    pair = POWER[kind]
    rng = np.random.default_rng(seed)
    swap = np.arange(UNITS) ^ 1
    sign = np.where(np.arange(UNITS) % 2, pair.sign, 1) * pair.strength[prompts]
    x = rng.standard_normal((prompts, UNITS))
    out = np.empty((prompts, STEPS, UNITS))
    for t in range(-100, STEPS):
        x = pair.memory * x + sign * x[:, swap] + rng.standard_normal(x.shape)
        if t >= 0:
            out[:, t] = x
    return out


def population_excess(kind: str, prompts: int) -> float:
    """sts of a coupled pair minus that of its two memories alone, in nats."""
    pair = POWER[kind]
    strength = pair.strength[prompts]
    a = np.array([[pair.memory, strength], [pair.sign * strength, pair.memory]])
    c = solve_discrete_lyapunov(a, np.eye(2))
    size = np.sqrt(np.diag(c))
    same, lagged = c / np.outer(size, size), c @ a.T / np.outer(size, size)
    r = Correlations(
        *(
            np.array([value])
            for value in (same[0, 1], same[0, 1], *np.diag(lagged), lagged[0, 1], lagged[1, 0])
        )
    )
    memory = -0.5 * np.log1p(-(np.diag(lagged) ** 2))
    return float(closed_form(r)[0, 3, 3] - 2 * memory.min())


def cells(sets: int) -> list[tuple[str, str, int, int]]:
    """(scenario, null, prompts, data sets) of every measurement."""
    # One prompt rejects less often than many, and costs less.
    out = [
        (name, "independence", p, 3 * sets if p == 1 else sets)
        for p in PROMPTS
        for name in UNCOUPLED
    ]
    out += [(kind, "independence", p, sets) for p in PROMPTS for kind in POWER]
    out += [(name, "same_step", p, sets) for p in PROMPTS[1:] for name in CORRELATED]
    out += [(name, null, 20, max(sets // 3, 1)) for null in BESIDE for name in UNCOUPLED]
    return out


def measure(scenario: str, null: str, prompts: int, sets: int) -> dict[str, object]:
    """Share of pairs rejected, for synergy and redundancy and in each tail of synergy."""
    power = {kind: partial(coupled, kind) for kind in POWER}
    make = {**UNCOUPLED, **CORRELATED, **power}[scenario]
    p, errors = [], []
    for seed in range(sets):
        result = phiid(
            make(prompts, seed),
            null=null,
            surrogates=0 if null == "same_step" else SURROGATES,
            seed=seed,
            atoms="rtr+sts",
        )
        errors.append(result.attrs.get("null_self_information_error", np.nan))
        both = np.stack([result["p_greater"], result["p_less"]])
        if scenario in POWER:
            first = result["unit_a"].str.slice(1).astype(int).values
            second = result["unit_b"].str.slice(1).astype(int).values
            both = both[:, (first % 2 == 0) & (second == first + 1)]
        p.append(both)
    tails = np.concatenate(p, axis=1)
    two = np.minimum(1.0, 2 * tails.min(axis=0))
    return {
        "scenario": scenario,
        "null": null,
        "prompts": prompts,
        "pairs": tails.shape[1],
        "sts": float(np.mean(two[:, 3, 3] <= LEVEL)),
        "rtr": float(np.mean(two[:, 0, 0] <= LEVEL)),
        "sts_above": float(np.mean(tails[0, :, 3, 3] <= LEVEL / 2)),
        "sts_below": float(np.mean(tails[1, :, 3, 3] <= LEVEL / 2)),
        "self_information_error": float(np.mean(errors)),
    }


def run(path: Path, sets: int) -> None:
    """Measure what `path` does not hold yet."""
    done = (
        {(r["scenario"], r["null"], r["prompts"]) for r in read(path)} if path.exists() else set()
    )
    for scenario, null, prompts, count in cells(sets):
        if (scenario, null, prompts) in done:
            continue
        row = measure(scenario, null, prompts, count)
        print(row, file=sys.stderr, flush=True)
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def read(path: Path) -> list[dict]:
    """Rows of a results file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def tables(rows: list[dict]) -> dict[str, str]:
    """Markdown tables by name."""
    at = {(r["scenario"], r["null"], r["prompts"]): r for r in rows}

    def cell(scenario: str, null: str, prompts: int) -> str:
        row = at.get((scenario, null, prompts))
        return "" if row is None else f"{100 * row['sts']:.1f} / {100 * row['rtr']:.1f}"

    def table(head: list[str], body: list[list[str]]) -> str:
        lines = [head, ["---"] * len(head), *body]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    default = table(
        ["series", *(f"{p} prompt{'s' * (p > 1)}" for p in PROMPTS)],
        [[name, *(cell(name, "independence", p) for p in PROMPTS)] for name in UNCOUPLED],
    )
    power = table(
        ["coupling", "prompts", "strength", "excess of sts, 10⁻³ nat", "sts / rtr, %"],
        [
            [
                kind,
                str(p),
                f"{POWER[kind].strength[p]}",
                f"{1e3 * population_excess(kind, p):.1f}",
                cell(kind, "independence", p),
            ]
            for kind in POWER
            for p in PROMPTS
        ],
    )
    same = table(
        ["series", *(f"{p} prompts" for p in PROMPTS[1:])],
        [[name, *(cell(name, "same_step", p) for p in PROMPTS[1:])] for name in CORRELATED],
    )
    errors = {
        null: [abs(r["self_information_error"]) for r in rows if r["null"] == null]
        for null in BESIDE
    }
    beside = table(
        ["series", *(null.replace("_", " ") for null in BESIDE)],
        [[name, *(cell(name, null, 20) for null in BESIDE)] for name in UNCOUPLED]
        + [
            [
                "largest error of self-information, %",
                *(f"{100 * max(errors[n]):.1f}" if errors[n] else "" for n in BESIDE),
            ]
        ],
    )
    made = {"default": default, "power": power, "same-step": same, "beside": beside}
    return {f"calibration {name}": content for name, content in made.items()}


def main() -> None:
    """Run, or print the tables or write them into a document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("run", "tables"))
    parser.add_argument("results", type=Path)
    parser.add_argument("--sets", type=int, default=32, help="data sets to a cell, 66 pairs each")
    parser.add_argument("--into", type=Path, help="document with marked tables")
    options = parser.parse_args()
    if options.what == "run":
        run(options.results, options.sets)
        return
    show_tables(tables(read(options.results)), options.into)


if __name__ == "__main__":
    main()

"""How often each null rejects where nothing is coupled, and where something is.

Run with: python benchmarks/calibration.py run RESULTS.jsonl, which can be interrupted and taken up
again, then python benchmarks/calibration.py tables RESULTS.jsonl --into docs/validity.md.

Every cell is data sets of 12 units, all 66 pairs of each, 100 steps; two-sided p at 0.05.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
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

#: Memory and strength of the coupled pairs of the power rows.
MEMORY: Final = 0.5
COUPLING: Final = MappingProxyType({1: 0.4, 20: 0.15, 60: 0.1})


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


def coupled(prompts: int, seed: int) -> np.ndarray:
    """Disjoint pairs, each unit's future drawn to the other's past; the pairs are (0, 1), ..."""
    rng = np.random.default_rng(seed)
    swap = np.arange(UNITS) ^ 1
    x = rng.standard_normal((prompts, UNITS))
    out = np.empty((prompts, STEPS, UNITS))
    for t in range(-100, STEPS):
        x = MEMORY * x + COUPLING[prompts] * x[:, swap] + rng.standard_normal(x.shape)
        if t >= 0:
            out[:, t] = x
    return out


def population_excess(prompts: int) -> float:
    """sts of a coupled pair minus that of its two memories alone, in nats."""
    a = np.array([[MEMORY, COUPLING[prompts]], [COUPLING[prompts], MEMORY]])
    c = solve_discrete_lyapunov(a, np.eye(2))
    lagged = c @ a.T / c[0, 0]
    one = np.array([lagged[0, 0]])
    r = Correlations(
        xy=np.array([c[0, 1] / c[0, 0]]),
        ab=np.array([c[0, 1] / c[0, 0]]),
        xa=one,
        yb=one,
        xb=np.array([lagged[0, 1]]),
        ya=np.array([lagged[1, 0]]),
    )
    return float(closed_form(r)[0, 3, 3] + np.log1p(-(one[0] ** 2)))


def cells(sets: int) -> list[tuple[str, str, int, int]]:
    """(scenario, null, prompts, data sets) of every measurement."""
    out = [(name, "independence", p, sets) for p in PROMPTS for name in UNCOUPLED]
    out += [("coupled", "independence", p, sets) for p in PROMPTS]
    out += [(name, "same_step", p, sets) for p in PROMPTS[1:] for name in CORRELATED]
    out += [(name, null, 20, max(sets // 3, 1)) for null in BESIDE for name in UNCOUPLED]
    return out


def measure(scenario: str, null: str, prompts: int, sets: int) -> dict[str, object]:
    """Share of pairs rejected, for synergy and redundancy and in each tail of synergy."""
    make = {**UNCOUPLED, **CORRELATED, "coupled": coupled}[scenario]
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
        if scenario == "coupled":
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
        ["prompts", "coupling", "excess of sts in the population, 10⁻³ nat", "sts / rtr, %"],
        [
            [
                str(p),
                f"{COUPLING[p]}",
                f"{1e3 * population_excess(p):.1f}",
                cell("coupled", "independence", p),
            ]
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
    return {"default": default, "power": power, "same-step": same, "beside": beside}


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
    made = tables(read(options.results))
    if options.into is None:
        print("\n\n".join(f"{name}\n{text}" for name, text in made.items()))
        return
    text = options.into.read_text()
    for name, body in made.items():
        mark = f"<!-- table calibration {name} -->"
        text = re.sub(
            re.escape(mark) + r".*?<!-- end -->",
            lambda _, mark=mark, body=body: f"{mark}\n{body}\n<!-- end -->",
            text,
            flags=re.DOTALL,
        )
    options.into.write_text(text)


if __name__ == "__main__":
    main()

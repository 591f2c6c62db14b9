"""Which score finds planted cores, under which confound: every score on series of known truth.

Run with: python benchmarks/planted.py run RESULTS.jsonl [--repetitions 12] [--only WORD]
              [--families "gaussian mmi" "gaussian ccs" ...]
          python benchmarks/planted.py tables RESULTS.jsonl [MORE.jsonl ...] [--into DOCUMENT.md]

One line of RESULTS is one data set; a data set that is there is not done again, so that an
interrupted run goes on where it stopped. Other families go to a file of their own: the data sets
are the same. Tables are Markdown, those of docs/validity.md.
"""

import argparse
import json
import time
import zlib
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from cross_lag import cross_lag_scores
from marked_tables import show_tables
from planted_tables import tables
from scipy import stats

from synatlas.artifact import finish
from synatlas.axes import ROLES, SHORT_NAMES
from synatlas.decompose.lattice import AGGREGATES
from synatlas.decompose.pipeline import decompose
from synatlas.rank.score import difference_of_ranks, rank_of_difference
from synatlas.record.recording import RECORDING
from synatlas.simulate import planted as plants
from synatlas.simulate import uncoupled
from synatlas.simulate.simulated import autoregression

#: Atoms of a score, un1 the unit and un2 its partner.
SCORES = {
    "sts": ("sts",),
    "rtr": ("rtr",),
    "tdmi": SHORT_NAMES,
    "transfer": AGGREGATES["transfer"],
    "phi_r": AGGREGATES["phi_r"],
    "te_out": AGGREGATES["transfer_entropy_ab"],
    "te_in": AGGREGATES["transfer_entropy_ba"],
    "downward": AGGREGATES["downward"],
    "upward": AGGREGATES["upward"],
    "syn_in": ("str", "stx"),
    "syn_out": ("str", "sty"),
}

#: Surrogates of MMI and of other families. Means of a few serve to rank units, not to test them.
SURROGATES, FEW, TESTED = 9, 2, 5
SAMPLED = ("cross_prompt", "cross_prompt_plain", "window_shift")

#: Estimator and redundancy, and the candidates of cross_lag.py.
CROSS_LAG = "cross-lag"
FAMILIES = ("gaussian mmi", "gaussian ccs", CROSS_LAG)


#: Plants, and the places in which they are planted.
PLACED = {
    **dict.fromkeys(("suppressor", "coupled", "parity"), tuple(plants.PLACES)),
    **dict.fromkeys(("product", "triplet", "envelope"), ("mid",)),
}

#: Weaker plants, in the middle with flat profiles.
STRENGTHS = {"suppressor": (0.25, 0.5), "coupled": (0.03, 0.06), "parity": (0.2, 0.35)}


class Cell(NamedTuple):
    """One kind of data set: its name in the results, and how it is made from a seed."""

    name: str
    make: Callable[[int], xr.Dataset]


def cells() -> Iterator[Cell]:
    """Plants in every profile, plants under confounds that profiles do not hold, no plant."""
    for plant, memory, same, place in product(
        PLACED, plants.PROFILES, plants.PROFILES, plants.PLACES
    ):
        if place not in PLACED[plant]:
            continue
        settings = {"plant": plant, "memory": memory, "same_step": same, "place": place}
        yield Cell(
            f"{plant}/{memory}/{same}/{place}",
            lambda seed, s=settings: plants.planted(**s, seed=seed),
        )
    for plant, (name, confound) in product(("suppressor", "coupled", "parity"), CONFOUNDS.items()):
        yield Cell(
            f"{plant}+{name}",
            lambda seed, p=plant, c=confound: c(plants.planted(p, place="low", seed=seed), seed),
        )
    for plant, strengths in STRENGTHS.items():
        for g in strengths:
            yield Cell(
                f"{plant}@{g}",
                lambda seed, p=plant, g=g: plants.planted(p, strength=g, seed=seed),
            )
    yield Cell("coupled+sign per prompt", _sign_per_prompt)
    for name, make in UNCOUPLED.items():
        yield Cell(f"uncoupled/{name}", make)


def _added(data: xr.Dataset, extra: np.ndarray) -> xr.Dataset:
    return data.assign(activity=data.activity + extra)


def _drift(data: xr.Dataset, seed: int) -> xr.Dataset:
    prompts, steps, _ = data.activity.shape
    rng = np.random.default_rng([seed, 1])
    return _added(data, uncoupled.DRIFTS["linear"](prompts, steps, rng)[:, :, None])


def _onset(data: xr.Dataset, seed: int) -> xr.Dataset:
    _, steps, units = data.activity.shape
    factor = np.random.default_rng([seed, 2]).uniform(0.5, 1.5, units)
    return _added(data, 3 * np.outer(np.exp(-np.arange(steps) / 10), factor))


def _drive(data: xr.Dataset, seed: int) -> xr.Dataset:
    """A hidden drive of memory 0.8 seen by all units but the planted, loading 0.5."""
    prompts, steps, _ = data.activity.shape
    noise = np.random.default_rng([seed, 3]).standard_normal((prompts, steps, 1))
    drive = autoregression(np.full((prompts, 1), 0.8), noise)
    return _added(data, 0.5 * drive * ~data.truth.to_numpy())


def _delayed(data: xr.Dataset, seed: int) -> xr.Dataset:
    """Every second unit outside sets becomes a noisy copy, one step late, of its neighbour."""
    x = data.activity.to_numpy().copy()
    free = np.flatnonzero(data["set"].to_numpy() < 0)
    noise = np.random.default_rng([seed, 4]).standard_normal(x[:, 1:, free[1::2]].shape)
    x[:, 1:, free[1::2]] = (x[:, :-1, free[::2]] + noise) / np.sqrt(2)
    return data.assign(activity=(data.activity.dims, x))


def _sign_per_prompt(seed: int) -> xr.Dataset:
    """Half the prompts have the coupling of the other half, with the sign turned."""
    one, two = (plants.planted(place="low", strength=g, seed=seed) for g in (0.12, -0.12))
    half = one.sizes["prompt"] // 2
    activity = np.concatenate([one.activity[:half], two.activity[half:]])
    return one.assign(activity=(one.activity.dims, activity))


#: What is added to a plant in a low layer with flat profiles.
CONFOUNDS = {"drift": _drift, "onset": _onset, "drive": _drive, "delayed copies": _delayed}

_UNEQUAL = np.linspace(0.1, 0.9, 64)
_USUAL = np.random.default_rng(0).uniform(0.2, 0.55, 64)

UNCOUPLED = {
    "unequal AR": lambda seed: uncoupled.independent_ar(_UNEQUAL, seed=seed),
    "AR per prompt .2-.6": lambda seed: uncoupled.ar_per_prompt(64, seed=seed),
    "AR per prompt .1-.9": lambda seed: uncoupled.ar_per_prompt(64, low=0.1, high=0.9, seed=seed),
    "linear drift": lambda seed: uncoupled.shared_drift(_USUAL, seed=seed),
    "walk": lambda seed: uncoupled.shared_drift(_USUAL, shape="walk", seed=seed),
    "onset": lambda seed: uncoupled.onset(_USUAL, seed=seed),
    "trend": lambda seed: uncoupled.linear_trend(_USUAL, seed=seed),
    "same step .3": lambda seed: uncoupled.same_step_correlated(_USUAL, seed=seed),
    "same step .6": lambda seed: uncoupled.same_step_correlated(_USUAL, correlation=0.6, seed=seed),
    "common drive": lambda seed: uncoupled.common_drive(_USUAL, seed=seed),
    "copies": lambda seed: uncoupled.noisy_copies(_USUAL[:16], seed=seed),
    "delayed copies": lambda seed: uncoupled.noisy_copies(_USUAL[:16], delay=1, seed=seed),
    "decoys, arch": lambda seed: plants.planted("none", memory="arch", same_step="arch", seed=seed),
}


def recording_of(data: xr.Dataset) -> xr.Dataset:
    """A Recording of simulated series."""
    prompts, steps, units = data.activity.shape
    token = np.random.default_rng(0).integers(0, 30_000, (prompts, steps))
    text = ("prompt", ["text"] * prompts)
    index = np.arange(units) - np.searchsorted(data.layer, data.layer)
    out = xr.Dataset(
        {
            "activity": (data.activity.dims, data.activity.to_numpy().astype(np.float32)),
            "token": (("prompt", "step"), token.astype(np.int32)),
            "logprob": (("prompt", "step"), np.zeros((prompts, steps), dtype=np.float32)),
            "prompt_token": (("prompt", "position"), np.zeros((prompts, 1), dtype=np.int32)),
            "n_steps": ("prompt", np.full(prompts, steps, dtype=np.int32)),
        },
        coords={
            "prompt": data.prompt.to_numpy(),
            "unit": data.unit.to_numpy(),
            "layer": ("unit", data.layer.to_numpy().astype(np.int32)),
            "index": ("unit", index.astype(np.int32)),
            "kind": ("unit", ["head"] * units),
            "kv_group": ("unit", np.full(units, -1, dtype=np.int32)),
            **dict.fromkeys(("category", "text", "rendered", "reply"), text),
        },
    )
    plain = dict.fromkeys(RECORDING.attrs, "simulated")
    layers = int(data.layer.max()) + 1
    out.attrs = {**plain, "n_layers": layers, "live_replay_error": 0.0, "non_finite_series": 0}
    return finish(out, RECORDING, fingerprint="simulated")


class Found(NamedTuple):
    """Scores by name, and one-sided p that a score is above its null."""

    score: dict[str, np.ndarray]
    p: dict[str, np.ndarray]


def all_scores(data: xr.Dataset, seed: int, families: list[str]) -> Found:
    """Every score of every unit of one data set."""
    recording = recording_of(data)
    found = Found({}, {})
    for family in families:
        if family == CROSS_LAG:
            _cross_lag(found, data.activity.to_numpy())
            continue
        estimator, redundancy = family.split()
        plain = family == "gaussian mmi"
        sampled = SAMPLED if plain else SAMPLED[:2]
        nulls = (*sampled, "same_step") if plain else sampled
        count = SURROGATES if plain else FEW
        atoms = decompose(
            recording,
            estimator=estimator,
            redundancy=redundancy,
            nulls=nulls,
            surrogates=count,
            null_atoms="all",
            seed=seed,
            threads=1,
        )
        _raw(found, family, grid(atoms["unit_atom"]).mean(axis=0))
        for null in sampled:
            one = atoms.sel(null=null)
            _sampled(found, f"{family} - {null}", grid(one.null_observed), grid(one.null_draw))
        if plain:
            _same_step(found, atoms)
    return found


def _cross_lag(found: Found, activity: np.ndarray) -> None:
    for name, score in cross_lag_scores(activity).items():
        found.score[f"{CROSS_LAG}: {name}"] = score.value
        found.score[f"{CROSS_LAG}: z {name}"] = -stats.norm.ppf(np.clip(score.p, 1e-300, 1))
        found.p[f"{CROSS_LAG}: {name}"] = score.p


def grid(array: xr.DataArray) -> np.ndarray:
    """Unit grids with unit, past, future last."""
    ordered = array.sel(past=list(ROLES), future=list(ROLES))
    return ordered.transpose(..., "unit", "past", "future").to_numpy()


def _sums(cells_of_grid: np.ndarray) -> dict[str, np.ndarray]:
    flat = cells_of_grid.reshape(*cells_of_grid.shape[:-2], 16)
    out = {
        name: flat[..., [SHORT_NAMES.index(atom) for atom in atoms]].sum(axis=-1)
        for name, atoms in SCORES.items()
    }
    out["phi_wms"] = out["phi_r"] - out["rtr"]
    out["te"] = out["te_in"] + out["te_out"]
    out["sts - rtr"] = out["sts"] - out["rtr"]
    return out


def _raw(found: Found, family: str, mean: np.ndarray) -> None:
    sums = _sums(mean)
    sts, rtr, tdmi = sums["sts"], sums["rtr"], sums["tdmi"]
    ranks = {
        "rank of difference": rank_of_difference(sts, rtr),
        "difference of ranks": difference_of_ranks(sts, rtr),
        "balance": sts / (sts + rtr),
        "sts / tdmi": sts / tdmi,
        "phi_r / tdmi": sums["phi_r"] / tdmi,
    }
    for name, value in {**sums, **ranks}.items():
        found.score[f"{family}: {name}"] = value


def _sampled(found: Found, what: str, observed: np.ndarray, draws: np.ndarray) -> None:
    seen, drawn = _sums(observed), _sums(draws)
    k = draws.shape[0]
    for name, value in seen.items():
        excess, sd = value - drawn[name].mean(axis=0), drawn[name].std(axis=0, ddof=1)
        found.score[f"{what}: {name}"] = excess
        found.score[f"{what}: z {name}"] = excess / sd
        if k >= TESTED:
            found.p[f"{what}: {name}"] = stats.t.sf(excess / sd / np.sqrt(1 + 1 / k), k - 1)


def _same_step(found: Found, atoms: xr.Dataset) -> None:
    """The excess less its bootstrap bias; z and p as `integration` has them, from random signs."""
    excess = _sums(grid(atoms.pooled_atom) - grid(atoms.same_step_atom))
    draws, noise = _sums(grid(atoms.pooled_excess_draw)), _sums(grid(atoms.pooled_noise_draw))
    for name, value in excess.items():
        z = (value - noise[name].mean(axis=0)) / noise[name].std(axis=0, ddof=1)
        found.score[f"pooled - same_step: {name}"] = 2 * value - draws[name].mean(axis=0)
        found.score[f"pooled - same_step: z {name}"] = z
        found.p[f"pooled - same_step: {name}"] = stats.t.sf(z, atoms.sizes["prompt"] - 1)


def auroc(score: np.ndarray, truth: np.ndarray) -> float:
    """Chance that a planted unit scores above another; ties count half."""
    finite = np.isfinite(score)
    score, truth = score[finite], truth[finite]
    if truth.all() or not truth.any():
        return float("nan")
    ranks = stats.rankdata(score)[truth]
    count = truth.sum()
    return float((ranks.sum() - count * (count + 1) / 2) / (count * (truth.size - count)))


def layer_correlation(score: np.ndarray, data: xr.Dataset) -> float:
    """Pearson correlation of the layer means of a score and of the truth."""
    layer = data.layer.to_numpy()
    means = [
        [np.mean(v[layer == k]) for k in np.unique(layer)] for v in (score, data.truth.to_numpy())
    ]
    return float(np.corrcoef(means)[0, 1])


def measured(data: xr.Dataset, seed: int, families: list[str]) -> dict[str, Any]:
    """What every score makes of one data set."""
    found = all_scores(data, seed, families)
    truth = data.truth.to_numpy()
    out: dict[str, Any] = {}
    if truth.any():
        sets = data["set"].to_numpy() >= 0
        out["auroc"] = {n: round(auroc(v, truth), 4) for n, v in found.score.items()}
        out["auroc_decoys"] = {
            n: round(auroc(v[sets], truth[sets]), 4) for n, v in found.score.items()
        }
        out["profile"] = {n: round(layer_correlation(v, data), 4) for n, v in found.score.items()}
        out["power"] = {n: round(float((p[truth] <= 0.05).mean()), 4) for n, p in found.p.items()}
    out["false"] = {n: round(float((p[~truth] <= 0.05).mean()), 4) for n, p in found.p.items()}
    return out


def run(path: Path, repetitions: int, only: str, families: list[str]) -> None:
    """Do what is missing from `path`, repetition by repetition."""
    done = set()
    if path.exists():
        with path.open() as lines:
            done = {(row["cell"], row["repetition"]) for row in map(json.loads, lines)}
    chosen = [cell for cell in cells() if only in cell.name]
    for repetition, cell in product(range(repetitions), chosen):
        if (cell.name, repetition) in done:
            continue
        seed = zlib.crc32(f"{cell.name}/{repetition}".encode())
        start = time.process_time()
        found = measured(cell.make(seed), seed, families)
        row = {"cell": cell.name, "repetition": repetition, **found}
        row["seconds"] = round(time.process_time() - start, 2)
        with path.open("a") as out:
            out.write(json.dumps(row) + "\n")


def main() -> None:
    """Run what is missing, or print tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("run", "tables"))
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--repetitions", type=int, default=12)
    parser.add_argument("--only", default="", help="cells whose name holds this")
    parser.add_argument("--into", type=Path, help="document whose tables are replaced")
    parser.add_argument("--families", nargs="+", default=list(FAMILIES))
    options = parser.parse_args()
    if options.what == "run":
        run(options.results[0], options.repetitions, options.only, options.families)
    else:
        show_tables(tables(options.results), options.into)


if __name__ == "__main__":
    main()

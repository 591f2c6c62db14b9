"""Verdicts of models under every estimator and against every null, side by side.

    python recipes/verdicts.py run FOLDER bundled:reference
    python recipes/verdicts.py run FOLDER MODEL... --prompts FILE --prompt-style raw
    python recipes/verdicts.py tables FOLDER --into docs/validity.md

Each model is recorded once, in FOLDER. What one decomposition shows is a line of
FOLDER/verdicts.jsonl; an interrupted run goes on where it stopped. The core is called with the
nulls of a run that asks for none: with more of them it has to pass more.
"""

import json
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any, Final

import cyclopts
import numpy as np
import xarray as xr

import synatlas as sa
from synatlas.config import MapConfig
from synatlas.decompose.estimators import ESTIMATORS
from synatlas.decompose.nulls import NULLS
from synatlas.decompose.redundancy import REDUNDANCIES
from synatlas.inference import FDR_LEVEL, adjusted_p
from synatlas.models.identity import resolve
from synatlas.rank.controls import CORE, noise_q
from synatlas.rank.unit_scores import grid_score, oriented
from synatlas.run import advance

app = cyclopts.App(help=__doc__)

#: Nulls of a run that asks for none.
DEFAULT: Final = MapConfig().nulls
ROWS_FILE: Final = "verdicts.jsonl"
#: MMI first: it is what is published, and costs less.
WAYS: Final = tuple((e, r) for r, e in product(REDUNDANCIES, ESTIMATORS))


@app.command
def run(
    folder: Path,
    /,
    *models: str,
    prompts: str = "",
    prompt_style: str = "auto",
    surrogates: int = 199,
) -> None:
    """Record each model once and add the rows that FOLDER lacks.

    Parameters
    ----------
    folder
        Where recordings and rows lie.
    models
        Models as `synatlas map` takes them.
    prompts, prompt_style, surrogates
        As of `synatlas map`, for all `models`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = {(r["model"], r["estimator"], r["redundancy"]) for r in read(folder)}
    for model in models:
        name = resolve(model).name
        config = MapConfig(
            model=model,
            out=str(folder / name.replace(":", "-").replace("/", "-")),
            prompts=prompts,
            prompt_style=prompt_style,
        )
        recording = advance(config, until="recording").recording
        for estimator, redundancy in WAYS:
            if (name, estimator, redundancy) in done:
                continue
            found = row(recording, estimator, redundancy, surrogates)
            with (folder / ROWS_FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps(found) + "\n")
            print(name, estimator, redundancy, flush=True)


def read(folder: Path) -> list[dict[str, Any]]:
    """Rows of FOLDER so far."""
    path = folder / ROWS_FILE
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def row(recording: xr.Dataset, estimator: str, redundancy: str, surrogates: int) -> dict[str, Any]:
    """What one decomposition shows, against every null."""
    atoms = sa.decompose(
        recording,
        estimator=estimator,
        redundancy=redundancy,
        nulls=tuple(NULLS),
        surrogates=surrogates,
    )
    every = sa.rank(atoms, graph_draws=1)
    few = [name for name in atoms["null"].values.tolist() if name in DEFAULT]
    atlas = sa.rank(atoms.sel(null=few), graph_draws=1)
    verdict = json.loads(atlas.attrs["verdict"])
    holds = {f["name"]: f["holds"] for f in json.loads(every.attrs["verdict"])["findings"]}
    return {
        "model": str(atlas.attrs["model"]),
        "estimator": estimator,
        "redundancy": redundancy,
        "units": atlas.sizes["unit"],
        "surrogates": surrogates,
        "sts": float(atlas["synergy"].mean()),
        "rtr": float(atlas["redundancy"].mean()),
        "joint": int((atlas["joint_prediction_q"] <= FDR_LEVEL).sum()),
        "joint_nat": float(atlas["joint_prediction"].mean()),
        "integration": int((atlas["integration_q"] <= FDR_LEVEL).sum()),
        "integration_nat": float(atlas["integration"].mean()),
        "core": next(f["holds"] for f in verdict["findings"] if f["name"] == "core"),
        "core_units": int((atlas["core"] == CORE).sum()),
        "core_missing": json.loads(atlas.attrs["core_missing"]),
        "headline": verdict["headline"],
        "warnings": json.loads(every.attrs["warnings"]),
        "nulls": {
            **{
                name: {**_drawn(every, at), "holds": holds[f"synergy_over_{name}"]}
                for at, name in enumerate(every["null"].values.tolist())
            },
            **_same_step(atoms),
        },
        "left_out": json.loads(atoms.attrs["nulls_left_out"]),
    }


def _drawn(atlas: xr.Dataset, at: int) -> dict[str, Any]:
    null = atlas.isel(null=at)
    return {
        "excess": float(null["null_effect"]),
        "interval": null["null_effect_interval"].values.tolist(),
        "above": _passing(null["excess_p_greater"]),
        "below": _passing(null["excess_p_less"]),
        "information_error": float(null["null_self_information_error"]),
        "same_step_error": float(null["null_same_step_error"]),
        "accepted": bool(null["null_accepted"]),
    }


def _passing(p: xr.DataArray) -> int:
    return int((adjusted_p(p.to_numpy()) <= FDR_LEVEL).sum())


def _same_step(atoms: xr.Dataset) -> dict[str, Any]:
    """Pooled synergy less its null and the null's own noise; it is of MMI whatever was asked."""
    excess = grid_score(oriented(atoms["pooled_atom"] - atoms["same_step_atom"]), "synergy")
    noise = grid_score(oriented(atoms["pooled_noise_draw"], "bootstrap"), "synergy")
    if not np.isfinite(excess).any():
        return {}
    prompts = atoms.sizes["prompt"]
    above, below = (noise_q(sign * excess, sign * noise, prompts) for sign in (1, -1))
    return {
        "same_step": {
            "excess": float((excess - noise.mean(axis=0)).mean()),
            "above": int((above <= FDR_LEVEL).sum()),
            "below": int((below <= FDR_LEVEL).sum()),
        }
    }


@app.command
def tables(folder: Path, /, *, into: Path | None = None) -> None:
    """Print the tables of FOLDER, or put them between their marks in a document.

    Parameters
    ----------
    folder
        Where `run` left its rows.
    into
        A document with lines `<!-- table verdicts NAME -->` and `<!-- end -->`.
    """
    rows = sorted(
        read(folder), key=lambda r: (r["model"], WAYS.index((r["estimator"], r["redundancy"])))
    )
    models = list(dict.fromkeys(r["model"] for r in rows))
    made = {"verdicts": overview(rows), "verdicts matching": matching(rows)}
    for model in models:
        made[f"verdicts {model}"] = against_nulls([r for r in rows if r["model"] == model])
    if into is None:
        for name, content in made.items():
            print(f"\n{name}\n\n{content}")
        return
    text = into.read_text(encoding="utf-8")
    for name, content in made.items():
        begin, end = f"<!-- table {name} -->\n", "<!-- end -->"
        before, found, after = text.partition(begin)
        if found:
            text = f"{before}{begin}{content}\n{end}{after.partition(end)[2]}"
    into.write_text(text, encoding="utf-8")


def overview(rows: Iterable[dict[str, Any]]) -> str:
    """A line for each model, estimator and redundancy."""
    head = (
        "model",
        "estimator",
        "redundancy",
        "sts, 10⁻³ nat",
        "rtr",
        "units of joint prediction",
        "units of integration",
        "core",
    )
    return _markdown(
        head,
        (
            (
                r["model"],
                r["estimator"],
                r["redundancy"],
                _milli(r["sts"]),
                _milli(r["rtr"]),
                f"{r['joint']} of {r['units']}",
                f"{r['integration']} of {r['units']}" if "same_step" in r["nulls"] else "",
                _core(r),
            )
            for r in rows
        ),
    )


def _core(r: dict[str, Any]) -> str:
    if r["core_units"]:
        return f"{r['core']}: {r['core_units']} units"
    # What a missing part is, without why it is missing.
    missing = [text.partition(":")[0] for text in r["core_missing"]]
    return f"{r['core']}: {'; '.join(missing) or 'no unit passes'}"


def against_nulls(rows: list[dict[str, Any]]) -> str:
    """A line for each null, a column for each estimator and redundancy."""
    return _markdown(
        ("null", *(f"{r['estimator']} {r['redundancy']}" for r in rows)),
        ((name, *(_cell(r["nulls"].get(name)) for r in rows)) for name in NULLS),
    )


def _cell(null: dict[str, Any] | None) -> str:
    if null is None:
        return ""
    told = f"{_milli(null['excess'])} ({null['above']}/{null['below']})"
    if "holds" not in null:
        return told
    return f"{told} {null['holds'] if null['accepted'] else 'refused'}"


def matching(rows: list[dict[str, Any]]) -> str:
    """Errors of self-information and of same-step correlation of every null."""
    columns = [r for r in rows if r["redundancy"] == "mmi"]
    names = [name for name in NULLS if name != "same_step"]
    return _markdown(
        ("null", *(f"{r['model']}, {r['estimator']}" for r in columns)),
        ((name, *(_errors(r["nulls"].get(name)) for r in columns)) for name in names),
    )


def _errors(null: dict[str, Any] | None) -> str:
    if null is None:
        return ""
    return f"{100 * null['information_error']:+.1f} % / {null['same_step_error']:+.3f}"


def _milli(nat: float) -> str:
    return f"{1e3 * nat:.3g}"


def _markdown(head: Iterable[str], body: Iterable[Iterable[str]]) -> str:
    head = tuple(head)
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ("---",) * len(head), *body))


if __name__ == "__main__":
    app()

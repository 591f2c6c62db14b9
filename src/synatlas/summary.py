"""What a command prints when it is done: at most fifteen lines."""

import json
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import xarray as xr

from synatlas.decompose.nulls import NULLS
from synatlas.intervene.verdict import verdict
from synatlas.record.doubts import doubts_of
from synatlas.run import Run

#: Warnings printed; the report holds all.
WARNINGS_TOLD: Final = 3


def lines(run: Run, seconds: float) -> Iterator[str]:
    """The outcome of a run in at most fifteen lines of plain text."""
    recording = run.recording
    sizes = recording.sizes
    yield (
        f"{recording.attrs['model']}: {sizes['unit']} units in "
        f"{recording.attrs['n_layers']} layers, {sizes['prompt']} prompts x {sizes['step']} tokens"
    )
    yield f"live against replay: {recording.attrs['live_replay_error']:.1e} greatest relative error"
    if "atoms" in run.artifacts:
        yield _statuses(run.atoms)
    if "atlas" in run.artifacts:
        yield from _verdict(run.atlas)
    else:
        yield from (f"warning: {doubt}" for doubt in doubts_of(recording))
    if run.reused:
        yield f"reused from {run.folder}: {', '.join(run.reused)}"
    yield f"{seconds:.1f} s; run folder: {run.folder}"
    if run.report is not None:
        yield f"report: {run.report.resolve()}"


def ablation_lines(run: Run, seconds: float) -> Iterator[str]:
    """The outcome of an ablation in at most fifteen lines of plain text."""
    divergence, tests = run.artifacts["divergence"], run.artifacts["ablation_tests"]
    sizes, attrs = divergence.sizes, divergence.attrs
    asked = f", {sizes['item']} questions" if sizes["item"] else ""
    yield (
        f"{attrs['model']}: {sizes['unit']} units, {sizes['order'] - 2} orders, {attrs['draws']} "
        f"random sets of each kind, {sizes['prompt']} prompts{asked}, ablation {attrs['ablation']}"
    )
    yield f"noise floor: {float(divergence['noise_floor'].max()):.1e} nat"
    judged = verdict(divergence, tests)
    yield ""
    yield judged.headline
    for warning in judged.warnings[:WARNINGS_TOLD]:
        yield f"warning: {warning}"
    if len(judged.warnings) > WARNINGS_TOLD:
        yield f"and {len(judged.warnings) - WARNINGS_TOLD} more warnings in the report"
    yield ""
    yield f"{seconds:.1f} s; run folder: {run.folder}"
    if run.report is not None:
        yield f"report: {run.report.resolve()}"


def plan_lines(plan: xr.Dataset) -> Iterator[str]:
    """What a recording of the planned size would show, in a small table."""
    attrs = plan.attrs
    yield (
        f"{attrs['prompts']} prompts x {attrs['steps']} steps, {attrs['units']} units, memory "
        f"{attrs['memory'][0]:g}, null {attrs['null_used']} with {attrs['surrogates']} surrogates"
    )
    yield f"Synergy of independent units: {float(plan['null_mean'][0]):.3g} nat"
    yield f"Least excess found with {attrs['power']:.0%} power at level {attrs['alpha']:g}:"
    calls = {"pair": "one pair, two-sided", "unit": f"one of {attrs['units']} units, above"}
    for level, call in calls.items():
        at = plan.sel(level=level)
        yield f"  {call:<24}{float(at['detectable']):>10.2g} nat {float(at['share']):>8.1%} of it"
    yield attrs["explanation"]


def _statuses(atoms: xr.Dataset) -> str:
    status = atoms["status"]
    meanings = status.attrs["flag_meanings"].split()
    counts = {
        meaning: int(np.sum(status.values == value))
        for meaning, value in zip(meanings, status.attrs["flag_values"], strict=True)
    }
    told = ", ".join(f"{count} {meaning}" for meaning, count in counts.items() if count)
    way = f"{atoms.attrs['estimator']}, {atoms.attrs['redundancy']}, lag {atoms.attrs['lag']}"
    return f"pairs: {told} ({way})"


def _joint(findings: list[dict[str, Any]]) -> str:
    """The score that leads, in a line; the report holds the others."""
    numbers = next(f for f in findings if f["name"] == "joint_prediction")["numbers"]
    mean = numbers["mean_nat"]
    if mean is None:
        return "joint prediction: not defined (three prompts of one length are needed)"
    return (
        f"joint prediction: mean {mean:.2g} nat (linear {numbers['mean_linear_nat']:.2g}, "
        f"interaction {numbers['mean_interaction_nat']:.2g})"
    )


def _null(atlas: xr.Dataset, at: int) -> str:
    """Mean excess over a null, its matching errors, and what is known of its level."""
    null = atlas.isel(null=at)
    name = str(null["null"].item())
    known = NULLS[name].level if name in NULLS else "level not measured"
    refused = "" if null["null_accepted"].item() else "refused"
    error = null["null_self_information_error"].item()
    told = (
        f"self-information off by {error:+.1%}",
        f"same-step correlation by {null['null_same_step_error'].item():+.3f}",
        *filter(None, (refused, known)),
    )
    return f"{name} {null['null_effect'].item():+.2g} nat ({', '.join(told)})"


def _verdict(atlas: xr.Dataset) -> Iterator[str]:
    verdict = json.loads(atlas.attrs["verdict"])
    warnings = json.loads(atlas.attrs["warnings"])
    yield ""
    yield verdict["headline"]
    yield _joint(verdict["findings"])
    if atlas.sizes["null"]:
        yield "synergy over its nulls: " + "; ".join(
            _null(atlas, i) for i in range(atlas.sizes["null"])
        )
    for warning in warnings[:WARNINGS_TOLD]:
        yield f"warning: {warning}"
    if len(warnings) > WARNINGS_TOLD:
        yield f"and {len(warnings) - WARNINGS_TOLD} more warnings in the report"
    yield ""

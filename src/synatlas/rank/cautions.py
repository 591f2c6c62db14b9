"""Warnings: what about the recording or the surrogates limits what the atlas can say."""

import json
from typing import Final

import numpy as np
import xarray as xr

from synatlas.decompose.atoms import STATUS
from synatlas.decompose.windows import LEAST_SAMPLES
from synatlas.inference import P_UNRESOLVED
from synatlas.rank.controls import MATCHING_BOUND, NullTests
from synatlas.rank.profile import MIN_LAYERS

#: A reply counts as periodic above this share of repeated tokens.
PERIODIC: Final = 0.5

#: Periodic replies are worth a warning above this share of prompts.
PERIODIC_PROMPTS: Final = 0.1

#: Median share of variance on a straight line above which series count as trending: what
#: stationary AR(1) series of 100 steps reach at a coefficient of 0.97 (0.09 at 0.9; simulated).
TREND: Final = 0.25

#: Fewer layers carry no claim about depth.
FEW_LAYERS: Final = 8

#: Fewer prompts give unreliable bootstrap intervals.
FEW_PROMPTS: Final = 10


def cautions(atoms: xr.Dataset, tests: NullTests) -> list[str]:
    """Warnings of an Atoms artifact and its null tests, one plain sentence each."""
    found = [
        *json.loads(atoms.attrs.get("recording_doubts", "[]")),
        _routing(json.loads(atoms.attrs.get("routing", "{}"))),
        _periodic(atoms["repetition"].to_numpy()),
        _trend(atoms["unit_trend"].to_numpy()),
        _layers(np.unique(atoms["layer"].to_numpy()).size),
        _prompts(atoms.sizes["prompt"]),
        _undefined(atoms["status"].to_numpy()),
        *_nulls(atoms, tests),
        *_left_out(atoms),
        _without_null(atoms),
    ]
    return [sentence for sentence in found if sentence]


def _periodic(repetition: np.ndarray) -> str:
    periodic = int((repetition > PERIODIC).sum())
    if periodic <= PERIODIC_PROMPTS * repetition.size:
        return ""
    return (
        f"{periodic} of {repetition.size} replies are periodic (more than half of their tokens "
        "repeat at a fixed period): their series measure the loop, not the task."
    )


def _trend(trend: np.ndarray) -> str:
    defined = trend[np.isfinite(trend)]
    if defined.size == 0 or (middle := float(np.median(defined))) <= TREND:
        return ""
    return (
        f"Series trend: in the median a straight line over steps explains {middle:.0%} of the "
        f"variance (bound {TREND:.0%}), which adds self-information and so synergy."
    )


def _layers(layers: int) -> str:
    if layers < MIN_LAYERS:
        return f"Shape over depth needs {MIN_LAYERS} layers, here are {layers}: none is given."
    if layers < FEW_LAYERS:
        return f"A claim about depth needs at least {FEW_LAYERS} layers, here are {layers}."
    return ""


def _prompts(prompts: int) -> str:
    if prompts >= FEW_PROMPTS:
        return ""
    return (
        f"Bootstrap intervals need at least {FEW_PROMPTS} prompts to be reliable, here {prompts}."
    )


def _undefined(status: np.ndarray) -> str:
    counts = {STATUS[code]: int((status == code).sum()) for code in STATUS if code != 0}
    total = sum(counts.values())
    if total == 0:
        return ""
    parts = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return f"{total} of {status.size} pairs are marked in at least one prompt: {parts}."


def _routing(counts: dict[str, int]) -> str:
    if not (counts.get("never") or counts.get("seldom")):
        return ""
    return (
        f"{counts['never']} of {counts['units']} routed experts are never used, and "
        f"{counts['seldom']} of their {counts['series']} series are routed at fewer than "
        f"{LEAST_SAMPLES} steps of past or future of the prompt: these count as constant there."
    )


def _nulls(atoms: xr.Dataset, tests: NullTests) -> list[str]:
    error = atoms["null_self_information_error"].to_numpy()
    k, units = tests.draws.shape[1], tests.q.size
    found = []
    for at, name in enumerate(tests.names):
        if not tests.accepted[at]:
            found.append(
                f"The {name} null is refused: its self-information differs from the data's by "
                f"{error[at]:+.1%} (bound {MATCHING_BOUND:.0%}), so its synergy has another level."
            )
        elif tests.synergy[at].method == P_UNRESOLVED:
            found.append(
                f"Not resolvable with {k} surrogates of the {name} null: the smallest possible "
                f"p is {1 / (k + 1):.2g} over {units} units, and a t distribution does not fit."
            )
    return found


def _left_out(atoms: xr.Dataset) -> list[str]:
    why = json.loads(atoms.attrs.get("nulls_left_out", "{}"))
    return [f"The {name} null was left out: {reason}." for name, reason in why.items()]


def _without_null(atoms: xr.Dataset) -> str:
    count = int(atoms.attrs.get("same_step_pairs_left_out", 0))
    if count == 0:
        return ""
    return (
        f"{count} of {atoms.sizes['pair']} pairs are left out of integration: no uncoupled series "
        "have their memory and same-step correlation."
    )

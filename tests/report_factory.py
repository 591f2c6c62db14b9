"""Artifacts that satisfy their schemas, made from the schemas themselves: no model is needed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from synatlas.artifact import Schema, Variable, finish
from synatlas.axes import ROLES, unit_label
from synatlas.decompose.atoms import ATOMS
from synatlas.rank.atlas import ATLAS
from synatlas.rank.graph_nulls import GRAPH_NULLS
from synatlas.rank.topology import GRAPHS, MEASURES, WEIGHTINGS
from synatlas.record.recording import RECORDING

SCORES = (
    "joint_prediction", "joint_prediction_linear", "joint_prediction_interaction",
    "rank_of_difference", "difference_of_ranks", "synergy", "redundancy", "tdmi", "transfer",
    "integration",
)  # fmt: skip

VERDICT = {
    "headline": "No core unit is shown: synergy stays within what autocorrelation gives.",
    "findings": [
        {
            "claim": "Synergy exceeds both independence nulls",
            "holds": False,
            "numbers": {"excess [nat]": -0.0042, "interval [nat]": [-0.006, -0.002], "units": 0},
            "why": "The interval of the mean excess lies below zero.",
        },
        {
            "claim": "The profile rises, then falls",
            "holds": True,
            "numbers": {"rise": 1.2, "fall": -1.4},
            "why": "Both slopes have intervals that exclude zero.",
        },
        {
            "claim": "Depth order holds over categories",
            "holds": None,
            "numbers": {"split-half": float("nan"), "models": None},
            "why": "One category has too few prompts.",
        },
    ],
}
WARNINGS = ["12 of 60 replies repeat themselves.", "window_shift was refused: matching error 3 %."]


@dataclass(frozen=True, kw_only=True)
class World:
    """Sizes and texts of a made-up run."""

    layers: int = 6
    heads: int = 4
    prompts: Sequence[str] = ("What is 2 + 2?", "Name a colour.", "Why do birds sing?")
    replies: Sequence[str] = ("Four.", "Blue.", "To be heard.")
    categories: Sequence[str] = ("numbers", "words")
    prompt_category: Sequence[str] = ("numbers", "words", "words")
    prompt_ids: Sequence[str] = ("p0", "p1", "p2")
    nulls: Sequence[str] = ("cross_prompt", "window_shift")
    scores: Sequence[str] = SCORES
    model: str = "bundled:reference"
    verdict: Mapping[str, Any] | str = ""
    warnings: Sequence[str] = tuple(WARNINGS)
    core: int = 2
    core_missing: Sequence[str] = ()
    optional: bool = True
    seed: int = 0

    @property
    def units(self) -> int:
        return self.layers * self.heads

    @property
    def pairs(self) -> int:
        return self.units * (self.units - 1) // 2


def _sizes(world: World) -> dict[str, int]:
    return {
        "unit": world.units,
        "pair": world.pairs,
        "prompt": len(world.prompts),
        "step": 12,
        "position": 5,
        "past": 4,
        "future": 4,
        "layer": world.layers,
        "score": len(world.scores),
        "null": len(world.nulls),
        "category": len(world.categories),
        "control": 2,
        "ci_bound": 2,
        "surrogate": 3,
        "bootstrap": 3,
        "graph": len(GRAPHS),
        "graph_null": len(GRAPH_NULLS),
        "weighting": len(WEIGHTINGS),
        "measure": len(MEASURES),
    }


def _values(world: World) -> dict[str, Any]:
    layer = np.repeat(np.arange(world.layers, dtype="i4"), world.heads)
    index = np.tile(np.arange(world.heads, dtype="i4"), world.layers)
    units = [unit_label(a, b) for a, b in zip(layer.tolist(), index.tolist(), strict=True)]
    first, second = np.triu_indices(world.units, 1)
    return {
        "unit": units,
        "unit_layer": layer,
        "index": index,
        "kind": ["head"] * world.units,
        "kv_group": index // 2,
        "unit_a": np.array(units)[first],
        "unit_b": np.array(units)[second],
        "past": list(ROLES),
        "future": list(ROLES),
        "prompt": list(world.prompt_ids),
        "text": list(world.prompts),
        "rendered": list(world.prompts),
        "reply": list(world.replies),
        "score": list(world.scores),
        "null": list(world.nulls),
        "depth": np.arange(world.layers) / max(world.layers - 1, 1),
        "ci_bound": ["lower", "upper"],
        "graph": list(GRAPHS),
        "graph_null": list(GRAPH_NULLS),
        "weighting": list(WEIGHTINGS),
        "measure": list(MEASURES),
        "control": ["self_information", "same_step_correlation"],
        "n_steps": np.full(len(world.prompts), 12, dtype="i4"),
        "token_end": [np.arange(1, 13) * len(reply) // 12 for reply in world.replies],
        "null_accepted": np.array([1] + [0] * 9, dtype="i1")[: len(world.nulls)],
        "core": (np.arange(world.units) < world.core).astype("i1"),
        "repetition": np.linspace(0, 1, len(world.prompts)),
    }


def _make(schema: Schema, world: World, own: Mapping[str, Any]) -> xr.Dataset:
    rng = np.random.default_rng(world.seed)
    known = {**_values(world), **own}
    sizes = _sizes(world)

    def array(name: str, declared: Variable) -> tuple[tuple[str, ...], np.ndarray]:
        shape = tuple(sizes.get(dim, 2) for dim in declared.dims)
        if name in known:
            value = np.asarray(known[name])
            value = value.astype(str if declared.dtype == "str" else declared.dtype)
            return declared.dims, value.reshape(shape)
        if declared.dtype == "str":
            return declared.dims, np.full(shape, name)
        if declared.dtype.startswith("i"):
            return declared.dims, np.zeros(shape, dtype=declared.dtype)
        values = rng.gamma(2.0, 0.02, size=shape)
        if "ci_bound" in declared.dims:
            values = np.sort(values, axis=-1)
        return declared.dims, values.astype(declared.dtype)

    chosen = {n: v for n, v in schema.variables.items() if v.required or world.optional}
    return xr.Dataset(
        {name: array(name, declared) for name, declared in chosen.items()},
        coords={name: array(name, declared) for name, declared in schema.coords.items()},
        attrs={name: f"{name} of the run" for name in schema.attrs}
        | {"model": world.model, "model_revision": "0123abcd", "n_layers": world.layers},
    )


def recording(world: World) -> xr.Dataset:
    own = {"layer": _values(world)["unit_layer"], "category": list(world.prompt_category)}
    made = _make(RECORDING, world, own)
    return finish(made, RECORDING, fingerprint="f" * 32)


def atoms(world: World) -> xr.Dataset:
    own = {"layer": _values(world)["unit_layer"], "category": list(world.prompt_category)}
    made = _make(ATOMS, world, own)
    made.attrs |= {"lag": 1, "redundancy": "mmi", "estimator": "gaussian"}
    return finish(made, ATOMS, fingerprint="e" * 32)


def atlas(world: World) -> xr.Dataset:
    rng = np.random.default_rng(world.seed + 1)
    depth = np.repeat(_values(world)["depth"], world.heads)
    synergy = 0.02 + 0.05 * depth * (1 - depth) * 4 + rng.gamma(2, 0.004, world.units)
    redundancy = 0.005 + 0.1 * synergy + rng.gamma(2, 0.001, world.units)
    order = (synergy - redundancy).argsort().argsort() + 1.0
    difference = synergy.argsort().argsort() - redundancy.argsort().argsort() + 0.0
    own = {
        "layer": np.arange(world.layers),
        "category": list(world.categories),
        "synergy": synergy,
        "redundancy": redundancy,
        "rank_of_difference": order,
        "difference_of_ranks": difference,
        "autocorrelation_baseline": 1.02 * synergy + rng.normal(0, 0.004, world.units),
        "integration": rng.normal(0.01, 0.006, world.units),
        "excess": rng.normal(-0.002, 0.004, (len(world.nulls), world.units)),
    }
    per_unit = {"redundancy", "synergy", "rank_of_difference", "difference_of_ranks", "integration"}
    profile = np.array(
        [
            (own[name] if name in per_unit else synergy).reshape(world.layers, -1).mean(axis=1)
            for name in world.scores
        ]
    ).reshape(len(world.scores), world.layers)
    width = 0.15 * (np.ptp(profile, axis=1, keepdims=True) if profile.size else 0)
    own["profile"] = profile
    own["profile_interval"] = np.stack([profile - width, profile + width], axis=-1)
    shift = rng.normal(0, 0.5, (len(world.categories), 1, world.layers)) * width
    own["category_profile"] = profile + shift
    mean = synergy.reshape(world.layers, -1).mean(axis=1)
    own["profile_null"] = np.array([mean * (0.95 + 0.1 * i) for i in range(len(world.nulls))])
    made = _make(ATLAS, world, own)
    made["topology_null"].loc[{"graph": "autocorrelation_baseline"}] = np.nan
    made.attrs |= {
        "ci_prob": 0.95,
        "seed": 0,
        "verdict": json.dumps(world.verdict or VERDICT),
        "warnings": json.dumps(list(world.warnings)),
        "core_missing": json.dumps(list(world.core_missing)),
    }
    return finish(made, ATLAS, fingerprint="d" * 32)


def everything(world: World) -> list[xr.Dataset]:
    return [recording(world), atoms(world), atlas(world)]

"""Stage 3, `rank`: from Atoms to an Atlas of scores, ranks, profiles, controls and a verdict."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from synatlas.artifact import fingerprint_of, finish, require
from synatlas.axes import BOUNDS
from synatlas.decompose.atoms import ATOMS
from synatlas.errors import ArtifactError, ConfigError
from synatlas.inference import (
    partial_rank_correlation,
    percentile_interval,
    rank_correlation,
    resampling_weights,
    weighted_mean,
)
from synatlas.progress import silent
from synatlas.rank.atlas import ATLAS
from synatlas.rank.cautions import cautions
from synatlas.rank.controls import (
    NullTests,
    call_core,
    excess_interval,
    jackknife,
    mean_excess,
    minimum_detectable,
    missing_ingredients,
    noise_q,
    null_tests,
)
from synatlas.rank.profile import Shape, layer_means, order_p, shape_of
from synatlas.rank.resampling import Pooled, Resampled, resample, split_half
from synatlas.rank.topology import DRAWS, topology
from synatlas.rank.unit_scores import (
    pooled_draws,
    pooled_noise,
    pooled_scores,
    predictions,
    scores_of_units,
    scores_per_prompt,
)
from synatlas.rank.verdict import judge

#: A variable of a dataset under construction.
Labelled = tuple[tuple[str, ...], np.ndarray]

#: Draws beyond each bound of an interval, at least.
_TAIL_DRAWS: Final = 1

CONTROLS: Final = ("self_information", "same_step", "depth")


class Units(NamedTuple):
    """What the parts of an atlas share: where the units are and what they score."""

    unit_layer: Int[np.ndarray, " unit"]
    layers: Int[np.ndarray, " layer"]
    depth: Float[np.ndarray, " layer"]
    per_prompt: dict[str, Float[np.ndarray, "prompt unit"]]
    predictions: dict[str, Float[np.ndarray, "prompt unit"]]
    pooled: Pooled
    scores: dict[str, Float[np.ndarray, " unit"]]


def rank(
    atoms: xr.Dataset,
    *,
    seed: int = 0,
    bootstrap: int = 1000,
    ci_prob: float = 0.95,
    graph_draws: int = DRAWS,
    random_init: Sequence[xr.Dataset] = (),
    progress: Callable[[str, int, int], None] = silent,
) -> xr.Dataset:
    """Rank units by every score, describe each score over depth, and judge what holds.

    Parameters
    ----------
    atoms : an Atoms artifact; it is not changed.
    seed : seed of every resampling, from 0.
    bootstrap : bootstrap samples of the prompts.
    ci_prob : coverage of every interval, between 0 and 1.
    graph_draws : graphs of chance for the topology, see :func:`synatlas.topology`.
    random_init : atlases of the same architecture with random weights, one per seed; 20 or more
        give a band for the profile.
    progress : called as resampling advances.

    Returns
    -------
    xarray.Dataset
        An Atlas: scores and ranks per unit, joint prediction first, synergy against every null,
        integration, the core,
        profiles over depth with their shape, correlations with controls, the topology of the
        synergy and redundancy graphs; attribute ``verdict``
        is JSON (see :mod:`synatlas.rank.verdict`), ``warnings`` a JSON list.

    Raises
    ------
    ArtifactError
        `atoms` is not an Atoms artifact, or holds no defined unit.
    ConfigError
        An option is out of range, or `random_init` has other units than `atoms`.

    References
    ----------
    arXiv 2601.06851 (the published scores); Varley, arXiv 2407.16601 (synergy of independent
    series under MMI).
    """
    require(atoms, ATOMS)
    _check_options(seed, bootstrap, ci_prob)
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(4)]
    units = _units(atoms, bootstrap, streams[3])
    tests = null_tests(atoms)
    resampled = resample(
        units.per_prompt,
        units.pooled,
        excess=tests.excess[tests.accepted],
        unit_layer=units.unit_layer,
        layers=units.layers,
        draws=bootstrap,
        rng=streams[0],
        progress=progress,
    )
    missing = missing_ingredients(atoms, tests)
    parts: dict[str, Labelled] = {
        **{name: (("unit",), values) for name, values in units.scores.items()},
        **_null_part(atoms, tests, units, ci_prob),
        **_prediction_part(units, ci_prob),
        **_integration_part(atoms, units, ci_prob),
        **_profile_part(units, resampled, ci_prob, streams[1]),
        **_category_part(atoms, units),
        **_reliability_part(atoms, units, streams[2]),
    }
    parts["rank_interval"] = (
        ("unit", "ci_bound"),
        percentile_interval(resampled.rank, ci_prob),
    )
    parts |= _core_part(parts, tests, resampled, assessable=not missing)
    graphs = topology(atoms, seed=seed, draws=graph_draws, progress=progress)
    dataset = xr.Dataset(parts, coords=_coords(atoms, tests, units)).merge(graphs)
    config = {
        "seed": int(seed),
        "bootstrap": int(bootstrap),
        "ci_prob": float(ci_prob),
        "graph_draws": int(graph_draws),
    }
    dataset.attrs = {
        **graphs.attrs,
        **{name: atoms.attrs[name] for name in ("model", "model_revision", "n_layers")},
        **config,
        "core_missing": json.dumps(missing),
        "warnings": json.dumps(cautions(atoms, tests)),
    }
    dataset.attrs["verdict"] = judge(dataset, random_init=random_init).to_json()
    parents = (atoms.attrs["fingerprint"], *(a.attrs["fingerprint"] for a in random_init))
    fingerprint = fingerprint_of(
        stage="rank", version=ATLAS.version, config=config, parents=parents
    )
    return finish(dataset, ATLAS, fingerprint=fingerprint)


def _check_options(seed: int, bootstrap: int, ci_prob: float) -> None:
    if seed < 0:
        raise ConfigError(
            given=f"seed={seed}", expected="a whole number from 0", remedy="choose another seed"
        )
    if not 0 < ci_prob < 1:
        raise ConfigError(
            given=f"ci_prob={ci_prob}",
            expected="a probability between 0 and 1",
            cause="a percentage" if ci_prob > 1 else "",
            remedy="pass for example 0.95",
        )
    needed = int(np.ceil(2 * _TAIL_DRAWS / (1 - ci_prob) - 1e-9))
    if bootstrap < needed:
        raise ConfigError(
            given=f"bootstrap={bootstrap} with ci_prob={ci_prob}",
            expected=f"at least {needed} draws, one beyond each bound of the interval",
            remedy="raise bootstrap (1000 is the default) or lower ci_prob",
        )


def _units(atoms: xr.Dataset, bootstrap: int, rng: np.random.Generator) -> Units:
    unit_layer = atoms["layer"].to_numpy().astype(np.int64)
    layers = np.unique(unit_layer)
    last = max(int(atoms.attrs["n_layers"]) - 1, int(layers[-1]) if layers.size else 0, 1)
    per_prompt = scores_per_prompt(atoms)
    prompts = atoms.sizes["prompt"]
    if prompts == 0 or not np.isfinite(per_prompt["synergy"]).any():
        raise ArtifactError(
            given=f"atoms of {prompts} prompts and {unit_layer.size} units without a defined one",
            expected="at least one unit with a defined pair",
            cause="every series is constant, too short or not finite (see `status`)",
            remedy="record more tokens, or units that are active",
        )
    even = np.full((1, prompts), 1 / prompts)
    means = scores_of_units(per_prompt, even)
    predicted = predictions(atoms)
    scores = {
        **{name: weighted_mean(even, values)[0] for name, values in predicted.items()},
        **{name: values[0] for name, values in means.items()},
        **pooled_scores(atoms),
    }
    weights = resampling_weights(prompts, bootstrap, rng)
    pooled = {
        **{name: weighted_mean(weights, values) for name, values in predicted.items()},
        **pooled_draws(atoms),
    }
    if prompts < 2:
        # One prompt drawn with replacement is itself: its draws say nothing.
        pooled = {name: draws[:0] for name, draws in pooled.items()}
    return Units(unit_layer, layers, layers / last, per_prompt, predicted, pooled, scores)


def _null_part(
    atoms: xr.Dataset, tests: NullTests, units: Units, ci_prob: float
) -> dict[str, Labelled]:
    n, k = len(tests.names), tests.draws.shape[1]
    count = units.unit_layer.size
    member = (units.unit_layer[:, None] == units.layers).astype(float)
    whole = [mean_excess(tests, i, np.ones((count, 1)), ci_prob) for i in range(n)]
    layer = [mean_excess(tests, i, member, ci_prob) for i in range(n)]
    level = np.array([draws.mean(axis=0) if k else np.full(count, np.nan) for draws in tests.draws])

    def per_null(values: Sequence[object], *shape: int, dtype: str = "f8") -> np.ndarray:
        return np.array(values, dtype=dtype).reshape(n, *shape)

    at_unit, at_layer = ("null", "unit"), ("null", "layer")
    return {
        "excess": (at_unit, tests.excess),
        "excess_redundancy": (at_unit, tests.excess_redundancy),
        "excess_z": (at_unit, per_null([t.z for t in tests.synergy], count)),
        "excess_p_greater": (at_unit, per_null([t.p_greater for t in tests.synergy], count)),
        "excess_p_less": (at_unit, per_null([t.p_less for t in tests.synergy], count)),
        "excess_interval": (
            (*at_unit, "ci_bound"),
            per_null([excess_interval(t, k, ci_prob) for t in tests.synergy], count, 2),
        ),
        "excess_q": (("unit",), tests.q),
        "excess_q_less": (("unit",), tests.q_less),
        "null_surrogates": (("null",), per_null([k] * n, dtype="i4")),
        "null_p_method": (("null",), per_null([t.method for t in tests.synergy], dtype="i1")),
        "null_effect": (("null",), per_null([effect.value[0] for effect in whole])),
        "null_effect_interval": (
            ("null", "ci_bound"),
            per_null([effect.interval[0] for effect in whole], 2),
        ),
        "null_minimum_detectable": (
            ("null",),
            per_null([minimum_detectable(t, k) for t in tests.synergy]),
        ),
        "null_self_information_error": (("null",), atoms["null_self_information_error"].to_numpy()),
        "null_same_step_error": (("null",), atoms["null_same_step_error"].to_numpy()),
        "null_accepted": (("null",), tests.accepted.astype(np.int8)),
        "profile_null": (
            at_layer,
            layer_means(level.reshape(n, count), units.unit_layer, units.layers),
        ),
        "profile_excess": (at_layer, per_null([e.value for e in layer], units.layers.size)),
        "profile_excess_interval": (
            (*at_layer, "ci_bound"),
            per_null([e.interval for e in layer], units.layers.size, 2),
        ),
    }


def _prediction_part(units: Units, ci_prob: float) -> dict[str, Labelled]:
    parts: dict[str, Labelled] = {}
    for name, pseudo in units.predictions.items():
        found = jackknife(pseudo, ci_prob)
        parts[f"{name}_interval"] = (("unit", "ci_bound"), found.interval)
        parts[f"{name}_q"] = (("unit",), found.q)
    return parts


def _integration_part(atoms: xr.Dataset, units: Units, ci_prob: float) -> dict[str, Labelled]:
    draws, value = units.pooled["integration"], units.scores["integration"]
    # The draws are corrected for bias: their mean is the value less its bias.
    bias = value - draws.mean(axis=0) if len(draws) else np.full(value.shape, np.nan)
    return {
        "integration_bias": (("unit",), bias),
        "integration_interval": (("unit", "ci_bound"), percentile_interval(draws, ci_prob)),
        "integration_q": (("unit",), noise_q(value, pooled_noise(atoms), atoms.sizes["prompt"])),
    }


def _profile_part(
    units: Units, resampled: Resampled, ci_prob: float, rng: np.random.Generator
) -> dict[str, Labelled]:
    out: dict[str, list[np.ndarray | float]] = {name: [] for name in _PROFILE_DIMS}
    for name, values in units.scores.items():
        profile = layer_means(values, units.unit_layer, units.layers)
        out["profile"].append(profile)
        draws = resampled.profile.get(name, np.empty((0, profile.size)))
        out["profile_interval"].append(percentile_interval(draws, ci_prob))
        shape = shape_of(profile, units.depth)
        shapes = _shapes_of_draws(resampled.shape_profile.get(name), units.depth)
        for part in Shape._fields:
            out[part].append(getattr(shape, part))
            if part != "turn":
                interval = percentile_interval(getattr(shapes, part), ci_prob)
                out[f"{part}_interval"].append(interval)
        out["layer_permutation_p"].append(order_p(profile, units.depth, rng))
    return {
        name: (dims, np.array(out[name], dtype=np.float64)) for name, dims in _PROFILE_DIMS.items()
    }


def _shapes_of_draws(draws: np.ndarray | None, depth: Float[np.ndarray, " layer"]) -> Shape:
    if draws is None or draws.shape[0] == 0:
        return Shape(*(np.empty(0) for _ in Shape._fields))
    return shape_of(draws, depth)


_PROFILE_DIMS: Final[Mapping[str, tuple[str, ...]]] = {
    "profile": ("score", "layer"),
    "profile_interval": ("score", "layer", "ci_bound"),
    **dict.fromkeys((*Shape._fields, "layer_permutation_p"), ("score",)),
    **{f"{name}_interval": ("score", "ci_bound") for name in Shape._fields if name != "turn"},
}


def _category_part(atoms: xr.Dataset, units: Units) -> dict[str, Labelled]:
    category = atoms["category"].to_numpy().astype(str)
    names = np.unique(category)
    member = (category == names[:, None]).astype(float)
    means = scores_of_units(units.per_prompt, member / member.sum(axis=1, keepdims=True))
    nowhere = np.full((names.size, units.layers.size), np.nan)
    rows = [
        # Pooled scores exist for all prompts together only.
        layer_means(means[name], units.unit_layer, units.layers) if name in means else nowhere
        for name in units.scores
    ]
    return {"category_profile": (("category", "score", "layer"), np.stack(rows, axis=1))}


def _reliability_part(
    atoms: xr.Dataset, units: Units, rng: np.random.Generator
) -> dict[str, Labelled]:
    halves = split_half(units.per_prompt, rng)
    depth = units.depth[np.searchsorted(units.layers, units.unit_layer)]
    same_step = atoms["unit_same_step"].transpose("prompt", "unit").to_numpy()
    finite = np.isfinite(same_step)
    total = np.where(finite, same_step, 0.0).sum(axis=0)
    mean = np.divide(
        total, finite.sum(axis=0), out=np.full(total.shape, np.nan), where=finite.any(axis=0)
    )
    controls = np.stack([units.scores["self_information"], mean, depth])
    scores = np.stack(list(units.scores.values()))
    plain = np.stack(
        [rank_correlation(scores, np.broadcast_to(c, scores.shape)) for c in controls], axis=1
    )
    partial = np.array(
        [
            [
                partial_rank_correlation(score, controls[i], np.delete(controls, i, axis=0))
                for i in range(len(CONTROLS))
            ]
            for score in scores
        ]
    )
    return {
        "split_half": (("score",), np.array([halves.get(s, np.nan) for s in units.scores])),
        "correlation": (("score", "control"), plain),
        "partial_correlation": (("score", "control"), partial),
    }


def _core_part(
    parts: Mapping[str, Labelled], tests: NullTests, resampled: Resampled, *, assessable: bool
) -> dict[str, Labelled]:
    undefined = np.full(tests.q.shape, np.nan)
    core = call_core(
        assessable=assessable,
        integration_q=parts["integration_q"][1],
        excess_q=tests.q,
        excess=tests.excess[tests.accepted],
        synergy_ccs=parts["synergy_ccs"][1] if "synergy_ccs" in parts else undefined,
        recurrence=resampled.recurrence,
    )
    return {"core": (("unit",), core), "core_recurrence": (("unit",), resampled.recurrence)}


def _coords(atoms: xr.Dataset, tests: NullTests, units: Units) -> dict[str, object]:
    return {
        "unit": atoms["unit"].to_numpy().astype(str),
        "unit_layer": ("unit", units.unit_layer.astype(np.int32)),
        **{name: ("unit", atoms[name].to_numpy()) for name in ("index", "kind", "kv_group")},
        "score": list(units.scores),
        "null": np.array(tests.names, dtype=str),
        "layer": units.layers.astype(np.int32),
        "depth": ("layer", units.depth),
        "ci_bound": list(BOUNDS),
        "control": list(CONTROLS),
        "category": np.unique(atoms["category"].to_numpy().astype(str)),
    }

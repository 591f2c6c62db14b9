"""Atoms with planted truth, made without any model or series."""

import numpy as np
import xarray as xr

from synatlas.artifact import finish
from synatlas.axes import ROLES
from synatlas.decompose.atoms import ATOMS

NULLS = ("cross_prompt", "window_shift")


def arch(layers: int, heads: int, low: float, high: float) -> np.ndarray:
    """One value per unit: an inverted U over layers, the same for every head."""
    depth = np.linspace(0, 1, layers)
    return np.repeat(low + (high - low) * (1 - (2 * depth - 1) ** 2), heads)


def make_atoms(
    *,
    layers: int = 10,
    heads: int = 4,
    prompts: int = 24,
    surrogates: int = 40,
    draws: int = 200,
    synergy: np.ndarray | float = 0.05,
    redundancy: np.ndarray | float = 0.01,
    excess: np.ndarray | float = 0.0,
    integration: np.ndarray | float = 0.0,
    joint_prediction: np.ndarray | float = 0.0,
    synergy_ccs: np.ndarray | float | None = 0.01,
    prompt_sd: float = 0.002,
    null_sd: float = 0.0005,
    integration_sd: float = 0.0005,
    self_information: np.ndarray | None = None,
    nulls: tuple[str, ...] = NULLS,
    null_error: float = 0.001,
    repetition: float = 0.0,
    trend: float = 0.02,
    seed: int = 0,
) -> xr.Dataset:
    """An Atoms artifact whose unit grids have the given means, plus noise over prompts.

    Every cell that is not named is a small positive number. `excess` is synergy over both
    nulls, whose observed value is the mean over prompts; `integration` is revised Phi over the
    same-step null; both come with noise of the given standard deviation.
    """
    rng = np.random.default_rng(seed)
    n = layers * heads
    unit_layer = np.repeat(np.arange(layers, dtype=np.int32), heads)
    grid = np.full((prompts, n, 4, 4), 0.001)
    grid[:, :, 3, 3] = synergy + prompt_sd * rng.standard_normal((prompts, n))
    grid[:, :, 0, 0] = redundancy + prompt_sd / 4 * rng.standard_normal((prompts, n))
    mean = grid.mean(axis=0)
    own = np.full(n, 0.03) if self_information is None else self_information
    own_prompt = own * np.exp(0.1 * rng.standard_normal((prompts, n)))
    null_draw = np.tile(mean, (len(nulls), surrogates, 1, 1, 1))
    noise = null_sd * rng.standard_normal((len(nulls), surrogates, n))
    null_draw[..., 3, 3] += noise - np.asarray(excess)
    # The observed value carries its own share of the noise of one surrogate.
    observed = np.tile(mean, (len(nulls), 1, 1, 1))
    observed[..., 3, 3] += null_sd * rng.standard_normal((len(nulls), n))
    pooled = mean.copy()
    same_step = mean.copy()
    wobble = integration_sd * rng.standard_normal(n)
    pooled[:, 3, 3] += integration + wobble
    pooled_draw = np.zeros((draws, n, 4, 4))
    noise_draw = np.zeros((draws, n, 4, 4))
    noise = np.random.default_rng(seed + 1).standard_normal((draws, n))
    noise_draw[..., 3, 3] = integration_sd * noise
    pooled_draw[..., 3, 3] = (integration + wobble) + integration_sd * rng.standard_normal(
        (draws, n)
    )
    # A generator of its own, so that what is drawn below does not change.
    own_noise = 1e-4 * np.random.default_rng([seed, 1]).standard_normal((2, prompts, n))
    a, b = np.triu_indices(n, 1)
    units = np.array([f"L{i // heads:02d}H{i % heads:02d}" for i in range(n)])
    grid_of_pairs = (grid.mean(axis=0)[a] + grid.mean(axis=0)[b]) / 2
    cells = ("unit", "past", "future")
    data = {
        "atom": (("pair", "past", "future"), grid_of_pairs),
        "tdmi": ("pair", grid_of_pairs.sum(axis=(1, 2))),
        "status": ("pair", np.zeros(a.size, dtype=np.int8)),
        "n_defined": ("pair", np.full(a.size, prompts, dtype=np.int32)),
        "same_step_correlation": ("pair", rng.uniform(-0.2, 0.2, a.size)),
        "unit_atom": (("prompt", *cells), grid),
        "self_information": (("prompt", "unit"), own_prompt),
        "unit_same_step": (("prompt", "unit"), rng.uniform(0.1, 0.3, (prompts, n))),
        "unit_trend": (("prompt", "unit"), np.full((prompts, n), trend)),
        "joint_prediction_linear": (("prompt", "unit"), joint_prediction + own_noise[0]),
        "joint_prediction_interaction": (("prompt", "unit"), own_noise[1]),
        "null_observed": (("null", *cells), observed),
        "null_draw": (("null", "surrogate", *cells), null_draw),
        "null_mean": (("null", *cells), null_draw.mean(axis=1)),
        "null_sd": (("null", *cells), null_draw.std(axis=1)),
        "null_self_information_error": ("null", np.full(len(nulls), null_error)),
        "null_same_step_error": ("null", np.full(len(nulls), 0.0)),
        "pooled_atom": (cells, pooled),
        "same_step_atom": (cells, same_step),
        "pooled_excess_draw": (("bootstrap", *cells), pooled_draw),
        "pooled_noise_draw": (("bootstrap", *cells), noise_draw),
    }
    if synergy_ccs is not None:
        ccs = grid.copy()
        ccs[..., 3, 3] += synergy_ccs - np.asarray(synergy)
        data["unit_atom_ccs"] = (("prompt", *cells), ccs)
    dataset = xr.Dataset(
        data,
        coords={
            "unit_a": ("pair", units[a]),
            "unit_b": ("pair", units[b]),
            "past": list(ROLES),
            "future": list(ROLES),
            "prompt": [f"p{i:03d}" for i in range(prompts)],
            "category": ("prompt", [f"category {i % 2}" for i in range(prompts)]),
            "repetition": ("prompt", np.full(prompts, repetition)),
            "unit": units,
            "layer": ("unit", unit_layer),
            "index": ("unit", np.tile(np.arange(heads, dtype=np.int32), layers)),
            "kind": ("unit", ["head"] * n),
            "kv_group": ("unit", np.full(n, -1, dtype=np.int32)),
            "null": np.array(nulls, dtype=str),
        },
        attrs={
            "model": "planted",
            "model_revision": "0",
            "n_layers": layers,
            "lag": 1,
            "redundancy": "mmi",
            "estimator": "gaussian",
            "seed": seed,
            "steps": 100,
        },
    )
    return finish(dataset, ATOMS, fingerprint=f"planted-{seed}")

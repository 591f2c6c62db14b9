"""Recordings of simulated series whose coupling is known."""

import numpy as np
import xarray as xr

from synatlas.artifact import finish
from synatlas.record.recording import RECORDING

BURN_IN = 60


def autoregressive(
    rho: np.ndarray,
    *,
    steps: int,
    rng: np.random.Generator,
    coupling: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Series (prompt, step, unit) of ``x[t] = (rho + coupling) x[t-1] + noise``.

    `rho` is (prompt, unit); `coupling` a matrix (to, from) that is the same in every prompt.
    """
    prompts, units = rho.shape
    matrix = np.broadcast_to(np.asarray(coupling, dtype=float), (units, units))
    x = np.zeros((prompts, units))
    out = np.empty((prompts, steps, units))
    for t in range(BURN_IN + steps):
        x = rho * x + x @ matrix.T + rng.standard_normal((prompts, units))
        if t >= BURN_IN:
            out[:, t - BURN_IN] = x
    return out


def make_recording(activity: np.ndarray, heads: int) -> xr.Dataset:
    """Recording of series (prompt, step, unit), `heads` units a layer."""
    prompts, steps, units = activity.shape
    layers = units // heads
    token = np.random.default_rng(0).integers(0, 30_000, (prompts, steps)).astype(np.int32)
    names = [f"p{i:03d}" for i in range(prompts)]
    text = ("prompt", ["text"] * prompts)
    dataset = xr.Dataset(
        {
            "activity": (("prompt", "step", "unit"), activity.astype(np.float32)),
            "token": (("prompt", "step"), token),
            "logprob": (("prompt", "step"), np.full((prompts, steps), -1, dtype=np.float32)),
            "prompt_token": (("prompt", "position"), np.zeros((prompts, 3), dtype=np.int32)),
            "n_steps": ("prompt", np.full(prompts, steps, dtype=np.int32)),
        },
        coords={
            "prompt": names,
            "unit": [f"L{i // heads:02d}H{i % heads:02d}" for i in range(units)],
            "layer": ("unit", np.repeat(np.arange(layers, dtype=np.int32), heads)),
            "index": ("unit", np.tile(np.arange(heads, dtype=np.int32), layers)),
            "kind": ("unit", ["head"] * units),
            "kv_group": ("unit", np.full(units, -1, dtype=np.int32)),
            "category": ("prompt", ["all"] * prompts),
            **dict.fromkeys(("text", "rendered", "reply"), text),
        },
    )
    plain = dict.fromkeys(RECORDING.attrs, "simulated")
    dataset.attrs = {**plain, "n_layers": layers, "live_replay_error": 0.0, "non_finite_series": 0}
    return finish(dataset, RECORDING, fingerprint="simulated")

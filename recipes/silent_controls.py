"""How often the controls of a run speak where nothing is coupled: a table of docs/papers.md.

    python recipes/silent_controls.py --simulations 40

24 units, 20 prompts of 100 steps. Shares of units at p <= 0.05 above each null, and shares of
simulations with any unit at a false discovery rate of 5 %: above the null that makes the call and
of positive excess over the other, of positive integration, of both, and of joint prediction.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final

import cyclopts
import numpy as np
import pandas as pd
import xarray as xr

import synatlas as sa
from synatlas.artifact import finish
from synatlas.inference import FDR_LEVEL
from synatlas.record.recording import RECORDING
from synatlas.simulate.uncoupled import (
    ar_per_prompt,
    independent_ar,
    same_step_correlated,
    shared_drift,
)

UNITS: Final = 24
LEVEL: Final = 0.05
MEMORY: Final = np.linspace(0.2, 0.95, UNITS)

#: Row of the table -> recording of a seed.
SERIES: Final[Mapping[str, Callable[..., xr.Dataset]]] = MappingProxyType(
    {
        "AR(1), coefficients from 0.2 to 0.95": partial(independent_ar, MEMORY),
        "coefficients that vary jointly over prompts, 0.2 to 0.6": partial(ar_per_prompt, UNITS),
        "the same, 0.1 to 0.9": partial(ar_per_prompt, UNITS, low=0.1, high=0.9),
        "drift shared within a prompt": partial(shared_drift, np.full(UNITS, 0.5), shape="walk"),
        "innovations correlated at the same step (0.3)": partial(same_step_correlated, MEMORY),
    }
)


def as_recording(series: xr.Dataset) -> xr.Dataset:
    """Simulated series in the form of a recording; nothing but the series is real."""
    prompts, steps, units = series["activity"].shape
    nothing = ("prompt", [""] * prompts)
    made = xr.Dataset(
        {
            "activity": series["activity"].astype(np.float32),
            "token": (("prompt", "step"), np.tile(np.arange(steps, dtype=np.int32), (prompts, 1))),
            "logprob": (("prompt", "step"), np.zeros((prompts, steps), dtype=np.float32)),
            "prompt_token": (("prompt", "position"), np.zeros((prompts, 1), dtype=np.int32)),
            "n_steps": ("prompt", np.full(prompts, steps, dtype=np.int32)),
        },
        coords={
            "layer": ("unit", series["layer"].to_numpy().astype(np.int32)),
            "index": ("unit", np.arange(units, dtype=np.int32)),
            "kind": ("unit", ["head"] * units),
            "kv_group": ("unit", np.full(units, -1, dtype=np.int32)),
            **dict.fromkeys(("category", "text", "rendered", "reply"), nothing),
        },
        attrs={
            **dict.fromkeys(RECORDING.attrs, "simulated"),
            "n_layers": int(series["layer"].max()) + 1,
            "live_replay_error": 0.0,
            "non_finite_series": 0,
        },
    )
    return finish(made, RECORDING, fingerprint="simulated")


def rates(make: Callable[..., xr.Dataset], simulations: int, surrogates: int) -> dict[str, float]:
    """Shares of units and of simulations in which each control speaks."""
    rows = []
    for seed in range(simulations):
        recording = as_recording(make(prompts=20, steps=100, seed=seed))
        atoms = sa.decompose(recording, surrogates=surrogates, seed=seed)
        atlas = sa.rank(atoms, bootstrap=100, graph_draws=1)
        above = (atlas["excess_q"] <= FDR_LEVEL) & (atlas["excess"] > 0).all("null")
        integrated = atlas["integration_q"] <= FDR_LEVEL
        p = (atlas["excess_p_greater"] <= LEVEL).mean("unit")
        rows.append(
            {f"{name}, units": float(p.sel(null=name)) for name in p["null"].to_numpy().tolist()}
            | {
                "both nulls, any unit": bool(above.any()),
                "integration, any unit": bool(integrated.any()),
                "all three, any unit": bool((above & integrated).any()),
                "joint prediction, any unit": bool((atlas["joint_prediction_q"] <= LEVEL).any()),
            }
        )
    return pd.DataFrame(rows).mean().to_dict()


def main(*, simulations: int = 40, surrogates: int = 99) -> None:
    """Print the table as Markdown, in per cent, a row as soon as it is known."""
    for at, (name, make) in enumerate(SERIES.items()):
        found = rates(make, simulations, surrogates)
        if at == 0:
            print(
                "| uncoupled series | "
                + " | ".join(found)
                + " |\n"
                + "|---" * (len(found) + 1)
                + "|"
            )
        print(f"| {name} | " + " | ".join(f"{100 * v:.3g} %" for v in found.values()) + " |")


if __name__ == "__main__":
    cyclopts.run(main)

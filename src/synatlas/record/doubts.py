"""What a self-test leaves in doubt, in sentences: its figures against stated bounds."""

from collections.abc import Iterator
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float

#: Greatest relative difference of activities that rounding explains, by dtype: in float32 models
#: of all types stay below 1e-5, in bfloat16 below 2e-2.
BOUNDS: Final = MappingProxyType(
    {"float64": 1e-3, "float32": 1e-3, "float16": 2e-2, "bfloat16": 5e-2}
)

#: How many times what a model differs from itself its logits may differ with taps.
NOISE: Final = 4.0

#: Dtypes in which rounding is no explanation of what exceeds the bound.
EXACT: Final = ("float64", "float32")

#: Status of a unit's second computation, as it is stored.
ROUTES: Final = MappingProxyType(
    {
        0: "no_second_route",
        1: "attention_function",
        2: "projection_columns",
        3: "module_again",
        4: "expert_weights",
        5: "expert_alone",
    }
)

#: What each status says.
ROUTE_WORDS: Final = MappingProxyType(
    {
        "no_second_route": "not recomputed: it shows at one place only, and live against replay "
        "is its second computation",
        "attention_function": "what the attention function returned against what the output "
        "projection read",
        "projection_columns": "the projection's own columns times what it read",
        "module_again": "the module called again with what it had read",
        "expert_weights": "one expert at a time, from its weights",
        "expert_alone": "some tokens, or one expert, alone through the module",
    }
)


class Figures(NamedTuple):
    """What a self-test measured.

    `live` and `second` are greatest relative differences of each unit's activity: read while
    generating against replayed, and read against computed by its route, NaN where there is none.
    `logits` is the greatest absolute difference of logits with taps and without, and `repeat` that
    of two passes without; both 0 where taps change nothing.
    """

    dtype: str
    capture: str
    label: np.ndarray
    kind: np.ndarray
    live: Float[np.ndarray, " unit"]
    rerouted: float | None
    logits: float
    repeat: float
    second: Float[np.ndarray, " unit"]
    route: np.ndarray

    @property
    def bound(self) -> float:
        """Greatest relative difference that rounding in this dtype explains."""
        return BOUNDS.get(self.dtype, BOUNDS["bfloat16"])


def figures_of(recording: xr.Dataset) -> Figures | None:
    """The figures that a recording holds; None where an older version wrote it."""
    if "live_replay_unit_error" not in recording:
        return None
    attrs = recording.attrs
    return Figures(
        dtype=str(attrs["dtype"]),
        capture=str(attrs.get("capture", "replay")),
        label=recording["unit"].to_numpy(),
        kind=recording["kind"].to_numpy(),
        live=recording["live_replay_unit_error"].to_numpy(),
        rerouted=attrs.get("rerouted"),
        logits=float(attrs["taps_logit_error"]),
        repeat=float(attrs["repeat_logit_error"]),
        second=recording["recomputed_unit_error"].to_numpy(),
        route=np.array([ROUTES[code] for code in recording["second_route"].to_numpy().tolist()]),
    )


def doubts(figures: Figures) -> list[str]:
    """What the figures say against a recording: the figure, what it means, and what to do."""
    found = [_live(figures), _logits(figures), *_second(figures)]
    return [sentence for sentence in found if sentence]


def doubts_of(recording: xr.Dataset) -> list[str]:
    """What its own self-test says against a recording; nothing where it holds none."""
    figures = figures_of(recording)
    return [] if figures is None else doubts(figures)


def _live(figures: Figures) -> str:
    over = figures.live > figures.bound
    if figures.capture == "live" or not over.any():
        return ""
    worst = int(np.nanargmax(figures.live))
    routed = ""
    if figures.rerouted:
        routed = f"; {figures.rerouted:.1%} of the choices of experts are other ones"
    finer = "" if figures.dtype in EXACT else "in float32, and where they differ there too, "
    return (
        f"Live against replay: {int(over.sum())} of {over.size} units differ by more than "
        f"{figures.bound:g}, {figures.label[worst]} by {figures.live[worst]:.2g} (relative, in "
        f"{figures.dtype}{routed}): the series are those of a plain pass over the tokens, which "
        f"this model does not compute while it generates them. Record {finer}with capture live, "
        "or draw no conclusion about generation."
    )


def _logits(figures: Figures) -> str:
    if figures.logits <= NOISE * figures.repeat:
        return ""
    return (
        f"Taps change the model: logits with and without differ by up to {figures.logits:.2g} "
        f"(0 is expected; two passes without taps differ by {figures.repeat:.2g}), so the series "
        "are not those of the unmodified model. Load it without adapters or compilation, or in "
        "float32, and check it with synatlas models --check."
    )


def _second(figures: Figures) -> Iterator[str]:
    for kind in dict.fromkeys(figures.kind.tolist()):
        of_kind = np.flatnonzero(figures.kind == kind)
        errors = figures.second[of_kind]
        over = errors > figures.bound
        if over.any():
            worst = of_kind[int(np.nanargmax(errors))]
            yield (
                f"Recomputed activity disagrees: {int(over.sum())} of {over.size} units of kind "
                f"{kind} differ by more than {figures.bound:g}, {figures.label[worst]} by "
                f"{figures.second[worst]:.2g} (relative; "
                f"{ROUTE_WORDS[str(figures.route[worst])]}): what was read may not be these "
                "units' output. Record other units or another site of this model."
            )

"""Token strips: each token of a reply, coloured by the local synergy of its step."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float

from synatlas.decompose.estimators import ESTIMATORS
from synatlas.decompose.local_units import local_units
from synatlas.rank.controls import CORE
from synatlas.report.inert import clipped, visible
from synatlas.report.style import DIVERGING
from synatlas.report.verdict import number

#: Replies, tokens of each, and characters of a token: what keeps any report small.
STRIPS_SHOWN: Final = 10
TOKENS_SHOWN: Final = 400
TOKEN_TEXT_SHOWN: Final = 100

#: Pairs, times replies, that a page may wait for: some fifteen seconds. Under MMI, means over
#: partners are matrix products where correlations decide; otherwise every pair is visited.
PRODUCTS_AFFORDED: Final = 15_000_000
PAIRS_AFFORDED: Final = 400_000

#: Shades on each side of zero.
LEVELS: Final = 8

#: Share of the values that the shades tell apart.
_WITHIN: Final = 95


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One token: its text, its shade (a class of the style sheet), and its value in words."""

    text: str
    level: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """One reply, why it was chosen, and its mean in nats."""

    name: str
    category: str
    why: str
    mean: str
    tokens: tuple[Token, ...]
    left_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Strips:
    """All strips, and what their legend says.

    Parameters
    ----------
    units : whose synergy it is.
    verb : what a step does with its token.
    limit : where shades end, in nats.
    has_memory : whether autocorrelation alone gives synergy, as under MMI.
    """

    strips: tuple[Strip, ...]
    units: str
    verb: str
    limit: str
    has_memory: bool


class Chosen(NamedTuple):
    """Position of a prompt, and why it is shown."""

    prompt: int
    why: str


def token_strips(recording: xr.Dataset, atoms: xr.Dataset, atlas: xr.Dataset) -> Strips | None:
    """Strips of the most and the least synergistic reply and of one of each category.

    None where the recording does not say where tokens end, nothing is defined, or local synergy
    of so many units would take too long.
    """
    if "token_end" not in recording.variables:
        return None
    units = _units(recording, atlas)
    held = atoms["unit_atom"].sel(past="syn", future="syn").values[:, units]
    chosen = _choose(_mean(held), atoms["category"].values)
    chosen = chosen[: _afforded(atoms) // atoms.sizes["pair"]]
    if not chosen:
        return None
    nuisance = str(atoms.attrs.get("nuisance", "none"))
    local = local_units(
        recording,
        atoms=("sts",),
        prompts=[one.prompt for one in chosen],
        lag=int(atoms.attrs["lag"]),
        redundancy=str(atoms.attrs["redundancy"]),
        estimator=str(atoms.attrs["estimator"]),
        nuisance=() if nuisance == "none" else nuisance.split(", "),
    )
    values = np.full((len(chosen), recording.sizes["step"]), np.nan)
    values[:, local["step"].values] = _mean(local["local"].values[0][..., units])
    finite = np.abs(values[np.isfinite(values)])
    limit = float(np.percentile(finite, _WITHIN)) if finite.size else 0.0
    return Strips(
        strips=tuple(
            _strip(recording, one, row, limit) for one, row in zip(chosen, values, strict=True)
        ),
        units=_units_in_words(units, atlas),
        verb="read" if recording.attrs["alignment"] == "document" else "produced",
        limit=number(limit),
        has_memory=_is_mmi(atoms),
    )


def _afforded(atoms: xr.Dataset) -> int:
    products = ESTIMATORS[str(atoms.attrs["estimator"])].correlated
    return PRODUCTS_AFFORDED if products and _is_mmi(atoms) else PAIRS_AFFORDED


def _is_mmi(atoms: xr.Dataset) -> bool:
    return atoms.attrs["redundancy"] == "mmi"


def _units(recording: xr.Dataset, atlas: xr.Dataset) -> Bool[np.ndarray, " unit"]:
    """The core units, or all units where there are none."""
    core = set(atlas["unit"].values[atlas["core"].values == CORE].tolist())
    chosen = np.array([unit in core for unit in recording["unit"].values.tolist()])
    return chosen if chosen.any() else np.ones_like(chosen)


def _units_in_words(units: np.ndarray, atlas: xr.Dataset) -> str:
    if not (atlas["core"].values == CORE).any():
        return f"all {units.size:,} units"
    return f"the {units.sum():,} core units" if units.sum() > 1 else "the one core unit"


def _mean(values: Float[np.ndarray, "*lead unit"]) -> Float[np.ndarray, "*lead"]:
    """Mean over the units that are defined, NaN where there are none."""
    defined = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(defined, values, 0.0).sum(axis=-1) / defined.sum(axis=-1)


def _choose(synergy: Float[np.ndarray, " prompt"], categories: np.ndarray) -> list[Chosen]:
    """The most and the least synergistic prompt, then the one in the middle of each category."""
    order = np.flatnonzero(np.isfinite(synergy))
    order = order[np.argsort(synergy[order], kind="stable")]
    if not order.size:
        return []
    found = [Chosen(int(order[-1]), "most synergistic"), Chosen(int(order[0]), "least synergistic")]
    for category in dict.fromkeys(categories.tolist()):
        inside = order[categories[order] == category]
        if inside.size:
            found.append(Chosen(int(inside[inside.size // 2]), "middle of its category"))
    seen: set[int] = set()
    out = [one for one in found if not (one.prompt in seen or seen.add(one.prompt))]
    return out[:STRIPS_SHOWN]


def _strip(recording: xr.Dataset, chosen: Chosen, values: np.ndarray, limit: float) -> Strip:
    at = recording.isel(prompt=chosen.prompt)
    count = int(at["n_steps"].item())
    shown = min(count, TOKENS_SHOWN)
    texts = _texts(str(at["reply"].item()), at["token_end"].values[:shown])
    return Strip(
        name=visible(at["prompt"].item()),
        category=visible(at["category"].item()),
        why=chosen.why,
        mean=number(float(_mean(values[None, :count])[0])),
        tokens=tuple(
            Token(text=text, level=level_of(value, limit), title=_title(step, value))
            for step, (text, value) in enumerate(zip(texts, values.tolist(), strict=False))
        ),
        left_out=count - shown,
    )


def _texts(reply: str, ends: np.ndarray) -> Iterator[str]:
    begin = 0
    for end in ends.tolist():
        text = clipped(visible(reply[begin:end]), TOKEN_TEXT_SHOWN)
        # A line break has no colour, and part of a character no text.
        yield text.replace("\n", "↵\n") or "▫"
        begin = end


def _title(step: int, value: float) -> str:
    return f"step {step}: " + (f"{value:+.4f} nat" if np.isfinite(value) else "not defined")


def level_of(value: float, limit: float) -> str:
    """Class of the shade of a value between -limit and limit; beyond, the last shade."""
    if not np.isfinite(value):
        return "level-none"
    share = np.clip(value / limit, -1.0, 1.0) if limit > 0 else 0.0
    return f"level-{LEVELS + round(float(share) * LEVELS)}"


@functools.cache
def level_style() -> str:
    """Rules of the shades, each with the ink of greater contrast, at least 4.5 to 1."""
    places = [place for place, _ in DIVERGING]
    stops = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for _, colour in DIVERGING])
    shares = np.linspace(0, 1, 2 * LEVELS + 1)
    shades = np.stack([np.interp(shares, places, channel) for channel in stops.T], axis=1)
    return "\n".join(
        f".level-{k} {{ background: rgb({red} {green} {blue}); color: {ink}; }}"
        for k, ((red, green, blue), ink) in enumerate(
            zip(shades.round().astype(int).tolist(), map(_ink, shades / 255), strict=True)
        )
    )


def _ink(shade: Float[np.ndarray, " three"]) -> str:
    """Black or white, by the relative luminance of WCAG 2.2."""
    linear = np.where(shade <= 0.04045, shade / 12.92, ((shade + 0.055) / 1.055) ** 2.4)
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    return "#000" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "#fff"

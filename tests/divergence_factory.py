"""Divergence datasets of a made-up model: damage of a set is a function of its units' weights."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import xarray as xr

from synatlas.artifact import finish
from synatlas.axes import unit_label
from synatlas.intervene.masks import masks_of
from synatlas.intervene.schema import DIVERGENCE

#: Damage of sets (mask, unit), False where ablated, in every prompt: (mask, prompt).
Damage = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class World:
    """Units in layers, how much each matters, and what is asked of them.

    Damage is the sum of the weights to a power, times the scale of the prompt, and `boost` in the
    category `abstract` where it is the leading order whose first units are ablated.
    """

    layers: int = 4
    heads: int = 8
    weight: np.ndarray | None = None
    orders: Mapping[str, np.ndarray] = field(default_factory=dict)
    counts: Sequence[int] = tuple(range(2, 33, 2))
    tested: Sequence[int] = (4, 8, 16)
    draws: int = 199
    curve_draws: int = 5
    accuracy_draws: int = 19
    categories: Sequence[str] = ("abstract", "arithmetic", "grammar")
    prompts: int = 5
    items: int = 12
    power: float = 1.0
    boost: float = 1.0
    noise: float = 0.1
    seed: int = 0

    @property
    def units(self) -> int:
        return self.layers * self.heads

    @property
    def layer(self) -> np.ndarray:
        return np.repeat(np.arange(self.layers, dtype="i4"), self.heads)


def by_value(values: np.ndarray) -> np.ndarray:
    """Units, the highest value first."""
    return np.argsort(-values, kind="stable")


def within_layers(order: np.ndarray, layer: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another order that takes the same layers at every place."""
    out = order.copy()
    for one in np.unique(layer):
        here = layer[order] == one
        out[here] = rng.permutation(order[here])
    return out


def divergence(world: World) -> xr.Dataset:
    """What an ablation experiment on this world would have measured."""
    rng = np.random.default_rng(world.seed)
    weight = rng.gamma(1.0, size=world.units) if world.weight is None else world.weight
    orders = dict(world.orders) or {
        "rank_of_difference": by_value(weight),
        "redundant_first": by_value(-weight),
        "norm": rng.permutation(world.units),
    }
    orders.setdefault("single_unit", by_value(weight**world.power))
    scale = rng.uniform(0.5, 1.5, size=len(world.categories) * world.prompts)

    def damage(keep: np.ndarray) -> np.ndarray:
        wobble = np.exp(world.noise * rng.normal(size=(len(keep), scale.size)))
        return ((~keep) @ weight)[:, None] ** world.power * scale * wobble

    made = experiment(world, orders, damage, rng)
    if world.boost != 1:
        made["kl"][0, :, :, np.flatnonzero(made["category"] == "abstract")] *= world.boost
    return made


def experiment(
    world: World, orders: Mapping[str, np.ndarray], damage: Damage, rng: np.random.Generator
) -> xr.Dataset:
    """A Divergence artifact of these orders and of the draws beside them."""
    leading = next(iter(orders.values()))
    anywhere = [rng.permutation(world.units) for _ in range(world.draws)]
    matched = [within_layers(leading, world.layer, rng) for _ in range(world.draws)]
    masks = masks_of(
        {name: order[None] for name, order in orders.items()}
        | {"random": np.stack(anywhere), "random_depth_matched": np.stack(matched)},
        counts=tuple(world.counts),
        tested=tuple(world.tested),
        curve_draws=world.curve_draws,
    )
    single = ~np.eye(world.units, dtype=bool)
    found = damage(np.concatenate([masks.keep, single]))
    kl = masks.spread(found[: len(masks.keep)].astype("f4"))
    return _artifact(world, masks.names, kl, found[len(masks.keep) :], masks.places, rng)


def _artifact(
    world: World,
    names: Sequence[str],
    kl: np.ndarray,
    single_kl: np.ndarray,
    place: np.ndarray,
    rng: np.random.Generator,
) -> xr.Dataset:
    counts = np.array(world.counts)
    category = np.repeat(np.array(world.categories), world.prompts)
    # The more an ablation damages, the easier a question must be to be answered still.
    asked = np.isin(counts, world.tested) & np.isfinite(kl).all(axis=3)
    asked[:, world.accuracy_draws :] = False
    ease = rng.uniform(size=world.items)
    harm = np.nan_to_num(kl.mean(axis=3) / np.nanmax(kl.mean(axis=3)))
    correct = np.where(asked[..., None], ease > harm[..., None], -1).astype("i1")
    labels = [unit_label(a, b % world.heads) for b, a in enumerate(world.layer.tolist())]
    cell = ("order", "draw", "n_ablated")
    made = xr.Dataset(
        {
            "kl": ((*cell, "prompt"), kl),
            "reverse_kl": ((*cell, "prompt"), np.float32(0.8) * kl),
            "agreement": ((*cell, "prompt"), np.exp(-kl)),
            "accuracy": (cell, (correct > 0).sum(axis=-1) / max(world.items, 1)),
            "correct": ((*cell, "item"), correct),
            "clean_correct": ("item", np.ones(world.items, dtype="i1")),
            "noise_floor": ("prompt", np.full(category.size, 1e-7, dtype="f4")),
            "single_kl": (("unit", "prompt"), single_kl.astype("f4")),
            "place": (("order", "draw", "unit"), place),
        },
        coords={
            "order": list(names),
            "n_ablated": counts.astype("i4"),
            "fraction": ("n_ablated", counts / world.units),
            "prompt": [f"p{i}" for i in range(category.size)],
            "category": ("prompt", category),
            "unit": labels,
            "layer": ("unit", world.layer),
            "index": ("unit", np.tile(np.arange(world.heads, dtype="i4"), world.layers)),
            "kind": ("unit", ["head"] * world.units),
            "item": np.array([f"q{i}" for i in range(world.items)], dtype=str),
            "item_category": ("item", np.resize(np.array(world.categories), world.items)),
            "difficulty": ("item", np.zeros(world.items, dtype="i4")),
        },
        attrs={
            "model": "made-up",
            "model_revision": "0",
            "n_layers": world.layers,
            "ablation": "zero",
            "matched_to": names[0],
            "tested": list(world.tested),
            "draws": world.draws,
            "accuracy_draws": world.accuracy_draws,
            "seed": world.seed,
            "settings": "{}",
            "questions": "made-up",
            "marking": "line",
            "questions_digest": "",
        },
    )
    return finish(made, DIVERGENCE, fingerprint="0" * 32)

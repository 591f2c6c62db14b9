"""Divergence datasets of a made-up model: damage of a set is a function of its units' weights."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import xarray as xr

from synatlas.artifact import finish
from synatlas.axes import unit_label
from synatlas.intervene.schema import DIVERGENCE

Damage = Callable[[np.ndarray], float]


@dataclass(frozen=True, kw_only=True)
class World:
    """Units in layers, how much each matters, and what is asked of them.

    `damage` maps the units that are ablated (a mask) to nats in a prompt of scale 1; `scale` is
    that of every prompt, `boost` what it is multiplied by where the leading order's first units
    are ablated in the category `abstract`.
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
    alone = weight**world.power
    orders.setdefault("single_unit", by_value(alone))
    leading = next(iter(orders))
    table = {name: order[None] for name, order in orders.items()}
    anywhere = [rng.permutation(world.units) for _ in range(world.draws)]
    matched = [within_layers(orders[leading], world.layer, rng) for _ in range(world.draws)]
    table |= {"random": np.stack(anywhere), "random_depth_matched": np.stack(matched)}
    return _run(world, table, weight, rng)


def _run(
    world: World, table: Mapping[str, np.ndarray], weight: np.ndarray, rng: np.random.Generator
) -> xr.Dataset:
    counts, names = np.array(world.counts), list(table)
    category = np.repeat(np.array(world.categories), world.prompts)
    scale = rng.uniform(0.5, 1.5, size=category.size)
    shape = (len(names), world.draws, counts.size)
    kl = np.full((*shape, category.size), np.nan, dtype="f4")
    correct = np.full((*shape, world.items), -1, dtype="i1")
    place = np.zeros((len(names), world.draws, world.units), dtype="i4")
    ease = rng.uniform(size=world.items)
    total = (weight**world.power).sum()
    for i, (name, draws) in enumerate(table.items()):
        control = name.startswith("random")
        for j, order in enumerate(draws):
            place[i, j, order] = 1 + np.arange(world.units)
            for k, n in enumerate(counts):
                if j >= (world.curve_draws if control else 1) and n not in world.tested:
                    continue
                damage = weight[order[:n]].sum() ** world.power
                wobble = np.exp(world.noise * rng.normal(size=category.size))
                kl[i, j, k] = damage * scale * wobble
                if i == 0:
                    kl[i, j, k][category == "abstract"] *= world.boost
                if n in world.tested and j < (world.accuracy_draws if control else 1):
                    correct[i, j, k] = ease > damage / total
    labels = [unit_label(a, b % world.heads) for b, a in enumerate(world.layer.tolist())]
    cell = ("order", "draw", "n_ablated")
    made = xr.Dataset(
        {
            "kl": ((*cell, "prompt"), kl),
            "reverse_kl": ((*cell, "prompt"), 0.8 * kl),
            "agreement": ((*cell, "prompt"), np.exp(-kl)),
            "accuracy": (cell, (correct > 0).sum(axis=-1) / max(world.items, 1)),
            "correct": ((*cell, "item"), correct),
            "clean_correct": ("item", np.ones(world.items, dtype="i1")),
            "noise_floor": ("prompt", np.full(category.size, 1e-7, dtype="f4")),
            "single_kl": (("unit", "prompt"), np.outer(weight**world.power, scale).astype("f4")),
            "place": (("order", "draw", "unit"), place),
        },
        coords={
            "order": names,
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
        },
    )
    return finish(made, DIVERGENCE, fingerprint="0" * 32)

"""How often tests of ablation call sets that mean nothing, and how often a planted circuit.

Run with: python benchmarks/ablation_power.py, or with --into docs/validity.md to put the tables
there. About two minutes of one core.
"""

import argparse
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from marked_tables import show_tables
from transformers import GPT2Config, GPT2LMHeadModel

from synatlas.intervene.categories import contrast
from synatlas.intervene.decline import CATASTROPHIC, GRADUAL, decline
from synatlas.intervene.sets import over_counts
from synatlas.models.edits import edit
from synatlas.models.probe import find_units
from synatlas.simulate.circuit import HEADS, PREDICTING, induction_circuit, repeated_words

DRAWS: Final = 199
REPETITIONS: Final = 10_000
LEVELS: Final = (0.01, 0.05)


def table(columns: tuple[str, ...], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [columns, ("---",) * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def damage(network: Any, ids: torch.Tensor, keep: np.ndarray, at: slice) -> np.ndarray:
    """Mean KL(clean || ablated) of every set over the sequences."""
    units = find_units(network).select("heads", "z")
    out = np.zeros(len(keep))
    with torch.no_grad():
        for one in ids:
            clean = network(one[None]).logits[:, at].log_softmax(-1)
            for start in range(0, len(keep), 256):
                part = torch.from_numpy(keep[start : start + 256])
                with edit(network, units, part):
                    logits = network(one.expand(len(part), -1)).logits[:, at]
                kl = (clean.exp() * (clean - logits.log_softmax(-1))).sum(-1).mean(-1)
                out[start : start + 256] += kl.numpy() / len(ids)
    return out


def random_model(seed: int, layers: int, heads: int) -> Any:
    """A GPT-2 of random weights, scaled up so that heads differ."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = GPT2Config(
            vocab_size=64, n_positions=16, n_embd=8 * heads, n_layer=layers, n_head=heads,
            bos_token_id=0, eos_token_id=0,
        )  # fmt: skip
        network = GPT2LMHeadModel(config).eval().requires_grad_(False)
    for parameter in network.parameters():
        if parameter.ndim == 2:
            parameter.mul_(0.15 / parameter.std())
    return network


def every_set(network: Any, units: int, seed: int) -> np.ndarray:
    """Damage of every set of units, by the bits of the set."""
    ids = torch.from_numpy(np.random.default_rng(seed).integers(1, 64, size=(4, 10)))
    bits = (np.arange(2**units)[:, None] >> np.arange(units)) & 1
    return damage(network, ids, bits == 0, slice(0, None))


def drawn(order: np.ndarray, layer: np.ndarray, control: str, rng: np.random.Generator) -> Any:
    """The order, then random ones: any, or with the same layer at every place."""
    out = np.tile(order, (1 + DRAWS, 1))
    if control == "random":
        out[1:] = rng.permuted(out[1:], axis=1)
        return out
    for one in np.unique(layer):
        here = layer[order] == one
        out[1:, here] = rng.permuted(out[1:, here], axis=1)
    return out


def exchangeable_table() -> str:
    """Orders that say nothing of heads, in models of which every set was ablated."""
    rows = []
    layer = np.repeat(np.arange(3), 4)
    counts = np.array([2, 4, 6])
    tables = [every_set(random_model(seed, 3, 4), 12, seed) for seed in range(5)]
    for name, depth in (("random", False), ("random within layers, worst layer first", True)):
        for control in ("random", "depth matched"):
            p = np.empty((REPETITIONS, 2))
            for i in range(REPETITIONS):
                rng = np.random.default_rng((31, depth, control == "random", i))
                damages = tables[i % len(tables)]
                order = rng.permutation(12)
                if depth:
                    whole = [damages[sum(1 << u for u in np.flatnonzero(layer == k))]
                             for k in range(3)]  # fmt: skip
                    order = order[np.argsort(-np.array(whole)[layer[order]], kind="stable")]
                sets = np.cumsum(1 << drawn(order, layer, control, rng), axis=1)[:, counts - 1]
                found = over_counts(damages[sets[0]], damages[sets[1:]])
                p[i] = found.p_more[0], found.p_less[0]
            shares = [f"{100 * (p[:, t] <= level).mean():.2f}" for t in (0, 1) for level in LEVELS]
            rows.append([name, control, *shares])
    columns = ("order", "against", "more, 1 %", "more, 5 %", "less, 1 %", "less, 5 %")
    return table(columns, rows)


def circuit_table() -> str:
    """The planted circuit first, its heads found with more and more error."""
    rows = []
    layer = np.repeat(np.arange(4), HEADS)
    counts = np.array([3, 6, 10])
    for noise in (0.0, 0.5, 1.0, 2.0):
        found = []
        for seed in range(10):
            made = induction_circuit(seed)
            heads = made.heads[:, 0] * HEADS + made.heads[:, 1]
            rng = np.random.default_rng((32, seed))
            score = np.isin(np.arange(32), heads) + noise * rng.normal(size=32)
            order = np.argsort(-(score + 1e-6 * rng.normal(size=32)))
            ids = torch.from_numpy(repeated_words(2, rng))
            hit = np.isin(order[:10], heads).mean()
            one = [hit]
            for control in ("random", "depth matched"):
                orders = drawn(order, layer, control, rng)
                keep = np.ones((len(orders), counts.size, 32), dtype=bool)
                for k, n in enumerate(counts):
                    np.put_along_axis(keep[:, k], orders[:, :n], False, axis=1)
                kl = damage(made.network, ids, keep.reshape(-1, 32), PREDICTING)
                kl = kl.reshape(len(orders), counts.size)
                among = over_counts(kl[0], kl[1:])
                one += [among.p_more[0] <= 0.01, among.effect[0], among.ratio[0]]
            found.append(one)
        mean = np.mean(np.array(found, dtype=float), axis=0)
        shares = [f"{100 * mean[0]:.0f}"]
        for at in (1, 4):
            shares += [f"{100 * mean[at]:.0f}", f"{mean[at + 1]:.1f}", f"{mean[at + 2]:.2f}"]
        rows.append([f"{noise:g}", *shares])
    columns = (
        "error of the score", "of the circuit among the first 10, %", "called against random, %",
        "effect (SD)", "ratio", "called against depth matched, %", "effect (SD)", "ratio",
    )  # fmt: skip
    return table(columns, rows)


def decline_table() -> str:
    """Curves of 64 units: increments of different spread, with and without one unit that rules."""
    rows = []
    counts = np.round(np.linspace(0, 64, 21)[1:]).astype(int)
    for power in (0.5, 1.0, 2.0):
        for spread, shape in (("even", 4.0), ("skewed", 0.5)):
            for share in (0.0, 0.2, 0.4, 0.6, 0.8):
                said = []
                for sim in range(200):
                    rng = np.random.default_rng((33, int(2 * power), int(shape * 2), sim))
                    curve = np.cumsum(rng.gamma(shape, size=64))[counts - 1] ** power
                    curve = (1 - share) * curve / curve[-1]
                    curve += share * (counts > rng.integers(4, 56))
                    scale = rng.gamma(8, 1 / 8, size=40)
                    values = curve[:, None] * scale * np.exp(0.2 * rng.normal(size=(20, 40)))
                    said.append(decline(values, counts, draws=200, rng=rng).said)
                told = [
                    f"{100 * np.mean(np.array(said) == s):.1f}" for s in (GRADUAL, CATASTROPHIC)
                ]
                rest = f"{100 * np.mean(~np.isin(said, (GRADUAL, CATASTROPHIC))):.1f}"
                rows.append([f"{power:g}", spread, f"{100 * share:.0f}", *told, rest])
    columns = ("power", "units", "of one unit, %", "gradual", "catastrophic", "open")
    return table(columns, rows)


def category_table() -> str:
    """Abstract prompts against others: any ablation damages them more, or the core does."""
    rows = []
    for level, boost, own in ((1, 1, 0), (2, 1, 0), (1, 1, 0.15), (1, 1.2, 0), (1, 1.5, 0),
                              (1, 1.5, 0.15)):  # fmt: skip
        calls = []
        for sim in range(500):
            rng = np.random.default_rng((34, level, int(10 * boost), int(100 * own), sim))
            group = np.arange(60) < 10
            scale = rng.gamma(8, 1 / 8, size=60) * np.where(group, level, 1)
            total = rng.gamma(16, 1 / 16, size=(1 + DRAWS, 1)) * np.exp(
                own * rng.normal(size=(1 + DRAWS, 1)) * group
            )
            total[0] = total[0] * 2 * np.where(group, boost, 1)
            kl = total * scale * np.exp(0.2 * rng.normal(size=(1 + DRAWS, 60)))
            mean = kl[1:].mean(axis=0)
            nats = contrast(kl[0] - mean, group, draws=199, rng=rng).p
            ratio = contrast(np.log(kl[0] / mean), group, draws=199, rng=rng).p
            apart = np.log(kl[:, group].mean(axis=1) / kl[:, ~group].mean(axis=1))[:, None]
            among = over_counts(apart[0], apart[1:])
            sets = 2 * min(among.p_more[0], among.p_less[0])
            calls.append([nats <= 0.05, ratio <= 0.05, sets <= 0.05, max(ratio, sets) <= 0.05])
        shares = [f"{100 * share:.1f}" for share in np.mean(calls, axis=0)]
        rows.append([f"{level}", f"{boost:g}", f"{own:g}", *shares])
    columns = (
        "level in abstract prompts", "factor of the core there", "spread of sets there",
        "nats over prompts", "ratio over prompts", "ratio over sets", "both ratios",
    )  # fmt: skip
    return table(columns, rows)


def main() -> None:
    """Simulate, and print the tables or put them into a document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path)
    torch.set_num_threads(1)
    made = {
        "ablation exchangeable": exchangeable_table,
        "ablation circuit": circuit_table,
        "ablation decline": decline_table,
        "ablation categories": category_table,
    }
    show_tables({name: make() for name, make in made.items()}, parser.parse_args().into)


if __name__ == "__main__":
    main()

"""Cards of trained models: accuracies of the exported weights, and what can be said of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from synatlas.tasks.card import (
    CARD_SPLITS,
    Cell,
    cell_items,
    has_room,
    loss_curve,
    markdown,
    measure,
    sha256,
)
from synatlas.tasks.generators import CATEGORIES, CHANCE, TRAINED_DIFFICULTIES, Split
from synatlas.tasks.score import score, score_samples
from synatlas.tasks.training import Trainer, initial_model

SEEDS = (101, 102, 103)
#: steps whose losses the card holds, for a comparison with another run
FIRST_STEPS = 50
#: items of each cell with which a snapshot is measured; of how many there are samples, and how many
SNAPSHOT_ITEMS, SAMPLED_ITEMS = 40, 20
SAMPLES = 8
SAMPLE_SEED = 105
#: mean greedy accuracy below which no samples are drawn
LEAST_SAMPLED = 0.05
#: room for the longest answers of the trained levels
SNAPSHOT_TOKENS = 48
SOLVED, LOST = 0.95, 0.05
#: levels between SOLVED and LOST from which on a fall counts as graded
GRADED_LEVELS = 2
LIMITS = (
    "A model of templates is a demonstration and a control, not evidence about large models.",
    "It knows no facts and understands no question outside its six kinds; to other prompts it "
    "answers with its stories, fluent for their grammar and unrelated to what was asked.",
    "Its English has a few hundred words; other words are spelled in bytes it has hardly learned.",
    "It answers in the fixed forms of its generators: a right answer in other words counts as "
    "wrong, for it and for every other model measured with them.",
    "The end-of-sequence token never occurs in training: it writes on until it is stopped. After "
    "an answer it goes on to a question of its own; with greedy decoding that is always its "
    "likeliest one, so long greedy texts repeat themselves, while sampled ones vary.",
    "Sequences are at most 256 tokens, most training sequences were 128.",
    "Difficulties above 4 were never trained: their questions and answers are longer than any of "
    "their kind in training, so they ask for length generalisation.",
)
METHOD = (
    "Greedy generation from the exported weights in float32; the first line must match exactly. "
    "Mean ± standard deviation over three evaluation seeds of {} items; in brackets the share of "
    "right answers of a guesser that knows the form of the answers (its definition stands in the "
    "generator's module)."
)
SNAPSHOT_METHOD = (
    f"In-distribution items of the trained levels, {SNAPSHOT_ITEMS} of each cell from evaluation "
    f"seed {SEEDS[0]}, greedy. From a mean accuracy of {LEAST_SAMPLED} on, also {SAMPLES} samples "
    f"at temperature 1 (seed {SAMPLE_SEED}) of each of the first {SAMPLED_ITEMS}: pass@1 is the "
    "mean share of right samples, pass@8 the share of items with at least one. Step 0 is made "
    "from its seed, the last step is the model itself."
)


def measure_exported(out: Path, items_per_seed: int, jobs: int) -> list[Cell]:
    """Accuracy of the exported model in every cell of the card, on several processes."""
    parts = [
        (out, items_per_seed, split, category) for split in CARD_SPLITS for category in CATEGORIES
    ]
    cells: list[Cell] = []
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for measured in pool.map(_measure_part, parts):
            cells += measured
            for cell in measured:
                print(f"{cell.split} {cell.category} {cell.difficulty}: {cell.mean:.3f}")
    return cells


def _measure_part(part: tuple[Path, int, Split, str]) -> list[Cell]:
    out, items_per_seed, split, category = part
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(out)
    cells = measure(
        model,
        tokenizer,
        seeds=SEEDS,
        items_per_seed=items_per_seed,
        splits=(split,),
        categories=(category,),
    )
    return list(cells)


def measure_snapshots(
    out: Path, steps: Sequence[int], *, init_seed: int, jobs: int
) -> dict[str, Any]:
    """Accuracies at steps of the training, on fewer items; the last step is the model itself."""
    parts = [(out, 0, init_seed)]
    parts += [(out / f"step{step}", step, init_seed) for step in steps[:-1]]
    parts += [(out, steps[-1], init_seed)]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        rows = list(pool.map(_measure_snapshot, parts))
    return {"method": SNAPSHOT_METHOD, "rows": rows, "most_room": most_room(rows[:-1])}


def most_room(rows: Sequence[dict[str, Any]]) -> str:
    """The revision with room for reinforcement learning in the most categories, the latest."""
    kinds = [len({c["category"] for c in row["cells"] if has_room(c)}) for row in rows]
    best = max(range(len(rows)), key=lambda index: (kinds[index], index))
    return f"step{rows[best]['step']}"


def _measure_snapshot(part: tuple[Path, int, int]) -> dict[str, Any]:
    """Greedy and sampled accuracy of one snapshot at the trained levels."""
    folder, step, init_seed = part
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if step == 0:
        config = AutoConfig.from_pretrained(folder)
        model = initial_model(config, init_seed).eval()
    else:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    cells = []
    for category in CATEGORIES:
        for level in TRAINED_DIFFICULTIES:
            items = cell_items(category, level, "fresh", SEEDS[0], SNAPSHOT_ITEMS)
            right = score(model, tokenizer, items, max_new_tokens=SNAPSHOT_TOKENS)
            chance = round(CHANCE[category][level], 4)
            cell = {"category": category, "difficulty": level, "chance": chance}
            cells.append(cell | {"greedy": round(fmean(right), 4)})
    if fmean(cell["greedy"] for cell in cells) >= LEAST_SAMPLED:
        cells = [cell | _sampled(model, tokenizer, cell) for cell in cells]
    print(f"step {step}: {fmean(cell['greedy'] for cell in cells):.3f}")
    return {"step": step, "cells": cells}


def _sampled(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, cell: dict[str, Any]
) -> dict[str, float]:
    items = cell_items(cell["category"], cell["difficulty"], "fresh", SEEDS[0], SAMPLED_ITEMS)
    right = score_samples(
        model,
        tokenizer,
        items,
        samples=SAMPLES,
        seed=SAMPLE_SEED,
        max_new_tokens=SNAPSHOT_TOKENS,
    )
    return {
        "pass_1": round(float(right.mean()), 4),
        "pass_8": round(float(right.any(axis=1).mean()), 4),
    }


def training_facts(
    trainer: Trainer, name: str, tables: dict[str, Any], log: pd.DataFrame
) -> dict[str, Any]:
    """What the card says about the training, whatever came of it."""
    model = trainer.model
    shape = tables["model"]
    return {
        "name": name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "architecture": f"{type(model).__name__}, {shape['n_layers']} layers, {shape['n_heads']} "
        f"heads of {shape['head_dim']}, {_experts(shape)}width {shape['hidden_size']}, "
        f"context {shape['max_length']}",
        "vocabulary": model.config.vocab_size,
        "steps": trainer.step,
        "tokens_seen": trainer.tokens,
        "cpu_hours": round(trainer.cpu_seconds / 3600, 2),
        "init_seed": shape["init_seed"],
        "data_seed": tables["stream"]["seed"],
        "settings": tables,
        "loss_curve": loss_curve(log),
        "first_losses": [round(loss, 5) for loss in log["loss"].iloc[:FIRST_STEPS]],
    }


def _experts(shape: dict[str, Any]) -> str:
    if not shape.get("n_experts"):
        return ""
    return f"{shape['n_experts']} experts, {shape['experts_per_token']} for each token, "


def described(
    summary: str, limits: Sequence[str], items_per_seed: int, cells: Sequence[Cell]
) -> dict[str, Any]:
    """What the card says about the exported model, whatever its training was."""
    return {
        "summary": summary,
        "limits": [*LIMITS, *limits, *measured_limits(cells)],
        "evaluation_seeds": list(SEEDS),
        "items_per_seed": items_per_seed,
        "accuracy_method": METHOD.format(items_per_seed),
        "accuracy": [asdict(cell) for cell in cells],
    }


def write_card(card: dict[str, Any], out: Path) -> None:
    """Write card.json and CARD.md; what is not in `card` stays as a card in `out` says it."""
    path = out / "card.json"
    card = (json.loads(path.read_text()) if path.exists() else {}) | card
    card["weights_sha256"] = sha256(out / "model.safetensors")
    path.write_text(json.dumps(card, indent=1) + "\n")
    (out / "CARD.md").write_text(markdown(card))


def measured_limits(cells: Sequence[Cell]) -> list[str]:
    """How accuracy falls with difficulty in each category, in words."""
    known = [cell for cell in cells if cell.split == "fresh"]
    levels = {category: [c for c in known if c.category == category] for category in CATEGORIES}
    guessed = [f"{c.category} {c.difficulty}" for c in known if c.mean <= c.chance + c.sd]
    found = {
        f"Accuracy falls gradedly with difficulty (at least {GRADED_LEVELS} levels solved in more "
        f"than {LOST:.0%} and less than {SOLVED:.0%} of cases, in-distribution)": _is_graded,
        "Of these, the fall is only above the trained levels": _falls_beyond_training,
        "No graded fall, but a cliff": _is_cliff,
        f"Every trained level is solved in {SOLVED:.0%} of cases or more": _is_solved,
        f"Nothing is left one level above training ({LOST:.0%} or less)": _ends_with_training,
    }
    limits = [
        f"{text}: {', '.join(names)}."
        for text, holds in found.items()
        if (names := [category for category, cells in levels.items() if holds(cells)])
    ]
    if guessed:
        limits.append(f"No better than the guesser, in-distribution: {', '.join(guessed)}.")
    return limits


def _is_graded(cells: Sequence[Cell]) -> bool:
    return sum(LOST < cell.mean < SOLVED for cell in cells) >= GRADED_LEVELS


def _falls_beyond_training(cells: Sequence[Cell]) -> bool:
    return _is_graded(cells) and _is_solved(cells)


def _is_cliff(cells: Sequence[Cell]) -> bool:
    return not _is_graded(cells) and min(cell.mean for cell in cells) <= LOST


def _is_solved(cells: Sequence[Cell]) -> bool:
    return all(cell.mean >= SOLVED for cell in cells if cell.difficulty in TRAINED_DIFFICULTIES)


def _ends_with_training(cells: Sequence[Cell]) -> bool:
    beyond = [cell.mean for cell in cells if cell.difficulty not in TRAINED_DIFFICULTIES]
    return bool(beyond) and beyond[0] <= LOST

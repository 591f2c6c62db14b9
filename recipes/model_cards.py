"""Cards of trained models: accuracies of the exported weights, and what can be said of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from synatlas.tasks.card import CARD_SPLITS, Cell, loss_curve, markdown, measure, sha256
from synatlas.tasks.generators import CATEGORIES, TRAINED_DIFFICULTIES, Split
from synatlas.tasks.stream import StreamConfig, sample_texts
from synatlas.tasks.tokenizer import build_tokenizer
from synatlas.tasks.training import (
    ModelConfig,
    StepLog,
    TrainConfig,
    Trainer,
    initial_model,
    llama_config,
)

SEEDS = (101, 102, 103)
ITEMS_PER_SEED = 200
SOLVED, LOST = 0.95, 0.05
#: levels between SOLVED and LOST from which on a fall counts as graded
GRADED_LEVELS = 2
SUMMARY = (
    "A small language model trained from scratch by recipes/train_reference.py on the generated "
    "questions and stories of synatlas.tasks, for trying the toolkit without a download and as a "
    "control whose data are known completely."
)
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
    "The shares of the second half of training were chosen after looking at the accuracies of a "
    "checkpoint on in-distribution prompts; held-out wordings and words were first looked at here.",
    "One training run with one seed: differences from another seed are not known.",
    "Difficulties above 4 were never trained: their questions and answers are longer than any of "
    "their kind in training, so they ask for length generalisation.",
)
METHOD = (
    "Greedy generation from the exported weights in float32; the first line must match exactly. "
    "Mean ± standard deviation over three evaluation seeds of 200 items; in brackets the share of "
    "right answers of a guesser that knows the form of the answers (its definition stands in the "
    "generator's module)."
)
def measure_exported(out: Path, jobs: int) -> list[Cell]:
    """Accuracy of the exported model in every cell of the card, on several processes."""
    parts = [(out, split, category) for split in CARD_SPLITS for category in CATEGORIES]
    cells: list[Cell] = []
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for measured in pool.map(_measure_part, parts):
            cells += measured
            for cell in measured:
                print(f"{cell.split} {cell.category} {cell.difficulty}: {cell.mean:.3f}")
    return cells


def _measure_part(part: tuple[Path, Split, str]) -> list[Cell]:
    out, split, category = part
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(out)
    cells = measure(
        model,
        tokenizer,
        seeds=SEEDS,
        items_per_seed=ITEMS_PER_SEED,
        splits=(split,),
        categories=(category,),
    )
    return list(cells)


def write_card(
    trainer: Trainer, settings: Settings, work: Path, out: Path, cells: Sequence[Cell]
) -> None:
    """Describe the exported model in card.json and CARD.md."""
    model = trainer.model
    shape = settings.model
    card = {
        "name": "reference",
        "parameters": sum(p.numel() for p in model.parameters()),
        "architecture": f"{type(model).__name__}, {shape.n_layers} layers, {shape.n_heads} heads "
        f"of {shape.head_dim}, width {shape.hidden_size}, context {shape.max_length}",
        "vocabulary": model.config.vocab_size,
        "steps": trainer.step,
        "tokens_seen": trainer.tokens,
        "cpu_hours": round(trainer.cpu_seconds / 3600, 2),
        "init_seed": shape.init_seed,
        "data_seed": settings.stream.seed,
        "weights_sha256": sha256(out / "model.safetensors"),
        "settings": tomllib.loads(SETTINGS.read_text()),
        "loss_curve": loss_curve(pd.read_csv(work / "log.csv")),
    }
    _write(card | measured(cells), out)


def rewrite_card(out: Path, cells: Sequence[Cell]) -> None:
    """Put a new measurement on the card of a model whose training is described there."""
    card = json.loads((out / "card.json").read_text())
    _write(card | measured(cells), out)


def measured(cells: Sequence[Cell]) -> dict[str, Any]:
    """What the card says about the exported model, whatever its training was."""
    return {
        "summary": SUMMARY,
        "limits": [*LIMITS, *measured_limits(cells)],
        "evaluation_seeds": list(SEEDS),
        "items_per_seed": ITEMS_PER_SEED,
        "accuracy_method": METHOD,
        "accuracy": [asdict(cell) for cell in cells],
    }


def _write(card: dict[str, Any], out: Path) -> None:
    (out / "card.json").write_text(json.dumps(card, indent=1) + "\n")
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



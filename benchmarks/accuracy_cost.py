"""What accuracy under ablation costs against plain batched generation of the same questions.

Run with: OMP_NUM_THREADS=1 python benchmarks/accuracy_cost.py [--rounds N] [--into FILE], where
FILE is docs/benchmarks.md.

Plain is ``model.generate`` of transformers, greedy, on left-padded batches sorted by length, as
many rows at once, once for each set and without hooks; it stops at the line break where answers
are lines, as :mod:`synatlas.tasks.score` does. Both run in turn, round by round, in one process
and on one thread; ratios are those of the least processor time.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from marked_tables import show_tables
from recording_cost import LLAMA_150M
from transformers import AutoConfig, AutoModelForCausalLM

import synatlas as sa
from synatlas.intervene.ablations import ABLATIONS, fit
from synatlas.intervene.accuracy import correct
from synatlas.intervene.items import Items, generated
from synatlas.models.batching import batching_of
from synatlas.models.load import LanguageModel
from synatlas.record.batches import split
from synatlas.record.styles import render

#: Shares of heads ablated at random, one set each.
SHARES: Final = (0.0, 0.1, 0.25, 0.5)
ROWS: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Questions to a model, and the sets under which they are answered."""

    what: str
    model: LanguageModel
    items: Items
    keep: np.ndarray
    tokens: int
    lines: bool


def sets_of(model: LanguageModel) -> np.ndarray:
    """A nested set of heads for each share."""
    drawn = np.random.default_rng(0).permutation(len(model.units)) / len(model.units)
    return np.stack([drawn >= share for share in SHARES])


def cases(per_level: int) -> list[Case]:
    """The bundled model on its own tasks, and free replies of a larger one that never ends."""
    bundled = sa.load("bundled:reference")
    items = generated(per_level, seed=0)
    longest = max(len(bundled.tokenizer(f" {a}")["input_ids"]) for a in items.answers)
    settings = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": 0} | LLAMA_150M
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    large = sa.adopt(network.eval().requires_grad_(False), bundled.tokenizer, name="llama-150M")
    few = generated(1, seed=0, levels={"arithmetic": (1, 2, 3, 4), "grammar": (1, 2, 3, 4)})
    free = Items(
        ids=few.ids,
        questions=few.questions,
        answers=few.answers,
        categories=few.categories,
        difficulties=few.difficulties,
        right=few.right,
        marking="final",
        style="question",
    )
    keep = sets_of(bundled)
    common: dict[str, Any] = {"model": bundled, "items": items, "tokens": longest + 8}
    return [
        Case(what="the clean model", keep=keep[:1], lines=True, **common),
        Case(what="10 % of heads", keep=keep[1:2], lines=True, **common),
        Case(what="0, 10, 25 and 50 % of heads", keep=keep, lines=True, **common),
        Case(
            what="Llama of 150 M, free replies of 24 tokens, none ends: the same four",
            model=large,
            items=free,
            keep=sets_of(large),
            tokens=24,
            lines=False,
        ),
    ]


def plain(case: Case) -> None:
    """Generate once for each set, as a user of transformers would."""
    network: Any = case.model.model
    tokenizer = case.model.tokenizer
    ids = [list(p.ids) for p in render(tokenizer, case.items.questions, "question")]
    line_break = tokenizer.encode("\n", add_special_tokens=False)[-1]
    for _ in case.keep:
        for chosen in split(list(map(len, ids)), ROWS):
            batch = [ids[i] for i in chosen]
            longest = max(map(len, batch))
            fed = torch.tensor([[0] * (longest - len(p)) + p for p in batch])
            mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in batch])
            output = network.generate(
                fed,
                attention_mask=mask,
                max_new_tokens=case.tokens,
                do_sample=False,
                pad_token_id=0,
                eos_token_id=line_break if case.lines else None,
            )
            tokenizer.batch_decode(output[:, longest:], skip_special_tokens=True)


def ablated(case: Case) -> None:
    """Accuracy under every set, as an experiment asks for it."""
    fitted = fit(ABLATIONS["zero"], case.model, case.model.units, [], [])
    correct(
        case.model,
        case.model.units,
        case.keep,
        case.items,
        applied=fitted.anywhere,
        tokens=None if case.lines else case.tokens,
        batch_size=ROWS,
    )


WAYS: Final[dict[str, Callable[[Case], None]]] = {"plain": plain, "ablated": ablated}


def row(case: Case, rounds: int) -> str:
    """A line of the table."""
    batching_of(case.model.model)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, run in WAYS.items():
            begun = time.process_time()
            run(case)
            seconds[way].append(time.process_time() - begun)
    least = {way: min(taken) for way, taken in seconds.items()}
    each = {way: taken / len(case.keep) for way, taken in least.items()}
    return (
        f"| {case.what} | {len(case.items)} | {each['plain']:.2f} | {each['ablated']:.2f} "
        f"| {least['ablated'] / least['plain']:.2f} |"
    )


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--per-level", type=int, default=6)
    parser.add_argument("--into", type=Path)
    options = parser.parse_args()
    header = (
        "| sets | questions | plain, s a set | ablated, s a set | ratio |\n|---|---|---|---|---|"
    )
    lines = [row(case, options.rounds) for case in cases(options.per_level)]
    show_tables({"accuracy": "\n".join([header, *lines])}, options.into)


if __name__ == "__main__":
    main()

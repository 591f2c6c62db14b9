"""What a model can do, beside what its units show: loss on held texts, accuracy on tasks."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import numpy as np
import torch

from synatlas import provenance
from synatlas.config import MapConfig
from synatlas.errors import ConfigError
from synatlas.models.load import LanguageModel
from synatlas.record.generate import greedy
from synatlas.run import load_model
from synatlas.tasks.generators import (
    CATEGORIES,
    TRAINED_DIFFICULTIES,
    Item,
    generate,
    is_correct,
    render,
    solved,
)

#: File of a cell's folder that holds what was measured.
MEASURES_FILE: Final = "measures.json"

#: Questions of each category and difficulty that are answered, and that are read as text.
ASKED: Final = 10
READ: Final = 2
#: Seed of the questions.
SEED: Final = 4
#: Longest answer, in tokens; room for that of every question in the bundled tokenizer.
ANSWER_TOKENS: Final = 48
#: Questions answered together.
_ROWS: Final = 120


def held_items(count: int, seed: int) -> tuple[Item, ...]:
    """`count` questions of every category and trained difficulty, never in training."""
    rng = np.random.default_rng(seed)
    return tuple(
        item
        for category in CATEGORIES
        for difficulty in TRAINED_DIFFICULTIES
        for item in generate(category, difficulty, count, rng, split="fresh")
    )


def held_texts() -> tuple[str, ...]:
    """Solved questions as plain text, of which the loss is taken."""
    return tuple(solved(item.prompt, item.answer) for item in held_items(READ, SEED + 1))


def loss(model: LanguageModel, texts: Sequence[str]) -> float:
    """Mean negative log-probability of the tokens of `texts`, in nats per token.

    Each text is read by itself, as the tokenizer encodes it; its first token is not predicted.

    Raises
    ------
    ConfigError
        No text has two tokens.
    """
    rows: list[list[int]] = [list(model.tokenizer.encode(text)) for text in texts]
    rows = [row for row in rows if len(row) > 1]
    if not rows:
        raise ConfigError(
            given=f"{len(texts)} texts of fewer than two tokens",
            expected="a text with a token to predict",
            remedy="pass longer texts",
        )
    network: Any = model.model
    total, count = 0.0, 0
    with torch.no_grad():
        for row in rows:
            ids = torch.tensor([row], device=model.device)
            logits = network(input_ids=ids, use_cache=False).logits[0, :-1].float()
            total += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
            count += len(row) - 1
    return total / count


def answers(model: LanguageModel, items: Sequence[Item], *, tokens: int) -> tuple[bool, ...]:
    """Whether the first line of each greedy reply is the answer."""
    prompts = [list(model.tokenizer.encode(render(item.prompt))) for item in items]
    replies = [
        reply
        for at in range(0, len(prompts), _ROWS)
        for reply in greedy(model, prompts[at : at + _ROWS], tokens=tokens, stop_at_eos=True)
    ]
    texts = [str(model.tokenizer.decode(reply, skip_special_tokens=True)) for reply in replies]
    return tuple(is_correct(item, text) for item, text in zip(items, texts, strict=True))


def measure(model: LanguageModel, *, asked: int = ASKED, seed: int = SEED) -> dict[str, Any]:
    """Loss and accuracy of a model.

    Parameters
    ----------
    model : what is measured.
    asked : questions of each category and trained difficulty.
    seed : of the questions.

    Returns
    -------
    dict
        ``loss`` in nats per token on held texts, ``accuracy``, the mean over ``categories``
        (category -> share of right answers), and the settings.
    """
    items = held_items(asked, seed)
    right = answers(model, items, tokens=ANSWER_TOKENS)
    shares = {
        category: fmean(r for r, i in zip(right, items, strict=True) if i.category == category)
        for category in CATEGORIES
    }
    return {
        "model": model.name,
        "model_revision": model.revision,
        "asked": asked,
        "seed": seed,
        "loss": loss(model, held_texts()),
        "accuracy": fmean(shares.values()),
        "categories": shares,
    }


def measured(config: MapConfig, folder: Path, model_revision: str) -> dict[str, Any]:
    """The measures of the model of `config`, from its cell's folder or made and put there.

    Parameters
    ----------
    config : settings of the cell.
    folder : its run folder.
    model_revision : revision that its recording states; measures of another are made again.
    """
    path = folder / MEASURES_FILE
    wanted = {"model_revision": model_revision, "asked": ASKED, "seed": SEED}
    known = read_measures(folder)
    if known is not None and {name: known[name] for name in wanted} == wanted:
        return known
    found = measure(load_model(config), asked=ASKED, seed=SEED)
    provenance.write_record(path, {"record_version": provenance.RECORD_VERSION, **found})
    return found


def read_measures(folder: Path) -> dict[str, Any] | None:
    """The measures in a cell's folder; None where there are none.

    Raises
    ------
    RunFolderError
        The file cannot be read.
    """
    return provenance.read_record(folder / MEASURES_FILE)

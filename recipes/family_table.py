"""Write models/README.md, the table of all bundled models: python recipes/family_table.py."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

from synatlas.models.identity import BUNDLED, bundled_models, resolve
from synatlas.tasks.card import CARD_SPLITS, has_room
from synatlas.tasks.generators import CATEGORIES, DIFFICULTIES, TRAINED_DIFFICULTIES

OUT = Path(__file__).parents[1] / "models" / "README.md"
REFERENCE = "reference"
#: a difference of accuracies from the reference that asks for a reason
APART = 0.1
#: what those reasons may be, as far as they are known; none was tested by another training
REASONS = {
    "dense": "it has half the heads and half the parameters; its other seeds learnt the first "
    "level of social by half too",
    "dense-seed1": "it has half the heads and half the parameters, and is as `dense` is",
    "dense-seed2": "it has half the heads and half the parameters, and of the three seeds of "
    "`dense` it learnt least (last loss 0.497 against 0.471 and 0.475)",
    "small": "it is half as wide as `dense`, whose rules for sums of several numbers and for "
    "abstract answers come in the second half of training; its last loss is that of `dense` half "
    "way",
    "moe": "each expert sees a quarter of the tokens that a feed-forward block of `dense` sees, "
    "and the rules that `dense` learns late come later still",
    "recurrent": "grammar, common sense, abstract and social answers are made of words of the "
    "question, and a state of fixed size learns to copy them far later than attention does "
    "(arXiv 2402.01032); what needs no copy, such as tags and short sums, it knows as well",
}
HEAD = """# The family of bundled models

Written by recipes/family_table.py from the models' cards.

Small models trained from scratch on the same generated questions and stories, with one tokenizer.
`reference` comes with the package; the others lie here and are found by name in a source checkout, `synatlas map bundled:dense`, or by folder, `synatlas map models/dense`.
Each folder is a model of transformers by itself, snapshots included.

`sa.load("bundled:dense", revision="step64")` and `--revision step64` take a snapshot of its training; `step0` is made again from its seed, bit for bit.

A member is trained, or an interrupted training continued, by

    python recipes/train_model.py --settings recipes/family/NAME.toml --work WORK --out models/NAME

and `--reproduce 50 --out models/NAME` compares the losses of the first steps with those on its card.
Their data go from an easy, even mix of the categories to the mix with which the reference ends, and are there when the learning rate begins to fall; the reference changes to it at step 1000 at once.
Like the reference they are demonstrations and controls, not evidence about large models; each card says what a model is not."""  # noqa: E501


def page() -> str:
    """The page, from the cards at hand."""
    cards = {name.removeprefix(BUNDLED): _card(name) for name in bundled_models()}
    names = sorted(cards, key=lambda name: (name != REFERENCE, name))
    parts = [HEAD, "## Members", _facts({name: cards[name] for name in names})]
    parts += [
        "## Accuracy by category and difficulty",
        "In-distribution items, mean over three evaluation seeds (items for each in the table "
        "above; held-out wordings and words are on the cards). Levels above 4 were never trained; "
        "chance is that of a guesser who knows the form of the answers.",
        _accuracy({name: cards[name] for name in names}),
        f"Differences from the reference at the trained levels, more than {APART} below or above, "
        "and what differs in the making:",
        "\n".join(_difference(name, cards) for name in names if name != REFERENCE),
    ]
    for name in names:
        if "snapshots" in cards[name]:
            parts += [f"## Snapshots of {name}", *_snapshots(name, cards[name])]
    return "\n\n".join(parts) + "\n"


def _card(name: str) -> dict[str, Any]:
    folder = Path(resolve(name).location)
    card = json.loads((folder / "card.json").read_text())
    return card | {"bytes": (folder / "model.safetensors").stat().st_size}


def _facts(cards: dict[str, dict[str, Any]]) -> str:
    header = [
        "name", "architecture", "parameters", "steps", "tokens", "loss at the end", "CPU hours",
        "seeds (weights, data)", "items per cell and seed", "MB",
    ]  # fmt: skip
    rows = [
        [
            name,
            card["architecture"],
            f"{card['parameters'] / 1e6:.2f} M",
            str(card["steps"]),
            f"{card['tokens_seen'] / 1e6:.2f} M",
            f"{card['loss_curve'][-1]['loss']:.3f}",
            str(card["cpu_hours"]),
            f"{card['init_seed']}, {card['data_seed']}",
            str(card["items_per_seed"]),
            f"{card['bytes'] / 1e6:.1f}",
        ]
        for name, card in cards.items()
    ]
    return _rows(header, rows)


def _accuracy(cards: dict[str, dict[str, Any]]) -> str:
    known = {name: _cells(card) for name, card in cards.items()}
    chance = {name: _cells(card, "chance") for name, card in cards.items()}
    rows = [
        [
            category,
            str(level),
            f"{chance[REFERENCE][category, level]:.2f}",
            *(f"{cells[category, level]:.3f}" for cells in known.values()),
        ]
        for category in CATEGORIES
        for level in DIFFICULTIES[category]
    ]
    return _rows(["category", "difficulty", "chance", *known], rows)


def _cells(card: dict[str, Any], what: str = "mean") -> dict[tuple[str, int], float]:
    return {
        (cell["category"], cell["difficulty"]): cell[what]
        for cell in card["accuracy"]
        if cell["split"] == CARD_SPLITS[0]
    }


def _difference(name: str, cards: dict[str, dict[str, Any]]) -> str:
    card, reference = cards[name], cards[REFERENCE]
    ours, theirs = _cells(card), _cells(reference)
    trained = [(c, level) for c in CATEGORIES for level in TRAINED_DIFFICULTIES]
    low = [f"{c} {d}" for c, d in trained if ours[c, d] < theirs[c, d] - APART]
    high = [f"{c} {d}" for c, d in trained if ours[c, d] > theirs[c, d] + APART]
    return (
        f"- {name}: {card['parameters'] / reference['parameters']:.2f} times the parameters, "
        f"{card['tokens_seen'] / reference['tokens_seen']:.2f} times the tokens; below: "
        f"{', '.join(low) or 'none'}; above: {', '.join(high) or 'none'}."
        + (f" Likely because {REASONS[name]}." if name in REASONS and low else "")
    )


def _snapshots(name: str, card: dict[str, Any]) -> list[str]:
    found = card["snapshots"]
    rows = []
    for row in found["rows"]:
        sampled = [cell for cell in row["cells"] if "pass_1" in cell]
        means = [
            f"{fmean(cell[key] for cell in cells):.3f}" if cells else "-"
            for key, cells in (("greedy", row["cells"]), ("pass_1", sampled), ("pass_8", sampled))
        ]
        room = [f"{c['category']} {c['difficulty']}" for c in row["cells"] if has_room(c)]
        rows.append([f"step{row['step']}", *means, ", ".join(room) or "-"])
    return [
        found["method"],
        _rows(["revision", "greedy", "pass@1", "pass@8", "room for reinforcement learning"], rows),
        f"`bundled:{name}` at revision `{found['most_room']}` is kept as an under-trained start "
        "for reinforcement learning: of the snapshots before the last it has room in the most "
        "categories (pass@1 from 0.15 to 0.6, pass@8 of 0.7 or more, chance of 0.2 or less).",
    ]


def _rows(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    OUT.write_text(page())

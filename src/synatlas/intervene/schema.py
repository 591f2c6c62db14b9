"""Divergence: what ablating units in each order does to predictions and answers."""

from typing import Final

from synatlas.artifact import Schema, Variable

_CELL: Final = ("order", "draw", "n_ablated")


def _over_prompts(units: str, long_name: str) -> Variable:
    return Variable(dims=(*_CELL, "prompt"), dtype="f4", units=units, long_name=long_name)


#: Orders that are not random have draw 0 alone. Draws of controls are nested orders: all of them
#: are tried at the tested numbers of units, the first ones at every number.
DIVERGENCE: Final = Schema(
    name="divergence",
    version=1,
    variables={
        "kl": _over_prompts("nat", "KL(clean || ablated), mean over response tokens"),
        "reverse_kl": _over_prompts("nat", "KL(ablated || clean), mean over response tokens"),
        "agreement": _over_prompts("1", "share of response tokens with the same most likely token"),
        "accuracy": Variable(
            dims=_CELL, dtype="f8", units="1", long_name="share of questions answered right"
        ),
        "correct": Variable(
            dims=(*_CELL, "item"),
            dtype="i1",
            units="1",
            long_name="whether the question is answered right",
            flags={-1: "not_asked", 0: "wrong", 1: "right"},
        ),
        "clean_correct": Variable(
            dims=("item",),
            dtype="i1",
            units="1",
            long_name="whether the clean model answers right",
            flags={0: "wrong", 1: "right"},
        ),
        "noise_floor": Variable(
            dims=("prompt",),
            dtype="f4",
            units="nat",
            long_name="greatest kl of the row of each batch that keeps all units",
        ),
        "single_kl": Variable(
            dims=("unit", "prompt"),
            dtype="f4",
            units="nat",
            long_name="kl of the unit ablated alone",
            required=False,
        ),
        "gradient": Variable(
            dims=("unit",),
            dtype="f8",
            units="nat",
            long_name="slope of the loss in the unit's size, mean absolute value over prompts",
            required=False,
        ),
        "place": Variable(
            dims=("order", "draw", "unit"),
            dtype="i4",
            units="1",
            long_name="place of the unit in the order, from 1; 0 where there is no such draw",
        ),
    },
    coords={
        "order": Variable(dims=("order",), dtype="str", units="", long_name="order or control"),
        "n_ablated": Variable(
            dims=("n_ablated",), dtype="i4", units="1", long_name="units ablated"
        ),
        "fraction": Variable(
            dims=("n_ablated",), dtype="f8", units="1", long_name="share of units ablated"
        ),
        "prompt": Variable(dims=("prompt",), dtype="str", units="", long_name="prompt id"),
        "category": Variable(dims=("prompt",), dtype="str", units="", long_name="category"),
        "unit": Variable(dims=("unit",), dtype="str", units="", long_name="unit label"),
        "layer": Variable(dims=("unit",), dtype="i4", units="1", long_name="layer, from 0"),
        "index": Variable(dims=("unit",), dtype="i4", units="1", long_name="index in the layer"),
        "kind": Variable(dims=("unit",), dtype="str", units="", long_name="kind of unit"),
        "item": Variable(dims=("item",), dtype="str", units="", long_name="question id"),
        "item_category": Variable(dims=("item",), dtype="str", units="", long_name="category"),
        "difficulty": Variable(
            dims=("item",), dtype="i4", units="1", long_name="difficulty, -1 where it has none"
        ),
    },
    # ablation: what units are replaced by. matched_to: the order whose layers and kinds the
    # depth-matched draws copy. tested: numbers of units at which all draws are tried. settings:
    # JSON of all settings. questions: where they come from, empty where none were asked.
    attrs=(
        "model",
        "model_revision",
        "n_layers",
        "ablation",
        "matched_to",
        "tested",
        "draws",
        "accuracy_draws",
        "seed",
        "settings",
        "questions",
        "marking",
        "questions_digest",
    ),
)

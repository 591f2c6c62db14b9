"""Which models come with the package, and whether a given one can be mapped."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from synatlas.models.identity import bundled_models, resolve, snapshots

#: Families whose units are checked in the tests, in the words of the models' own names.
FAMILIES = (
    "Llama, Mistral, Qwen 2 and 3, Gemma 1 to 3, GPT-2, GPT-NeoX (Pythia), GPT-J, OPT, Phi, OLMo, "
    "Falcon, BLOOM, StableLM, StarCoder 2, Cohere and others whose attention output, before its "
    "projection, is the concatenation of the heads; Mamba 1 and 2, RWKV, xLSTM, RecurrentGemma; "
    "Jamba, Bamba, Zamba, Falcon-H1, Nemotron-H, LFM2, Qwen3-Next, MiniMax and other hybrids"
)

#: Kinds of units in words.
NAMES = {
    "head": "heads",
    "recurrent": "recurrent units",
    "expert": "experts",
    "shared_expert": "shared experts",
}


def listed() -> Iterator[str]:
    """The bundled models, one line each, and the covered families."""
    for name in bundled_models():
        source = resolve(name)
        card = json.loads(Path(source.location, "card.json").read_text(encoding="utf-8"))
        steps = snapshots(name)
        kept = f"; revisions {', '.join(steps)}" if len(steps) > 2 else ""
        yield f"{name}: {card['parameters'] / 1e6:.1f} M parameters; {card['summary']}{kept}"
    yield f"Covered: {FAMILIES}."
    yield "Any other model is probed when it is loaded, and refused with the reason if need be."
    yield "synatlas models --check MODEL loads one and tests it."


def checked(name: str) -> Iterator[str]:
    """Load a model, find its units, and compare live with replayed recording."""
    from synatlas.models.load import load
    from synatlas.record.record import record

    model = load(name)
    units = model.found.select("all")
    yield f"{model.name}: {model.model_type}, revision {model.revision}"
    for kind in dict.fromkeys(units.kind):
        layers = Counter(units.layer[np.array(units.kind) == kind].tolist())
        per_layer = sorted(set(layers.values()))
        some = "" if len(layers) == model.n_layers else f"{len(layers)} of "
        yield (
            f"{layers.total()} {NAMES[kind]} in {some}{model.n_layers} layers "
            f"({per_layer} per layer)"
        )
    dtype = str(model.dtype).removeprefix("torch.")
    yield f"{dtype} on {model.device}; context {model.context_length}"
    prompts = ["Tell me a story.", "What is two and three?"]
    probe = record(model, prompts, tokens=8, units="all", prompt_style="raw")
    yield f"live against replay: {probe.attrs['live_replay_error']:.1e} greatest relative error"

"""Which models come with the package, and whether a given one can be mapped."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from synatlas.errors import ModelError, first_line
from synatlas.models.identity import bundled_models, resolve, snapshots
from synatlas.record.doubts import ROUTE_WORDS, Figures, doubts

if TYPE_CHECKING:
    from synatlas.models.load import LanguageModel
    from synatlas.models.units import UnitTable

#: Types of causal language models of transformers that are checked and sound, those there are,
#: and the version; docs/models.md says the same of each.
COVERED: Final = (170, 189, "5.23.0")

#: Kinds of units in words.
NAMES: Final = {
    "head": "heads",
    "recurrent": "recurrent units",
    "expert": "experts",
    "shared_expert": "shared experts",
    "attention": "attention sub-layers",
    "mlp": "MLP sub-layers",
    "block": "layer updates",
}

#: Rows that may share a batch, in words.
TOGETHER: Final = {
    "padded": "together, padded",
    "equal": "together where they are of one length",
    "alone": "one at a time",
}

#: Prompts of the check.
PROMPTS: Final = ("Tell me a story.", "What is two and three?")


def listed() -> Iterator[str]:
    """The bundled models, one line each, and what is covered."""
    for name in bundled_models():
        source = resolve(name)
        card = json.loads(Path(source.location, "card.json").read_text(encoding="utf-8"))
        steps = snapshots(name)
        kept = f"; revisions {', '.join(steps)}" if len(steps) > 2 else ""
        yield f"{name}: {card['parameters'] / 1e6:.1f} M parameters; {card['summary']}{kept}"
    sound, types, version = COVERED
    yield (
        f"Covered: {sound} of the {types} types of causal language models of transformers "
        f"{version}: dense decoders (Llama, Qwen, Gemma, Mistral, GPT-2, GPT-NeoX, Phi, ...), "
        "mixtures of experts (Mixtral, Qwen-MoE, DeepSeek, OLMoE, GPT-OSS, ...), recurrent models "
        "(Mamba, RWKV, xLSTM, ...) and hybrids (Jamba, Zamba, Nemotron-H, Qwen3-Next, ...); "
        "docs/models.md lists each with its units."
    )
    yield "Any other model is probed when it is loaded, and refused with the reason if need be."
    yield "synatlas models --check MODEL loads one and tests it."


def checked(name: str) -> Iterator[str]:
    """Load a model, find its units, and run the self-test on all of them.

    Raises
    ------
    ModelError
        The model cannot be loaded or run, or its self-test fails; the last line says so too.
    """
    from synatlas.models.batching import batching_of
    from synatlas.models.load import load

    model = load(name)
    yield f"{model.name}: {model.model_type}, revision {model.revision}"
    yield from _units(model.found)
    dtype = str(model.dtype).removeprefix("torch.")
    yield f"{dtype} on {model.device}; context {model.context_length or 'without limit'}"
    batching = batching_of(model.model)
    yield (
        f"prompts: generated {TOGETHER[batching.generate]}; replayed {TOGETHER[batching.replay]}"
    )
    figures, seconds = _tested(model)
    yield from _measured(figures)
    yield f"self-test: {seconds:.1f} s"
    found = doubts(figures)
    if not found:
        yield "passed"
        return
    yield "failed: " + "; ".join(doubt.partition(":")[0] for doubt in found)
    raise ModelError(
        given=f"the model {model.name} in {dtype}",
        expected=f"a self-test with differences of at most {figures.bound:g}, and of 0 in logits",
        cause=" ".join(found),
        remedy="do as each sentence says; synatlas map records the model all the same, and its "
        "report carries these warnings",
    )


def _units(found: "UnitTable") -> Iterator[str]:
    for kind, words in NAMES.items():
        sources = [s for s in found.sources if s.kind == kind]
        if not sources:
            continue
        layers: Counter[int] = Counter()
        for source in (s for s in sources if "z" in s.sites):
            layers[source.layer] += source.count
        some = "" if len(layers) == found.n_layers else f"{len(layers)} of "
        per_layer = ", ".join(map(str, sorted(set(layers.values()))))
        sites = dict.fromkeys(site for s in sources for site in s.sites)
        yield (
            f"{layers.total()} {words} in {some}{found.n_layers} layers ({per_layer} per layer), "
            f"at {', '.join(sites)}"
        )


def _tested(model: "LanguageModel") -> tuple[Figures, float]:
    """Figures of a self-test of everything that can be read of a model, and how long it took."""
    from synatlas.models.layers import FORWARD_ERRORS
    from synatlas.models.reducers import norm
    from synatlas.record.asked import as_prompts, rendered_prompts
    from synatlas.record.replay import SELF_TEST_TOKENS, Reading
    from synatlas.record.self_test import self_test
    from synatlas.record.threads import fitting_threads

    sources = tuple(s for s in model.found.sources if "z" in s.sites)
    reading = Reading(replace(model.found, sources=sources), norm)
    rendered = rendered_prompts(model, as_prompts(PROMPTS), "raw", "", SELF_TEST_TOKENS)
    try:
        with fitting_threads(model):
            found = self_test(
                model, [prompt.ids for prompt in rendered], reading, site="z", signed=False
            )
    except FORWARD_ERRORS as error:
        raise ModelError(
            given=f"the model {model.name}",
            expected="a model that continues two short prompts, alone and with taps",
            cause=f"{type(error).__name__}: {first_line(error)}",
            remedy="check that transformers generates with it; --debug shows where it failed",
        ) from error
    return found.figures(model, reading), found.seconds


def _measured(figures: Figures) -> Iterator[str]:
    worst = int(np.argmax(np.nan_to_num(figures.live, nan=np.inf)))
    routed = "" if figures.rerouted is None else f"; {figures.rerouted:.1%} of choices rerouted"
    yield (
        f"live against replay: {figures.live[worst]:.1e} greatest relative error "
        f"({figures.label[worst]}; bound {figures.bound:g}){routed}"
    )
    same = "identical bits" if figures.logits == 0 else f"differ by {figures.logits:.1e}"
    noise = f" (without taps by {figures.repeat:.1e})" if figures.repeat else ""
    yield f"logits with taps and without: {same}{noise}"
    for kind, words in NAMES.items():
        of_kind = figures.kind == kind
        for route in dict.fromkeys(figures.route[of_kind].tolist()):
            chosen = of_kind & (figures.route == route)
            error = float(figures.second[chosen].max())
            told = "identical; " if error == 0 else f"{error:.1e} greatest relative error; "
            told = "" if np.isnan(error) else told
            yield f"{int(chosen.sum())} {words} again: {told}{ROUTE_WORDS[route]}"

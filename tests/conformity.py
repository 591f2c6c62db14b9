"""Every causal-LM type of transformers, checked on a tiny random model; writes docs/models.md.

``python tests/conformity.py`` checks all types and writes the page; with names of types as
arguments it checks those and prints.
"""

# ruff: noqa: E501

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from torch import Tensor, nn
from transformers.modeling_utils import AttentionInterface
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from every_type import tiny_type
from synatlas.catalogue import NAMES
from synatlas.errors import ModelError
from synatlas.models.load import LanguageModel
from synatlas.models.owned import ROLES, Ownership
from synatlas.models.reducers import identity, norm
from synatlas.models.taps import capture
from synatlas.models.units import KINDS, UNITS, UnitTable
from synatlas.record.doubts import doubts
from synatlas.record.replay import Reading, live_against_replay
from synatlas.record.self_test import self_test
from tiny_models import as_language_model, tiny_tokenizer

PAGE = Path(__file__).parents[1] / "docs" / "models.md"

IDS = torch.arange(3, 25).view(2, 11)
PROMPTS = ([5, 9, 30, 4], [7, 40, 8, 21, 6, 33, 90])

#: Largest relative difference of live and replayed norms that float32 explains.
LIVE_TOLERANCE = 1e-4

#: Types that cannot be had as a plain model of text here, and why.
NOT_BUILT = {
    "gemma3n": "needs pillow and timm for its images; `gemma3n_text` is its text part",
    "gemma4_assistant": "drafts for another model, whose keys and values it reads",
    "gemma4_unified_assistant": "drafts for another model, whose keys and values it reads",
    "musicgen": "cannot be built from its own configuration, and reads several codebooks",
    "musicgen_melody": "cannot be built from its own configuration, and reads several codebooks",
}


class Checked(NamedTuple):
    """What was found for one type.

    `error` is the greatest relative difference of live and replayed norms; `reason` says why a
    type is not covered, empty where it is.
    """

    name: str
    found: UnitTable | None = None
    error: float = float("nan")
    reason: str = ""
    ownership: Ownership | None = None

    def row(self) -> str:
        """Its line of the table."""
        if self.found is None:
            return f"| {self.name} | | | | | {self.reason} |"
        error = "" if self.error != self.error else f"{self.error:.0e}"
        status = self.reason or "ok"
        cells = (_units(self.found), _sites(self.found), _owned(self.ownership), error, status)
        return f"| {self.name} | {' | '.join(cells)} |"

    def missing(self) -> list[str]:
        """What units lack, and why: each reason once."""
        if self.ownership is None:
            return []
        first = {(_kind(g.unit), g.role): g for g in reversed(self.ownership.gaps)}
        return [
            f"- {self.name}, {NAMES[kind]}, {role} (first {gap.unit}): {gap.reason}"
            for (kind, role), gap in sorted(first.items())
        ]


def _kind(label: str) -> str:
    """Kind of the unit that a label such as ``L00H03`` names."""
    return next(kind for kind, letter in KINDS.items() if letter == label.strip("L0123456789"))


def _owned(ownership: Ownership | None) -> str:
    """Initials of the roles that units of each kind have slices of; in brackets what some lack."""
    if ownership is None:
        return ""
    cells: list[str] = []
    for kind in ("head", "recurrent", "expert", "shared_expert"):
        labels = [label for label in ownership.labels if _kind(label) == kind]
        roles = {s.role for s in ownership.of(*labels)}
        lacking = {g.role for g in ownership.gaps if _kind(g.unit) == kind}
        letters = "".join(
            f"({role[0]})" if role in lacking else role[0]
            for role in ROLES
            if role in roles | lacking
        )
        cells += [f"{NAMES[kind]} {letters}"] if letters else []
    return "; ".join(cells)


def _units(found: UnitTable) -> str:
    kinds = Counter(
        (s.kind, s.count, s.width)
        for s in found.sources
        if "z" in s.sites and s.kind in UNITS["all"]
    )
    shapes = [
        f"{n} x {count} {NAMES[kind]} of {width}" for (kind, count, width), n in kinds.items()
    ]
    return "; ".join(shapes)


def _sites(found: UnitTable) -> str:
    heads = [s for s in found.sources if s.kind in {"head", "recurrent"}]
    if all(set(s.sites) >= {"z", "proj_in"} for s in heads):
        return "equal"
    return "apart" if any("proj_in" in s.sites for s in heads) else "z only"


def check(name: str, *, again: bool = False) -> Checked:
    """Everything that is claimed of one type; a claim that does not hold is an AssertionError.

    Second computations are left out unless `again`.
    """
    if name in NOT_BUILT:
        return Checked(name, reason=NOT_BUILT[name])
    network = tiny_type(name)
    try:
        model = as_language_model(network, tiny_tokenizer())
    except ModelError as error:
        return Checked(name, reason=error.cause.replace("\n", " "))
    found = model.found
    if any(s.kind == "head" for s in found.sources):
        check_counts(network, found)
        check_values(network, found)
    error, reason = float("nan"), ""
    try:
        error = live_error(model)
        if again:
            check_again(model)
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as caught:
        reason = f"generation fails in transformers: {str(caught).splitlines()[0][:80]}"
    if error > LIVE_TOLERANCE:
        reason = "recorded from plain passes; its cached generation differs from them"
    return Checked(name, found, error, reason, model.owned)


def live_error(model: LanguageModel) -> float:
    """Greatest relative difference of norms, live and replayed, of all but experts."""
    sources = tuple(
        s for s in model.found.sources if "z" in s.sites and s.kind not in UNITS["experts"]
    )
    units = UnitTable(sources=sources, n_layers=model.n_layers)
    return live_against_replay(model, PROMPTS, reading=Reading(units, norm)).error


def check_again(model: LanguageModel) -> None:
    """Norms of all units and sub-layers against a second computation, and logits with taps."""
    sources = tuple(s for s in model.found.sources if "z" in s.sites)
    reading = Reading(replace(model.found, sources=sources), norm)
    tested = self_test(model, PROMPTS, reading, site="z", signed=False)
    found = doubts(tested.figures(model, reading)._replace(capture="live"))
    assert not found, found


def check_counts(network: Any, found: UnitTable) -> None:
    """Heads and widths against the configuration and the projections' own weights."""
    stated = set(_head_counts(network.config.to_dict()))
    for source in (s for s in found.sources if s.kind == "head"):
        assert source.count in stated, (source, stated)
        if "proj_in" in source.sites:
            weight = network.get_submodule(source.module).weight
            assert source.count * source.width in weight.shape, (source, weight.shape)


def _head_counts(config: dict[str, Any]) -> Iterator[int]:
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _head_counts(value)
        elif "heads" in str(name) or name == "n_head":
            yield from value if isinstance(value, list) else [value]


def check_values(network: Any, found: UnitTable) -> None:
    """What is read is what the attention returned and what the projection reads; logits stay."""
    heads = UnitTable(
        sources=tuple(s for s in found.sources if s.kind == "head"), n_layers=found.n_layers
    )
    with torch.no_grad():
        plain = network(input_ids=IDS, use_cache=False).logits
        with returned(network) as given, inputs(network, heads) as read:
            network(input_ids=IDS, use_cache=False)
        with capture(network, heads, reduce=identity) as taken:
            tapped = network(input_ids=IDS, use_cache=False).logits
    assert torch.equal(plain, tapped)
    for source, seen in zip(heads.sources, taken.outputs(), strict=True):
        if source.at == "input":
            assert torch.equal(seen.flatten(2), read[source.module])
        if "z" in source.sites and given:
            assert any(_is_same(seen, z) for z in given_for(source.module, given)), source


def given_for(module: str, given: dict[str, list[Tensor]]) -> list[Tensor]:
    """What attention functions gave in the module, or in the block that holds it."""
    near = {module, *(module.rsplit(".", i)[0] for i in (1, 2))}
    calls = [zs for name, zs in given.items() if any(name.startswith(n) for n in near)]
    return [z for zs in calls for z in (*zs, torch.cat(zs, dim=-1))]


def _is_same(seen: Tensor, z: Tensor) -> bool:
    return seen.shape == z.shape and torch.equal(seen, z)


@contextmanager
def returned(network: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """What every attention function returns, by the module that called it."""
    names = {module: name for name, module in network.named_modules()}
    given: dict[str, list[Tensor]] = {}
    stock: Callable[..., Any] = AttentionInterface.get_interface

    def watched(self: Any, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        function = stock(self, *args, **kwargs)

        def call(module: nn.Module, *inputs: Any, **options: Any) -> Any:
            result = function(module, *inputs, **options)
            given.setdefault(names[module], []).append(result[0].clone())
            return result

        return call

    AttentionInterface.get_interface = watched
    try:
        yield given
    finally:
        AttentionInterface.get_interface = stock


@contextmanager
def inputs(network: nn.Module, found: UnitTable) -> Iterator[dict[str, Tensor]]:
    """What the modules of sources read."""
    read: dict[str, Tensor] = {}

    def keeper(name: str) -> Any:
        return lambda module, args: read.__setitem__(name, args[0].clone()) if args else None

    names = {s.module for s in found.sources if s.at == "input"}
    handles = [
        network.get_submodule(name).register_forward_pre_hook(keeper(name)) for name in names
    ]
    try:
        yield read
    finally:
        for handle in handles:
            handle.remove()


def page(rows: list[Checked]) -> str:
    """docs/models.md."""
    heads = [r for r in rows if r.found and not r.reason]
    return (
        f"""# Models

Generated by `make conformity`: {len(heads)} of the {len(rows)} types of causal language models of transformers {transformers.__version__} are covered, and each other is refused or named with its reason.

For each type a tiny random model is built from its shrunk default configuration and run.
What is recorded is compared, bit for bit, with what the attention function returned and with what the output projection read; head counts and widths with the configuration and the weights.
Logits with taps must be those without, bit for bit.
Norms are computed a second time where another route leads to them: heads from what the attention function returned (those before a gate show nowhere else), routed experts one at a time from their weights, other units and sub-layers by calling the module again.
Norms read while generating (with a cache, and with left padding where it changes nothing) must be those of one plain pass (no cache, right padding).

- *units*: layers x units of so many features each.
- *sites*: `equal` where the output projection reads the heads as they are; `apart` where a gate or a normalisation comes between `z` and `proj_in`; `z only` where no matrix has columns of each head.
- *owned*: what each unit has parameters of its own for, by initials: query, key, value, mixing (sinks and the like), input of a recurrence, gate, output columns, expert; in brackets what some units lack, for the reasons under the table. Sub-layers own what is in their module.
- *live*: greatest relative difference of norms, live and replayed, of heads, recurrent units and sub-layers; above {LIVE_TOLERANCE:.0e} the type is not counted as covered. Such a type is recorded with a warning that says so; `capture="live"` records what it does while it generates.

Types that are encoders by default are run as decoders (`is_decoder`).

| type | units | sites | owned | live | status |
|---|---|---|---|---|---|
"""
        + "\n".join(r.row() for r in rows)
        + "\n\nUnits without parameters of their own in a role:\n\n"
        + "\n".join(line for r in rows for line in r.missing())
        + "\n"
    )


def main() -> None:
    """Check the types named, or all, and then write the page."""
    torch.set_num_threads(1)
    names = sys.argv[1:]
    rows = []
    for name in names or sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES):
        rows.append(check(name, again=True))
        print(rows[-1].row(), flush=True)
    if not names:
        PAGE.write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    main()

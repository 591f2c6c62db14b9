"""Finding the units of a model by running it: no table of architectures, no trust in the config."""

from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final, final

import torch
from torch import Tensor, nn

from synatlas.errors import ModelError
from synatlas.models.experts import expert_sources
from synatlas.models.hooks import expert_calls
from synatlas.models.layers import FORWARD_ERRORS, find_parts
from synatlas.models.placement import input_device
from synatlas.models.quiet import quiet
from synatlas.models.recurrent import recurrent
from synatlas.models.sublayers import sublayers
from synatlas.models.trace import Event, Mixed, Read, trace
from synatlas.models.units import SITES, Source, UnitTable

#: Tokens of the probe. Odd and small: no head count or width is mistaken for it.
PROBE_TOKENS: Final = 7

#: Greatest relative difference of the attention's output and the projection's input.
TOLERANCE: Final = 1e-6

#: Greatest change of earlier logits, relative to the last position's, when the last token changes:
#: this, or four roundings of the model's dtype. Random encoders reach 5e-3.
CAUSAL_TOLERANCE: Final = 1e-3

#: Least part of a slice's squared slopes that comes from its own head.
DOMINANCE: Final = 0.5


def find_units(model: nn.Module) -> UnitTable:
    """Find the attention heads of `model` by one short forward pass.

    The output of every attention function, (position, head, width), is compared with what the
    modules with a weight matrix read. Where a module reads exactly the concatenated heads it is
    the output projection; where something is in between (a gate, a normalisation), the heads are
    read at the attention function, and a second pass finds the matrix after it of which every
    head has columns of its own. Head count and width are those of the tensor, whatever the
    configuration says. Layers without attention have no heads. The same pass shows that the model
    is causal: a change of the last token leaves all earlier logits as they are.

    Parameters
    ----------
    model : a causal language model in evaluation mode.

    Returns
    -------
    UnitTable
        Every attention head at every site, in order of layer and index, then experts, recurrent
        units and sub-layers, see :mod:`synatlas.models.recurrent` and
        :mod:`synatlas.models.sublayers`.

    Raises
    ------
    ModelError
        No layer has attention heads or recurrent units; an attention cannot be read as heads; the
        model is not causal, or does not run on a plain token sequence.
    """
    name = type(model).__name__
    ids = probe_ids(model)
    try:
        with (
            torch.no_grad(),
            quiet(),
            expert_calls(model) as calls,
            trace(model, rows=2) as events,
        ):
            output = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    except FORWARD_ERRORS as error:
        raise _refused(name, f"it does not run on a plain token sequence ({error})") from error
    _check_causal(name, output.logits)
    _check_head(model, name, events)
    layers = _layers(model, name, events)
    found = [_heads(name, i, of_layer) for i, of_layer in enumerate(layers.events)]
    parts = find_parts(model)
    units = recurrent(parts)
    if not any(found) and not units:
        raise _refused(name, "none of its layers has attention heads or recurrent units")
    sources = [s for of_layer in found for s in of_layer]
    if any(s.sites != SITES for s in sources):
        sources += _projections(model, name, layers, sources)
        sources.sort(key=lambda s: (s.layer, s.first, SITES.index(s.sites[0])))
    experts = expert_sources(model, calls, layers.modules, rows=2)
    others = (*experts, *units, *sublayers(parts))
    return UnitTable(sources=(*sources, *others), n_layers=layers.count)


def probe_ids(model: Any) -> Tensor:
    """Two rows of tokens that differ in the last."""
    embedding = model.get_input_embeddings()
    vocabulary = embedding.weight.shape[0]
    ids = torch.arange(3, 3 + PROBE_TOKENS).remainder(vocabulary).repeat(2, 1)
    ids[1, -1] = (int(ids[1, -1]) + 1) % vocabulary
    return ids.to(input_device(model))


def _check_causal(name: str, logits: Tensor) -> None:
    change = (logits[0] - logits[1]).abs().float()
    tolerance = max(CAUSAL_TOLERANCE, 4 * torch.finfo(logits.dtype).eps)
    if bool(change[:-1].max() > tolerance * change[-1].max()):
        raise _refused(name, "its output at a position depends on later tokens: it is no causal LM")


def _check_head(model: Any, name: str, events: list[Event]) -> None:
    head = model.get_output_embeddings()
    names = {module: name for name, module in model.named_modules()}
    if head is None or not any(isinstance(e, Read) and e.module == names[head] for e in events):
        raise _refused(name, "it has no language-model head that reads (row, position, feature)")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Layers:
    """The list of decoder layers, and what happened in each."""

    stack: str
    events: list[list[Event]]
    modules: dict[str, int]

    @property
    def count(self) -> int:
        return len(self.events)

    def module(self, layer: int) -> str:
        return f"{self.stack}.{layer}"


def _layers(model: nn.Module, name: str, events: list[Event]) -> _Layers:
    places = _layer_places(model)
    stacks = Counter(
        places[e.module][0] for e in events if isinstance(e, Read) and e.module in places
    )
    if not stacks:
        raise _refused(name, "it has no list of decoder layers")
    stack = stacks.most_common(1)[0][0]
    by_layer: list[list[Event]] = [[] for _ in model.get_submodule(stack).children()]
    looked_up = any(isinstance(e, Mixed) and e.at == "attention" for e in events)
    for event in events:
        where = places.get(event.module, ("", -1))
        if where[0] == stack:
            by_layer[where[1]].append(event)
        elif isinstance(event, Mixed) and (event.at == "attention" or not looked_up):
            cause = f"{event.module} has attention outside of its list of decoder layers, {stack}"
            raise _refused(name, cause)
    modules = {module: layer for module, (of, layer) in places.items() if of == stack}
    return _Layers(stack=stack, events=by_layer, modules=modules)


def _layer_places(model: nn.Module) -> dict[str, tuple[str, int]]:
    """Outermost list of modules, and position in it, of every module that is inside one."""
    places: dict[str, tuple[str, int]] = {}
    lists = [name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    for stack in lists:
        if stack in places:
            continue
        for i, layer in enumerate(model.get_submodule(stack).children()):
            inside = (f"{stack}.{i}.{name}".rstrip(".") for name, _ in layer.named_modules())
            places.update(dict.fromkeys(inside, (stack, i)))
    return places


def _heads(name: str, layer: int, events: list[Event]) -> list[Source]:
    """Where the heads of a layer are read: at the module that reads exactly what its attention
    function returned; else at the function.
    """
    mixed = [e for e in events if isinstance(e, Mixed)]
    # What transformers looks up is attention; other products by weights are then something else.
    mixed = [m for m in mixed if m.at == "attention"] or mixed
    if any(not m.kv_groups for m in mixed):
        odd = next(m for m in mixed if not m.kv_groups)
        shape = tuple(odd.z.shape)
        cause = f"{odd.module} gives {shape}, not (row, position, head, feature)"
        raise _refused(name, cause)
    found: list[Source] = []
    for i, event in enumerate(events):
        same = [m for m in mixed if isinstance(event, Read) and _equal(m.z[0], event.x[0])]
        if same and any(m is same[0] for m in events[:i]):
            found.append(_source(event.module, layer, "input", SITES, [same[0]]))
            mixed = [m for m in mixed if m is not same[0]]
    by_module: dict[str, list[Mixed]] = {}
    for m in mixed:
        by_module.setdefault(m.module, []).append(m)
    found += [_unequal(name, layer, calls) for calls in by_module.values()]
    modules = Counter(source.module for source in found)
    if len(modules) < len(found):
        cause = f"{modules.most_common(1)[0][0]} is run several times in a pass"
        raise _refused(name, cause)
    return _numbered(found)


def _unequal(name: str, layer: int, calls: list[Mixed]) -> Source:
    """Heads that no module reads as they are: at the attention function, if that can be right."""
    first = calls[0]
    for one, other in pairwise(calls):
        if not _same(one.by, other.by):
            cause = f"{first.module} runs {len(calls)} attention functions in a pass"
            raise _refused(name, cause)
    return replace(_source(first.module, layer, first.at, ("z",), calls), calls=len(calls))


def _source(module: str, layer: int, at: str, sites: tuple[str, ...], calls: list[Mixed]) -> Source:
    _, _, heads, _ = calls[0].z.shape
    return Source(
        module=module,
        layer=layer,
        at=at,
        sites=sites,
        count=heads,
        width=sum(call.z.shape[-1] for call in calls),
        kv_groups=calls[0].kv_groups,
    )


def _numbered(found: list[Source]) -> list[Source]:
    """Heads and groups of one layer counted on from source to source."""
    numbered: list[Source] = []
    heads = groups = 0
    for source in found:
        kv_groups = tuple(group + groups for group in source.kv_groups)
        numbered.append(replace(source, first=heads, kv_groups=kv_groups))
        heads += source.count
        groups = max(kv_groups) + 1
    return numbered


@torch.enable_grad()
def _projections(
    model: nn.Module, name: str, layers: _Layers, sources: list[Source]
) -> list[Source]:
    """For heads read at their attention function, the matrix after it, where each head has
    columns of its own.
    """
    ids = probe_ids(model)
    with quiet(), trace(model, rows=2, cut=True) as events:
        model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    found: list[Source] = []
    for source in sources:
        if source.sites == SITES:
            continue
        last = max(i for i, e in enumerate(events) if isinstance(e, Mixed) and _is_at(e, source))
        layer, scope = layers.module(source.layer), source.module
        # Some classes keep the output projection beside the module that attends.
        if scope.count(".") > layer.count(".") + 1:
            scope = scope.rpartition(".")[0]
        after = [e for e in events[last:] if isinstance(e, Read) and f"{scope}." in e.module]
        if not after:
            cause = f"no weight matrix reads the heads of {source.module}: it may mix experts"
            raise _refused(name, cause)
        mixed = [e for e in events if isinstance(e, Mixed) and _is_at(e, source)]
        own = [e.module for e in after if _has_columns(e, mixed, source)]
        if own:
            found.append(
                replace(source, module=own[0], at="input", sites=("proj_in", "resid"), calls=1)
            )
    return found


def _is_at(event: Mixed, source: Source) -> bool:
    return (event.module, event.at) == (source.module, source.at)


def _has_columns(read: Read, calls: list[Mixed], source: Source) -> bool:
    """Whether each slice of what is read comes, for the most part, from one head."""
    x = read.x[0, -1]
    if len(x) != source.count * source.width or not x.requires_grad:
        return False
    direction = torch.randn(len(x), generator=torch.Generator().manual_seed(0)).to(x)
    leaves = [call.leaf for call in calls if call.leaf is not None]
    for head in range(source.count):
        own = slice(head * source.width, (head + 1) * source.width)
        slopes = torch.autograd.grad(x[own] @ direction[own], leaves, retain_graph=True)
        by_head = sum(slope.double().pow(2).sum((0, 2, 3)) for slope in slopes)
        assert isinstance(by_head, Tensor)
        if not bool(by_head[head] > DOMINANCE * by_head.sum()):
            return False
    return True


def _same(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


def _equal(z: Tensor, x: Tensor) -> bool:
    flat = z.flatten(1)
    if flat.shape != x.shape:
        return False
    # Weights that are not numbers are the recording's affair, not the architecture's.
    size = float(x.nan_to_num(0.0).abs().max())
    return torch.allclose(flat, x, rtol=0.0, atol=TOLERANCE * size, equal_nan=True)


def _refused(name: str, cause: str) -> ModelError:
    return ModelError(
        given=f"a model of class {name}",
        expected="a causal language model with attention heads",
        cause=cause,
        remedy="choose a model of another architecture, such as Llama, Qwen, Gemma or GPT-NeoX",
    )

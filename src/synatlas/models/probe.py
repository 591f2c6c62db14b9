"""Finding the units of a model by running it: no table of architectures, no trust in the config."""

from collections import Counter
from typing import Any, Final

import torch
from torch import Tensor, nn

from synatlas.errors import ModelError
from synatlas.models.experts import ExpertCall, expert_sources
from synatlas.models.quiet import quiet
from synatlas.models.taps import Event, Mixed, Read, expert_calls, trace
from synatlas.models.units import SITES, Source, UnitTable

#: Tokens of the probe. Odd and small: no head count or width is mistaken for it.
PROBE_TOKENS: Final = 7

#: Greatest relative difference of the attention's output and the projection's input.
TOLERANCE: Final = 1e-6

#: Greatest change of earlier logits, relative to the last position's, when the last token changes:
#: this, or four roundings of the model's dtype. Random encoders reach 5e-3.
CAUSAL_TOLERANCE: Final = 1e-3

#: What a model's own forward raises on inputs it was not made for.
FORWARD_ERRORS: Final = (
    RuntimeError,
    TypeError,
    ValueError,
    AttributeError,
    LookupError,
    AssertionError,
    ImportError,
)


def find_units(model: nn.Module) -> UnitTable:
    """Find the attention heads of `model` by one short forward pass.

    The output of every attention function, (position, head, width), is compared with what the
    modules with a weight matrix read. Where a module reads exactly the concatenated heads it is
    the output projection; where something is in between (a gate, a normalisation), the heads are
    read at the attention function, and the output projection is the last matrix of that size
    inside its module. Head count and width are those of the tensor, whatever the configuration
    says. Layers without attention have no heads. The same pass shows that the model is causal: a
    change of the last token leaves all earlier logits as they are.

    Parameters
    ----------
    model : a causal language model in evaluation mode.

    Returns
    -------
    UnitTable
        Every attention head at every site, in order of layer and index.

    Raises
    ------
    ModelError
        No layer has attention heads; a layer has several attention functions; the model is not
        causal, or does not run on a plain token sequence.
    """
    name = type(model).__name__
    embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
    device, vocabulary = embedding.weight.device, embedding.weight.shape[0]
    ids = torch.arange(3, 3 + PROBE_TOKENS).remainder(vocabulary).repeat(2, 1)
    ids[1, -1] = (int(ids[1, -1]) + 1) % vocabulary
    ids = ids.to(device)
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
    return _table(model, name, events, calls)


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


def _table(model: nn.Module, name: str, events: list[Event], calls: list[ExpertCall]) -> UnitTable:
    places = _layer_places(model)
    stacks = Counter(
        places[e.module][0] for e in events if isinstance(e, Read) and e.module in places
    )
    if not stacks:
        raise _refused(name, "it has no list of decoder layers")
    stack = stacks.most_common(1)[0][0]
    n_layers = len([*model.get_submodule(stack).children()])
    by_layer: list[list[Event]] = [[] for _ in range(n_layers)]
    layer = None
    for event in events:
        # An unnamed product belongs to the layer whose query, key and value were read last.
        if event.module is not None:
            where = places.get(event.module)
            layer = where[1] if where and where[0] == stack else None
        if layer is not None:
            by_layer[layer].append(event)
    found = [_heads(layer, of_layer) for layer, of_layer in enumerate(by_layer)]
    _check_complete(name, found, by_layer)
    layers = {module: layer for module, (of, layer) in places.items() if of == stack}
    experts = expert_sources(model, calls, layers, rows=2)
    heads = (source for of_layer in found for source in of_layer)
    return UnitTable(sources=(*heads, *experts), n_layers=n_layers)


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


def _heads(layer: int, events: list[Event]) -> list[Source]:
    """Where the heads of a layer are read: at the module that reads exactly what its attention
    function returned; else at the function, and after what is in between at that module.
    """
    mixed = [event for event in events if isinstance(event, Mixed)]
    found: list[Source] = []
    for i, event in enumerate(events):
        same = [m for m in mixed if isinstance(event, Read) and _equal(m.z, event.x)]
        if isinstance(event, Read) and same and any(m is same[0] for m in events[:i]):
            found.append(_source(event.module, layer, "input", SITES, same[0]))
            mixed = [m for m in mixed if m is not same[0]]
    alone = mixed[0] if len(mixed) == 1 else None
    if found or alone is None or alone.module is None:
        return found
    found = [_source(alone.module, layer, "attention", ("z",), alone)]
    after = events[next(i for i, event in enumerate(events) if event is alone) + 1 :]
    size = alone.z.flatten(1).shape
    inside = [e for e in after if isinstance(e, Read) and e.module.startswith(f"{alone.module}.")]
    if inside and inside[-1].x.shape == size:
        found.append(_source(inside[-1].module, layer, "input", ("proj_in",), alone))
    return found


def _source(module: str, layer: int, at: str, sites: tuple[str, ...], mixed: Mixed) -> Source:
    _, heads, width = mixed.z.shape
    return Source(
        module=module,
        layer=layer,
        at=at,
        sites=sites,
        count=heads,
        width=width,
        kv_groups=mixed.kv_groups,
    )


def _equal(z: Tensor, x: Tensor) -> bool:
    flat = z.flatten(1)
    if flat.shape != x.shape:
        return False
    # Weights that are not numbers are the recording's affair, not the architecture's.
    size = float(x.nan_to_num(0.0).abs().max())
    return torch.allclose(flat, x, rtol=0.0, atol=TOLERANCE * size, equal_nan=True)


def _check_complete(name: str, found: list[list[Source]], by_layer: list[list[Event]]) -> None:
    """Some layer must have heads, and a layer one place to read them; else say what is wrong."""
    if not any(isinstance(e, Mixed) for events in by_layer for e in events):
        raise _refused(name, "none of its layers has attention heads")
    for layer, (sources, events) in enumerate(zip(found, by_layer, strict=True)):
        at_z = [source.module for source in sources if "z" in source.sites]
        if len(at_z) > 1:
            modules = ", ".join(at_z)
            raise _refused(name, f"layer {layer} has several attention outputs ({modules})")
        if not at_z and any(isinstance(e, Mixed) for e in events):
            raise _refused(
                name,
                f"in layer {layer} something sits between the heads and the output projection, "
                "such as a gate or a normalisation, and they cannot be read before it",
            )


def _refused(name: str, cause: str) -> ModelError:
    return ModelError(
        given=f"a model of class {name}",
        expected="a causal language model with attention heads",
        cause=cause,
        remedy="choose a model of another architecture, such as Llama, Qwen, Gemma or GPT-NeoX",
    )

"""Finding the units of a model by running it: no table of architectures, no trust in the config."""

from collections import Counter
from typing import Any, Final

import torch
from torch import Tensor, nn

from synatlas.errors import ModelError
from synatlas.models.quiet import quiet
from synatlas.models.taps import Event, Mixed, Read, trace
from synatlas.models.units import Projection, UnitTable

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
    the output projection, and head count and width are those of the tensor, whatever the
    configuration says. The same pass shows that the model is causal: a change of the last token
    leaves all earlier logits as they are.

    Parameters
    ----------
    model : a causal language model in evaluation mode.

    Returns
    -------
    UnitTable
        Every attention head, in order of layer and index.

    Raises
    ------
    ModelError
        Something (a gate, a normalisation) sits between the heads and the projection; a layer has
        no attention heads; the model is not causal, or does not run on a plain token sequence.
    """
    name = type(model).__name__
    embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
    device, vocabulary = embedding.weight.device, embedding.weight.shape[0]
    ids = torch.arange(3, 3 + PROBE_TOKENS).remainder(vocabulary).repeat(2, 1)
    ids[1, -1] = (int(ids[1, -1]) + 1) % vocabulary
    ids = ids.to(device)
    try:
        with torch.no_grad(), quiet(), trace(model, rows=2) as events:
            output = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    except FORWARD_ERRORS as error:
        raise _refused(name, f"it does not run on a plain token sequence ({error})") from error
    _check_causal(name, output.logits)
    _check_head(model, name, events)
    return _table(model, name, events)


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


def _table(model: nn.Module, name: str, events: list[Event]) -> UnitTable:
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
    found = [_projections(layer, of_layer) for layer, of_layer in enumerate(by_layer)]
    _check_complete(name, found, by_layer)
    return UnitTable(
        projections=tuple(p for of_layer in found for p in of_layer), n_layers=n_layers
    )


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


def _projections(layer: int, events: list[Event]) -> list[Projection]:
    """The modules of a layer that read exactly what an attention function returned."""
    found: list[Projection] = []
    mixed: list[Mixed] = []
    for event in events:
        if isinstance(event, Mixed):
            mixed.append(event)
            continue
        same = [m for m in mixed if _equal(m.z, event.x)]
        if same:
            mixed.clear()
            _, heads, width = same[0].z.shape
            groups = same[0].kv_groups
            found.append(
                Projection(
                    module=event.module, layer=layer, heads=heads, width=width, kv_groups=groups
                )
            )
    return found


def _equal(z: Tensor, x: Tensor) -> bool:
    flat = z.flatten(1)
    if flat.shape != x.shape:
        return False
    # Weights that are not numbers are the recording's affair, not the architecture's.
    size = float(x.nan_to_num(0.0).abs().max())
    return torch.allclose(flat, x, rtol=0.0, atol=TOLERANCE * size, equal_nan=True)


def _check_complete(name: str, found: list[list[Projection]], by_layer: list[list[Event]]) -> None:
    """Every layer must have one projection; say what is in the way where one has not."""
    if not any(found) and not any(isinstance(e, Mixed) for events in by_layer for e in events):
        raise _refused(name, "none of its layers has attention heads")
    for layer, (projections, events) in enumerate(zip(found, by_layer, strict=True)):
        if len(projections) == 1:
            continue
        if projections:
            modules = ", ".join(p.module for p in projections)
            raise _refused(name, f"layer {layer} has several attention outputs ({modules})")
        if any(isinstance(e, Mixed) for e in events):
            raise _refused(
                name,
                f"in layer {layer} something sits between the heads and the output projection, "
                "such as a gate or a normalisation",
            )
        raise _refused(name, f"layer {layer} has no attention heads (recurrent or convolutional)")


def _refused(name: str, cause: str) -> ModelError:
    return ModelError(
        given=f"a model of class {name}",
        expected="a causal language model whose every layer has attention heads that go straight "
        "into an output projection",
        cause=cause,
        remedy="choose a model of another architecture, such as Llama, Qwen, Gemma or GPT-NeoX",
    )

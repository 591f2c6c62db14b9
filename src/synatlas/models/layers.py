"""What the parts of every decoder layer do, found by calling them again: which of them write to
the residual stream, mix positions, or attend.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, final

import torch
from torch import Tensor, nn

from synatlas.models.calls import LayerCall, layer_calls
from synatlas.models.hooks import first_sequence, given_by, sequences
from synatlas.models.mixers import Recurrence, find_recurrence, is_matrix
from synatlas.models.placement import input_device
from synatlas.models.quiet import quiet

#: Tokens of the probe.
TOKENS: Final = 7

#: A part mixes positions if a change of its first position changes what it gives this far on: a
#: token shift, as in the channel mixing of RWKV, reaches one position.
REACH: Final = 2

#: Least such change, relative to that at the changed position: this, or two roundings of the
#: dtype, which regrouping of a batch can cost.
LEAST_CHANGE: Final = 1e-5

#: The same for packed weights: which inputs an 8-bit matrix takes as outliers is decided over all
#: positions together, and that changes what an MLP gives at others by up to 3e-3.
LEAST_CHANGE_PACKED: Final = 1e-2

#: Greatest relative difference of two tensors that are the same.
TOLERANCE: Final = 1e-5

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


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A decoder layer, or a direct part of one that has weights.

    Parameters
    ----------
    module : its name.
    layer : the layer that it is, or is in.
    width : features of the stream.
    whole : whether it is the layer itself.
    writes : whether what it gives has the form of the stream.
    mixes : whether what it gives at a position depends on positions two or more before.
    attends : whether an attention function runs inside.
    own : the module whose output is what the part gives, without a residual stream that it adds.
    recurrence : how it mixes positions where it does so without attention.
    """

    module: str
    layer: int
    width: int
    whole: bool = False
    writes: bool = True
    mixes: bool = False
    attends: bool = False
    own: str = ""
    recurrence: Recurrence | None = None


def find_parts(model: nn.Module) -> tuple[Part, ...]:
    """Run a short sequence, and look at every decoder layer while it computes.

    Each direct part of a layer is called again with its first position changed. Parts that
    several layers share are left out, because their calls would belong to no layer, and parts
    that cannot be called alone.

    Parameters
    ----------
    model : a causal language model in evaluation mode.

    Returns
    -------
    tuple of Part
        In order of layers, the layer before its parts; without the layer where its update of the
        stream is what its only part gives.
    """
    stacks = _stacks(model)
    places = {f"{stack}.{i}": (stack, i) for stack, n in stacks.items() for i in range(n)}
    shared = _shared(model, list(places))
    found: dict[str, list[Part]] = {stack: [] for stack in stacks}

    def inspect(layer: str, calls: list[LayerCall]) -> None:
        stack, i = places[layer]
        own = [c for c in calls if c.module not in shared]
        found[stack] += _parts(model, i, calls[-1], own[:-1])

    ids = torch.arange(3, 3 + TOKENS).remainder(vocabulary_size(model)).repeat(2, 1)
    ids = ids.to(input_device(model))
    with torch.no_grad(), quiet(), layer_calls(model, list(places), inspect, rows=2):
        model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    return tuple(max(found.values(), key=len, default=[]))


def vocabulary_size(model: nn.Module) -> int:
    """Rows of a model's embedding: tokens that it can read."""
    embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
    return embedding.weight.shape[0]


def _stacks(model: nn.Module) -> dict[str, int]:
    """Outermost lists of modules and their lengths."""
    stacks: dict[str, int] = {}
    for name, module in model.named_modules():
        inside = name.startswith(tuple(f"{stack}." for stack in stacks))
        if isinstance(module, nn.ModuleList) and not inside:
            stacks[name] = len(module)
    return stacks


def layer_of(model: nn.Module, name: str, *, below: int = 0) -> str:
    """The decoder layer that holds the module `name`: the entry of the outermost list of modules.

    Parameters
    ----------
    model : that has the module.
    name : of the module.
    below : how many names more are kept: 1 gives the direct part of the layer that holds it.

    Returns
    -------
    str
        Empty for a module outside of lists.
    """
    path = name.split(".")
    for i in range(1, len(path)):
        if isinstance(model.get_submodule(".".join(path[:i])), nn.ModuleList):
            return ".".join(path[: i + 1 + below])
    return ""


def _shared(model: nn.Module, layers: list[str]) -> set[nn.Module]:
    """Modules that are in more than one layer."""
    seen: set[nn.Module] = set()
    twice: set[nn.Module] = set()
    for layer in layers:
        inside = set(model.get_submodule(layer).modules())
        twice |= seen & inside
        seen |= inside
    return twice


def _parts(model: nn.Module, layer: int, whole: LayerCall, calls: list[LayerCall]) -> list[Part]:
    depth = whole.name.count(".") + 1
    direct = [c for c in calls if c.name.count(".") == depth and _has_weights(c.module)]
    streams = sequences((*whole.args, *whole.kwargs.values()))
    outputs = sequences(whole.output)
    one = bool(streams and outputs) and outputs[0].shape == streams[0].shape
    writers = [c for c in direct if one and _is_stream(c.output, streams[0])]
    # Of matrices that stand in the layer itself, as in OPT, the last is the MLP's output; where
    # attention stands there too, they cannot be told apart.
    bare = [c for c in direct if is_matrix(c.module)]
    known = [c for c in writers if c in bare][-1:]
    if whole.attends and not any(c.attends for c in direct):
        known = []
    found: list[Part] = []
    for call in direct:
        if call not in bare or call in known:
            with suppress(*FORWARD_ERRORS):
                part = _part(model, layer, call, calls, writes=call in writers)
                # Several streams side by side (hyper-connections) take no part's output as it is.
                found += [part] if part.writes or part.recurrence else []
    writing = [part for part in found if part.writes]
    given = {c.name: c.output for c in calls}
    if not one or (
        len(writing) == 1 and _same(outputs[0] - streams[0], given_by(given[writing[0].own]))
    ):
        return found
    width = streams[0].shape[-1]
    return [Part(module=whole.name, layer=layer, width=width, whole=True), *found]


def _is_stream(output: Any, stream: Tensor) -> bool:
    """Whether a module gives tensors like the stream's, rows and positions in one axis or two."""
    if isinstance(output, Tensor) and output.ndim == 2:
        return output.shape == stream.flatten(0, 1).shape
    given = sequences(output)
    return bool(given) and given[0].shape == stream.shape


def _has_weights(module: nn.Module) -> bool:
    """More than the scales of a normalisation."""
    return any(parameter.ndim > 1 for parameter in module.parameters())


def _part(
    model: nn.Module, layer: int, call: LayerCall, calls: list[LayerCall], *, writes: bool
) -> Part:
    if isinstance(call.output, Tensor) and call.output.ndim == 2:
        width = call.output.shape[-1]
        return Part(module=call.name, layer=layer, width=width, writes=writes, own=call.name)
    inside = [c for c in calls if c.name.startswith(f"{call.name}.")]
    matrices = [c for c in inside if is_matrix(c.module) and sequences(c.output)]
    last = matrices[-1] if matrices else None
    output = first_sequence(call.output)
    adds = last is not None and any(
        x.shape == output.shape and _same(output - x, last.output)
        for x in sequences((*call.args, *call.kwargs.values()))
    )
    mixes = _mixes(call)
    recurrence = None
    if mixes and not call.attends and last is not None and (adds or _same(output, last.output)):
        recurrence = find_recurrence(model, last, inside, call)
    return Part(
        module=call.name,
        layer=layer,
        width=output.shape[-1],
        writes=writes,
        mixes=mixes,
        attends=call.attends,
        own=last.name if adds and last is not None else call.name,
        recurrence=recurrence,
    )


def _same(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return False
    # A stream may be kept in float32 where the parts compute in half precision (Mamba).
    kind = torch.promote_types(a.dtype, b.dtype)
    tolerance = max(TOLERANCE, *(2 * torch.finfo(x.dtype).eps for x in (a, b)))
    size = float(a.nan_to_num(0.0).abs().max())
    return torch.allclose(a.to(kind), b.to(kind), rtol=0.0, atol=tolerance * size, equal_nan=True)


def _mixes(call: LayerCall) -> bool:
    """Whether a change of the first position reaches later ones."""
    changed = [
        _first_changed(x) if isinstance(x, Tensor) and sequences(x) else x
        for x in (*call.args, *call.kwargs.values())
    ]
    args = tuple(changed[: len(call.args)])
    kwargs = dict(zip(call.kwargs, changed[len(call.args) :], strict=True))
    # Rotary tables have rows, positions and features too; they are the same in every position
    # that the test compares.
    before, after = first_sequence(call.output), first_sequence(call.again(args, kwargs))
    change = (after - before).abs().float()
    is_packed = not all(p.is_floating_point() for p in call.module.parameters())
    least = LEAST_CHANGE_PACKED if is_packed else LEAST_CHANGE
    least = max(least, 2 * torch.finfo(before.dtype).eps)
    return bool(change[:, REACH:].max() > least * change[:, 0].max())


def _first_changed(x: Tensor) -> Tensor:
    changed = x.clone()
    changed[:, 0] = x[:, 0].flip(-1)
    return changed

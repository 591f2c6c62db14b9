"""Activities a second time, by another route through the model than that of the taps."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from synatlas.models.calls import LayerCall, layer_calls
from synatlas.models.experts import Call, ExpertCall, is_own_loop, vectors_of
from synatlas.models.hooks import attention_calls, expert_calls, first_sequence, given_by
from synatlas.models.layers import FORWARD_ERRORS, layer_of
from synatlas.models.reducers import Reducer
from synatlas.models.units import Source
from synatlas.record.replay import Reading

#: Tokens whose experts are computed again, at most: every one costs a pass of its experts.
EXPERT_TOKENS: Final = 8

#: Weights that can be multiplied as they are.
PLAIN: Final = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Fed:
    """Padded rows of tokens, 1 in `mask` where there is one."""

    ids: Int[Tensor, "row position"]
    mask: Int[Tensor, "row position"]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.ids)

    @torch.no_grad()
    def logits(self, network: Any) -> Float[Tensor, "row position token"]:
        """One plain pass of the model."""
        return network(input_ids=self.ids, attention_mask=self.mask, use_cache=False).logits


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the taps gave of one source, and how it was made.

    Parameters
    ----------
    source : the source.
    site : the site that was asked for.
    policy : what the activity of a routed expert is.
    reduce : from vectors to activity.
    signed : whether activity can be negative.
    values : activity.
    valid : where the rows have tokens.
    """

    source: Source
    site: str
    policy: str
    reduce: Reducer
    signed: bool
    values: Float[Tensor, "row position unit"]
    valid: Bool[Tensor, "row position"]

    def errors(self, again: Float[Tensor, "row position unit"]) -> Float[np.ndarray, " unit"]:
        """Greatest relative difference of each unit from the activity `again`."""
        valid = self.valid.to(again.device)
        return relative(self.values.to(again.device)[valid], again[valid], signed=self.signed)

    def activity(self, vectors: Tensor) -> Float[Tensor, "row position unit"]:
        """What is made of the units' vectors, whatever axes rows, positions and units share."""
        shape = (len(self.valid), -1, self.source.count, self.source.width)
        return self.reduce(vectors.reshape(shape))


class Look(NamedTuple):
    """Greatest relative difference of each unit of a source, and by which route."""

    errors: Float[np.ndarray, " unit"]
    route: str


def relative(
    values: Float[Tensor, "sample unit"], again: Float[Tensor, "sample unit"], *, signed: bool
) -> Float[np.ndarray, " unit"]:
    """Greatest |value - again| of each unit, relative to |again|, or to its root mean square.

    1 where `again` is 0 and the value is not.
    """
    values, again = values.double(), again.double()
    size = again.square().mean(0, keepdim=True).sqrt() if signed else again.abs()
    difference = (values - again).abs()
    ratio = torch.where(size > 0, difference / size, (difference > 0).double())
    return ratio.amax(0).cpu().numpy()


def second_look(
    network: nn.Module,
    reading: Reading,
    fed: Fed,
    tapped: Sequence[Tensor],
    *,
    site: str,
    signed: bool,
) -> list[Look]:
    """Compute again, in passes without taps, what taps read in one pass.

    Heads that the output projection reads as they are: what their attention function returned.
    At site ``resid``: the projection's columns times what it read. Routed experts: one expert at
    a time, from its weights. Everything else that a module reads or gives: that module, called
    again with what it had read. Heads that are read at the attention function itself show nowhere
    else.

    Parameters
    ----------
    network : the model.
    reading : what the taps read.
    fed : tokens.
    tapped : activity of each source, (row, position, unit).
    site : where the units were read.
    signed : whether activity can be negative.

    Returns
    -------
    list of Look
        One for each source; errors are NaN where there is no second route.
    """
    reducers = reading.reduce
    sources = reading.units.sources
    seen = {
        i: Seen(
            source=source,
            site=site,
            policy=reading.units.policy,
            reduce=reducers if callable(reducers) else reducers[i],
            signed=signed,
            values=tapped[i],
            valid=fed.mask.bool(),
        )
        for i, source in enumerate(sources)
    }
    found: dict[int, Look] = {}
    for look in (_by_attention, _by_experts, _by_calls):
        left = {i: one for i, one in seen.items() if i not in found}
        found |= look(network, fed, left)
    none = [Look(np.full(s.count, np.nan), "no_second_route") for s in sources]
    return [found.get(i, nothing) for i, nothing in enumerate(none)]


def _by_attention(network: nn.Module, fed: Fed, seen: Mapping[int, Seen]) -> dict[int, Look]:
    """Heads that an output projection reads as they are: what the function before it returned."""
    wanted = {
        i: one
        for i, one in seen.items()
        if (one.source.kind, one.source.at) == ("head", "input") and one.site == "z"
    }
    if not wanted:
        return {}
    names = {module: name for name, module in network.named_modules()}
    given: list[tuple[str, Tensor]] = []

    def log(function: Any, caller: nn.Module, *inputs: Any, **options: Any) -> Any:
        result = function(caller, *inputs, **options)
        if result[0].ndim == 4:
            given.append((names.get(caller, ""), result[0].clone()))
        return result

    with attention_calls(log):
        fed.logits(network)
    found: dict[int, Look] = {}
    for i, one in wanted.items():
        z = _nearest(one.source, given)
        if z is not None:
            found[i] = Look(one.errors(one.activity(z)), "attention_function")
    return found


def _nearest(source: Source, given: Sequence[tuple[str, Tensor]]) -> Tensor | None:
    """Result of the one attention call nearest to the projection; None where several are."""
    shape = (source.count, source.width)
    near = [(_shared_parts(name, source.module), z) for name, z in given if z.shape[2:] == shape]
    nearest = max((n for n, _ in near), default=0)
    closest = [z for n, z in near if n == nearest]
    return closest[0] if len(closest) == 1 else None


def _shared_parts(a: str, b: str) -> int:
    """Parts that two dotted names have in common at their start."""
    pairs = list(zip(a.split("."), b.split("."), strict=False))
    return next((i for i, (x, y) in enumerate(pairs) if x != y), len(pairs))


def _by_experts(network: nn.Module, fed: Fed, seen: Mapping[int, Seen]) -> dict[int, Look]:
    """Routed experts, for the last of the tokens."""
    wanted = {i: one for i, one in seen.items() if one.source.kind == "expert"}
    if not wanted:
        return {}
    with expert_calls(network) as calls:
        fed.logits(network)
    times = Counter(call.module for call in calls)
    by_module = {call.module: call for call in calls if times[call.module] == 1}
    found: dict[int, Look] = {}
    with torch.no_grad():
        for i, one in wanted.items():
            call = by_module.get(one.source.module)
            if call is not None:
                module = network.get_submodule(call.module)
                with suppress(*FORWARD_ERRORS):
                    found[i] = _EXPERTS[one.source.at](one, module, call)
    return found


def _each_expert(one: Seen, module: Any, call: ExpertCall) -> Look:
    tokens = one.valid.flatten().nonzero()[-EXPERT_TOKENS:, 0].to(call.inputs[0].device)
    hidden, index, weight = (x[tokens] for x in call.inputs)
    again = torch.zeros(len(tokens), one.source.count, device=hidden.device)
    chosen = torch.zeros_like(again, dtype=torch.bool)
    by_weights = _has_plain_weights(module)
    run = _from_weights if by_weights else _alone
    for expert in index.unique().tolist():
        token, slot = (index == expert).nonzero(as_tuple=True)
        activity = one.reduce(run(module, hidden[token], expert)[None, :, None])[0, :, 0]
        if one.policy == "contribution":
            activity = activity * weight[token, slot].float().abs()
        is_used = weight[token, slot] != 0
        again[token[is_used], expert] = activity[is_used]
        chosen[token[is_used], expert] = True
    values = one.values.flatten(0, 1).to(hidden.device)[tokens]
    if one.policy == "dense":
        values = values * chosen
    errors = relative(values, again, signed=False)
    return Look(errors, "expert_weights" if by_weights else "expert_alone")


def _has_plain_weights(module: Any) -> bool:
    """Whether the module says how its weights lie, and they are numbers and not codes."""
    weights = list(module.parameters(recurse=False))
    return (
        not is_own_loop(module)
        and all(hasattr(module, name) for name in ("has_gate", "has_bias", "is_transposed"))
        and all(weight.dtype in PLAIN for weight in weights)
    )


def _from_weights(module: Any, x: Float[Tensor, "token feature"], expert: int) -> Tensor:
    """What an expert makes of `x`, its matrices multiplied one by one in float32."""

    def through(name: str, x: Tensor) -> Tensor:
        matrix = getattr(module, name)[expert].float()
        out = x @ matrix if module.is_transposed else x @ matrix.T
        return out + getattr(module, f"{name}_bias")[expert].float() if module.has_bias else out

    if module.has_gate:
        inner = module._apply_gate(through("gate_up_proj", x.float()))
    else:
        inner = module.act_fn(through("up_proj", x.float()))
    out = through("down_proj", inner)
    return module.post_expert_norm(out) if getattr(module, "has_post_expert_norm", False) else out


def _alone(module: Any, x: Float[Tensor, "token feature"], expert: int) -> Tensor:
    """What the module makes of `x` where no other expert is asked for."""
    index = torch.full((len(x), 1), expert, device=x.device)
    call = Call(x, index, x.new_ones(index.shape))
    return vectors_of(module.forward, call, twice=is_own_loop(module))[:, 0]


def _few_tokens(one: Seen, module: Any, call: ExpertCall) -> Look:
    """Of experts that all run on every token: some tokens alone, the last first."""
    count = one.source.count
    tokens = one.valid.flatten().nonzero()[-EXPERT_TOKENS:, 0].flip(0)
    read = call.inputs[0].unflatten(0, (count, -1))[:, tokens.to(call.inputs[0].device)]
    given = module.forward(read.flatten(0, 1)).unflatten(0, (count, -1))
    again = one.reduce(given.transpose(0, 1)[None])[0]
    values = one.values.flatten(0, 1)[tokens.to(one.values.device)]
    return Look(relative(values.to(again.device), again, signed=False), "expert_alone")


_EXPERTS: Final[Mapping[str, Callable[[Seen, Any, ExpertCall], Look]]] = MappingProxyType(
    {"experts": _each_expert, "all_experts": _few_tokens}
)


def _by_calls(network: nn.Module, fed: Fed, seen: Mapping[int, Seen]) -> dict[int, Look]:
    """What a module inside a layer reads or gives: that module called again."""
    by_layer: dict[str, dict[int, Seen]] = {}
    for i, one in seen.items():
        layer = layer_of(network, one.source.module)
        if one.source.at in _AGAIN and layer:
            by_layer.setdefault(layer, {})[i] = one
    if not by_layer:
        return {}
    found: dict[int, Look] = {}

    def inspect(layer: str, calls: list[LayerCall]) -> None:
        for i, one in by_layer[layer].items():
            if [c.name for c in calls].count(one.source.module) == 1:
                with suppress(*FORWARD_ERRORS), torch.no_grad():
                    found[i] = _AGAIN[one.source.at](one, {c.name: c for c in calls})

    with layer_calls(network, list(by_layer), inspect, rows=fed.rows):
        fed.logits(network)
    return found


#: Calls of a layer by name.
Calls = Mapping[str, LayerCall]


def _read_again(one: Seen, calls: Calls) -> Look:
    """What a module reads: the vectors by another hook, and that it gives of them what it gave."""
    call = calls[one.source.module]
    if one.site == "resid":
        z = call.args[0].reshape(*one.valid.shape, one.source.count, one.source.width)
        return Look(one.errors(_columns(call.module, z)), "projection_columns")
    errors = one.errors(one.activity(call.args[0]))
    gave, gives = (given_by(x).double().nan_to_num() for x in (call.output, _again(call)))
    off = float((gave - gives).norm() / gave.norm()) if bool(gave.any()) else 0.0
    return Look(np.maximum(errors, off), "module_again")


def _columns(projection: Any, z: Float[Tensor, "row position head feature"]) -> Tensor:
    """Norm of what each head's columns make of what was read, written out."""
    norms: list[Tensor] = []
    weight = projection.weight
    # Classes that derive from these may do more than multiply.
    has_columns = type(projection) in {nn.Linear, Conv1D} and weight.dtype in PLAIN
    for head in range(z.shape[2]):
        if has_columns:
            own = slice(head * z.shape[3], (head + 1) * z.shape[3])
            rows = weight[own] if type(projection) is Conv1D else weight[:, own].T
            added = z[:, :, head].float() @ rows.float()
        else:
            only = torch.zeros_like(z)
            only[:, :, head] = z[:, :, head]
            added = projection(only.flatten(2)) - projection(torch.zeros_like(only).flatten(2))
        norms.append(added.float().norm(dim=-1))
    return torch.stack(norms, dim=-1)


def _given_again(one: Seen, calls: Calls) -> Look:
    again = given_by(_again(calls[one.source.module]))
    return Look(one.errors(one.activity(again)), "module_again")


def _update_again(one: Seen, calls: Calls) -> Look:
    call = calls[one.source.module]
    before = first_sequence((*call.args, *call.kwargs.values()))
    update = first_sequence(_again(call)) - before
    return Look(one.errors(one.activity(update)), "module_again")


def _shared_again(one: Seen, calls: Calls) -> Look:
    vectors = given_by(_again(calls[one.source.module])).flatten(0, -2)
    gate = calls.get(f"{one.source.module}_gate")
    if gate is not None and one.policy == "contribution":
        vectors = vectors * _again(gate).flatten(0, -2).sigmoid()
    return Look(one.errors(one.activity(vectors)), "module_again")


def _again(call: LayerCall) -> Any:
    return call.again(call.args, call.kwargs)


#: How a source's units are computed again inside a layer, by its `at`.
_AGAIN: Final[Mapping[str, Callable[[Seen, Calls], Look]]] = MappingProxyType(
    {
        "input": _read_again,
        "split_input": _read_again,
        "output": _given_again,
        "update": _update_again,
        "shared": _shared_again,
    }
)

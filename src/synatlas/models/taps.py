"""Reading a model while it computes: the only module that registers hooks.

No hook waits for the device: nothing is copied to the host before the caller asks for it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, Final, final

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers.modeling_utils import AttentionInterface

from synatlas.models.experts import (
    SPREADS,
    Call,
    ExpertCall,
    Routed,
    outputs_of_all,
    sums_choices,
    vectors_of,
)
from synatlas.models.reducers import Reducer, Reducers, norm
from synatlas.models.units import Source, UnitTable


@final
@dataclass(slots=True, kw_only=True)
class Capture:
    """What :func:`capture` has read so far: for each source one entry per forward pass."""

    policy: str = "contribution"
    per_source: list[list[Tensor | Routed]] = field(default_factory=list)

    @property
    def passes(self) -> int:
        """Forward passes that every source has seen."""
        return min((len(taken) for taken in self.per_source), default=0)

    def outputs(self, which: int = -1) -> list[Tensor]:
        """Reduced outputs of one pass, a tensor (row, position, unit of the source, ...) each."""
        spread = SPREADS[self.policy].activity
        seen = (taken[which] for taken in self.per_source)
        return [spread(one) if isinstance(one, Routed) else one for one in seen]

    def units(self, which: int = -1) -> Float[Tensor, "row position unit"]:
        """Scalars of one pass, units in the table's order, on the device of the first layer."""
        outputs = self.outputs(which)
        return torch.cat([values.to(outputs[0].device) for values in outputs], dim=-1)

    def routed(self, which: int = -1) -> Bool[Tensor, "row position unit"] | None:
        """Whether each unit was computed for the token; None where no unit is routed."""
        seen = [taken[which] for taken in self.per_source]
        if not any(isinstance(one, Routed) for one in seen):
            return None
        masks = [
            one.chosen() if isinstance(one, Routed) else torch.ones_like(one, dtype=torch.bool)
            for one in seen
        ]
        return torch.cat([mask.to(masks[0].device) for mask in masks], dim=-1)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Tap:
    """One source of a capture: where it is, what is made of it, and what was read so far.

    Parameters
    ----------
    model : the whole model.
    source : the source.
    reduce : from its units' vectors to what is kept.
    positions : for each row the positions to keep; all where None.
    policy : what the activity of a routed expert is.
    kept : what was read, one entry for each forward pass.
    """

    model: nn.Module
    source: Source
    reduce: Reducer
    positions: Int[Tensor, "row sample"] | None
    policy: str
    kept: list[Tensor | Routed]

    @property
    def module(self) -> nn.Module:
        """The module that is read."""
        return self.model.get_submodule(self.source.module)

    def take(self, x: Tensor) -> None:
        """Keep what is read in one pass: (row, position, all the units' features)."""
        z = x.reshape(x.shape[0], x.shape[1], self.source.count, self.source.width)
        self.kept.append(self.reduce(self.chosen(z)))

    def chosen(self, x: Tensor) -> Tensor:
        """The positions to keep of (row, position, ...)."""
        if self.positions is None:
            return x
        rows = torch.arange(x.shape[0], device=x.device)[:, None]
        return x[rows, self.positions.to(x.device)]


@contextmanager
def capture(
    model: nn.Module,
    units: UnitTable,
    *,
    reduce: Reducers = norm,
    positions: Int[Tensor, "row sample"] | None = None,
) -> Iterator[Capture]:
    """Read the units' outputs in every forward pass inside.

    What a source gives is reshaped to (row, position, unit, feature), and what `reduce` makes of
    it is kept. The model's results are bit-identical with and without, and the hooks are gone
    afterwards, also after an exception.

    Parameters
    ----------
    model : the model that `units` was found in.
    units : its units.
    reduce : a reducer, or one for each source.
    positions : for each row the positions to keep, in this order; all where None.

    Yields
    ------
    Capture
        Filled as the model runs.
    """
    taken = Capture(policy=units.policy, per_source=[[] for _ in units.sources])
    reducers = [reduce] * len(units.sources) if callable(reduce) else reduce
    taps: dict[str, list[Tap]] = {}
    for source, reducer, kept in zip(units.sources, reducers, taken.per_source, strict=True):
        tap = Tap(
            model=model,
            source=source,
            reduce=reducer,
            positions=positions,
            policy=units.policy,
            kept=kept,
        )
        taps.setdefault(source.at, []).append(tap)
    with ExitStack() as stack:
        for at, of_kind in taps.items():
            stack.enter_context(READERS[at](of_kind))
        yield taken


#: A context in which every forward pass fills the taps.
Reader = Callable[[Sequence[Tap]], AbstractContextManager[None]]


def each(reader: Callable[[Tap], AbstractContextManager[None]]) -> Reader:
    """A reader of several taps from one that reads each by itself."""

    @contextmanager
    def read(taps: Sequence[Tap]) -> Iterator[None]:
        with ExitStack() as stack:
            for tap in taps:
                stack.enter_context(reader(tap))
            yield

    return read


@contextmanager
def _input_of(tap: Tap) -> Iterator[None]:
    """What the module reads first."""

    def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
        del module
        tap.take(args[0])

    handle = tap.module.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _attention_in(taps: Sequence[Tap]) -> Iterator[None]:
    """What the attention function that the modules look up returns."""
    by_module = {tap.module: tap for tap in taps}

    def tapped(function: Any, caller: nn.Module, *inputs: Any, **options: Any) -> Any:
        result = function(caller, *inputs, **options)
        if caller in by_module:
            by_module[caller].take(result[0])
        return result

    with _interface(tapped):
        yield


@contextmanager
def _experts_in(tap: Tap) -> Iterator[None]:
    """The vector of each token's chosen experts, or of every expert.

    Where the module sums what it weighted, each choice goes through it as a token of its own and
    is weighted and summed afterwards, by the same kernels and to the same bits. Elsewhere the
    module's result stays its own, and the choices go through it once more.
    """
    module, every, experts = tap.module, SPREADS[tap.policy].every, tap.source.count
    held: list[Call] = []

    def before(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        held[:] = [Call(*args)]
        apart = not every and sums_choices(module, held[0])
        return held[0].apart() if apart else None

    def after(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        call = held.pop()
        is_apart = args[0] is not call.hidden
        if every:
            hidden = tap.chosen(rows.split(call.hidden))
            parts = outputs_of_all(module, hidden.flatten(0, 1), experts)
            values = torch.cat([tap.reduce(part[None])[0] for part in parts])
            keep(call, every=values.unflatten(0, hidden.shape[:2]))
            return None
        if is_apart:
            vectors = output.unflatten(0, call.expert.shape)
        else:
            vectors = vectors_of(module.forward, call)
        keep(call, value=tap.chosen(tap.reduce(rows.split(vectors))))
        return call.together(vectors) if is_apart else None

    def keep(call: Call, **read: Tensor) -> None:
        index, weight = (tap.chosen(rows.split(x)) for x in (call.expert, call.weight.float()))
        tap.kept.append(Routed(experts=experts, index=index, weight=weight, **read))

    with _rows(tap.model) as rows, _around(module, before, after):
        yield


@contextmanager
def _all_experts_in(tap: Tap) -> Iterator[None]:
    """Outputs of experts that all run on every token, the weight already in what they read."""
    experts = tap.source.count

    def after(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        del module
        # Of a token that is not routed an expert reads zeros.
        read = (args[0].unflatten(0, (experts, -1)) != 0).any(dim=-1).T.contiguous()
        vectors = output.unflatten(0, (experts, -1)).transpose(0, 1)
        weight = tap.chosen(rows.split(read)).float()
        index = torch.arange(experts, device=weight.device).expand(weight.shape)
        value = tap.chosen(tap.reduce(rows.split(vectors)))
        tap.kept.append(Routed(experts=experts, index=index, weight=weight, value=value))

    with _rows(tap.model) as rows, _around(tap.module, None, after):
        yield


@contextmanager
def _shared_in(tap: Tap) -> Iterator[None]:
    """Output of an expert that every token passes, times its gate where it adds so much."""
    gate = None
    if tap.policy == "contribution":
        gate = dict(tap.model.named_modules()).get(f"{tap.source.module}_gate")
    seen: dict[nn.Module, Tensor] = {}

    def after(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        del args
        seen[module] = output.flatten(0, -2)
        if len(seen) == len(needed):
            vectors = seen[tap.module]
            if gate is not None:
                vectors = vectors * seen[gate].sigmoid()
            seen.clear()
            tap.take(rows.split(vectors))

    needed = [tap.module] if gate is None else [tap.module, gate]
    with _rows(tap.model) as rows, ExitStack() as stack:
        for module in needed:
            stack.enter_context(_around(module, None, after))
        yield


#: How sources are read: their `at` -> what reads all of that name in one context.
READERS: Final[MappingProxyType[str, Reader]] = MappingProxyType(
    {
        "input": each(_input_of),
        "attention": _attention_in,
        "experts": each(_experts_in),
        "all_experts": each(_all_experts_in),
        "shared": each(_shared_in),
    }
)


@contextmanager
def _around(
    module: nn.Module, before: Callable[..., Any] | None, after: Callable[..., Any]
) -> Iterator[None]:
    """Hooks before and after a module's forward; what they return, if anything, takes effect."""
    with ExitStack() as stack:
        if before is not None:
            stack.callback(module.register_forward_pre_hook(before).remove)
        stack.callback(module.register_forward_hook(after).remove)
        yield


@final
@dataclass(slots=True)
class _Rows:
    """Rows of the pass under way: mixtures of experts see all tokens in one line."""

    count: int = 1

    def split(self, x: Tensor) -> Tensor:
        """(token, ...) as (row, position, ...)."""
        return x.unflatten(0, (self.count, -1))


@contextmanager
def _rows(model: nn.Module) -> Iterator[_Rows]:
    rows = _Rows()

    def look(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        del module
        named = (kwargs.get(name) for name in ("input_ids", "inputs_embeds"))
        rows.count = next(len(x) for x in (*named, *args) if isinstance(x, Tensor))

    handle = model.register_forward_pre_hook(look, with_kwargs=True)
    try:
        yield rows
    finally:
        handle.remove()


@contextmanager
def expert_calls(model: nn.Module) -> Iterator[list[ExpertCall]]:
    """Log, in order, with what every module that holds stacked weights is called."""
    calls: list[ExpertCall] = []
    names = {module: name for name, module in model.named_modules()}

    def look(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        calls.append(ExpertCall(names[module], args, output))

    with ExitStack() as stack:
        for module in names:
            if any(p.ndim >= 3 for p in module.parameters(recurse=False)):
                stack.enter_context(_around(module, None, look))
        yield calls


@contextmanager
def head_at(model: Any, positions: Int[Tensor, "row sample"]) -> Iterator[None]:
    """Let the model's output head see only `positions` of each row.

    Logits of every position would not fit in memory for a large vocabulary; this way they pass
    through all that the model does with them (scaling, soft caps) without being built.
    """
    head = model.get_output_embeddings()

    def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        del module
        hidden = args[0]
        rows = torch.arange(hidden.shape[0], device=hidden.device)[:, None]
        return (hidden[rows, positions.to(hidden.device)], *args[1:])

    handle = head.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed:
    """Outputs of an attention's heads, as the attention function returned them.

    `z` is (position, head, feature) of the first row; `kv_groups` the key/value group per head;
    `module` the attention module where the interface names it.
    """

    module: str | None
    z: Tensor
    kv_groups: tuple[int, ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """Input (position, feature) of a module with a weight matrix, of the first row."""

    module: str
    x: Tensor


Event = Mixed | Read


@contextmanager
def trace(model: nn.Module, *, rows: int) -> Iterator[list[Event]]:
    """Log, in order, what attention functions return and what weight matrices read.

    Attention functions are seen where transformers looks them up; a model that has its own
    attention code is seen through its torch calls: ``scaled_dot_product_attention``, and every
    matrix product whose first factor is non-negative with rows that sum to one.

    Parameters
    ----------
    model : any causal language model.
    rows : batch rows of the forward pass that is to be traced.
    """
    events: list[Event] = []
    names = {module: name for name, module in model.named_modules()}
    mode = _MixingMode(events, rows)

    def look(module: nn.Module, args: tuple[Any, ...]) -> None:
        if args and isinstance(args[0], Tensor) and args[0].ndim == 3 and len(args[0]) == rows:
            events.append(Read(module=names[module], x=args[0][0].detach().clone()))

    with ExitStack() as stack:
        for module in names:
            if _has_matrix(module):
                stack.callback(module.register_forward_pre_hook(look).remove)

        def tapped(function: Any, module: nn.Module, *inputs: Any, **options: Any) -> Any:
            with mode.paused():
                result = function(module, *inputs, **options)
            value = inputs[2] if len(inputs) > 2 else options["value"]
            mode.note(result[0].transpose(1, 2), value, names.get(module))
            return result

        stack.enter_context(_interface(tapped))
        stack.enter_context(mode)
        yield events


def _has_matrix(module: nn.Module) -> bool:
    weight = dict(module.named_parameters(recurse=False)).get("weight")
    return weight is not None and weight.ndim == 2 and not isinstance(module, nn.Embedding)


@contextmanager
def _interface(tapped: Callable[..., Any]) -> Iterator[None]:
    """Call ``tapped(function, module, ...)`` for whatever attention function transformers finds."""
    stock = AttentionInterface.get_interface

    def get_interface(self: AttentionInterface, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        return partial(tapped, stock(self, *args, **kwargs))

    AttentionInterface.get_interface = get_interface
    try:
        yield
    finally:
        AttentionInterface.get_interface = stock


class _MixingMode(TorchFunctionMode):
    """Notes what products of attention weights and values give."""

    _PRODUCTS = (torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm)

    def __init__(self, events: list[Event], rows: int) -> None:
        super().__init__()
        self.events = events
        self.rows = rows
        self.is_paused = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        self.is_paused = True
        try:
            yield
        finally:
            self.is_paused = False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        result = func(*args, **(kwargs or {}))
        if self.is_paused:
            return result
        if func is F.scaled_dot_product_attention:
            value = args[2] if len(args) > 2 else kwargs["value"]
            self.note(result, value, None)
        elif func in self._PRODUCTS and len(args) == 2 and _are_weights(args[0]):
            self.note(self._split(result), self._split(args[1]), None)
        return result

    def _split(self, x: Tensor) -> Tensor:
        """(row * head, position, feature) as (row, head, position, feature)."""
        return x.unflatten(0, (self.rows, -1)) if x.ndim == 3 else x

    def note(self, z: Tensor, value: Tensor, module: str | None) -> None:
        """Log head outputs and values, both (row, head, position, feature)."""
        if z.ndim != 4 or value.ndim != 4 or len(z) != self.rows:
            return
        groups = _kv_groups(value[0], z.shape[1])
        if groups is not None:
            z_first = z[0].transpose(0, 1).detach().clone()
            self.events.append(Mixed(module=module, z=z_first, kv_groups=groups))


def _are_weights(x: object) -> bool:
    """Whether `x` holds attention weights: non-negative, rows that sum to one."""
    if not isinstance(x, Tensor) or x.ndim not in {3, 4} or not x.is_floating_point():
        return False
    sums = x.float().sum(-1)
    return bool((x >= 0).all()) and bool(torch.allclose(sums, torch.ones_like(sums), atol=1e-2))


def _kv_groups(value: Tensor, heads: int) -> tuple[int, ...] | None:
    """Group of each head: heads that share their values are one group.

    `value` is (group or head, position, feature). Where it was expanded to all heads, equal
    values tell the groups apart from heads of their own.
    """
    if len(value) != heads:
        return (
            tuple(i // (heads // len(value)) for i in range(heads))
            if heads % len(value) == 0
            else None
        )
    groups: list[int] = []
    firsts: list[Tensor] = []
    for one in value:
        same = [g for g, first in enumerate(firsts) if torch.equal(first, one)]
        if not same:
            firsts.append(one)
        groups.append(same[0] if same else len(firsts) - 1)
    return tuple(groups)

"""Reading the units of a model while it computes, by hooks.

No hook waits for the device: nothing is copied to the host before the caller asks for it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, Final, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
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
from synatlas.models.mixing import Mixing, MixingMode
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

    def units(self, which: int = -1, *, last: bool = False) -> Float[Tensor, "row position unit"]:
        """Scalars of one pass, units in the table's order, on the device of the first layer.

        With `last` at the last position alone, where layers that share another's keys may run
        while a prompt is read.
        """
        outputs = [values[:, -1:] if last else values for values in self.outputs(which)]
        return torch.cat([values.to(outputs[0].device) for values in outputs], dim=-1)

    def routed(
        self, which: int = -1, *, last: bool = False
    ) -> Bool[Tensor, "row position unit"] | None:
        """Whether each unit was computed for the token; None where no unit is routed."""
        seen = [taken[which] for taken in self.per_source]
        if not any(isinstance(one, Routed) for one in seen):
            return None
        masks = [
            one.chosen() if isinstance(one, Routed) else torch.ones_like(one, dtype=torch.bool)
            for one in seen
        ]
        masks = [mask[:, -1:] if last else mask for mask in masks]
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


class _Calls:
    """Gathers what a source's attention calls give: one head may have its values in several."""

    def __init__(self, tap: Tap) -> None:
        self.tap = tap
        self.given: list[Tensor] = []

    def add(self, z: Float[Tensor, "row position head feature"]) -> None:
        self.given.append(z)
        if len(self.given) == self.tap.source.calls:
            self.tap.take(torch.cat(self.given, dim=-1) if len(self.given) > 1 else z)
            self.given = []


@contextmanager
def _attention_in(taps: Sequence[Tap]) -> Iterator[None]:
    """What the attention function that the modules look up returns."""
    by_module = {tap.module: _Calls(tap) for tap in taps}

    def tapped(function: Any, caller: nn.Module, *inputs: Any, **options: Any) -> Any:
        result = function(caller, *inputs, **options)
        if caller in by_module:
            by_module[caller].add(result[0])
        return result

    with attention_calls(tapped):
        yield


@contextmanager
def _mixing_in(tap: Tap) -> Iterator[None]:
    """What the module's own attention code makes of values; waits for the device."""
    calls = _Calls(tap)

    def note(mixing: Mixing) -> None:
        calls.add(mixing.z.transpose(1, 2))

    mode = MixingMode(note, heads=tap.source.count)
    is_inside = ExitStack()

    def enter(module: nn.Module, args: tuple[Any, ...]) -> None:
        del module, args
        is_inside.enter_context(mode)

    def leave(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        del module, args, output
        is_inside.close()

    with is_inside, ExitStack() as stack:
        stack.callback(tap.module.register_forward_pre_hook(enter).remove)
        stack.callback(tap.module.register_forward_hook(leave).remove)
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


@contextmanager
def _split_input_of(tap: Tap) -> Iterator[None]:
    """What the module reads first, where rows, positions and units may be one axis."""

    def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
        del module
        tap.take(args[0].reshape(rows.count, -1, tap.source.count * tap.source.width))

    with _rows(tap.model) as rows, ExitStack() as stack:
        stack.callback(tap.module.register_forward_pre_hook(hook).remove)
        yield


@contextmanager
def _output_of(tap: Tap) -> Iterator[None]:
    """What the module gives: a tensor, or the first sequence of a tuple."""

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        del module, args
        given = output if isinstance(output, Tensor) else first_sequence(output)
        tap.take(given.reshape(rows.count, -1, given.shape[-1]))

    with _rows(tap.model) as rows, _around(tap.module, None, after):
        yield


@contextmanager
def _update_of(tap: Tap) -> Iterator[None]:
    """What the module gives less what it reads."""
    given: list[Tensor] = []

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # A copy: the module may add to its input in place.
        del module
        given[:] = [first_sequence((*args, *kwargs.values())).clone()]

    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        del module, args
        tap.take(first_sequence(output) - given.pop())

    with ExitStack() as stack:
        stack.callback(tap.module.register_forward_pre_hook(note, with_kwargs=True).remove)
        stack.callback(tap.module.register_forward_hook(hook).remove)
        yield


def first_sequence(x: Any) -> Tensor:
    """The first (row, position, feature) tensor of what a module reads or gives."""
    found = sequences(x)
    if not found:
        raise LookupError("no tensor of rows, positions and features")
    return found[0]


def sequences(x: Any) -> list[Tensor]:
    """Floating (row, position, feature) tensors of what a module reads or gives, in order."""
    parts = x if isinstance(x, tuple | list) else (x,)
    tensors = [t for t in parts if isinstance(t, Tensor) and t.ndim == 3]
    return [t for t in tensors if t.is_floating_point()]


#: How sources are read: their `at` -> what reads all of that name in one context.
READERS: Final[MappingProxyType[str, Reader]] = MappingProxyType(
    {
        "input": each(_input_of),
        "split_input": each(_split_input_of),
        "output": each(_output_of),
        "update": each(_update_of),
        "attention": _attention_in,
        "mixing": each(_mixing_in),
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


@contextmanager
def attention_calls(tapped: Callable[..., Any]) -> Iterator[None]:
    """Call ``tapped(function, module, ...)`` for whatever attention function transformers finds."""
    stock = AttentionInterface.get_interface

    def get_interface(self: AttentionInterface, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        return partial(tapped, stock(self, *args, **kwargs))

    AttentionInterface.get_interface = get_interface
    try:
        yield
    finally:
        AttentionInterface.get_interface = stock

"""Calls inside decoder layers, told of layer by layer so that modules can be called again."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn

from synatlas.models.trace import Event, Mixed, trace


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerCall:
    """A call of a module inside a decoder layer.

    `name` is its qualified name as seen through that layer, so that a module that several layers
    share has a name in each. `attends` says whether an attention function ran inside.
    """

    name: str
    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any
    attends: bool

    def again(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the module gives for other inputs."""
        return self.module(*args, **kwargs)


#: Told of a layer and of all calls inside it, in the order in which they ended; the layer's own
#: call is the last.
Inspect = Callable[[str, list[LayerCall]], None]


@contextmanager
def layer_calls(
    model: nn.Module, layers: Sequence[str], inspect: Inspect, *, rows: int
) -> Iterator[None]:
    """Tell `inspect` of every call inside each of `layers`, as soon as the layer is done.

    Modules may be called again by `inspect`; those calls are not told of.
    """
    log = _CallLog(inspect)
    with ExitStack() as stack:
        log.events = stack.enter_context(trace(model, rows=rows))
        for layer in layers:
            for name, module in model.get_submodule(layer).named_modules(prefix=layer):
                begin = partial(log.begin, layer=layer, name=name)
                end = partial(log.end, layer=layer, name=name)
                stack.callback(module.register_forward_pre_hook(begin).remove)
                stack.callback(module.register_forward_hook(end, with_kwargs=True).remove)
        yield


class _CallLog:
    """Calls inside the layer that is running."""

    def __init__(self, inspect: Inspect) -> None:
        self.inspect = inspect
        self.events: list[Event] = []
        self.running: str | None = None
        self.begun: list[int] = []
        self.calls: list[LayerCall] = []

    def begin(self, module: nn.Module, args: tuple[Any, ...], *, layer: str, name: str) -> None:
        del module, args
        if name == layer and self.running is None:
            self.running = layer
        if self.running == layer:
            self.begun.append(len(self.events))

    def end(
        self,
        module: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        output: Any,
        *,
        layer: str,
        name: str,
    ) -> None:
        if self.running != layer:
            return
        inside = self.events[self.begun.pop() :]
        attends = any(isinstance(event, Mixed) for event in inside)
        self.calls.append(
            LayerCall(
                name=name,
                module=module,
                args=args,
                kwargs=kwargs,
                output=_copied(output),
                attends=attends,
            )
        )
        if name == layer:
            calls, self.calls, self.running = self.calls, [], "inspecting"
            self.inspect(layer, calls)
            self.running = None
            self.events.clear()


def _copied(output: Any) -> Any:
    """What a module gave, safe from what is done to it in place later."""
    if isinstance(output, Tensor):
        return output.clone()
    return tuple(map(_copied, output)) if isinstance(output, tuple) else output


@contextmanager
def silenced(module: nn.Module) -> Iterator[None]:
    """Let a module that gives one tensor give zeros."""

    def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        del module, args
        return torch.zeros_like(output)

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def inputs_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """What a module reads first, one tensor a call."""
    seen: list[Tensor] = []

    def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
        del module
        seen.append(args[0])

    handle = module.register_forward_pre_hook(hook)
    try:
        yield seen
    finally:
        handle.remove()

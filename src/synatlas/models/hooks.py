"""Hooks that other modules build on: around a module, and on the attention functions."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, final

from torch import Tensor, nn
from transformers.modeling_utils import AttentionInterface

from synatlas.models.experts import ExpertCall


@contextmanager
def around(
    module: nn.Module, before: Callable[..., Any] | None, after: Callable[..., Any]
) -> Iterator[None]:
    """Hooks before and after a module's forward; what they return, if anything, takes effect."""
    with ExitStack() as stack:
        if before is not None:
            stack.callback(module.register_forward_pre_hook(before).remove)
        stack.callback(module.register_forward_hook(after).remove)
        yield


@contextmanager
def inside(module: nn.Module, mode: AbstractContextManager[Any]) -> Iterator[None]:
    """Let `mode` hold whenever the module computes."""
    entered = ExitStack()

    def enter(module: nn.Module, args: tuple[Any, ...]) -> None:
        del module, args
        entered.enter_context(mode)

    def leave(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        del module, args, output
        entered.close()

    with entered, ExitStack() as stack:
        stack.callback(module.register_forward_pre_hook(enter).remove)
        stack.callback(module.register_forward_hook(leave, always_call=True).remove)
        yield


@final
@dataclass(slots=True)
class Rows:
    """Rows of the pass under way: mixtures of experts see all tokens in one line."""

    count: int = 1

    def split(self, x: Tensor) -> Tensor:
        """(token, ...) as (row, position, ...)."""
        return x.unflatten(0, (self.count, -1))


@contextmanager
def rows_of(model: nn.Module) -> Iterator[Rows]:
    """Keep up with how many rows each pass of the model has."""
    rows = Rows()

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
                stack.enter_context(around(module, None, look))
        yield calls


def sequences(x: Any) -> list[Tensor]:
    """Floating (row, position, feature) tensors of what a module reads or gives, in order."""
    parts = x if isinstance(x, tuple | list) else (x,)
    tensors = [t for t in parts if isinstance(t, Tensor) and t.ndim == 3]
    return [t for t in tensors if t.is_floating_point()]


def first_sequence(x: Any) -> Tensor:
    """The first (row, position, feature) tensor of what a module reads or gives."""
    found = sequences(x)
    if not found:
        raise LookupError("no tensor of rows, positions and features")
    return found[0]


def given_by(output: Any) -> Tensor:
    """What a module gives: a tensor as it is, else the first sequence of a tuple."""
    return output if isinstance(output, Tensor) else first_sequence(output)

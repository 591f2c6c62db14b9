"""How units are read while the model computes: one reader for each place that they are read at."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from synatlas.models.experts import Routed
from synatlas.models.hooks import around, attention_calls, first_sequence, given_by, inside, rows_of
from synatlas.models.mixing import Mixing, MixingMode
from synatlas.models.reducers import Reducer
from synatlas.models.units import Source


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Tap:
    """One source of a capture: where it is, what is made of it, and what was read so far.

    Parameters
    ----------
    model : the whole model.
    source : the source.
    reduce : from its units' vectors to what is kept.
    positions : for each row the positions to keep, or a slice for all rows; all where None.
    policy : what the activity of a routed expert is.
    kept : what was read, one entry for each forward pass.
    place : for what the first pass gives, where it was made before; see :func:`place_of`.
    """

    model: nn.Module
    source: Source
    reduce: Reducer
    positions: Int[Tensor, "row sample"] | slice | None
    policy: str
    kept: list[Tensor | Routed]
    place: Tensor | None = None

    @property
    def module(self) -> nn.Module:
        """The module that is read."""
        return self.model.get_submodule(self.source.module)

    def take(self, x: Tensor) -> None:
        """Keep what is read in one pass: (row, position, all the units' features)."""
        z = x.reshape(x.shape[0], x.shape[1], self.source.count, self.source.width)
        value = self.reduce(self.chosen(z))
        if self.place is not None and not self.kept and _alike(self.place, value):
            value = self.place.copy_(value)
        self.kept.append(value)

    def chosen(self, x: Tensor) -> Tensor:
        """The positions to keep of (row, position, ...)."""
        if self.positions is None:
            return x
        if isinstance(self.positions, slice):
            return x[:, self.positions]
        rows = torch.arange(x.shape[0], device=x.device)[:, None]
        return x[rows, self.positions.to(x.device)]


def place_of(source: Source, positions: Tensor | slice | None) -> Tensor | None:
    """Memory for one number of each unit at `positions` of a pass on a CPU.

    Small tensors that are made between a layer's large ones and stay would keep the memory around
    them from being used again as a whole.
    """
    if not isinstance(positions, Tensor) or positions.device.type != "cpu":
        return None
    return torch.empty(*positions.shape, source.count)


def _alike(one: Tensor, other: Tensor) -> bool:
    return (one.shape, one.dtype, one.device) == (other.shape, other.dtype, other.device)


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
def input_of(tap: Tap) -> Iterator[None]:
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
def split_input_of(tap: Tap) -> Iterator[None]:
    """What the module reads first, where rows, positions and units may be one axis."""

    def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
        del module
        tap.take(args[0].reshape(rows.count, -1, tap.source.count * tap.source.width))

    with rows_of(tap.model) as rows, ExitStack() as stack:
        stack.callback(tap.module.register_forward_pre_hook(hook).remove)
        yield


@contextmanager
def output_of(tap: Tap) -> Iterator[None]:
    """What the module gives: a tensor, or the first sequence of a tuple."""

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        del module, args
        given = given_by(output)
        tap.take(given.reshape(rows.count, -1, given.shape[-1]))

    with rows_of(tap.model) as rows, around(tap.module, None, after):
        yield


@contextmanager
def update_of(tap: Tap) -> Iterator[None]:
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
def attention_in(taps: Sequence[Tap]) -> Iterator[None]:
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
def mixing_in(tap: Tap) -> Iterator[None]:
    """What the module's own attention code makes of values; waits for the device."""
    calls = _Calls(tap)

    def note(mixing: Mixing) -> None:
        calls.add(mixing.z.transpose(1, 2))

    with inside(tap.module, MixingMode(note, heads=tap.source.count)):
        yield

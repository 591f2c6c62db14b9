"""How units are changed while the model computes: one editor for each place that they are read at.

Each is the counterpart of the reader of that name in :mod:`synatlas.models.taps`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from synatlas.errors import ConfigError
from synatlas.models.hooks import Rows, around, attention_calls, first_sequence, given_by, inside
from synatlas.models.mixing import Mixing, MixingMode
from synatlas.models.units import Source

#: What ablated units give instead of what they computed: from a source, a range of features and
#: vectors z (row, position, unit, feature), the vectors that stand in for them, or what can be
#: broadcast to them. z holds that range of features of each of the source's units: all of them, but
#: where one head has its values in several attention calls.
Change = Callable[[Source, slice, Tensor], Tensor]


def zero(
    source: Source, features: slice, z: Float[Tensor, "row position unit feature"]
) -> Float[Tensor, ""]:
    """Nothing."""
    del source, features
    return z.new_zeros(())


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Edited:
    """One source of an edit.

    Parameters
    ----------
    module : the module at which it is changed.
    block : the module that holds that one.
    source : the source.
    keep : for each row of the batch, or for all in one, what is left of each unit.
    change : what stands in for it.
    experts : how experts are left out, a key of :data:`synatlas.models.expert_editors.EXPERTS`.
    rows : rows of the pass under way.
    """

    module: nn.Module
    block: nn.Module
    source: Source
    keep: Bool[Tensor, "row unit"] | Float[Tensor, "row unit"]
    change: Change
    experts: str
    rows: Rows

    def split(self, x: Tensor) -> Float[Tensor, "row position unit feature"]:
        """What is read, rows and positions in one axis or two, as vectors of units."""
        return x.reshape(self.rows.count, -1, self.source.count, self.source.width)

    def kept(self, rows: int, like: Tensor) -> Tensor:
        """`keep` on the device of `like`, for a pass of so many rows."""
        if len(self.keep) not in {1, rows}:
            raise ConfigError(
                given=f"masks for {len(self.keep)} rows and a batch of {rows}",
                expected="one mask for each row of the batch, or one for all",
                remedy="give the model as many rows as there are masks",
            )
        return self.keep.to(like.device)

    def changed(
        self, z: Float[Tensor, "row position unit feature"], first: int = 0
    ) -> Float[Tensor, "row position unit feature"]:
        """`z` with ablated units changed; its features are those from `first` on.

        Vectors of kept units keep every bit.
        """
        keep = self.kept(z.shape[0], z)[:, None, :, None]
        if self.change is zero:
            # Eight times as fast as a choice, where the mask is written out for every feature; what
            # is not finite is not a number then, as it is times columns of zeros.
            return z * keep.to(z.dtype).expand(*keep.shape[:-1], z.shape[-1]).contiguous()
        other = self.change(self.source, slice(first, first + z.shape[-1]), z)
        if keep.dtype == torch.bool:
            return torch.where(keep, z, other)
        return z + (1 - keep).to(z.dtype) * (other - z)

    def per_token(self, tokens: int, like: Tensor) -> Tensor:
        """`keep` of each token, where rows and positions are one axis."""
        keep = self.kept(self.rows.count, like)
        return keep.expand(self.rows.count, -1).repeat_interleave(tokens // self.rows.count, dim=0)


#: A context in which every forward pass has the sources changed.
Editor = Callable[[Sequence[Edited]], AbstractContextManager[None]]


def each(editor: Callable[[Edited], AbstractContextManager[None]]) -> Editor:
    """An editor of several sources from one that changes each by itself."""

    @contextmanager
    def edit(sources: Sequence[Edited]) -> Iterator[None]:
        with ExitStack() as stack:
            for one in sources:
                stack.enter_context(editor(one))
            yield

    return edit


@contextmanager
def input_of(one: Edited) -> Iterator[None]:
    """Change what the module reads first."""

    def before(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        del module
        x = args[0]
        return (one.changed(one.split(x)).reshape(x.shape), *args[1:])

    handle = one.module.register_forward_pre_hook(before)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def output_of(one: Edited) -> Iterator[None]:
    """Change what the module gives: a tensor, or the first sequence of a tuple."""

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        del module, args
        given = given_by(output)
        return exchanged(output, given, one.changed(one.split(given)).reshape(given.shape))

    with around(one.module, None, after):
        yield


@contextmanager
def update_of(one: Edited) -> Iterator[None]:
    """Change what the module adds to what it reads."""
    read: list[Tensor] = []

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # A copy: the module may add to its input in place.
        del module
        read[:] = [first_sequence((*args, *kwargs.values())).clone()]

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        del module, args
        given, stream = first_sequence(output), read.pop()
        update = one.split(given - stream)
        new = one.changed(update)
        keep = one.kept(len(given), given)[:, None]
        if keep.dtype == torch.bool:
            # Not the sum of stream and update, which may round otherwise.
            changed = torch.where(keep, given, stream + new.reshape(given.shape))
        else:
            changed = given + (new - update).reshape(given.shape)
        return exchanged(output, given, changed)

    with ExitStack() as stack:
        stack.callback(one.module.register_forward_pre_hook(before, with_kwargs=True).remove)
        stack.callback(one.module.register_forward_hook(after).remove)
        yield


def exchanged(output: Any, old: Tensor, new: Tensor) -> Any:
    """What a module gives, with one tensor of it exchanged for another."""
    if output is old:
        return new
    return type(output)(new if x is old else x for x in output)


@dataclass(slots=True)
class _Calls:
    """Changes what a source's attention calls give: one head may have its values in several."""

    one: Edited
    widths: list[int] = field(default_factory=list)

    def changed(self, z: Float[Tensor, "row position head feature"]) -> Tensor:
        new = self.one.changed(z, first=sum(self.widths))
        self.widths.append(z.shape[-1])
        if len(self.widths) == self.one.source.calls:
            self.widths.clear()
        return new


@contextmanager
def attention_in(sources: Sequence[Edited]) -> Iterator[None]:
    """Change what the attention function that the modules look up returns."""
    by_module = {one.module: _Calls(one) for one in sources}

    def tapped(function: Any, caller: nn.Module, *inputs: Any, **options: Any) -> Any:
        result = function(caller, *inputs, **options)
        if caller not in by_module:
            return result
        return (by_module[caller].changed(result[0]), *result[1:])

    with attention_calls(tapped):
        yield


@contextmanager
def mixing_in(one: Edited) -> Iterator[None]:
    """Change what the module's own attention code makes of values."""
    calls = _Calls(one)

    def note(mixing: Mixing) -> Tensor:
        return calls.changed(mixing.z.transpose(1, 2)).transpose(1, 2)

    with inside(one.module, MixingMode(note, heads=one.source.count)):
        yield

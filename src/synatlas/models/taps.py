"""Reading the units of a model while it computes, by hooks.

No hook waits for the device: nothing is copied to the host before the caller asks for it.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from synatlas.models import expert_readers, readers
from synatlas.models.experts import SPREADS, Routed
from synatlas.models.readers import Reader, Tap, each
from synatlas.models.reducers import Reducers, norm
from synatlas.models.units import UnitTable


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

    def clear(self) -> None:
        """Forget all passes so far."""
        for taken in self.per_source:
            taken.clear()

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


@contextmanager
def capture(
    model: nn.Module,
    units: UnitTable,
    *,
    reduce: Reducers = norm,
    positions: Int[Tensor, "row sample"] | slice | None = None,
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
    positions : for each row the positions to keep, in this order, or a slice for all rows; all
        where None.

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
            place=readers.place_of(source, positions),
        )
        taps.setdefault(source.at, []).append(tap)
    with ExitStack() as stack:
        for at, of_kind in taps.items():
            stack.enter_context(READERS[at](of_kind))
        yield taken


#: How sources are read: their `at` -> what reads all of that name in one context.
READERS: Final[MappingProxyType[str, Reader]] = MappingProxyType(
    {
        "input": each(readers.input_of),
        "split_input": each(readers.split_input_of),
        "output": each(readers.output_of),
        "update": each(readers.update_of),
        "attention": readers.attention_in,
        "mixing": each(readers.mixing_in),
        "experts": each(expert_readers.experts_in),
        "all_experts": each(expert_readers.all_experts_in),
        "shared": each(expert_readers.shared_in),
    }
)


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

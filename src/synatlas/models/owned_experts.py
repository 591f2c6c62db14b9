"""Slices of experts: those of stacked parameters that one expert computes with and no other."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from synatlas.models.experts import Call, ExpertCall, is_own_loop, loop_of, vectors_of
from synatlas.models.owned import Gap, Owned, gaps_of
from synatlas.models.units import Source, UnitTable

#: Greatest relative difference of two outputs that are the same: kernels differ in rounding.
TOLERANCE: Final = 1e-3

_NOT_STACKED: Final = "its output also depends on what other experts compute with"
_OFFLOADED: Final = "its weights are kept elsewhere until they are used"
_UNUSED: Final = "it computes with no parameter: an expert that gives back what it reads"


def expert_slices(
    model: nn.Module, units: UnitTable, calls: Sequence[ExpertCall]
) -> Iterator[Owned | Gap]:
    """Slices of every routed expert, and why one has none.

    An expert's are the slices at its index of those stacked parameters of which it gives something
    else if they are random; they are its own if it gives the same when every slice of
    every parameter is replaced by that one. Where all experts run in one product this is asked of
    the first and the last. Nothing is copied: what replaces a parameter is one slice, repeated.

    Parameters
    ----------
    model : the model.
    units : all that was found of it.
    calls : calls of modules with stacked weights in one pass.
    """
    seen = {call.module: call for call in calls}
    for source in (s for s in units.sources if s.kind == "expert" and s.module in seen):
        labels = units.labels_of(source)
        module = model.get_submodule(source.module)
        if any(p.is_meta for p in module.parameters(recurse=False)):
            yield from gaps_of(labels, "expert", (), _OFFLOADED)
            continue
        token = seen[source.module].inputs[0]
        token = token[token.abs().sum(-1).argmax()][None]
        asked = _Asked(module, source, token)
        owners = asked.owners()
        for e in range(source.count) if source.at == "experts" else (0, source.count - 1):
            if not asked.is_alone(e, owners):
                owners = {}
                break
        found = [
            Owned(
                role="expert",
                parameter=f"{source.module}.{name}",
                axis=0,
                indices=np.array([e]),
                units=(labels[e],),
            )
            for name, has in owners.items()
            for e in np.flatnonzero(has).tolist()
        ]
        yield from found
        yield from gaps_of(labels, "expert", found, _UNUSED if owners else _NOT_STACKED)


def shared_slices(model: nn.Module, units: UnitTable) -> Iterator[Owned]:
    """All parameters of experts that every token passes, and of their gates."""
    for source in (s for s in units.sources if s.kind == "shared_expert"):
        labels = units.labels_of(source)
        for role, module in (("expert", source.module), ("gate", f"{source.module}_gate")):
            yield from whole(model, module, role, labels)


def whole(model: nn.Module, module: str, role: str, units: tuple[str, ...]) -> Iterator[Owned]:
    """All parameters of a module, if there is one of that name."""
    inside = dict(model.named_modules(remove_duplicate=False)).get(module)
    for name, _ in inside.named_parameters(module) if inside is not None else ():
        nothing = np.zeros(0, dtype=np.int64)
        yield Owned(role=role, parameter=name, axis=None, indices=nothing, units=units)


class _Asked:
    """What the experts of one module make of a token, also with other parameters."""

    def __init__(self, module: nn.Module, source: Source, token: Tensor) -> None:
        self.module, self.count, self.token = module, source.count, token
        self.together = source.at != "experts"
        held = module.named_parameters(recurse=False)
        self.stacked = {n: p.detach() for n, p in held if 0 < p.shape[0] <= source.count}
        self.plain = self.outputs({}, range(source.count))

    def outputs(
        self, changed: Mapping[str, Tensor], experts: Sequence[int]
    ) -> Float[Tensor, "expert feature"]:
        """What these experts give, in a module with some parameters changed."""
        named = {f"module.{name}": value for name, value in changed.items()}
        ask = self._ask_all if self.together else self._ask
        return functional_call(_Holder(self.module, ask), named, ([*experts],))

    def _ask_all(self, module: nn.Module, experts: Sequence[int]) -> Tensor:
        return module(self.token.repeat(self.count, 1))[experts]

    def _ask(self, module: nn.Module, experts: Sequence[int]) -> Tensor:
        index = torch.tensor([[*experts]], device=self.token.device)
        call = Call(self.token, index, self.token.new_ones(index.shape))
        return vectors_of(loop_of(module), call, twice=is_own_loop(module))[0]

    def owners(self) -> dict[str, np.ndarray]:
        """Parameter -> which experts give something else if it is something else."""
        found: dict[str, np.ndarray] = {}
        generator = torch.Generator().manual_seed(0)
        for name, stack in self.stacked.items():
            other = torch.randn(stack.shape[1:], generator=generator).to(stack)
            changed = self.outputs({name: other.expand(stack.shape)}, range(self.count))
            has = [not self.is_same(a, b) for a, b in zip(changed, self.plain, strict=True)]
            # A parameter may have fewer slices than there are experts: some compute nothing.
            found[name] = np.array(has)[: len(stack)]
        return {name: has for name, has in found.items() if has.any()}

    def is_alone(self, e: int, names: Mapping[str, Any]) -> bool:
        """Whether an expert gives the same if all slices are its own."""
        changed = {
            name: stack[min(e, len(stack) - 1)].expand(stack.shape)
            for name, stack in self.stacked.items()
            if name in names
        }
        return self.is_same(self.outputs(changed, [e])[0], self.plain[e])

    @staticmethod
    def is_same(one: Tensor, other: Tensor) -> bool:
        """Whether two vectors differ by no more than rounding."""
        return bool((one - other).abs().max() <= TOLERANCE * other.abs().max())


class _Holder(nn.Module):
    """Lets a function of a module be called with other parameters."""

    def __init__(self, module: nn.Module, ask: Callable[[nn.Module, list[int]], Tensor]) -> None:
        super().__init__()
        self.module, self.ask = module, ask

    def forward(self, experts: list[int]) -> Tensor:
        """What is asked."""
        return self.ask(self.module, experts)

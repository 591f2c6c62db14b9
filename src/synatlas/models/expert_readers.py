"""How experts are read while the model computes: those of a router, and those that all pass."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from synatlas.models.experts import (
    SPREADS,
    Call,
    Routed,
    is_own_loop,
    outputs_of_all,
    sums_choices,
    vectors_of,
)
from synatlas.models.hooks import around, rows_of
from synatlas.models.readers import Tap


@contextmanager
def experts_in(tap: Tap) -> Iterator[None]:
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
            vectors = vectors_of(module.forward, call, twice=is_own_loop(module))
        keep(call, value=tap.chosen(tap.reduce(rows.split(vectors))))
        return call.together(vectors) if is_apart else None

    def keep(call: Call, **read: Tensor) -> None:
        index, weight = (tap.chosen(rows.split(x)) for x in (call.expert, call.weight.float()))
        tap.kept.append(Routed(experts=experts, index=index, weight=weight, **read))

    with rows_of(tap.model) as rows, around(module, before, after):
        yield


@contextmanager
def all_experts_in(tap: Tap) -> Iterator[None]:
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

    with rows_of(tap.model) as rows, around(tap.module, None, after):
        yield


@contextmanager
def shared_in(tap: Tap) -> Iterator[None]:
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
    with rows_of(tap.model) as rows, ExitStack() as stack:
        for module in needed:
            stack.enter_context(around(module, None, after))
        yield

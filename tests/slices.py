"""Slices of parameters changed for a while, and units silenced another way."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from every_type import tiny_type
from own_models import own_model
from synatlas.models.owned import Owned, Ownership
from synatlas.models.ownership import owned
from synatlas.models.probe import find_units
from synatlas.models.units import UnitTable

IDS = torch.arange(3, 25).view(2, 11)


class Prepared(NamedTuple):
    """A tiny model, and what is found of it."""

    network: Any
    found: UnitTable
    ownership: Ownership


@cache
def prepared(name: str) -> Prepared:
    """A type of transformers, or of a user's own as ``own`` and how it mixes.

    Whoever changes the model must change it back.
    """
    is_own = name.startswith("own ")
    network = own_model(mixing=name.removeprefix("own ")) if is_own else tiny_type(name)
    found = find_units(network)
    return Prepared(network, found, owned(network, found))


@contextmanager
def changed(
    network: nn.Module, slices: Sequence[Owned], *, times: float = 1.0, plus: float = 0.0
) -> Iterator[None]:
    """These slices times and plus something, and afterwards as they were.

    Unless they are set to 0 it is every second index: norms of each head undo what is common.
    """
    stock = {s.parameter: network.get_parameter(s.parameter).clone() for s in slices}
    for s in slices:
        some = s.axis is not None and times != 0
        values = network.get_parameter(s.parameter)
        at = (replace(s, indices=s.indices[::2]) if some else s).at
        with torch.no_grad():
            values[at] = values[at] * times + plus
    try:
        yield
    finally:
        for name, values in stock.items():
            with torch.no_grad():
                network.get_parameter(name).copy_(values)


@contextmanager
def silenced(network: nn.Module, units: UnitTable, unit: int) -> Iterator[None]:
    """What the output projection reads of a unit, its place in the table at `proj_in`, is 0."""
    features = slice(int(units.start[unit]), int(units.stop[unit]))

    def hook(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        del module
        x = args[0].clone()
        x[..., features] = 0.0
        return (x, *args[1:])

    handle = network.get_submodule(units.module[unit]).register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()

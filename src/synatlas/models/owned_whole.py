"""Parameters of sub-layers: every one in the module."""

from collections.abc import Iterator

from torch import nn

from synatlas.models.owned import Owned
from synatlas.models.owned_experts import whole
from synatlas.models.units import UNITS, UnitTable


def whole_slices(model: nn.Module, units: UnitTable) -> Iterator[Owned]:
    """All parameters of each sub-layer, norms inside it included and those before it not."""
    for source in (s for s in units.sources if s.kind in UNITS["sublayers"]):
        labels = UnitTable(sources=(source,), n_layers=units.n_layers).label
        name = source.module if source.kind == "block" else _part(model, source.module)
        yield from whole(model, name, "whole", labels)


def _part(model: nn.Module, name: str) -> str:
    """The direct part of a decoder layer that a module is in: ``model.layers.0.mlp``."""
    path = name.split(".")
    modules = dict(model.named_modules(remove_duplicate=False))
    stack = next(
        i for i in range(len(path)) if isinstance(modules[".".join(path[:i])], nn.ModuleList)
    )
    return ".".join(path[: stack + 2])

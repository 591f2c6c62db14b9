"""Parameters of sub-layers: every one in the module."""

from collections.abc import Iterator

from torch import nn

from synatlas.models.layers import layer_of
from synatlas.models.owned import Owned
from synatlas.models.owned_experts import whole
from synatlas.models.units import UNITS, UnitTable


def whole_slices(model: nn.Module, units: UnitTable) -> Iterator[Owned]:
    """All parameters of each sub-layer, norms inside it included and those before it not."""
    for source in (s for s in units.sources if s.kind in UNITS["sublayers"]):
        labels = units.labels_of(source)
        name = source.module if source.kind == "block" else layer_of(model, source.module, below=1)
        yield from whole(model, name, "whole", labels)

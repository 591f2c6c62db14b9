"""Units of a model: which slice of which module's input is one attention head's output."""

from dataclasses import dataclass
from itertools import accumulate, chain
from typing import final

import numpy as np
from jaxtyping import Int

from synatlas.axes import unit_label


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """An attention layer's output projection; its input is the heads' outputs, concatenated.

    Parameters
    ----------
    module : qualified name of the projection in the model.
    layer : decoder layer, from 0.
    heads : query heads of the layer; a unit is one of them.
    width : width of a head's output; the projection reads ``heads * width`` features.
    kv_groups : key/value group of each head.
    """

    module: str
    layer: int
    heads: int
    width: int
    kv_groups: tuple[int, ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class UnitTable:
    """Every unit of a model, in order of layer and index.

    Head `index` of a projection owns features ``start:stop`` of the projection's input. With
    grouped key/value heads the unit is the query head.

    Parameters
    ----------
    projections : one per layer that has heads, in order of depth.
    n_layers : decoder layers of the model.
    """

    projections: tuple[Projection, ...]
    n_layers: int

    def __len__(self) -> int:
        return sum(p.heads for p in self.projections)

    @property
    def label(self) -> tuple[str, ...]:
        """Labels such as ``L07H03``."""
        return tuple(unit_label(p.layer, i) for p in self.projections for i in range(p.heads))

    @property
    def kind(self) -> tuple[str, ...]:
        """What each unit is."""
        return ("head",) * len(self)

    @property
    def layer(self) -> Int[np.ndarray, " unit"]:
        """Decoder layer of each unit, from 0."""
        return np.repeat(
            np.array([p.layer for p in self.projections], dtype=np.int32),
            [p.heads for p in self.projections],
        )

    @property
    def index(self) -> Int[np.ndarray, " unit"]:
        """Head within the layer, from 0."""
        return _int32(chain.from_iterable(range(p.heads) for p in self.projections))

    @property
    def kv_group(self) -> Int[np.ndarray, " unit"]:
        """Key/value group within the layer, from 0."""
        return _int32(chain.from_iterable(p.kv_groups for p in self.projections))

    @property
    def projection(self) -> tuple[str, ...]:
        """Name of the module that reads each unit."""
        return tuple(p.module for p in self.projections for _ in range(p.heads))

    @property
    def start(self) -> Int[np.ndarray, " unit"]:
        """First feature of the projection's input that is the unit's."""
        return _int32(i * p.width for p in self.projections for i in range(p.heads))

    @property
    def stop(self) -> Int[np.ndarray, " unit"]:
        """One past the last such feature."""
        return _int32((i + 1) * p.width for p in self.projections for i in range(p.heads))

    def columns(self) -> tuple[slice, ...]:
        """Range of units of each projection, in the order of `projections`."""
        ends = tuple(accumulate(p.heads for p in self.projections))
        return tuple(slice(a, b) for a, b in zip((0, *ends), ends, strict=False))


def _int32(values: object) -> Int[np.ndarray, " unit"]:
    return np.fromiter(values, dtype=np.int32)  # type: ignore[arg-type]

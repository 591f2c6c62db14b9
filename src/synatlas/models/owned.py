"""Slices of parameters that are a unit's own, and what is missing of them."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from types import EllipsisType, MappingProxyType
from typing import Final, final

import numpy as np
from jaxtyping import Int

from synatlas.errors import ConfigError
from synatlas.models.units import KINDS

#: What a slice does for its unit.
ROLES: Final = MappingProxyType(
    {
        "query": "makes its queries",
        "key": "makes its keys",
        "value": "makes its values",
        "mixing": "weighs what it mixes, beside queries and keys: sinks, learnt biases of scores",
        "input": "makes what a recurrent unit computes with",
        "gate": "scales its output before the output projection, or that of a shared expert",
        "output": "is what its output is multiplied by in the output projection",
        "expert": "is a part of the expert",
        "whole": "is a parameter of the sub-layer",
    }
)

#: Kind of unit -> roles that each must have a slice of; what lacks one is a :class:`Gap`.
NEEDED: Final = MappingProxyType(
    {
        "head": ("query", "key", "value", "output"),
        "recurrent": ("input", "output"),
        "expert": ("expert",),
        "shared_expert": ("expert",),
        "attention": ("whole",),
        "mlp": ("whole",),
        "block": ("whole",),
    }
)
assert set(NEEDED) == set(KINDS)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Owned:
    """A slice of a parameter.

    Parameters
    ----------
    role : a key of :data:`ROLES`.
    parameter : qualified name.
    axis : axis of the parameter that `indices` count along; None where all of it is meant.
    indices : the slice, ascending; empty where all of it is meant.
    units : labels of all units whose slice it is: the group for grouped keys and values, every
        layer that shares the parameter, else one.
    leak : greatest part of what one of its features does to outputs, squared, that it does to
        those of other units beside it; 0 where nothing is shared, more where a norm runs over all
        heads, or where a second matrix mixes what the first made (Mamba-1).
    """

    role: str
    parameter: str
    axis: int | None
    indices: Int[np.ndarray, " index"]
    units: tuple[str, ...]
    leak: float = 0.0

    @property
    def at(self) -> tuple[slice | Int[np.ndarray, " index"], ...] | EllipsisType:
        """What picks the slice from its parameter: ``parameter[slice.at]``."""
        return ... if self.axis is None else (*[slice(None)] * self.axis, self.indices)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A role that a unit has no slice of, and why."""

    unit: str
    role: str
    reason: str


def gaps_of(units: Iterable[str], role: str, found: Iterable[Owned], reason: str) -> Iterator[Gap]:
    """Those of `units` that nothing in `found` belongs to."""
    has = {unit for one in found for unit in one.units}
    return (Gap(unit=unit, role=role, reason=reason) for unit in units if unit not in has)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ownership:
    """Which parameters are whose.

    Parameters
    ----------
    labels : all units, such as ``L07H03``.
    slices : each once, in order of its first unit and of roles.
    gaps : what units lack.
    """

    labels: tuple[str, ...]
    slices: tuple[Owned, ...]
    gaps: tuple[Gap, ...]

    def of(self, *units: str, roles: Collection[str] = tuple(ROLES)) -> tuple[Owned, ...]:
        """Slices of any of `units` in these roles, each once however many of them share it.

        ``slice.units`` says whether others share it too.

        Raises
        ------
        ConfigError
            The model has no such unit, or there is no such role.
        """
        for name, given, known in (("unit", units, self.labels), ("role", roles, ROLES)):
            unknown = [one for one in given if one not in known]
            if unknown:
                raise ConfigError(
                    given=f"{name} {unknown[0]!r}",
                    expected=f"one of {', '.join([*known][:4])} ...",
                    cause=f"there are {len(known)} of them, and none of this name",
                    remedy="choose labels of this model's units, and roles of ROLES",
                )
        chosen = frozenset(units)
        return tuple(s for s in self.slices if s.role in roles and not chosen.isdisjoint(s.units))

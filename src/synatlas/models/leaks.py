"""How much a slice does for units that it does not belong to, all ways through a layer counted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, final

import numpy as np
from torch import Tensor

from synatlas.models.owned import Owned
from synatlas.models.slopes import Leaves, Slopes, Target

#: Squared slopes below this part of the greatest are rounding.
ROUNDING: Final = 1e-10


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What the units of one source gave in a pass that was not cut.

    Parameters
    ----------
    labels : the units.
    z : output of each.
    behind : what the output projection reads of each; the same where nothing comes between.
    """

    labels: tuple[str, ...]
    z: Sequence[Tensor]
    behind: Sequence[Tensor]


def with_leaks(
    found: Sequence[Owned], outputs: Sequence[Outputs], leaves: Leaves
) -> Iterator[Owned]:
    """Slices with their leaks.

    A leak is the greatest part of the squared slopes, of random combinations of each unit's
    output, that lies with other units of the same source. A slice of the output projection has
    none, because nothing of the source comes after it.

    Parameters
    ----------
    found : slices, each of units of one source.
    outputs : of each source.
    leaves : those of the same pass.
    """
    for of in outputs:
        labels = frozenset(of.labels)
        own = [s for s in found if not labels.isdisjoint(s.units)]
        before = [s for s in own if s.role not in {"gate", "output"}]
        gates = [s for s in own if s.role == "gate"]
        yield from (s for s in own if s.role == "output")
        for slices, values in ((before, of.z), (gates, of.behind)):
            if slices:
                narrow = leaves.only({s.parameter for s in slices})
                singles = [(label,) for label in of.labels]
                slopes = narrow.slopes(Target(slices[0].role, values, singles))
                yield from (_with_leak(s, slopes, of.labels) for s in slices)


def _with_leak(one: Owned, slopes: Slopes, labels: Sequence[str]) -> Owned:
    by_unit = _by_unit(one, slopes)
    if by_unit is None:
        return one
    total = by_unit.sum(0)
    moves = total > ROUNDING * total.max()
    own = by_unit[[labels.index(unit) for unit in one.units]].sum(0)
    others = np.maximum(total - own, 0.0)[moves] / total[moves]
    leak = float(others.max()) if moves.any() else 0.0
    return replace(one, leak=leak if leak > ROUNDING else 0.0)


def _by_unit(one: Owned, slopes: Slopes) -> np.ndarray | None:
    """(unit, index of the slice), None where the slice does nothing."""
    module = one.parameter.rpartition(".")[0]
    if module in slopes.matrices:
        return slopes.matrices[module][:, one.indices]
    if one.parameter not in slopes.vectors or one.axis is None:
        return None
    values = np.moveaxis(slopes.vectors[one.parameter], one.axis + 1, 1)
    return values.reshape(*values.shape[:2], -1).sum(-1)[:, one.indices]

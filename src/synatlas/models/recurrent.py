"""Units of mixers without attention: heads where they have them, groups of channels elsewhere."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from synatlas.models.layers import Part
from synatlas.models.mixers import Recurrence
from synatlas.models.units import SITES, Source

#: Most channels of a group, where a mixer has no heads.
GROUP_CHANNELS: Final = 64


def recurrent(parts: Sequence[Part]) -> tuple[Source, ...]:
    """Units of every mixer that no attention function serves.

    ``z`` is what a unit gives before a normalisation and a gate, where a module stands there at
    which it can be read; where the gate is applied outside of any, as in Mamba-1, RWKV and
    Falcon-H1, ``z`` is, like ``proj_in``, what the output projection reads. A mixer without heads
    is divided in groups of neighbouring channels, as wide as divides its width, at most
    :data:`GROUP_CHANNELS` and at most half of it.
    """
    found: list[Source] = []
    before: Counter[int] = Counter()
    for part in parts:
        if part.recurrence is not None:
            sources = _sources(part.layer, part.recurrence, before[part.layer])
            before[part.layer] += sources[0].count
            found += sources
    return tuple(found)


def _sources(layer: int, found: Recurrence, first: int) -> list[Source]:
    count = found.heads or found.width // group_width(found.width)
    places = [(found.projection, "input", SITES)]
    if found.norm is not None:
        places = [(found.norm, "split_input", ("z",)), (found.projection, "input", ("proj_in",))]
    if found.cell is not None:
        places = [(found.cell, "output", ("z",)), (found.projection, "input", ("proj_in",))]
    return [
        Source(
            module=module,
            layer=layer,
            kind="recurrent",
            at=at,
            sites=sites,
            first=first,
            count=count,
            width=found.width // count,
        )
        for module, at, sites in places
    ]


def group_width(width: int) -> int:
    """Channels of a group: the greatest divisor within the bounds."""
    most = min(GROUP_CHANNELS, max(1, width // 2))
    return next(n for n in range(most, 0, -1) if width % n == 0)

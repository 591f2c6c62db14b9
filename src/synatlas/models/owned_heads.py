"""Slices of attention heads: what makes queries, keys and values, gates, and output columns."""

from collections.abc import Iterator, Sequence
from typing import Final

import torch
from torch import Tensor

from synatlas.models.leaks import Outputs
from synatlas.models.owned import Gap, Owned, gaps_of
from synatlas.models.slopes import OPAQUE, Leaves, Slopes, Target
from synatlas.models.trace import Event, Mixed, Read
from synatlas.models.units import Source, UnitTable

_MIXED: Final = "no weight matrix after it has columns of it alone"


def head_slices(units: UnitTable, events: Sequence[Event], leaves: Leaves) -> Iterator[Owned | Gap]:
    """Slices of every head, from a cut trace, and why one lacks a role."""
    for source in (s for s in units.sources if s.kind == "head" and "z" in s.sites):
        labels = units.labels_of(source)
        calls = _calls(source, events)
        moving: set[str] = set()
        for target in _targets(source, labels, calls):
            slopes = leaves.slopes(target)
            moving |= slopes.moving
            found = [*leaves.dominated(target, slopes)]
            yield from found
            yield from leaves.exact(target, slopes, vectors=True)
            yield from gaps_of(labels, target.role, found, leaves.why_not(slopes))
        yield from _mixing(source, labels, calls, leaves, moving)
        yield from _behind(source, labels, projection_of(source, units), events, leaves)


def head_outputs(units: UnitTable, events: Sequence[Event]) -> Iterator[Outputs]:
    """What the heads gave in a traced pass."""
    for source in (s for s in units.sources if s.kind == "head" and "z" in s.sites):
        z = torch.cat([call.z[0] for call in _calls(source, events)], -1).unbind(1)
        projection = projection_of(source, units)
        is_apart = projection is not None and projection.module != source.module
        yield Outputs(
            labels=units.labels_of(source),
            z=z,
            behind=_read_by(projection, events) if projection is not None and is_apart else z,
        )


def _read_by(projection: Source, events: Sequence[Event]) -> Sequence[Tensor]:
    """What the output projection reads of each head."""
    read = next(e for e in events if isinstance(e, Read) and e.module == projection.module)
    return read.x[0].unflatten(-1, (projection.count, projection.width)).unbind(-2)


def projection_of(source: Source, units: UnitTable) -> Source | None:
    """Where the output projection reads these units."""
    place = (source.kind, source.layer, source.first)
    found = (
        s for s in units.sources if "proj_in" in s.sites and (s.kind, s.layer, s.first) == place
    )
    return next(found, None)


def _calls(source: Source, events: Sequence[Event]) -> list[Mixed]:
    """Calls of the attention function whose heads the source reads."""
    mixed = [e for e in events if isinstance(e, Mixed) and e.kv_groups]
    if source.at != "input":
        return [m for m in mixed if (m.module, m.at) == (source.module, source.at)]
    read = next(e for e in events if isinstance(e, Read) and e.module == source.module)
    same = [m for m in mixed if torch.equal(m.z.flatten(2), read.x)]
    return same[:1]


def _groups(source: Source) -> list[list[int]]:
    """Heads of each key/value group."""
    first = min(source.kv_groups)
    groups: list[list[int]] = [[] for _ in set(source.kv_groups)]
    for head, group in enumerate(source.kv_groups):
        groups[group - first].append(head)
    return groups


def _targets(source: Source, labels: Sequence[str], calls: Sequence[Mixed]) -> Iterator[Target]:
    singles = [(label,) for label in labels]
    groups = _groups(source)
    named = [tuple(labels[h] for h in heads) for heads in groups]
    for i, call in enumerate(calls):
        if i == 0 and len(call.by) == 2:
            queries, keys = call.by
            yield Target("query", [*queries[0]], singles)
            yield Target("key", _of_groups(keys[0], groups), named)
        elif i == 0:
            # Weights of the last position: what it does itself is query, what others do is key.
            last = call.by[0][0, :, -1]
            yield Target("query", [*last], singles, past=False)
            yield Target("key", [last[heads] for heads in groups], named, past=True)
        yield Target("value", _of_groups(call.value[0], groups), named)


def _of_groups(x: Tensor, groups: list[list[int]]) -> list[Tensor]:
    """Of (group or head, position, feature) what each group has."""
    return [*x] if len(x) == len(groups) else [x[heads] for heads in groups]


def _mixing(
    source: Source, labels: Sequence[str], calls: Sequence[Mixed], leaves: Leaves, moving: set[str]
) -> Iterator[Owned]:
    """What moves a head's output and is not in `moving`: what moves queries, keys and values."""
    for heads in ([[h] for h in range(source.count)], _groups(source)):
        values = [torch.cat([call.z[0][:, of] for call in calls], -1) for of in heads]
        target = Target("mixing", values, [tuple(labels[h] for h in of) for of in heads])
        every = leaves.slopes(target)
        slopes = Slopes(
            matrices={n: s for n, s in every.matrices.items() if n not in moving},
            vectors={n: s for n, s in every.vectors.items() if n not in moving},
            opaque=frozenset(),
        )
        found = [
            *leaves.dominated(target, slopes),
            *leaves.exact(target, slopes, vectors=True),
        ]
        yield from found
        # What no single head owns may still belong to a group.
        moving = moving | {one.parameter for one in found}
        moving |= {n for n in slopes.matrices if f"{n}.weight" in moving}


def _behind(
    source: Source,
    labels: Sequence[str],
    projection: Source | None,
    events: Sequence[Event],
    leaves: Leaves,
) -> Iterator[Owned | Gap]:
    """Gates and the columns of the output projection."""
    if projection is None:
        yield from gaps_of(labels, "output", (), _MIXED)
        return
    if projection.module != source.module:
        target = Target("gate", _read_by(projection, events), [(label,) for label in labels])
        slopes = leaves.slopes(target)
        yield from leaves.dominated(target, slopes)
        yield from leaves.exact(target, slopes, vectors=True)
    columns = [*leaves.columns(projection.module, projection.width, labels)]
    yield from columns
    yield from gaps_of(labels, "output", columns, OPAQUE.format(projection.module))

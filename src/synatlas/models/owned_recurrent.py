"""Slices of recurrent units: what they compute with, gates, output columns."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Final, NamedTuple

from torch import Tensor, nn

from synatlas.models.leaks import Outputs
from synatlas.models.owned import Gap, Owned, gaps_of
from synatlas.models.owned_heads import projection_of
from synatlas.models.reducers import identity
from synatlas.models.slopes import OPAQUE, Leaves, Target
from synatlas.models.taps import Capture, capture
from synatlas.models.units import UnitTable

#: Sites at which the values of recurrent units are needed.
_SITES: Final = ("z", "proj_in")


class Taken(NamedTuple):
    """Recurrent units at one site, and what a pass read of them."""

    units: UnitTable
    capture: Capture

    def values(self) -> dict[tuple[int, int], list[Tensor]]:
        """(layer, index of the first unit) of a source -> values of each unit."""
        outputs = zip(self.units.sources, self.capture.outputs(), strict=True)
        return {(s.layer, s.first): [*z[0].unbind(1)] for s, z in outputs}


@contextmanager
def recurrent_values(model: nn.Module, units: UnitTable) -> Iterator[Mapping[str, Taken]]:
    """Read what recurrent units give in the pass inside, within its graph of gradients."""
    has_any = any(s.kind == "recurrent" for s in units.sources)
    tables = {site: units.select("recurrent", site) for site in _SITES if has_any}
    with ExitStack() as stack:
        yield {
            site: Taken(table, stack.enter_context(capture(model, table, reduce=identity)))
            for site, table in tables.items()
        }


def recurrent_outputs(units: UnitTable, taken: Mapping[str, Taken]) -> Iterator[Outputs]:
    """What the units gave in a pass."""
    if taken:
        at_z, at_projection = (taken[site].values() for site in _SITES)
        for source in taken["z"].units.sources:
            place = (source.layer, source.first)
            yield Outputs(
                labels=units.labels_of(source),
                z=at_z[place],
                behind=at_projection[place],
            )


def recurrent_slices(
    units: UnitTable, taken: Mapping[str, Taken], leaves: Leaves
) -> Iterator[Owned | Gap]:
    """Slices of every recurrent unit, from a cut trace, and why one lacks a role.

    What a unit computes with is its own if, up to the next matrix, it does nothing at all for some
    other: groups of Mamba-2 and of delta nets share their own. What of Mamba-1 makes the inputs of
    a unit also takes part, through a second matrix, in the time steps of all: that is a leak.
    """
    if not taken:
        return
    at_z, at_projection = (taken[site].values() for site in _SITES)
    for source in taken["z"].units.sources:
        place = (source.layer, source.first)
        labels = units.labels_of(source)
        singles = [(label,) for label in labels]
        target = Target("input", at_z[place], singles)
        slopes = leaves.slopes(target)
        found = [*leaves.exact(target, slopes), *leaves.exact(target, slopes, vectors=True)]
        yield from found
        yield from gaps_of(labels, "input", found, leaves.why_not(slopes))
        if "proj_in" not in source.sites:
            target = Target("gate", at_projection[place], singles)
            slopes = leaves.slopes(target).without(slopes)
            yield from leaves.dominated(target, slopes)
            yield from leaves.exact(target, slopes, vectors=True)
        projection = projection_of(source, units)
        assert projection is not None  # Recurrent units are found by their projection.
        columns = [*leaves.columns(projection.module, projection.width, labels)]
        yield from columns
        yield from gaps_of(labels, "output", columns, OPAQUE.format(projection.module))

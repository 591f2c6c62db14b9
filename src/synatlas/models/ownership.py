"""Which slices of which parameters are a unit's own, found by running the model.

For heads and recurrent units one short pass is cut behind every weight matrix and every attention
function, so that gradients show what each output feature of a matrix does at the next step alone.
A feature is a head's query where the head's queries follow it, its key or value where those of its
group do, its gate where what the output projection reads of it does although the attention's
result is held fixed. Features are rows of a matrix, or columns where it is stored the other way
round. An expert's are the slices that it computes with and no other does. No table of
architectures says which.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

import torch
from torch import nn

from synatlas.models.hooks import expert_calls
from synatlas.models.leaks import with_leaks
from synatlas.models.owned import NEEDED, ROLES, Gap, Owned, Ownership
from synatlas.models.owned_experts import expert_slices, shared_slices
from synatlas.models.owned_heads import head_outputs, head_slices
from synatlas.models.owned_recurrent import recurrent_outputs, recurrent_slices, recurrent_values
from synatlas.models.owned_whole import whole_slices
from synatlas.models.probe import probe_ids
from synatlas.models.quiet import quiet
from synatlas.models.slopes import Leaves, differentiable
from synatlas.models.trace import trace
from synatlas.models.units import UNITS, UnitTable

#: Kinds whose slices a gradient finds.
_BY_GRADIENT: Final = ("head", "recurrent")


def owned(model: nn.Module, units: UnitTable) -> Ownership:
    """Find the parameters of every unit.

    Parameters
    ----------
    model : the model, in evaluation mode; its parameters need no gradients and get none.
    units : all that was found of it, :attr:`synatlas.models.load.LanguageModel.found`.

    Returns
    -------
    Ownership
        Nothing is listed of what belongs to no unit more than to others: shared projections
        before a latent attention, norms that all heads share, biases of output projections,
        routers, and matrices whose result is not their input times their weight (packed by a
        quantiser). Of sub-layers and shared experts it is every parameter in the module.

    Notes
    -----
    With a norm over all heads (OLMo-2) every row of the queries moves all heads a little; the rows
    are listed under the head that they move most. A second pass, which is not cut, measures how
    much else each slice does (`leak`), whatever the way.
    """
    found = [*_by_gradient(model, units), *_of_experts(model, units), *whole_slices(model, units)]
    labels = tuple(label for _, of_kind in _kinds(units) for label in of_kind)
    slices = _merged(model, [one for one in found if isinstance(one, Owned)], labels)
    gaps = {(one.unit, one.role): one for one in found if isinstance(one, Gap)}
    known = {(unit, s.role) for s in slices for unit in s.units} | {*gaps}
    nothing = (
        Gap(unit=unit, role=role, reason="nothing was found")
        for kind, of_kind in _kinds(units)
        for unit in of_kind
        for role in NEEDED[kind]
        if (unit, role) not in known
    )
    return Ownership(labels=labels, slices=slices, gaps=(*gaps.values(), *nothing))


def _kinds(units: UnitTable) -> list[tuple[str, tuple[str, ...]]]:
    """Each source's kind and its units' labels, once for each unit."""
    at_z = [s for s in units.sources if "z" in s.sites]
    return [(s.kind, units.labels_of(s)) for s in at_z]


def _by_gradient(model: nn.Module, units: UnitTable) -> list[Owned | Gap]:
    if not any(s.kind in _BY_GRADIENT for s in units.sources):
        return []
    ids = probe_ids(model)
    options: dict[str, Any] = {"attention_mask": torch.ones_like(ids), "use_cache": False}
    experts = {s.module for s in units.sources if s.kind in UNITS["experts"]}
    with torch.enable_grad(), quiet(), differentiable(model, but=experts) as vectors:
        with (
            trace(model, rows=len(ids), cut=True) as events,
            recurrent_values(model, units) as values,
        ):
            model(input_ids=ids, **options)
        leaves = Leaves.of(model, events, vectors)
        found = [*head_slices(units, events, leaves), *recurrent_slices(units, values, leaves)]
        with (
            trace(model, rows=len(ids), linked=True) as events,
            recurrent_values(model, units) as values,
        ):
            model(input_ids=ids, **options)
        outputs = [*head_outputs(units, events), *recurrent_outputs(units, values)]
        slices = [one for one in found if isinstance(one, Owned)]
        return [
            *with_leaks(slices, outputs, leaves.linked(events)),
            *(one for one in found if isinstance(one, Gap)),
        ]


def _of_experts(model: Any, units: UnitTable) -> Iterable[Owned | Gap]:
    if not units.has_experts:
        return []
    ids = probe_ids(model)
    with torch.no_grad(), quiet(), expert_calls(model) as calls:
        model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
        return [*expert_slices(model, units, calls), *shared_slices(model, units)]


def _merged(model: nn.Module, found: Sequence[Owned], labels: Sequence[str]) -> tuple[Owned, ...]:
    """Each slice once, with all units that share it, also from several layers."""
    place = {label: i for i, label in enumerate(labels)}
    roles = [*ROLES]
    by_slice: dict[tuple[Any, ...], list[Owned]] = {}
    for one in found:
        parameter = id(model.get_parameter(one.parameter))
        key = (parameter, one.role, one.axis, one.indices.tobytes())
        by_slice.setdefault(key, []).append(one)
    merged = [
        replace(
            same[0],
            units=tuple(sorted({u for one in same for u in one.units}, key=place.__getitem__)),
            # Later layers that share it are also moved through the stream, as by anything before.
            leak=same[0].leak,
        )
        for same in by_slice.values()
    ]
    merged.sort(key=lambda s: (place[s.units[0]], roles.index(s.role)))
    return tuple(merged)

"""Running a model with some of its units left out, each row of a batch with its own."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from synatlas.errors import ConfigError
from synatlas.models import editors, expert_editors
from synatlas.models.editors import Change, Edited, Editor, each, zero
from synatlas.models.hooks import rows_of
from synatlas.models.placement import input_device
from synatlas.models.units import UNITS, UnitTable


def at_projections(found: UnitTable, units: UnitTable) -> UnitTable:
    """The same units, each where it can be left out and no other is changed by that.

    That is the input of the output projection wherever it has columns of the unit alone, after
    every gate and normalisation: a unit at 0 there is its columns at 0. Where heads mix before
    the projection (DiffLlama), and for experts and sub-layers, it is where the unit is read.

    Parameters
    ----------
    found : everything that was found of the model.
    units : some of these.
    """
    behind = {(s.kind, s.layer, s.first, s.count): s for s in found.sources if "proj_in" in s.sites}
    sources = (behind.get((s.kind, s.layer, s.first, s.count), s) for s in units.sources)
    return replace(units, sources=tuple(sources))


@contextmanager
def edit(
    model: nn.Module,
    units: UnitTable,
    keep: Bool[Tensor, "row unit"] | Float[Tensor, "row unit"],
    *,
    change: Change = zero,
    experts: str = "zero",
) -> Iterator[None]:
    """Run row i of every batch inside with the units ablated where ``keep[i]`` is False.

    They are ablated at every position, of every pass: in generation also at the tokens that were
    read before. What kept units give is untouched, and where all units of a source are kept in
    all rows there is no hook. The hooks are gone afterwards, also after an exception.

    Parameters
    ----------
    model : the model that `units` was found in.
    units : its units, ablated where they are read; see :func:`at_projections`.
    keep : for each row of the batch, or one row for all. Numbers multiply: a unit's output z
        becomes ``z + (1 - keep) * (change - z)``, through which gradients with respect to `keep`
        are had.
    change : what stands in for the outputs of ablated units, 0 by default.
    experts : how experts are left out, a key of :data:`synatlas.models.expert_editors.EXPERTS`.

    Raises
    ------
    ConfigError
        `keep` is not of these units, or, inside, not of as many rows as the batch; experts are to
        be changed in another way than left out; numbers for `experts` ``forbid``.
    ModelError
        The model's experts cannot be left out this way.
    """
    _check(units, keep, change=change, experts=experts)
    keep = keep.to(input_device(model))
    by_way: dict[str, list[Edited]] = {}
    with ExitStack() as stack:
        rows = None
        for source, columns in zip(units.sources, units.columns(), strict=True):
            part = keep[:, columns]
            if not keep.requires_grad and bool((part == 1).all()):
                continue
            rows = rows or stack.enter_context(rows_of(model))
            one = Edited(
                module=model.get_submodule(source.module),
                block=model.get_submodule(source.module.rpartition(".")[0]),
                source=source,
                keep=part,
                change=change,
                experts=experts,
                rows=rows,
            )
            by_way.setdefault(source.at, []).append(one)
        for at, sources in by_way.items():
            stack.enter_context(EDITORS[at](sources))
        yield


#: How sources are changed: their `at` -> what changes all of that name in one context.
EDITORS: Final[MappingProxyType[str, Editor]] = MappingProxyType(
    {
        "input": each(editors.input_of),
        "split_input": each(editors.input_of),
        "output": each(editors.output_of),
        "update": each(editors.update_of),
        "attention": editors.attention_in,
        "mixing": each(editors.mixing_in),
        "experts": each(expert_editors.experts_in),
        "all_experts": each(expert_editors.all_experts_in),
        "shared": each(expert_editors.shared_in),
    }
)


def _check(units: UnitTable, keep: Tensor, *, change: Change, experts: str) -> None:
    expert_editors.check_experts(experts)
    if keep.shape[1] != len(units):
        raise ConfigError(
            given=f"a mask of {keep.shape[1]} units",
            expected=f"one of {len(units)}, in the order of the table",
            remedy="make the masks from the table that is given with them",
        )
    if units.has_experts and change is not zero:
        kinds = {s.kind for s in units.sources}
        raise ConfigError(
            given="vectors to stand in for what experts give",
            expected="experts that are left out",
            cause=f"of {' and '.join(kinds & {*UNITS['experts']})} only choices are read",
            remedy="ablate experts with zero, forbid or renormalise, or with noise in the weights",
        )
    if units.has_experts and experts == "forbid" and keep.dtype != torch.bool:
        raise ConfigError(
            given="numbers to multiply experts with, and experts 'forbid'",
            expected="True or False for each expert",
            cause="a choice is made or not",
            remedy="give a boolean mask, or experts 'zero'",
        )

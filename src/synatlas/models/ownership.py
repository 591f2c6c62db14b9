"""Which slices of which parameters are an attention head's own, found by gradients.

One short pass is cut behind every weight matrix and every attention function, so that gradients
show what each output feature of a matrix does at the next step alone. A feature is a head's query
where the head's queries follow it, its key or value where those of its group do, its gate where
what the output projection reads of it does although the attention's result is held fixed. Features
are rows of a matrix, or columns where it is stored the other way round, and no table of
architectures says which.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from synatlas.models.probe import probe_ids
from synatlas.models.quiet import quiet
from synatlas.models.trace import Event, Mixed, Read, Written, trace
from synatlas.models.units import Source, UnitTable

#: What a slice does for its head.
ROLES: Final = ("query", "key", "value", "gate", "output")

#: Least part of what a feature does, squared, that it must do for one head to be its own; a half
#: is what two heads share.
DOMINANCE: Final = 0.6

#: Least part of a matrix's features that must have an owner: of many that all heads share, some
#: happen to do more for one of them.
MOSTLY: Final = 0.9

#: Features that move nothing beyond this part of what the strongest does are left out.
NEGLIGIBLE: Final = 1e-4

#: Greatest relative error with which a module's output must be its input times its weight.
LINEAR_TOLERANCE: Final = 2e-2


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Owned:
    """A slice of a parameter.

    Parameters
    ----------
    unit : position of the head in the table's order.
    role : one of :data:`ROLES`.
    parameter : qualified name.
    axis : axis of the parameter that `indices` count along.
    indices : the slice, ascending.
    units : all heads whose slice it is: the group for grouped keys and values, else the head.
    leak : greatest part of what one of its features does, squared, that it does for other heads;
        0 where nothing is shared, more where a norm runs over all heads.
    """

    unit: int
    role: str
    parameter: str
    axis: int
    indices: Int[np.ndarray, " index"]
    units: tuple[int, ...]
    leak: float


@torch.enable_grad()
def owned(model: nn.Module, units: UnitTable) -> tuple[Owned, ...]:
    """Find the parameters of every attention head.

    Parameters
    ----------
    model : the model, in evaluation mode; its parameters need no gradients and get none.
    units : all that was found of it, :attr:`synatlas.models.load.LanguageModel.found`. Units of
        another kind are left out.

    Returns
    -------
    tuple
        In order of unit and role. ``unit`` counts the heads at site ``z``. Nothing is listed of
        what belongs to no head more than to others: shared projections before a latent attention,
        norms, biases of output projections, and matrices whose result is not their input times
        their weight (packed by a quantiser).

    Notes
    -----
    With a norm over all heads (OLMo-2) every row of the queries moves all heads a little; the rows
    are listed under the head that they move most, and `leak` says how much else they do.
    """
    ids = probe_ids(model)
    with quiet(), trace(model, rows=len(ids), cut=True) as events:
        model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    matrices = _Matrices.of(model, events)
    heads = units.select("heads", "z")
    found: list[Owned] = []
    for source, columns in zip(heads.sources, heads.columns(), strict=True):
        calls = _calls(source, events)
        numbers = range(columns.start, columns.stop)
        for target in _targets(source, calls):
            found += matrices.owners(target, numbers)
        projection = _projection(source, units)
        if projection is None:
            continue
        if projection.module != source.module:
            read = next(e for e in events if isinstance(e, Read) and e.module == projection.module)
            values = [*read.x[0].unflatten(-1, (source.count, source.width)).unbind(-2)]
            gates = _Target("gate", values, [[h] for h in range(source.count)])
            found += matrices.owners(gates, numbers)
        found += matrices.columns(projection, numbers)
    found.sort(key=lambda o: (o.unit, ROLES.index(o.role)))
    return tuple(found)


def _calls(source: Source, events: Sequence[Event]) -> list[Mixed]:
    """Calls of the attention function whose heads the source reads."""
    mixed = [e for e in events if isinstance(e, Mixed) and e.kv_groups]
    if source.at != "input":
        return [m for m in mixed if (m.module, m.at) == (source.module, source.at)]
    read = next(e for e in events if isinstance(e, Read) and e.module == source.module)
    same = [m for m in mixed if torch.equal(m.z.flatten(2), read.x)]
    return same[:1]


def _projection(source: Source, units: UnitTable) -> Source | None:
    """Where the output projection reads these heads."""
    place = (source.kind, source.layer, source.first)
    found = [
        s for s in units.sources if "proj_in" in s.sites and (s.kind, s.layer, s.first) == place
    ]
    return found[0] if found else None


class _Target(NamedTuple):
    """What belongs to a role, for each group of heads, and which heads these are.

    `past` says whether the features that count do something to later positions (keys) or must not
    (queries); None where the values tell roles apart by themselves.
    """

    role: str
    values: list[Tensor]
    groups: list[list[int]]
    past: bool | None = None


def _targets(source: Source, calls: Sequence[Mixed]) -> Iterator[_Target]:
    singles = [[h] for h in range(source.count)]
    first = min(source.kv_groups)
    kv_groups = [group - first for group in source.kv_groups]
    groups = [
        [h for h, g in enumerate(kv_groups) if g == group] for group in range(max(kv_groups) + 1)
    ]
    for i, call in enumerate(calls):
        if i == 0 and len(call.by) == 2:
            queries, keys = call.by
            yield _Target("query", [queries[0, h] for h in range(source.count)], singles)
            yield _Target("key", _of_groups(keys[0], groups), groups)
        elif i == 0:
            # Weights of the last position: what it does itself is query, what others do is key.
            last = call.by[0][0, :, -1]
            yield _Target("query", [last[h] for h in range(source.count)], singles, past=False)
            yield _Target("key", [last[heads] for heads in groups], groups, past=True)
        yield _Target("value", _of_groups(call.value[0], groups), groups)


def _of_groups(x: Tensor, groups: list[list[int]]) -> list[Tensor]:
    """Of (group or head, position, feature) what each group has."""
    return [*x] if len(x) == len(groups) else [x[heads] for heads in groups]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Matrix:
    """A parameter that makes features: `axis` counts them; `leaf` is what it made."""

    parameter: str
    bias: str | None
    axis: int
    leaf: Tensor


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Matrices:
    """All of a model, in the order in which they were used."""

    by_module: dict[str, _Matrix]

    @classmethod
    def of(cls, model: nn.Module, events: Sequence[Event]) -> "_Matrices":
        written = (e for e in events if isinstance(e, Written))
        found = {e.module: _matrix(model.get_submodule(e.module), e) for e in written}
        return cls(by_module={name: one for name, one in found.items() if one is not None})

    def owners(self, target: _Target, numbers: Sequence[int]) -> list[Owned]:
        """Features that do more for one of the target's groups than for all others."""
        slopes = self._slopes(target)
        strongest = max((float(s.max()) for s in slopes.values()), default=0.0)
        found: list[Owned] = []
        for name, by_group in slopes.items():
            total = by_group.sum(0)
            moves = total > NEGLIGIBLE**2 * strongest
            if not moves.any():
                continue
            share = by_group / np.where(moves, total, 1.0)
            if (share.max(0)[moves] > DOMINANCE).mean() < MOSTLY:
                continue
            for group, heads in enumerate(target.groups):
                indices = np.flatnonzero(moves & (share[group] > DOMINANCE))
                if len(indices):
                    units = tuple(numbers[head] for head in heads)
                    leak = float(1.0 - share[group, indices].min())
                    found += self._slices(name, target.role, indices, units, leak)
        return found

    def _slopes(self, target: _Target) -> dict[str, Float[np.ndarray, "group feature"]]:
        """Squared slopes of random combinations of each group's values, by module."""
        names, leaves = [*self.by_module], [m.leaf for m in self.by_module.values()]
        rows: dict[str, list[np.ndarray]] = {}
        for group, value in enumerate(target.values):
            # The same for every group, so that what two of them share is seen to be equal.
            generator = torch.Generator().manual_seed(0)
            direction = torch.randn(value.shape, generator=generator).to(value)
            along = (value * direction).sum()
            if not along.requires_grad:
                continue
            grads = torch.autograd.grad(along, leaves, retain_graph=True, allow_unused=True)
            for name, grad in zip(names, grads, strict=True):
                if grad is not None:
                    empty = [np.zeros(grad.shape[-1]) for _ in target.values]
                    rows.setdefault(name, empty)[group] = _counted(
                        grad[0].flatten(0, -2), past=target.past
                    )
        return {name: np.stack(of_groups) for name, of_groups in rows.items()}

    def _slices(
        self, name: str, role: str, indices: np.ndarray, units: tuple[int, ...], leak: float
    ) -> Iterator[Owned]:
        matrix = self.by_module[name]
        for parameter, axis in ((matrix.parameter, matrix.axis), (matrix.bias, 0)):
            for unit in units if parameter is not None else ():
                yield Owned(
                    unit=unit,
                    role=role,
                    parameter=str(parameter),
                    axis=axis,
                    indices=indices,
                    units=units,
                    leak=leak,
                )

    def columns(self, projection: Source, numbers: Sequence[int]) -> list[Owned]:
        """What the output projection multiplies each head by."""
        matrix = self.by_module.get(projection.module)
        if matrix is None:
            return []
        return [
            Owned(
                unit=number,
                role="output",
                parameter=matrix.parameter,
                axis=1 - matrix.axis,
                indices=np.arange(head * projection.width, (head + 1) * projection.width),
                units=(number,),
                leak=0.0,
            )
            for head, number in enumerate(numbers)
        ]


def _matrix(module: Any, written: Written) -> _Matrix | None:
    """How the module's weight makes its output; None where it does something else."""
    weight, bias = module.weight, getattr(module, "bias", None)
    x, y = (t[0].detach().flatten(0, -2) for t in (written.x, written.leaf))
    sizes = (x.shape[-1], y.shape[-1])
    for axis, matrix in enumerate((weight, weight.T)):
        if matrix.dtype != x.dtype or matrix.shape != sizes[::-1]:
            continue
        made = torch.nn.functional.linear(x, matrix, bias)
        if bool((made - y).abs().max() <= LINEAR_TOLERANCE * y.abs().max()):
            return _Matrix(
                parameter=f"{written.module}.weight",
                bias=None if bias is None else f"{written.module}.bias",
                axis=axis,
                leaf=written.leaf,
            )
    return None


def _counted(slope: Float[Tensor, "position feature"], *, past: bool | None) -> np.ndarray:
    """Squared slope of each feature over the positions, 0 for those that `past` leaves out."""
    squared = slope.detach().double().pow(2).cpu()
    whole, earlier = squared.sum(0).numpy(), squared[:-1].sum(0).numpy()
    if past is None:
        return whole
    return np.where((earlier > 0) == past, whole, 0.0)

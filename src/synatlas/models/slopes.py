"""What each parameter does at the next step alone: slopes of units' values through a cut trace.

A pass is cut behind every weight matrix and every attention function. What a matrix wrote is a
leaf of its own, whose features are rows of the weight, or columns where it is stored the other way
round; parameters that are no matrix (norms, convolutions, sinks, decay rates) are leaves
themselves.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from synatlas.models.owned import Owned
from synatlas.models.placement import weights_present
from synatlas.models.trace import Event, Written, has_matrix

#: Least part of what a feature does, squared, that it must do for one group to be its own; a half
#: is what two groups share.
DOMINANCE: Final = 0.6

#: Least part of a matrix's features that must have an owner: of many that all heads share, some
#: happen to do more for one of them.
MOSTLY: Final = 0.9

#: Features that move nothing beyond this part of what the strongest does are left out.
NEGLIGIBLE: Final = 1e-4

#: Greatest relative error with which a module's output must be its input times its weight.
LINEAR_TOLERANCE: Final = 2e-2


#: Why nothing is listed of a module.
OPAQUE: Final = "{} gives something else than its input times its weight: it may be packed"


class Target(NamedTuple):
    """What belongs to a role, for each group of units, and the labels of these.

    `past` says whether the features that count do something to later positions (keys) or must not
    (queries); None where the values tell roles apart by themselves.
    """

    role: str
    values: Sequence[Tensor]
    groups: Sequence[tuple[str, ...]]
    past: bool | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """A parameter that makes features: `axis` counts them; `leaf` is what it made."""

    parameter: str
    bias: str | None
    axis: int
    leaf: Tensor


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Slopes:
    """Squared slopes of each group's values: by module of its features, by parameter of entries.

    Parameters
    ----------
    matrices : module -> (group, feature).
    vectors : parameter -> (group, ...), its own axes after the first.
    opaque : modules that do something although their output is not their input times their weight.
    """

    matrices: Mapping[str, Float[np.ndarray, "group feature"]]
    vectors: Mapping[str, np.ndarray]
    opaque: frozenset[str]

    @property
    def moving(self) -> set[str]:
        """Modules and parameters that do anything."""
        return {*self.matrices, *self.vectors, *self.opaque}

    def without(self, other: "Slopes") -> "Slopes":
        """Only features and parameters that do nothing in `other`."""
        left: dict[str, np.ndarray] = {}
        for name, values in self.matrices.items():
            moves = other.matrices[name].any(0) if name in other.matrices else False
            left[name] = np.where(moves, 0.0, values)
        return Slopes(
            matrices={name: values for name, values in left.items() if values.any()},
            vectors={n: values for n, values in self.vectors.items() if n not in other.vectors},
            opaque=self.opaque - other.opaque,
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Leaves:
    """Where gradients of a cut pass end."""

    matrices: Mapping[str, Matrix]
    opaque: Mapping[str, Tensor]
    vectors: Mapping[str, nn.Parameter]

    @classmethod
    def of(
        cls, model: nn.Module, events: Sequence[Event], vectors: Mapping[str, nn.Parameter]
    ) -> "Leaves":
        """Those of a traced pass."""
        written = {e.module: e for e in events if isinstance(e, Written)}
        found = {name: _matrix(model.get_submodule(name), e) for name, e in written.items()}
        return cls(
            matrices={name: one for name, one in found.items() if one is not None},
            opaque={name: written[name].leaf for name, one in found.items() if one is None},
            vectors=vectors,
        )

    def linked(self, events: Sequence[Event]) -> "Leaves":
        """The same matrices in a pass that was not cut."""
        leaf = {e.module: e.leaf for e in events if isinstance(e, Written)}
        again = {name: replace(m, leaf=leaf[name]) for name, m in self.matrices.items()}
        return replace(self, matrices=again, opaque={})

    def only(self, parameters: Collection[str]) -> "Leaves":
        """Those that make or are some parameters."""
        return Leaves(
            matrices={n: m for n, m in self.matrices.items() if m.parameter in parameters},
            opaque={},
            vectors={n: p for n, p in self.vectors.items() if n in parameters},
        )

    def slopes(self, target: Target) -> Slopes:
        """Squared slopes of a random combination of each group's values."""
        makers = {name: m.leaf for name, m in self.matrices.items()} | {**self.opaque}
        leaves: dict[str, Tensor] = {**makers}
        if target.past is None:
            leaves |= self.vectors
        found: dict[str, list[np.ndarray]] = {}
        for group, value in enumerate(target.values):
            for name, grad in zip(leaves, _slope(value, [*leaves.values()]), strict=True):
                if grad is None:
                    continue
                if name in makers:
                    squared = _counted(grad[0].flatten(0, -2), past=target.past)
                else:
                    squared = grad.double().pow(2).cpu().numpy()
                empty = [np.zeros(squared.shape) for _ in target.values]
                found.setdefault(name, empty)[group] = squared
        stacks = {name: np.stack(of_groups) for name, of_groups in found.items()}
        stacks = {name: stack for name, stack in stacks.items() if stack.any()}
        return Slopes(
            matrices={n: stack for n, stack in stacks.items() if n in self.matrices},
            vectors={n: stack for n, stack in stacks.items() if n in self.vectors},
            opaque=frozenset(self.opaque.keys() & stacks),
        )

    def dominated(self, target: Target, slopes: Slopes) -> Iterator[Owned]:
        """Features of matrices that do more for one group than for all others."""
        strongest = max((float(s.max()) for s in slopes.matrices.values()), default=0.0)
        for name, by_group in slopes.matrices.items():
            total = by_group.sum(0)
            moves = total > NEGLIGIBLE**2 * strongest
            if not moves.any():
                continue
            share = by_group / np.where(moves, total, 1.0)
            if (share.max(0)[moves] > DOMINANCE).mean() < MOSTLY:
                continue
            for group, units in enumerate(target.groups):
                indices = np.flatnonzero(moves & (share[group] > DOMINANCE))
                if len(indices):
                    yield from self._rows(name, target.role, indices, units)

    def exact(self, target: Target, slopes: Slopes, *, vectors: bool = False) -> Iterator[Owned]:
        """Features of matrices, or entries of other parameters, that do nothing for some group."""
        if not vectors:
            for name, by_group in slopes.matrices.items():
                for chosen, indices in _supports(by_group):
                    units = _together(target, chosen)
                    yield from self._rows(name, target.role, indices, units)
            return
        for name, by_group in slopes.vectors.items():
            axis, supports = _best_axis(by_group)
            for chosen, indices in supports:
                units = _together(target, chosen)
                yield Owned(
                    role=target.role, parameter=name, axis=axis, indices=indices, units=units
                )

    def _rows(
        self, name: str, role: str, indices: np.ndarray, units: tuple[str, ...]
    ) -> Iterator[Owned]:
        matrix = self.matrices[name]
        for parameter, axis in ((matrix.parameter, matrix.axis), (matrix.bias, 0)):
            if parameter is not None:
                yield Owned(
                    role=role,
                    parameter=parameter,
                    axis=axis,
                    indices=indices,
                    units=units,
                )

    def columns(self, module: str, width: int, units: Sequence[str]) -> Iterator[Owned]:
        """What an output projection multiplies each unit's features by."""
        matrix = self.matrices.get(module)
        if matrix is None:
            return
        for i, unit in enumerate(units):
            indices = np.arange(i * width, (i + 1) * width)
            yield Owned(
                role="output",
                parameter=matrix.parameter,
                axis=1 - matrix.axis,
                indices=indices,
                units=(unit,),
            )

    def why_not(self, slopes: Slopes) -> str:
        """Why a unit has nothing of a role, given what moves its values."""
        if slopes.opaque:
            return OPAQUE.format(min(slopes.opaque))
        if slopes.matrices:
            return f"features of {min(slopes.matrices)} that move it move other units as well"
        return "no weight matrix that is read position by position comes just before it"


@contextmanager
def differentiable(model: nn.Module, *, but: set[str]) -> Iterator[dict[str, nn.Parameter]]:
    """Let parameters that are no matrix require gradients for a while.

    Left out are embeddings and modules named in `but`.
    """
    found: dict[str, nn.Parameter] = {}
    for name, module in model.named_modules():
        if name in but or has_matrix(module) or isinstance(module, nn.Embedding):
            continue
        of_module = module.named_parameters(name, recurse=False)
        found |= {own: one for own, one in of_module if one.is_floating_point()}
    stock = {name: parameter.requires_grad for name, parameter in found.items()}
    try:
        for parameter in found.values():
            parameter.requires_grad_(True)
        yield found
    finally:
        for name, parameter in found.items():
            parameter.requires_grad_(stock[name])


def _slope(value: Tensor, leaves: list[Tensor]) -> Sequence[Tensor | None]:
    # The same direction for every group, so that what two of them share is seen to be equal.
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(value.shape, generator=generator).to(value)
    along = (value * direction).sum()
    if not along.requires_grad:
        return [None] * len(leaves)
    return torch.autograd.grad(along, leaves, retain_graph=True, allow_unused=True)


def _counted(slope: Float[Tensor, "position feature"], *, past: bool | None) -> np.ndarray:
    """Squared slope of each feature over the positions, 0 for those that `past` leaves out."""
    squared = slope.detach().double().pow(2).cpu()
    whole, earlier = squared.sum(0).numpy(), squared[:-1].sum(0).numpy()
    if past is None:
        return whole
    return np.where((earlier > 0) == past, whole, 0.0)


_Supports = list[tuple[Bool[np.ndarray, " group"], np.ndarray]]


def _supports(by_group: Float[np.ndarray, "group index"]) -> _Supports:
    """Groups for which an index does anything, and the indices of each such set that is not all
    of several groups.
    """
    most = by_group.max(0)
    acts = (by_group > NEGLIGIBLE**2 * most) & (most > NEGLIGIBLE**2 * most.max())
    sets = np.unique(acts.T, axis=0)
    chosen = (s for s in sets if s.any() and (len(s) == 1 or not s.all()))
    return [(s, np.flatnonzero((s == acts.T).all(1))) for s in chosen]


def _best_axis(by_group: np.ndarray) -> tuple[int, _Supports]:
    """The axis along which most indices have owners."""
    best: tuple[int, _Supports] = (0, [])
    for axis in range(by_group.ndim - 1):
        others = tuple(i + 1 for i in range(by_group.ndim - 1) if i != axis)
        found = _supports(by_group.sum(others))
        if sum(len(i) for _, i in found) > sum(len(i) for _, i in best[1]):
            best = (axis, found)
    return best


def _together(target: Target, chosen: np.ndarray) -> tuple[str, ...]:
    return tuple(unit for i in np.flatnonzero(chosen).tolist() for unit in target.groups[i])


def _matrix(module: Any, written: Written) -> Matrix | None:
    """How the module's weight makes its output; None where it does something else."""
    with weights_present(module):
        return _present_matrix(module, written)


def _present_matrix(module: Any, written: Written) -> Matrix | None:
    weight, bias = module.weight, getattr(module, "bias", None)
    x, y = (t[0].detach().flatten(0, -2) for t in (written.x, written.leaf))
    sizes = (x.shape[-1], y.shape[-1])
    for axis, matrix in enumerate((weight, weight.T)):
        if matrix.dtype != x.dtype or matrix.shape != sizes[::-1]:
            continue
        made = nn.functional.linear(x.to(weight.device), matrix, bias)
        if bool((made - y.to(weight.device)).abs().max() <= LINEAR_TOLERANCE * y.abs().max()):
            return Matrix(
                parameter=f"{written.module}.weight",
                bias=None if bias is None else f"{written.module}.bias",
                axis=axis,
                leaf=written.leaf,
            )
    return None

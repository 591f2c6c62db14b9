"""Mixers without attention: where the outputs of their heads are read, and how many there are."""

from dataclasses import dataclass
from typing import final

from torch import Tensor, nn

from synatlas.models.calls import LayerCall, inputs_of, silenced
from synatlas.models.hooks import first_sequence


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Recurrence:
    """Where the units of a mixer without attention are read.

    Parameters
    ----------
    projection : its output projection.
    norm : the normalisation that their outputs pass before it, if any.
    cell : where there is none, the module that makes their outputs, if any.
    width : features that the projection reads.
    heads : heads that they are divided in; None where the mixer has none.
    """

    projection: str
    norm: str | None
    cell: str | None
    width: int
    heads: int | None


def find_recurrence(
    model: nn.Module, last: LayerCall, inside: list[LayerCall], mixer: LayerCall
) -> Recurrence:
    """Look for the module through which everything passes that the output projection reads.

    Parameters
    ----------
    model : the whole model.
    last : call of the output projection.
    inside : all calls inside the mixer, in the order in which they ended.
    mixer : the mixer's own call.
    """
    x = first_sequence(last.args)
    width = x.shape[-1]
    norm = _gateway([c for c in inside if _is_norm(c, x.numel())], last, mixer)
    cell = None
    if norm is None:
        cell = _gateway([c for c in inside if _is_cell(c, x)], last, mixer)
    per_head = width if norm is None else norm.args[0].shape[-1]
    around = model.get_submodule(last.name.rpartition(".")[0])
    return Recurrence(
        projection=last.name,
        norm=None if norm is None else norm.name,
        cell=None if cell is None else cell.name,
        width=width,
        heads=width // per_head if per_head < width else heads_of(around, width),
    )


def _gateway(candidates: list[LayerCall], last: LayerCall, mixer: LayerCall) -> LayerCall | None:
    """The last candidate, if without what it gives the output projection reads nothing."""
    if not candidates:
        return None
    with silenced(candidates[-1].module), inputs_of(last.module) as seen:
        mixer.again(mixer.args, mixer.kwargs)
    return candidates[-1] if bool((seen[-1] == 0).all()) else None


def _is_norm(call: LayerCall, size: int) -> bool:
    """Whether it has scales only, and gives as many numbers as it takes."""
    dims = [parameter.ndim for parameter in call.module.parameters()]
    given = call.args[0] if call.args else None
    if not isinstance(given, Tensor) or not isinstance(call.output, Tensor):
        return False
    return bool(dims) and max(dims) == 1 and given.numel() == call.output.numel() == size


def _is_cell(call: LayerCall, x: Tensor) -> bool:
    """Whether it has parameters of its own and gives what has the form of `x`; matrices do too,
    and convolutions, which a cached step does not call.
    """
    of_its_own = any(True for _ in call.module.parameters(recurse=False))
    shaped = isinstance(call.output, Tensor) and call.output.shape == x.shape
    return of_its_own and shaped and not is_matrix(call.module) and not _convolves(call.module)


def is_matrix(module: nn.Module) -> bool:
    """Whether a module has a weight matrix itself."""
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.ndim == 2


def _convolves(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv1d)


def heads_of(mixer: nn.Module, width: int) -> int | None:
    """Heads of a mixer, from what it holds one of for each head.

    That is a tensor of n numbers, or of n times width / n numbers and more, as decay rates, time
    steps and gates are; n is between 1 and `width`, and divides it. Most such tensors decide.
    """
    counts: list[int] = []
    for module in mixer.modules():
        if is_matrix(module) or _convolves(module):
            continue
        held = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if module is not mixer and all(t.ndim == 1 for t in held):
            continue
        shapes = [[n for n in tensor.shape if n > 1] for tensor in held]
        counts += [
            shape[0]
            for shape in shapes
            if shape
            and 1 < shape[0] < width
            and width % shape[0] == 0
            and (len(shape) == 1 or shape[0] * shape[1] == width)
        ]
    return max(set(counts), key=counts.count) if counts else None

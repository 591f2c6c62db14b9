"""What happens in one forward pass: which attention functions mix values, and what is read."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from synatlas.models.hooks import attention_calls
from synatlas.models.mixing import Mixing, MixingMode


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed:
    """One call of an attention function.

    Parameters
    ----------
    module : the module that called it.
    at : how that call can be read again: ``attention`` where transformers looked the function
        up, ``mixing`` where it is the model's own code.
    by : what decided the weights, (row, head, position, feature): queries and keys, or the weights
        themselves. Calls with the same `by` are one attention over several values.
    value : what was mixed, (row, group or head, position, feature).
    z : the heads' outputs, (row, position, head, feature).
    kv_groups : key/value group of each head; empty where `z` and `value` have another form.
    leaf : in a cut trace, what the model went on with, (row, head, position, feature).
    """

    module: str
    at: str
    by: tuple[Tensor, ...]
    value: Tensor
    z: Tensor
    kv_groups: tuple[int, ...]
    leaf: Tensor | None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """Input of a module with a weight matrix."""

    module: str
    x: Float[Tensor, "row position feature"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a module with a weight matrix made of `x`: `leaf`, which in a cut trace replaced it."""

    module: str
    x: Tensor
    leaf: Tensor


Event = Mixed | Read | Written

_QUERY_KEY_VALUE: Final = ("query", "key", "value")


@contextmanager
def trace(
    model: nn.Module, *, rows: int, cut: bool = False, linked: bool = False
) -> Iterator[list[Event]]:
    """Log, in order, what attention functions return and what weight matrices read.

    Attention functions are seen where transformers looks them up; a model that has its own
    attention code is seen through its torch calls (:mod:`synatlas.models.mixing`).

    Parameters
    ----------
    model : any causal language model.
    rows : batch rows of the forward pass that is to be traced.
    cut : go on with new leaves of the graph of gradients behind every weight matrix and every
        attention function, so that a gradient ends at the next of them; the values stay as they
        are. What is logged is then part of the graph, and otherwise a copy.
    linked : the same without the cuts: a gradient goes back to the first layer.
    """
    events: list[Event] = []
    names = {module: name for name, module in model.named_modules()}
    inside: list[str] = [""]

    def keep(x: Tensor) -> Tensor:
        return x if cut or linked else x.detach().clone()

    def note(at: str, module: str, mixing: Mixing) -> Tensor | None:
        z, value = mixing.z, mixing.value
        fits = z.ndim == 4 and value.ndim == 4 and len(z) == rows == len(value)
        groups = _kv_groups(value[0], z.shape[1]) if fits else ()
        if at == "mixing" and not (groups and mixing.is_causal()):
            return None
        leaf = _leaf(z) if cut else None
        events.append(
            Mixed(
                module=module,
                at=at,
                by=tuple(map(keep, mixing.by)),
                value=keep(value),
                z=keep(z).transpose(1, 2) if groups else keep(z),
                kv_groups=groups,
                leaf=leaf,
            )
        )
        return None if leaf is None else leaf.clone()

    def enter(module: nn.Module, args: tuple[Any, ...]) -> None:
        inside.append(names[module])
        if has_matrix(module) and _is_read(args, rows):
            events.append(Read(module=names[module], x=keep(args[0])))

    def leave(module: nn.Module, args: tuple[Any, ...], output: Any) -> Tensor | None:
        inside.pop()
        is_read = (cut or linked) and has_matrix(module) and _is_read(args, rows, most=4)
        if not is_read or not isinstance(output, Tensor):
            return None
        leaf = output if linked and output.requires_grad else _leaf(output)
        events.append(Written(module=names[module], x=args[0].detach(), leaf=leaf))
        return leaf.clone()

    mode = MixingMode(lambda mixing: note("mixing", inside[-1], mixing), rows=rows)

    def tapped(function: Any, module: nn.Module, *inputs: Any, **options: Any) -> Any:
        with mode.paused():
            result = function(module, *inputs, **options)
        q, k, v = (
            inputs[i] if i < len(inputs) else options[name]
            for i, name in enumerate(_QUERY_KEY_VALUE)
        )
        z = result[0].transpose(1, 2) if result[0].ndim == 4 else result[0]
        mixing = Mixing(z=z, value=v, by=(q, k))
        other = note("attention", names.get(module, inside[-1]), mixing)
        if other is None:
            return result
        return (other.transpose(1, 2) if z.ndim == 4 else other, *result[1:])

    with ExitStack() as stack:
        for module in names:
            stack.callback(module.register_forward_pre_hook(enter).remove)
            stack.callback(module.register_forward_hook(leave).remove)
        stack.enter_context(attention_calls(tapped))
        stack.enter_context(mode)
        yield events


def _leaf(x: Tensor) -> Tensor:
    return x.detach().requires_grad_()


def _is_read(args: tuple[Any, ...], rows: int, most: int = 3) -> bool:
    x = args[0] if args else None
    return isinstance(x, Tensor) and 3 <= x.ndim <= most and len(x) == rows


def has_matrix(module: nn.Module) -> bool:
    """Whether the module multiplies what it reads by a matrix of weights."""
    weight = dict(module.named_parameters(recurse=False)).get("weight")
    return weight is not None and weight.ndim == 2 and not isinstance(module, nn.Embedding)


def _kv_groups(value: Tensor, heads: int) -> tuple[int, ...]:
    """Group of each head: heads that share their values are one group; empty where none fit.

    `value` is (group or head, position, feature). Where it was expanded to all heads, equal
    values tell the groups apart from heads of their own.
    """
    if len(value) != heads:
        share, rest = divmod(heads, len(value))
        return () if rest else tuple(i // share for i in range(heads))
    groups: list[int] = []
    firsts: list[Tensor] = []
    for one in value:
        same = [g for g, first in enumerate(firsts) if torch.equal(first, one)]
        if not same:
            firsts.append(one)
        groups.append(same[0] if same else len(firsts) - 1)
    return tuple(groups)

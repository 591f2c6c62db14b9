"""Attention in a model's own code, recognised by its torch calls.

Three calls mix values by attention weights: ``scaled_dot_product_attention``; a matrix product
whose first factor is non-negative with rows that sum to at most one; and an ``einsum`` of the
same two factors.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.overrides import TorchFunctionMode

#: How far the weights of a query may sum above one, by rounding in half precision.
ROUNDING: Final = 1e-2

_PRODUCTS: Final = (torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Mixing:
    """One such call.

    `z` is its result and `value` what it mixed, both (row, head, position, feature) where they
    have that form; `by` is what decided the weights; `restore` takes `z` back to the result's own
    form.
    """

    z: Tensor
    value: Tensor
    by: tuple[Tensor, *tuple[Tensor, ...]]
    restore: Callable[[Tensor], Tensor] = lambda z: z

    def is_causal(self) -> bool:
        """Whether known weights of later positions are 0, as they are where nothing is padded."""
        weights = self.by[-1]
        is_known = len(self.by) == 1 and weights.shape[-1] == weights.shape[-2]
        return not (is_known and bool(torch.triu(weights, diagonal=1).any()))


@final
class MixingMode(TorchFunctionMode):
    """While it is active, `note` is called with every mixing of values.

    Parameters
    ----------
    note : takes the mixings, in order, and returns with what the model is to go on instead of
        `z`, or None.
    rows : batch rows, by which (row * head, position, feature) is taken apart; or None where
        `heads` says it.
    heads : heads of each row.
    """

    def __init__(
        self,
        note: Callable[[Mixing], Tensor | None],
        *,
        rows: int | None = None,
        heads: int | None = None,
    ) -> None:
        super().__init__()
        self.note = note
        self.parts = (rows or -1, heads or -1)
        self.is_paused = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is noted inside."""
        self.is_paused = True
        try:
            yield
        finally:
            self.is_paused = False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        options = kwargs or {}
        result = func(*args, **options)
        if self.is_paused:
            return result
        found: Mixing | None = None
        if func is F.scaled_dot_product_attention:
            q, k, v = (*args, *(options[n] for n in ("query", "key", "value")[len(args) :]))[:3]
            found = Mixing(z=result, value=v, by=(q, k))
        elif func in _PRODUCTS and len(args) == 2 and are_weights(args[0]):
            z, value = self._split(result), self._split(args[1])
            found = Mixing(
                z=z,
                value=value,
                by=(self._split(args[0]),),
                restore=partial(Tensor.reshape, shape=result.shape),
            )
        elif func is torch.einsum and len(args) == 3 and isinstance(args[0], str):
            found = _einsum(*args, result)
        if found is None:
            return result
        with self.paused():
            other = self.note(found)
            return result if other is None else found.restore(other)

    def _split(self, x: Tensor) -> Tensor:
        """(row * head, position, feature) as (row, head, position, feature)."""
        return x.unflatten(0, self.parts) if x.ndim == 3 else x


def are_weights(x: object, axis: int = -1) -> bool:
    """Whether `x` holds attention weights: non-negative, with sums over `axis` in (0, 1]."""
    if not isinstance(x, Tensor) or x.ndim not in {3, 4} or not x.is_floating_point():
        return False
    sums = x.float().sum(axis)
    return bool(((x >= 0).all() & (sums > 0).all() & (sums <= 1 + ROUNDING).all()).item())


def _einsum(equation: str, weights: Tensor, value: Tensor, result: Tensor) -> Mixing | None:
    """A product such as ``bhqk,bkhd->bqhd``: weights (row, head, query, key) come first."""
    inputs, arrow, out = equation.replace(" ", "").partition("->")
    first, comma, second = inputs.partition(",")
    if not arrow or not comma or "." in equation or weights.ndim != 4:
        return None
    contracted = [letter for letter in first if letter in second and letter not in out]
    feature = [letter for letter in second if letter not in first]
    heads = [letter for letter in first if letter not in contracted]
    if len(contracted) != 1 or len(feature) != 1 or sorted(out) != sorted([*heads, *feature]):
        return None
    if not are_weights(weights, first.index(contracted[0])):
        return None
    row, head, query = heads
    form = [row, head, query, *feature]
    z = result.permute([out.index(letter) for letter in form])
    present = [letter for letter in (row, head, *contracted, *feature) if letter in second]
    value = value.permute([second.index(letter) for letter in present])
    back = [form.index(letter) for letter in out]
    return Mixing(
        z=z,
        value=value if head in second else value.unsqueeze(1),
        by=(weights,),
        restore=lambda z: z.permute(back),
    )

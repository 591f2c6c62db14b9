"""How experts are left out while the model computes: those of a router, and those that all pass."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import MappingProxyType
from typing import Any, Final, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from synatlas.errors import ConfigError, ModelError
from synatlas.models.editors import Edited
from synatlas.models.hooks import around, inside

#: How a routed expert can be left out, by name.
EXPERTS: Final = MappingProxyType(
    {
        "zero": "what it adds is 0, its weight is lost",
        "forbid": "the router chooses another in its place, by the scores that it has",
        "renormalise": "what it adds is 0, and its weight goes to the token's other choices",
    }
)

_TOPK: Final = (torch.topk, Tensor.topk)


def check_experts(name: str) -> None:
    """Refuse a name that :data:`EXPERTS` lacks."""
    if name not in EXPERTS:
        raise ConfigError(
            given=f"experts {name!r}",
            expected=f"one of {', '.join(EXPERTS)}",
            remedy="choose one of these names",
        )


@contextmanager
def experts_in(one: Edited) -> Iterator[None]:
    """Change the weights that the router gives to the choices, and where it is forbidden them."""

    def before(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        del module
        hidden, index, weight = args
        keep = one.per_token(len(index), weight)
        if one.experts == "forbid":
            taken = torch.zeros_like(keep).scatter_(1, index, weight != 0)
            _check_forbidden(one, keep, taken)
        chosen = keep.gather(1, index)
        return hidden, index, _WEIGHTS[one.experts](weight, chosen)

    handle = one.module.register_forward_pre_hook(before)
    with ExitStack() as stack:
        stack.callback(handle.remove)
        if one.experts == "forbid":
            stack.enter_context(inside(one.block, _Forbidding(one)))
        yield


def _check_forbidden(one: Edited, keep: Tensor, chosen: Bool[Tensor, "token expert"]) -> None:
    others = keep.sum(1) >= chosen.sum(1)
    if bool((others[:, None] & chosen & ~keep).any()):
        raise ModelError(
            given=f"experts 'forbid' of {one.source.module}",
            expected="a router that chooses by torch.topk among the scores of all experts",
            cause="it still chose forbidden experts although enough others were left",
            remedy="ablate with experts 'zero' or 'renormalise'",
        )


def _multiplied(x: Tensor, keep: Tensor) -> Tensor:
    """What is kept of weights or of outputs."""
    return x.masked_fill(~keep, 0.0) if keep.dtype == torch.bool else x * keep.to(x.dtype)


def _renormalised(weight: Tensor, chosen: Tensor) -> Float[Tensor, "token slot"]:
    """The same, with the sum of all; 0 where nothing is left."""
    left = _multiplied(weight, chosen)
    before, after = weight.sum(1, keepdim=True), left.sum(1, keepdim=True)
    return torch.where(after == 0, left, left * (before / torch.where(after == 0, 1.0, after)))


#: What is done to the weights, by name.
_WEIGHTS: Final[MappingProxyType[str, Callable[[Tensor, Tensor], Tensor]]] = MappingProxyType(
    {"zero": _multiplied, "forbid": _multiplied, "renormalise": _renormalised}
)
assert set(_WEIGHTS) == set(EXPERTS)


@final
class _Forbidding(TorchFunctionMode):
    """While it is active, the greatest of all experts' scores are sought among those allowed.

    The values that the router goes on with are the scores as they were.
    """

    def __init__(self, one: Edited) -> None:
        super().__init__()
        self.one = one

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        options = dict(kwargs or {})
        if func not in _TOPK:
            return func(*args, **options)
        scores = args[0] if args else options.pop("input")
        if not self._is_choice(scores, *args[1:], **options):
            return func(scores, *args[1:], **options)
        keep = self.one.per_token(scores[..., 0].numel(), scores).view(scores.shape)
        allowed = scores.masked_fill(~keep, -torch.inf)
        index = func(allowed, *args[1:], **options)[1]
        return torch.return_types.topk((scores.gather(-1, index), index))

    def _is_choice(self, scores: Tensor, k: int, dim: int = -1, *_: Any, **__: Any) -> bool:
        """Whether it is the choice of each token's experts."""
        source, rows = self.one.source, self.one.rows.count
        is_last = dim in {-1, scores.ndim - 1}
        is_of_all = scores.shape[-1] == source.count and scores.numel() % (source.count * rows) == 0
        is_as_many = source.at == "all_experts" or k == source.choices
        return is_last and is_of_all and is_as_many


@contextmanager
def all_experts_in(one: Edited) -> Iterator[None]:
    """Change what experts give that all run on every token."""
    experts = one.source.count
    if one.experts == "renormalise":
        raise ModelError(
            given=f"experts 'renormalise' of {one.source.module}",
            expected="experts whose outputs are weighted, with weights that have a sum",
            cause="the weights multiply what these experts read, each by itself",
            remedy="ablate with experts 'zero' or 'forbid'",
        )

    def after(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        del module
        given = output.unflatten(0, (experts, -1))
        keep = one.per_token(given.shape[1], given)
        if one.experts == "forbid":
            read = (args[0].unflatten(0, (experts, -1)) != 0).any(-1).T
            _check_forbidden(one, keep, read)
        return _multiplied(given, keep.T.unsqueeze(-1)).reshape(output.shape)

    with ExitStack() as stack:
        stack.enter_context(around(one.module, None, after))
        if one.experts == "forbid":
            stack.enter_context(inside(one.block, _Forbidding(one)))
        yield


@contextmanager
def shared_in(one: Edited) -> Iterator[None]:
    """Change what an expert gives that every token passes: left out it adds 0, in every way."""

    def after(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        del module, args
        tokens = output.flatten(0, -2)
        keep = one.per_token(len(tokens), tokens)
        return _multiplied(tokens, keep).reshape(output.shape)

    with around(one.module, None, after):
        yield

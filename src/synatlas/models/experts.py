"""Mixtures of experts: how one is called, what is kept of each choice, and where experts stand.

transformers keeps the experts of a layer in one module, called with all tokens, the experts that
the router chose for each and their weights; it weights and sums inside. Given every choice as a
token of its own, with weight 1, the same module returns the vector of every choice, by the same
kernels (:meth:`Call.apart`), and :meth:`Call.together` gives what it would have returned.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final, NamedTuple, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from synatlas.errors import ConfigError
from synatlas.models.units import Source, UnitTable

#: Backends of transformers that weight each choice's vector and then sum over the choices, so
#: that weighting and summing afterwards changes no bit.
SUMMING: Final = ("grouped_mm", "batched_mm")

#: Numbers that a pass of every expert over some tokens may hold in one tensor.
AT_ONCE: Final = 2**24

#: Names that families give to an expert that every token passes.
SHARED_NAMES: Final = ("shared_expert", "shared_experts", "shared_mlp")


class Call(NamedTuple):
    """What a module of experts is called with: tokens, and each token's experts and weights."""

    hidden: Float[Tensor, "token feature"]
    expert: Int[Tensor, "token slot"]
    weight: Float[Tensor, "token slot"]

    def apart(self) -> "Call":
        """The same with each choice a token of its own, of weight 1."""
        slots = self.expert.shape[1]
        expert = self.expert.reshape(-1, 1)
        weight = self.weight.new_ones(expert.shape)
        return Call(self.hidden.repeat_interleave(slots, dim=0), expert, weight)

    def together(self, vectors: Float[Tensor, "token slot feature"]) -> Tensor:
        """The weighted sum over choices, as :data:`SUMMING` backends form it."""
        weighted = vectors * self.weight.unsqueeze(-1)
        return weighted.sum(dim=1).to(self.hidden.dtype)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """What one pass kept of the experts of a layer.

    Parameters
    ----------
    experts : number of experts.
    index : chosen experts.
    weight : their weights; 0 is no choice.
    value : what was made of each choice's vector, None where `every` holds it.
    every : the same of every expert, chosen or not; None where it was not asked for.
    """

    experts: int
    index: Int[Tensor, "row position slot"]
    weight: Float[Tensor, "row position slot"]
    value: Float[Tensor, "row position slot"] | None = None
    every: Float[Tensor, "row position expert"] | None = None

    def chosen(self) -> Bool[Tensor, "row position expert"]:
        """Which experts each token passed."""
        return self._spread(self.weight != 0)

    def _spread(self, slots: Tensor) -> Tensor:
        spread = slots.new_zeros((*slots.shape[:-1], self.experts))
        return spread.scatter_(-1, self.index, slots)

    def weighted(self) -> Float[Tensor, "row position expert"]:
        """Of what each choice adds to the layer's output; 0 where there was no choice."""
        assert self.value is not None
        return self._spread(self.value * self.weight.abs())

    def unweighted(self) -> Float[Tensor, "row position expert"]:
        """Of what each chosen expert put out; 0 where there was no choice."""
        assert self.value is not None
        return self._spread(self.value * (self.weight != 0))

    def dense(self) -> Float[Tensor, "row position expert"]:
        """Of what every expert would put out."""
        assert self.every is not None
        return self.every


class Spread(NamedTuple):
    """How a policy makes activities of what was kept, and whether that is of every expert."""

    activity: Callable[[Routed], Tensor]
    every: bool = False


#: How policies, see :data:`synatlas.models.units.POLICIES`, are carried out.
SPREADS: Final = MappingProxyType(
    {
        "contribution": Spread(Routed.weighted),
        "unweighted": Spread(Routed.unweighted),
        "dense": Spread(Routed.dense, every=True),
    }
)


def check_experts(units: UnitTable, *, reduce: str) -> None:
    """Refuse a reduction or a policy that these units, if they are experts, do not allow."""
    ways = {s.at for s in units.sources}
    if ways & {"experts", "all_experts"} and reduce != "norm":
        raise ConfigError(
            given=f"reduce {reduce!r} of experts",
            expected="reduce 'norm': of a choice its expert, its weight and one number are kept",
            remedy="record experts with reduce norm, or other units",
        )
    if "all_experts" in ways and units.policy != "contribution":
        raise ConfigError(
            given=f"policy {units.policy!r}",
            expected="policy 'contribution' for this model",
            cause="the weights multiply what its experts read: none has an unweighted output",
            remedy="record its experts with policy contribution",
        )


def sums_choices(module: nn.Module, call: Call) -> bool:
    """Whether ``call.together`` is, bit by bit, what the module itself would return."""
    config: Any = getattr(module, "config", None)
    backend = getattr(config, "_experts_implementation", None)
    plain = not getattr(module, "has_post_expert_norm", False)
    types = {p.dtype for p in module.parameters(recurse=False)} | {call.hidden.dtype}
    return not is_own_loop(module) and plain and backend in SUMMING and len(types) == 1


def is_own_loop(module: nn.Module) -> bool:
    """Whether experts run in a loop of the family's own, without the backends of transformers."""
    return not hasattr(type(module).forward, "__wrapped__")


def loop_of(module: nn.Module) -> Callable[..., Tensor]:
    """The loop over experts that transformers calls eager, which copies no weights."""
    stock = getattr(type(module).forward, "__wrapped__", None)
    return module.forward if stock is None else stock.__get__(module)


def vectors_of(
    forward: Callable[..., Tensor], call: Call, *, twice: bool = False
) -> Float[Tensor, "token slot feature"]:
    """Vector of each choice, by the function `forward` of a module of experts.

    With `twice` each is chosen a second time with weight 0, which adds nothing: the loop of
    LongCat does not run with one choice for a token.
    """
    hidden, expert, weight = call.apart()
    if twice:
        expert, weight = expert.repeat(1, 2), torch.cat([weight, torch.zeros_like(weight)], 1)
    return forward(hidden, expert, weight).unflatten(0, call.expert.shape)


def outputs_of_all(
    module: nn.Module, hidden: Float[Tensor, "token feature"], experts: int
) -> Iterator[Float[Tensor, "some expert feature"]]:
    """Output of every expert on every token, some tokens at a time.

    The experts run in :func:`loop_of`.
    """
    forward, twice = loop_of(module), is_own_loop(module)
    widest = max(n for p in module.parameters(recurse=False) for n in p.shape)
    some = max(1, AT_ONCE // (experts * widest))
    for tokens in hidden.split(some):
        index = torch.arange(experts, device=hidden.device).expand(len(tokens), -1)
        weight = tokens.new_ones(index.shape)
        yield vectors_of(forward, Call(tokens, index, weight), twice=twice)


class ExpertCall(NamedTuple):
    """A call of a module with stacked weights, as it was seen: its inputs and its output."""

    module: str
    inputs: tuple[Any, ...]
    output: Any


def expert_sources(
    model: nn.Module, calls: Sequence[ExpertCall], layers: Mapping[str, int], *, rows: int
) -> list[Source]:
    """Where the experts of a model are read, from one pass in which they were called.

    Parameters
    ----------
    model : the model.
    calls : calls of modules with stacked weights, in a pass over rows of equal tokens but for the
        last of each row.
    layers : layer of each module inside one.
    rows : rows of that pass.
    """
    found: list[Source] = []
    for call in calls:
        module = model.get_submodule(call.module)
        count = max(p.shape[0] for p in module.parameters(recurse=False) if p.ndim >= 3)
        # Spread over processes, a module sees choices of experts that it does not hold.
        at = "" if getattr(module, "_is_expert_parallel", False) else _way(call, count, rows)
        if at and call.module in layers:
            source = _source(call.module, layers, "expert", at, count, call.output.shape[-1])
            choices = call.inputs[1].shape[1] if at == "experts" else count
            found.append(replace(source, choices=choices))
    with_experts = {source.layer for source in found}
    widths = {source.layer: source.width for source in found}
    for name, layer in layers.items():
        if name.rpartition(".")[2] in SHARED_NAMES and layer in with_experts:
            found.append(_source(name, layers, "shared_expert", "shared", 1, widths[layer]))
    return found


def _source(
    module: str, layers: Mapping[str, int], kind: str, at: str, count: int, width: int
) -> Source:
    return Source(
        module=module,
        layer=layers[module],
        kind=kind,
        at=at,
        sites=("z",),
        count=count,
        width=width,
    )


def _way(call: ExpertCall, count: int, rows: int) -> str:
    """How a module's experts can be read; empty where it holds none, or in a way of its own."""
    tensors = [x for x in call.inputs if isinstance(x, Tensor)]
    if not isinstance(call.output, Tensor) or not tensors or len(tensors) != len(call.inputs):
        return ""
    hidden = tensors[0]
    if hidden.ndim != 2 or len(call.output) != len(hidden):
        return ""
    if len(tensors) == 1:
        return "all_experts" if len(hidden) % (count * rows) == 0 else ""
    if len(tensors) != 3 or len(hidden) % rows:
        return ""
    index, weight = tensors[1:]
    if index.shape != weight.shape or index.is_floating_point() or len(index) != len(hidden):
        return ""
    # The rows are alike but for their last token: choices must come row by row.
    by_row = index.unflatten(0, (rows, -1))[:, :-1]
    return "experts" if bool((by_row == by_row[:1]).all()) else ""

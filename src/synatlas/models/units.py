"""Units of a model: where each one is read, and which slice of what is read is its own."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from itertools import accumulate, chain
from types import MappingProxyType
from typing import Final, final

import numpy as np
from jaxtyping import Int

from synatlas.axes import unit_label
from synatlas.errors import ConfigError

#: Kinds of units, in the order in which they stand within a layer, and the letters of their labels.
KINDS: Final = MappingProxyType(
    {
        "head": "H",
        "recurrent": "R",
        "expert": "E",
        "shared_expert": "S",
        "attention": "A",
        "mlp": "M",
        "block": "B",
    }
)

#: What can be asked for -> kinds of units; ``all`` are those that divide the sub-layers.
UNITS: Final = MappingProxyType(
    {
        "heads": ("head",),
        "recurrent": ("recurrent",),
        "mixers": ("head", "recurrent"),
        "experts": ("expert", "shared_expert"),
        "all": ("head", "recurrent", "expert", "shared_expert"),
        "sublayers": ("attention", "mlp", "block"),
    }
)

#: What the activity of a routed expert can be, by name.
POLICIES: Final = MappingProxyType(
    {
        "contribution": "norm of output times weight, 0 where not routed",
        "unweighted": "norm of output, 0 where not routed",
        "dense": "norm of every expert's output at every token",
    }
)

#: Where a unit can be read: ``z``, its output before anything else; ``proj_in``, what the output
#: projection reads of it, after a gate or a normalisation where there is one; ``resid``, what that
#: makes of it, which is added to the residual stream, as a norm.
SITES: Final = ("z", "proj_in", "resid")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A place where some units of one layer are read together.

    Parameters
    ----------
    module : qualified name of the module in the model.
    layer : decoder layer, from 0.
    kind : what its units are, a key of :data:`KINDS`.
    at : what of the module is read, a key of :data:`synatlas.models.taps.READERS`.
    sites : the sites at which this is what they give.
    count : units.
    width : features of each; what is read has ``count * width``, unit by unit.
    kv_groups : key/value group of each unit, -1 where it has none.
    first : index of its first unit among those of its kind in the layer, where several sources
        share a layer.
    calls : attention calls in a pass whose values belong to the same heads, side by side.
    choices : of experts, those that a layer computes for each token.
    """

    module: str
    layer: int
    kind: str = "head"
    at: str = "input"
    sites: tuple[str, ...] = ("z", "proj_in")
    count: int
    width: int
    kv_groups: tuple[int, ...] = field(default=())
    first: int = 0
    calls: int = 1
    choices: int = 1

    def __post_init__(self) -> None:
        if not self.kv_groups:
            object.__setattr__(self, "kv_groups", (-1,) * self.count)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class UnitTable:
    """Units of a model, in order of layer, kind and index.

    Each unit owns features ``start:stop`` of what is read at its source. With grouped
    key/value heads the unit is the query head. Which slices of which parameters are its own is
    found on demand, under the same labels: :attr:`synatlas.models.load.LanguageModel.owned`.

    Parameters
    ----------
    sources : where they are read.
    n_layers : decoder layers of the model; some may have no units.
    policy : what the activity of a routed expert is, a key of :data:`POLICIES`.
    """

    sources: tuple[Source, ...]
    n_layers: int
    policy: str = "contribution"

    def __len__(self) -> int:
        return sum(s.count for s in self.sources)

    def select(self, units: str = "heads", site: str = "z") -> "UnitTable":
        """Units of the kinds that `units` names, read at `site`.

        Raises
        ------
        ConfigError
            There is no such name, or the model has no such units at that site.
        """
        check_names(units, site)
        chosen = self.of_kinds(UNITS[units], site)
        if not chosen.sources:
            kinds = {s.kind for s in self.sources if site in s.sites}
            has = [name for name, of in UNITS.items() if kinds.intersection(of)]
            raise ConfigError(
                given=f"units {units!r} at site {site!r}",
                expected=f"units that this model has there: {', '.join(has)}",
                cause=_ABSENT.get(units, "it has none in any layer"),
                remedy="choose among these, or another model",
            )
        return chosen

    def of_kinds(self, kinds: Collection[str], site: str = "z") -> "UnitTable":
        """Units of these kinds, read at `site`; none where there are none."""
        chosen = [s for s in self.sources if s.kind in kinds and site in s.sites]
        order = list(KINDS)
        chosen.sort(key=lambda s: (s.layer, order.index(s.kind), s.first))
        return replace(self, sources=tuple(chosen))

    @property
    def has_experts(self) -> bool:
        """Whether some unit is an expert, so that a policy matters."""
        return any(s.kind in UNITS["experts"] for s in self.sources)

    @property
    def label(self) -> tuple[str, ...]:
        """Labels such as ``L07H03``."""
        letters = [KINDS[kind] for kind in self.kind]
        return tuple(map(unit_label, self.layer.tolist(), self.index.tolist(), letters))

    def labels_of(self, source: Source) -> tuple[str, ...]:
        """Labels of the units of one source."""
        return replace(self, sources=(source,)).label

    @property
    def kind(self) -> tuple[str, ...]:
        """What each unit is."""
        return tuple(s.kind for s in self.sources for _ in range(s.count))

    @property
    def layer(self) -> Int[np.ndarray, " unit"]:
        """Decoder layer of each unit, from 0."""
        return _int32(s.layer for s in self.sources for _ in range(s.count))

    @property
    def index(self) -> Int[np.ndarray, " unit"]:
        """Which of its kind it is within the layer, from 0."""
        return _int32(chain.from_iterable(range(s.first, s.first + s.count) for s in self.sources))

    @property
    def kv_group(self) -> Int[np.ndarray, " unit"]:
        """Key/value group within the layer, from 0; -1 where there is none."""
        return _int32(chain.from_iterable(s.kv_groups for s in self.sources))

    @property
    def module(self) -> tuple[str, ...]:
        """Name of the module at which each unit is read."""
        return tuple(s.module for s in self.sources for _ in range(s.count))

    @property
    def start(self) -> Int[np.ndarray, " unit"]:
        """First feature of what is read that is the unit's."""
        return _int32(i * s.width for s in self.sources for i in range(s.count))

    @property
    def stop(self) -> Int[np.ndarray, " unit"]:
        """One past the last such feature."""
        return _int32((i + 1) * s.width for s in self.sources for i in range(s.count))

    def columns(self) -> tuple[slice, ...]:
        """Range of units of each source, in the order of `sources`."""
        ends = tuple(accumulate(s.count for s in self.sources))
        return tuple(slice(a, b) for a, b in zip((0, *ends), ends, strict=False))


#: Why a model may lack units that it seems to have.
_ABSENT: Final = MappingProxyType(
    {
        "experts": "the model has no experts, it has them in a loop of its own (JetMoE, DBRX), or "
        "each is a module of its own",
    }
)


def check_names(units: str, site: str, policy: str = "contribution") -> None:
    """Refuse a name of units, of a site or of a policy that no model has."""
    for name, value, known in (
        ("units", units, UNITS),
        ("site", site, SITES),
        ("policy", policy, POLICIES),
    ):
        if value not in known:
            raise ConfigError(
                given=f"{name} {value!r}",
                expected=f"one of {', '.join(known)}",
                remedy="choose one of these names",
            )


def _int32(values: Iterable[int]) -> Int[np.ndarray, " unit"]:
    return np.fromiter(values, dtype=np.int32)

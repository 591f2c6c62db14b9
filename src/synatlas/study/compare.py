"""Models side by side: each with replies of its own, on common tokens, and with fresh weights."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, final

from synatlas.config import MapConfig
from synatlas.errors import ConfigError
from synatlas.models.units import UNITS
from synatlas.study.cells import Cell, checked, fed, slug
from synatlas.study.recipe import Study

#: Models where none are named: those of the package's own family that are at hand.
FAMILY: Final = (
    "bundled:reference",
    "bundled:dense",
    "bundled:small",
    "bundled:moe",
    "bundled:recurrent",
    "bundled:dense@step0",
)

#: What a cell is of its model.
OWN, COMMON, FRESH = "own replies", "common tokens", "fresh weights"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A model to compare.

    Parameters
    ----------
    name : as it is shown: the given text.
    model, revision : what is loaded.
    units : what is a node of it.
    """

    name: str
    model: str
    revision: str | None
    units: str


def entry(text: str, units: str = "mixers") -> Entry:
    """Read ``MODEL``, ``MODEL@REVISION``, ``MODEL=UNITS`` or both, the revision first.

    Raises
    ------
    ConfigError
        The units have no such name.
    """
    if Path(text).is_dir():
        return Entry(name=Path(text).resolve().name, model=text, revision=None, units=units)
    rest, _, chosen = text.partition("=")
    if chosen and chosen not in UNITS:
        raise ConfigError(
            given=f"the model {text}",
            expected=f"after = one of {', '.join(UNITS)}",
            remedy="write for example bundled:moe=experts",
        )
    model, _, revision = rest.partition("@")
    folder = Path(model)
    name = text if not folder.is_dir() else text.replace(model, folder.resolve().name)
    return Entry(name=name, model=model, revision=revision or None, units=chosen or units)


def compare_study(
    models: Sequence[Entry],
    groups: Sequence[int],
    base: MapConfig,
    *,
    seeds: int = 2,
) -> Study:
    """Cells of a comparison.

    Every model generates replies of its own; every model but the first of its group also reads
    those of the first; and its architecture with fresh weights, once for each seed, reads these
    too.

    Parameters
    ----------
    models : what is compared.
    groups : for each model a number that it shares with those that have its tokenizer.
    base : settings of every run beside model, revision, units and weights.
    seeds : fresh weights of each architecture.

    Raises
    ------
    ConfigError
        Fewer than two models, one named twice, or a negative number of seeds.
    """
    names = [m.name for m in models]
    if len(models) < 2 or len(set(names)) < len(names) or seeds < 0:
        raise ConfigError(
            given=f"{len(models)} models ({', '.join(names)}), {seeds} seeds of fresh weights",
            expected="at least two models, each once, and a whole number of seeds from 0",
            remedy="name other models, or the same with another revision or other units",
        )
    cells: list[Cell] = []
    first: dict[int, Cell] = {}
    for model, group in zip(models, groups, strict=True):
        config = replace(base, model=model.model, revision=model.revision, units=model.units)
        reading = fed(config)
        own = Cell(
            name=slug(model.name),
            config=config,
            labels={"compared": model.name, "role": OWN, "init_seed": -1, "group": group},
            measured=True,
        )
        source = first.setdefault(group, own)
        cells.append(own)
        if source is not own:
            labels = {**own.labels, "role": COMMON}
            cells.append(_reading(f"{own.name}_common", reading, labels, source))
        for seed in range(seeds):
            fresh = replace(reading, revision=None, random_init=True, init_seed=seed)
            if not model.model.startswith("bundled:"):
                fresh = replace(fresh, revision=model.revision)
            labels = {**own.labels, "role": FRESH, "init_seed": seed}
            cells.append(_reading(f"{own.name}_fresh{seed}", fresh, labels, source))
    return Study(
        name=slug("compare_" + "_".join(Path(m.model).name for m in models))[:80],
        question="Is the profile over depth the same in these models, and that of fresh weights?",
        cells=checked(cells),
    )


def _reading(name: str, config: MapConfig, labels: dict[str, str | int], source: Cell) -> Cell:
    return Cell(name=name, config=config, labels=labels, reads=source.name)


def tokenizer_groups(models: Sequence[Entry], *, trust_remote_code: bool = False) -> list[int]:
    """For each model the place of the first with the same vocabulary and the same tokens of a text.

    Raises
    ------
    ModelError
        A model or its tokenizer cannot be had.
    """
    from synatlas.models.load import tokenizer_of

    sample = "Question: What is 12 + 30?\nAnswer: forty-two, naïvely."
    seen: list[tuple[dict[str, int], list[int]]] = []
    for model in models:
        tokenizer = tokenizer_of(
            model.model, revision=model.revision, trust_remote_code=trust_remote_code
        )
        seen.append((tokenizer.get_vocab(), list(tokenizer.encode(sample))))
    return [seen.index(one) for one in seen]

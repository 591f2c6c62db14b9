"""Cells of a study: one run each, with what tells it from the others."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Final, final

from synatlas.config import MapConfig
from synatlas.errors import ConfigError

#: Settings of a run that a study decides itself.
NOT_FOR_CELLS: Final = ("out", "force")

#: Settings of every run of a study of many runs where none are given: each is light, and enough
#: for the shapes that are compared. Replies are short because those of small models repeat
#: themselves once the question is answered.
LIGHT: Final[Mapping[str, Any]] = {
    "tokens": 48,
    "nulls": ("window_shift", "same_step"),
    "surrogates": 49,
}

#: Settings that belong to generating, and not to reading the replies of another run.
_ASKING: Final = ("prompts", "prompt_style", "system", "stop_at_eos")

#: What a label of a cell may be.
Label = str | int | float | bool


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run of a study.

    Parameters
    ----------
    name : its folder under ``cells``.
    config : its settings; the study decides the folder.
    labels : what it stands for, such as its step or seed; columns of the table.
    reads : name of the cell whose prompts and replies it is fed; empty where it generates its own.
    measured : whether the loss and the accuracy of its model are taken too.
    """

    name: str
    config: MapConfig
    labels: Mapping[str, Label] = field(default_factory=dict)
    reads: str = ""
    measured: bool = False

    def within(self, folder: Path, *, force: bool = False) -> MapConfig:
        """Its settings as a run in the study's folder; `force` replaces another that is there."""
        source = str(cell_folder(folder, self.reads)) if self.reads else self.config.replies_of
        return replace(
            self.config, out=str(cell_folder(folder, self.name)), replies_of=source, force=force
        )


def fed(config: MapConfig) -> MapConfig:
    """The same settings for a run that reads replies: what was asked and generated elsewhere."""
    defaults = MapConfig()
    return replace(config, **{name: getattr(defaults, name) for name in _ASKING})


def cell_folder(folder: Path, name: str) -> Path:
    """Run folder of the cell `name`."""
    return folder / "cells" / name


def slug(text: str) -> str:
    """`text` with what a file name may hold."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "cell"


def grid(base: MapConfig, axes: Mapping[str, Sequence[Any]]) -> tuple[Cell, ...]:
    """Every combination of the values of `axes`.

    Parameters
    ----------
    base : settings of every cell.
    axes : setting -> its values; each of them becomes a label.

    Raises
    ------
    ConfigError
        An axis is no setting of a run, or has no or repeated values.
    """
    known = sorted(MapConfig.names() - set(NOT_FOR_CELLS))
    for name, values in axes.items():
        if name not in known:
            raise ConfigError(
                given=f"an axis {name}",
                expected=f"a setting of a run: {', '.join(known)}",
                remedy="choose one of these names",
            )
        if not values or len({repr(v) for v in values}) < len(values):
            raise ConfigError(
                given=f"axis {name} with the values {list(values)}",
                expected="at least one value, each once",
                remedy="list every value once",
            )
    cells = []
    for values in product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        name = "_".join(_shown(key, value) for key, value in chosen.items()) or "cell"
        config = MapConfig.from_settings(base.identity(), **chosen)
        labels = {key: "" if value is None else value for key, value in chosen.items()}
        cells.append(Cell(name=slug(name), config=config, labels=labels))
    return checked(cells)


def _shown(key: str, value: Any) -> str:
    if isinstance(value, str):
        return Path(value).name if Path(value).is_dir() else value
    if isinstance(value, bool):
        return key if value else f"no-{key}"
    return f"{key}{value}"


def checked(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """The cells, with names that differ; every setting that needs no model is right.

    Raises
    ------
    ConfigError
        There are no cells, a cell reads one that does not exist or comes later, or a setting is
        out of range.
    """
    names: dict[str, int] = {}
    found: list[Cell] = []
    for cell in cells:
        times = names.get(cell.name, 0)
        names[cell.name] = times + 1
        name = f"{cell.name}-{times + 1}" if times else cell.name
        if cell.reads and cell.reads not in {c.name for c in found}:
            raise ConfigError(
                given=f"the cell {name}, which reads {cell.reads}",
                expected="the name of a cell before it",
                remedy="put the cell that generates first",
            )
        cell.config.check()
        found.append(replace(cell, name=name))
    if not found:
        raise ConfigError(
            given="a study without cells",
            expected="at least one",
            remedy="give it axes, cells or models",
        )
    return tuple(found)

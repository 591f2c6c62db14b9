"""A study as a small TOML file."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, final

from synatlas.config import MapConfig, read_toml
from synatlas.errors import ConfigError
from synatlas.study.cells import Cell, checked, grid, slug

#: Tables and keys of a recipe.
KEYS: Final = ("name", "question", "measured", "map", "axes", "cell")


#: Keys of a cell that are no settings of its run.
_OF_CELLS: Final = ("name", "labels", "reads", "measured")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A named set of cells, and the question they are to answer."""

    name: str
    question: str
    cells: tuple[Cell, ...]


def read_recipe(path: str | Path) -> Study:
    """Read a study from a TOML file.

    ``name`` and ``question`` are texts; the table ``[map]`` holds settings of every cell, as
    :class:`synatlas.config.MapConfig`; ``[axes]`` holds settings with a list of values, of which
    every combination is a cell; each ``[[cell]]`` is one more, with settings of its own beside
    ``name``, ``labels``, ``reads``, the name of the cell whose replies it is fed, and ``measured``,
    whether the loss and accuracy of its model are taken; ``measured`` beside ``name`` is that of
    every cell.

    Raises
    ------
    ConfigError
        The file cannot be read, has an unknown key, or a setting is out of range.
    """
    return study_of(read_toml(path), name=Path(path).stem)


def study_of(tables: Mapping[str, Any], *, name: str) -> Study:
    """As :func:`read_recipe`, of tables in memory; `name` where they state none."""
    unknown = sorted(set(tables) - set(KEYS))
    if unknown:
        raise ConfigError(
            given=f"a recipe with {', '.join(unknown)}",
            expected=f"the keys {', '.join(KEYS)}",
            remedy="put settings of runs under [map]",
        )
    base = MapConfig.from_settings(tables.get("map", {}))
    axes = {key: [_value(key, v) for v in vs] for key, vs in tables.get("axes", {}).items()}
    cells = [*grid(base, axes)] if axes else []
    cells += [_cell(base, table, i) for i, table in enumerate(tables.get("cell", ()))]
    everywhere = tables.get("measured") is True
    return Study(
        name=slug(str(tables.get("name", name))),
        question=str(tables.get("question", "")),
        cells=checked(replace(c, measured=c.measured or everywhere) for c in cells),
    )


def _value(key: str, value: Any) -> Any:
    # TOML has no null: an empty text stands for a setting that is not given.
    absent = value == "" and key in MapConfig.names() and MapConfig.may_be_absent(key)
    return None if absent else tuple(value) if isinstance(value, list) else value


def _cell(base: MapConfig, table: Mapping[str, Any], at: int) -> Cell:
    settings = {k: _value(k, v) for k, v in table.items() if k not in _OF_CELLS}
    return Cell(
        name=slug(str(table.get("name", f"cell-{at + 1}"))),
        config=MapConfig.from_settings({**base.identity(), **settings}),
        labels=table.get("labels", {}),
        reads=str(table.get("reads", "")),
        measured=table.get("measured") is True,
    )

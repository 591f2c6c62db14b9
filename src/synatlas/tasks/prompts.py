"""Prompts and the files they are read from."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from synatlas.errors import PromptFileError
from synatlas.tasks.rows import Kind, check_unique, label_of, read_rows, text_of

UNCATEGORISED = "uncategorised"
_KIND: Final = Kind(noun="prompt", column="prompt", others="and 'id' and 'category' where wanted")


@final
@dataclass(frozen=True)
class Prompts:
    """Prompts with their names and categories, in order.

    Attributes
    ----------
    ids
        Unique names.
    texts
        The prompts.
    categories
        One category for each.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    categories: tuple[str, ...]

    def __post_init__(self) -> None:
        lengths = {len(self.ids), len(self.texts), len(self.categories)}
        if len(lengths) > 1 or not self.ids:
            raise PromptFileError(
                given=f"{len(self.ids)} ids, {len(self.texts)} texts and "
                f"{len(self.categories)} categories",
                expected="at least one prompt, and an id and a category for each",
                cause="the lists were built separately",
                remedy="give lists of the same length",
            )
        repeated = [name for name, count in Counter(self.ids).items() if count > 1]
        if repeated:
            raise PromptFileError(
                given=f"the id {repeated[0]!r} more than once",
                expected="a different id for each prompt",
                cause="rows were copied or files joined",
                remedy="make the ids unique, or leave the column out to have them numbered",
            )

    def __len__(self) -> int:
        return len(self.ids)


def read_prompts(path: str | Path) -> Prompts:
    """Read prompts from a .csv, .jsonl or .parquet file.

    Parameters
    ----------
    path
        File with a column ``prompt``; ``id`` (default p000, p001, ...) and ``category`` (default
        "uncategorised") are optional, other columns are ignored.

    Returns
    -------
    Prompts
        In the order of the file.

    Raises
    ------
    PromptFileError
        If the file is missing, of another kind, damaged or empty, has no column ``prompt``, or
        a prompt is blank or not text, or an id occurs twice.
    """
    path = Path(path)
    rows = list(enumerate(read_rows(path, _KIND), start=1))
    texts = [text_of(path, _KIND, row, "prompt", number) for number, row in rows]
    ids = [label_of(path, _KIND, row, "id", f"p{n - 1:03d}", n) for n, row in rows]
    categories = [label_of(path, _KIND, row, "category", UNCATEGORISED, n) for n, row in rows]
    remedy = "make the ids unique, or leave the column out to have them numbered"
    check_unique(path, _KIND, ids, "id", remedy)
    return Prompts(tuple(ids), tuple(texts), tuple(categories))

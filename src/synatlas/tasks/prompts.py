"""Prompts and the files they are read from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from synatlas.errors import PromptFileError

UNCATEGORISED = "uncategorised"
_COLUMNS_EXPECTED = "a column 'prompt', and 'id' and 'category' where wanted"


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
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise PromptFileError(
            given=f"prompt file {path} with suffix {path.suffix or '(none)'!r}",
            expected=f"one of {', '.join(READERS)}",
            cause="the suffix says how the file is read",
            remedy="save the prompts in one of these formats and name the file accordingly",
        )
    if not path.is_file():
        raise PromptFileError(
            given=f"prompt file {path}",
            expected="an existing file",
            cause="it is a folder"
            if path.is_dir()
            else "the path is mistyped or relative to another folder",
            remedy="check the path",
        )
    rows = reader(path)
    if not rows:
        _refuse(path, "no prompts", "at least one row", "the file is empty", "add prompts to it")
    return _to_prompts(path, rows)


def _to_prompts(path: Path, rows: Sequence[dict[str, Any]]) -> Prompts:
    texts = [_text(path, row, number) for number, row in enumerate(rows, start=1)]
    ids = [_label(path, row, "id", f"p{number:03d}", number + 1) for number, row in enumerate(rows)]
    categories = [
        _label(path, row, "category", UNCATEGORISED, number)
        for number, row in enumerate(rows, start=1)
    ]
    _check_unique(path, ids)
    return Prompts(tuple(ids), tuple(texts), tuple(categories))


def _text(path: Path, row: dict[str, Any], number: int) -> str:
    if "prompt" not in row:
        _refuse(
            path,
            f"row {number} with the columns {', '.join(map(str, row)) or '(none)'}",
            _COLUMNS_EXPECTED,
            "the column has another name, or the header line is missing",
            "name the column of the prompts 'prompt'",
        )
    text = row["prompt"]
    if not isinstance(text, str) or (path.suffix.lower() == ".csv" and _is_number(text)):
        _refuse(
            path,
            f"row {number}: the prompt {_shown(text)}",
            "text",
            "another column was named 'prompt', or a value is missing",
            "write the prompt as text",
        )
    if not text.strip():
        _refuse(
            path,
            f"row {number}: a blank prompt",
            "text",
            "an empty line or cell",
            "fill it in or remove the row",
        )
    return text


def _label(path: Path, row: dict[str, Any], column: str, default: str, number: int) -> str:
    value = row.get(column)
    if value is None or (isinstance(value, str) and not value.strip()):
        return default
    if isinstance(value, bool) or not isinstance(value, str | int):
        _refuse(
            path,
            f"row {number}: the {column} {_shown(value)}",
            "text or a whole number",
            "a nested or decimal value",
            f"write the {column} as text",
        )
    return str(value)


def _check_unique(path: Path, ids: Sequence[str]) -> None:
    first_row: dict[str, int] = {}
    for number, name in enumerate(ids, start=1):
        if name in first_row:
            _refuse(
                path,
                f"the id {name!r} in the rows {first_row[name]} and {number}",
                "a different id for each prompt",
                "rows were copied or files joined",
                "make the ids unique, or leave the column out to have them numbered",
            )
        first_row[name] = number


def _is_number(text: str) -> bool:
    # Cells of a CSV file are always text; a column of numbers is a mistake all the same.
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_csv(path: Path) -> list[dict[str, Any]]:
    try:
        table = pd.read_csv(
            path, dtype=str, keep_default_na=False, encoding="utf-8-sig", on_bad_lines="error"
        )
    except UnicodeDecodeError as error:
        _refuse_encoding(path, error)
    except pd.errors.EmptyDataError:
        return []
    except (pd.errors.ParserError, ValueError) as error:
        _refuse_damaged(path, "CSV", str(error))
    if len(table) and not isinstance(table.index, pd.RangeIndex):
        # pandas takes surplus cells at the front of every row as row names.
        _refuse_damaged(path, "CSV", "rows have more cells than the header has names")
    if len(table) == 0 and len(table.columns) > 0 and "prompt" not in table.columns:
        return [dict.fromkeys(table.columns, "")]
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        _refuse_encoding(path, error)
    rows: list[dict[str, Any]] = []
    # Not splitlines(): it would also break at line separators inside a JSON text.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            _refuse_damaged(path, "JSON lines", f"line {number}: {error}")
        if not isinstance(row, dict):
            _refuse(
                path,
                f"line {number}: {_shown(row)}",
                'a JSON object such as {"prompt": "..."}',
                "the file is a list of values, or one JSON document over several lines",
                "write one object per line",
            )
        rows.append(row)
    return rows


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    if path.stat().st_size == 0:
        return []
    try:
        table = pq.read_table(path)
    except UnicodeDecodeError as error:
        _refuse_encoding(path, error)
    except (pa.ArrowException, OSError) as error:
        _refuse_damaged(path, "Parquet", str(error))
    if "prompt" not in table.column_names:
        return [dict.fromkeys(table.column_names)]
    try:
        return table.to_pylist()
    except UnicodeDecodeError as error:
        _refuse_encoding(path, error)


#: suffix -> reader of rows
READERS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}


def _refuse_encoding(path: Path, error: UnicodeDecodeError) -> NoReturn:
    _refuse(
        path,
        f"bytes that are not UTF-8 ({error.reason} at byte {error.start})",
        "UTF-8 text",
        "the file was saved in another encoding, such as Latin-1 or UTF-16",
        "save it again as UTF-8",
    )


def _refuse_damaged(path: Path, kind: str, detail: str) -> NoReturn:
    _refuse(
        path,
        detail.strip().splitlines()[0] if detail.strip() else "a file that cannot be read",
        f"well-formed {kind}",
        "the file was cut short, edited by hand, or has another format than its suffix says",
        "mend the file at that place or export it again",
    )


def _refuse(path: Path, given: str, expected: str, cause: str, remedy: str) -> NoReturn:
    raise PromptFileError(
        given=f"prompt file {path}: {given}", expected=expected, cause=cause, remedy=remedy
    )


def _shown(value: object) -> str:
    text = json.dumps(value, default=str) if not isinstance(value, str) else repr(value)
    shortened = text if len(text) <= 60 else text[:57] + "..."
    return f"{shortened} ({_KINDS.get(type(value), type(value).__name__)})"


_KINDS: dict[type, str] = {
    type(None): "no value",
    bool: "a truth value",
    int: "a number",
    float: "a number",
    str: "a number, not text",
    list: "a list",
    dict: "nested",
}

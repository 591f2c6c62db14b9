"""Rows of text from files that a user wrote: CSV, JSON lines and Parquet."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from synatlas.errors import PromptFileError


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What the rows of a file are.

    Parameters
    ----------
    noun : one of them, in words.
    column : the column that no file may lack.
    others : the columns that may be there besides, in words.
    """

    noun: str
    column: str
    others: str


def read_rows(path: str | Path, kind: Kind) -> list[dict[str, Any]]:
    """Rows of a .csv, .jsonl or .parquet file, in order.

    A file without rows that lacks the column gives one row without values, so that what is said
    of it names its columns.

    Raises
    ------
    PromptFileError
        The file is missing, of another kind, damaged or empty.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise PromptFileError(
            given=f"{kind.noun} file {path} with suffix {path.suffix or '(none)'!r}",
            expected=f"one of {', '.join(READERS)}",
            cause="the suffix says how the file is read",
            remedy=f"save the {kind.noun}s in one of these formats and name the file accordingly",
        )
    if not path.is_file():
        raise PromptFileError(
            given=f"{kind.noun} file {path}",
            expected="an existing file",
            cause="it is a folder"
            if path.is_dir()
            else "the path is mistyped or relative to another folder",
            remedy="check the path",
        )
    rows = reader(path, kind)
    if not rows:
        refuse(
            path,
            kind,
            given=f"no {kind.noun}s",
            expected="at least one row",
            cause="the file is empty",
            remedy=f"add {kind.noun}s to it",
        )
    return rows


def refuse(
    path: Path, kind: Kind, *, given: str, expected: str, cause: str, remedy: str
) -> NoReturn:
    """Say what is wrong with a file."""
    raise PromptFileError(
        given=f"{kind.noun} file {path}: {given}", expected=expected, cause=cause, remedy=remedy
    )


def text_of(path: Path, kind: Kind, row: dict[str, Any], column: str, number: int) -> str:
    """The text in a column of row `number`, counted from 1.

    Raises
    ------
    PromptFileError
        The column is not there, or what it has is blank or no text.
    """
    if column not in row:
        refuse(
            path,
            kind,
            given=f"row {number} with the columns {', '.join(map(str, row)) or '(none)'}",
            expected=f"a column '{column}', {kind.others}",
            cause="the column has another name, or the header line is missing",
            remedy=f"name the column of the {column}s '{column}'",
        )
    text = row[column]
    if not isinstance(text, str) or (path.suffix.lower() == ".csv" and _is_number(text)):
        refuse(
            path,
            kind,
            given=f"row {number}: the {column} {shown(text)}",
            expected="text",
            cause=f"another column was named '{column}', or a value is missing",
            remedy=f"write the {column} as text",
        )
    if not text.strip():
        refuse(
            path,
            kind,
            given=f"row {number}: a blank {column}",
            expected="text",
            cause="an empty line or cell",
            remedy="fill it in or remove the row",
        )
    return text


def label_of(
    path: Path, kind: Kind, row: dict[str, Any], column: str, default: str, number: int
) -> str:
    """The text or whole number in an optional column of row `number`, as text."""
    value = row.get(column)
    if value is None or (isinstance(value, str) and not value.strip()):
        return default
    if isinstance(value, bool) or not isinstance(value, str | int):
        refuse(
            path,
            kind,
            given=f"row {number}: the {column} {shown(value)}",
            expected="text or a whole number",
            cause="a nested or decimal value",
            remedy=f"write the {column} as text",
        )
    return str(value)


def check_unique(path: Path, kind: Kind, values: Sequence[str], column: str, remedy: str) -> None:
    """Refuse a value that two rows share."""
    first_row: dict[str, int] = {}
    for number, value in enumerate(values, start=1):
        if value in first_row:
            refuse(
                path,
                kind,
                given=f"the {column} {_short(repr(value))} in the rows {first_row[value]} and "
                f"{number}",
                expected=f"a different {column} for each {kind.noun}",
                cause="rows were copied or files joined",
                remedy=remedy,
            )
        first_row[value] = number


def shown(value: object) -> str:
    """A value in a message, shortened, with what it is."""
    text = json.dumps(value, default=str) if not isinstance(value, str) else repr(value)
    return f"{_short(text)} ({_KINDS.get(type(value), type(value).__name__)})"


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def _is_number(text: str) -> bool:
    # Cells of a CSV file are always text; a column of numbers is a mistake all the same.
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_csv(path: Path, kind: Kind) -> list[dict[str, Any]]:
    try:
        table = pd.read_csv(
            path, dtype=str, keep_default_na=False, encoding="utf-8-sig", on_bad_lines="error"
        )
    except UnicodeDecodeError as error:
        _refuse_encoding(path, kind, error)
    except pd.errors.EmptyDataError:
        return []
    except (pd.errors.ParserError, ValueError) as error:
        _refuse_damaged(path, kind, "CSV", str(error))
    if len(table) and not isinstance(table.index, pd.RangeIndex):
        # pandas takes surplus cells at the front of every row as row names.
        _refuse_damaged(path, kind, "CSV", "rows have more cells than the header has names")
    if len(table) == 0 and len(table.columns) > 0 and kind.column not in table.columns:
        return [dict.fromkeys(table.columns, "")]
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def _read_jsonl(path: Path, kind: Kind) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        _refuse_encoding(path, kind, error)
    rows: list[dict[str, Any]] = []
    # Not splitlines(): it would also break at line separators inside a JSON text.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            _refuse_damaged(path, kind, "JSON lines", f"line {number}: {error}")
        if not isinstance(row, dict):
            refuse(
                path,
                kind,
                given=f"line {number}: {shown(row)}",
                expected=f'a JSON object such as {{"{kind.column}": "..."}}',
                cause="the file is a list of values, or one JSON document over several lines",
                remedy="write one object per line",
            )
        rows.append(row)
    return rows


def _read_parquet(path: Path, kind: Kind) -> list[dict[str, Any]]:
    if path.stat().st_size == 0:
        return []
    try:
        table = pq.read_table(path)
    except UnicodeDecodeError as error:
        _refuse_encoding(path, kind, error)
    except (pa.ArrowException, OSError) as error:
        _refuse_damaged(path, kind, "Parquet", str(error))
    if kind.column not in table.column_names:
        return [dict.fromkeys(table.column_names)]
    try:
        return table.to_pylist()
    except UnicodeDecodeError as error:
        _refuse_encoding(path, kind, error)


#: suffix -> reader of rows
READERS: dict[str, Callable[[Path, Kind], list[dict[str, Any]]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}


def _refuse_encoding(path: Path, kind: Kind, error: UnicodeDecodeError) -> NoReturn:
    refuse(
        path,
        kind,
        given=f"bytes that are not UTF-8 ({error.reason} at byte {error.start})",
        expected="UTF-8 text",
        cause="the file was saved in another encoding, such as Latin-1 or UTF-16",
        remedy="save it again as UTF-8",
    )


def _refuse_damaged(path: Path, kind: Kind, name: str, detail: str) -> NoReturn:
    refuse(
        path,
        kind,
        given=detail.strip().splitlines()[0] if detail.strip() else "a file that cannot be read",
        expected=f"well-formed {name}",
        cause="the file was cut short, edited by hand, or has another format than its suffix says",
        remedy="mend the file at that place or export it again",
    )


_KINDS: dict[type, str] = {
    type(None): "no value",
    bool: "a truth value",
    int: "a number",
    float: "a number",
    str: "a number, not text",
    list: "a list",
    dict: "nested",
}

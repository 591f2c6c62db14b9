"""Prompt files: what is read, and what is refused with a message that helps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synatlas.errors import InputError, PromptFileError
from synatlas.tasks.prompts import UNCATEGORISED, Prompts, read_prompts

ROWS = [
    {"id": "a", "prompt": "What is red?", "category": "colour"},
    {"id": "b", "prompt": 'She said, "no", and left.', "category": "story"},
]


def write(folder: Path, name: str, rows: Sequence[Mapping[str, object]]) -> Path:
    path = folder / name
    if path.suffix == ".csv":
        pd.DataFrame([dict(row) for row in rows]).to_csv(path, index=False)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)
    return path


@pytest.mark.parametrize("name", ["p.csv", "p.jsonl", "p.parquet", "p.CSV"])
def test_all_formats_say_the_same(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name.lower(), ROWS).rename(tmp_path / name)
    prompts = read_prompts(path)
    assert prompts.ids == ("a", "b")
    assert prompts.texts == tuple(row["prompt"] for row in ROWS)
    assert prompts.categories == ("colour", "story")


@pytest.mark.parametrize("name", ["p.csv", "p.jsonl", "p.parquet"])
def test_ids_and_categories_have_defaults(tmp_path: Path, name: str) -> None:
    prompts = read_prompts(write(tmp_path, name, [{"prompt": "One?"}, {"prompt": "Two?"}]))
    assert prompts.ids == ("p000", "p001")
    assert prompts.categories == (UNCATEGORISED, UNCATEGORISED)


@pytest.mark.parametrize("name", ["p.jsonl", "p.parquet"])
def test_whole_numbers_are_ids(tmp_path: Path, name: str) -> None:
    assert read_prompts(write(tmp_path, name, [{"id": 7, "prompt": "One?"}])).ids == ("7",)


def test_byte_order_mark_and_blank_lines_are_accepted(tmp_path: Path) -> None:
    csv = tmp_path / "p.csv"
    csv.write_bytes(b"\xef\xbb\xbfprompt\nOne?\n")
    jsonl = tmp_path / "p.jsonl"
    jsonl.write_bytes(b'\xef\xbb\xbf{"prompt": "One?"}\n\n')
    assert read_prompts(csv).texts == read_prompts(str(jsonl)).texts == ("One?",)


def test_words_that_look_like_missing_values_are_prompts(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("prompt\nNA\nnull\n", encoding="utf-8")
    assert read_prompts(path).texts == ("NA", "null")


prompt_texts = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30
).filter(lambda text: text.strip() != "")


@settings(deadline=None)
@given(texts=st.lists(prompt_texts, min_size=1, max_size=5))
def test_json_lines_keep_any_text(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    path = tmp_path_factory.mktemp("prompts") / "p.jsonl"
    lines = [json.dumps({"prompt": text}, ensure_ascii=False) for text in texts]
    path.write_text("\n".join(lines), encoding="utf-8")
    assert read_prompts(path).texts == tuple(texts)


BAD_FILES: dict[str, tuple[str, bytes, str]] = {
    "unknown suffix": ("p.txt", b"hello", ".csv, .jsonl, .parquet"),
    "no suffix": ("prompts", b"hello", "(none)"),
    "empty csv": ("p.csv", b"", "no prompts"),
    "empty jsonl": ("p.jsonl", b"\n", "no prompts"),
    "empty parquet": ("p.parquet", b"", "no prompts"),
    "csv with a header only": ("p.csv", b"id,prompt\n", "no prompts"),
    "csv header only, no prompt": ("p.csv", b"id,text\n", "id, text"),
    "csv without prompt": ("p.csv", b"id,text\na,hello\n", "id, text"),
    "jsonl without prompt": ("p.jsonl", b'{"text": "hello"}\n', "columns text"),
    "jsonl with an empty object": ("p.jsonl", b"{}\n", "(none)"),
    "csv in Latin-1": ("p.csv", "prompt\ncaf\xe9 au lait\n".encode("latin-1"), "UTF-8"),
    "jsonl in UTF-16": ("p.jsonl", '{"prompt": "x"}\n'.encode("utf-16"), "UTF-8"),
    "csv with a long row": ("p.csv", b"id,prompt\na,hello\nb,well,yes\n", "line 3"),
    "csv with long rows": ("p.csv", b"id,prompt\na,hello,yes\n", "more cells"),
    "csv with an open quote": ("p.csv", b'prompt\n"hello\n', "well-formed CSV"),
    "broken json": ("p.jsonl", b'{"prompt": "a"}\n{"prompt": \n', "line 2"),
    "json number": ("p.jsonl", b'{"prompt": "a"}\n5\n', "line 2"),
    "json list": ("p.jsonl", b'[{"prompt": "a"}]\n', "line 1"),
    "json null": ("p.jsonl", b"null\n", "line 1"),
    "deep json": ("p.jsonl", b"[" * 100_000 + b"\n", "line 1"),
    "json with an endless number": ("p.jsonl", b'{"prompt": ' + b"9" * 5000 + b"}\n", "line 1"),
    "parquet of text": ("p.parquet", b"prompt\nhello\n", "Parquet"),
    "csv number": ("p.csv", b"prompt\nhello\n123\n", "row 2"),
    "csv decimal": ("p.csv", b"prompt\n-1.5e3\n", "number"),
    "jsonl number": ("p.jsonl", b'{"prompt": 5}\n', "row 1"),
    "jsonl null": ("p.jsonl", b'{"prompt": "a"}\n{"prompt": null}\n', "row 2"),
    "jsonl truth": ("p.jsonl", b'{"prompt": true}\n', "a truth value"),
    "jsonl nested": ("p.jsonl", b'{"prompt": {"text": "a"}}\n', "nested"),
    "jsonl list": ("p.jsonl", b'{"prompt": ["a"]}\n', "a list"),
    "csv blank": ("p.csv", b'prompt,id\nhello,a\n"  ",b\n', "row 2"),
    "jsonl blank": ("p.jsonl", b'{"prompt": " \\t"}\n', "blank"),
    "duplicate ids": ("p.csv", b"id,prompt\na,x y\nb,y\na,z\n", "rows 1 and 3"),
    "number and text id alike": (
        "p.jsonl",
        b'{"id": 1, "prompt": "x"}\n{"id": "1", "prompt": "y"}\n',
        "'1'",
    ),
    "an id like a default": (
        "p.jsonl",
        b'{"id": "p001", "prompt": "x"}\n{"prompt": "y"}\n',
        "'p001'",
    ),
    "nested id": ("p.jsonl", b'{"id": ["a"], "prompt": "x"}\n', "the id"),
    "truth as category": ("p.jsonl", b'{"category": true, "prompt": "x"}\n', "the category"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_are_refused(tmp_path: Path, case: str) -> None:
    name, content, shown = BAD_FILES[case]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(PromptFileError) as caught:
        read_prompts(path)
    assert shown in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [pa.array([1, 2]), pa.array([None, "x"]), pa.array([["a"], ["b"]]), pa.array(["x", " "])],
    ids=["numbers", "null", "nested", "blank"],
)
def test_bad_parquet_columns_are_refused(tmp_path: Path, values: pa.Array) -> None:
    pq.write_table(pa.table({"prompt": values}), tmp_path / "p.parquet")
    with pytest.raises(PromptFileError, match=r"row [12]"):
        read_prompts(tmp_path / "p.parquet")


def test_parquet_without_rows_or_column_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"prompt": pa.array([], pa.string())}), path)
    with pytest.raises(PromptFileError, match="no prompts"):
        read_prompts(path)
    pq.write_table(pa.table({"text": ["a"]}), path)
    with pytest.raises(PromptFileError, match="columns text"):
        read_prompts(path)


def test_truncated_parquet_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "p.parquet", list(ROWS))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(PromptFileError, match="Parquet"):
        read_prompts(path)


@pytest.mark.parametrize("name", ["missing.csv", "missing.parquet"])
def test_missing_files_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(PromptFileError, match="existing file"):
        read_prompts(tmp_path / name)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.csv").mkdir()
    with pytest.raises(PromptFileError, match="it is a folder"):
        read_prompts(tmp_path / "p.csv")


def test_the_error_is_the_users_to_mend() -> None:
    assert issubclass(PromptFileError, InputError)


@pytest.mark.parametrize(
    ("ids", "texts"), [((), ()), (("a",), ("x", "y")), (("a", "a"), ("x", "y"))]
)
def test_prompts_hold_together(ids: tuple[str, ...], texts: tuple[str, ...]) -> None:
    with pytest.raises(PromptFileError):
        Prompts(ids, texts, ("c",) * len(ids))

"""The Python of docs/series.md runs as it stands, and its table of nulls is that of the code.

Run this file to write the table into the page.
"""

import re
from pathlib import Path

from synatlas.decompose.nulls import NULLS

PAGE = Path(__file__).parent.parent / "docs" / "series.md"

#: From the head of the table to the mark after it.
TABLE = re.compile(r"(\| null \| removes .*?\| --- \|\n).*?(?=<!-- end -->)", flags=re.DOTALL)


def with_nulls(text: str) -> str:
    """The page with one row for every null."""
    rows = "".join(
        f"| `{name}` | {null.meaning} | {null.level or 'holds'} |\n" for name, null in NULLS.items()
    )
    return TABLE.sub(lambda found: found.group(1) + rows, text)


def test_the_page_lists_every_null() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert TABLE.search(text)
    assert with_nulls(text) == text, f"run python {Path(__file__).name}"


def test_the_blocks_run_one_after_the_other() -> None:
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) >= 3
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), names)


if __name__ == "__main__":
    PAGE.write_text(with_nulls(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

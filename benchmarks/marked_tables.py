"""Tables in a document, each between ``<!-- table NAME -->`` and ``<!-- end -->``."""

from collections.abc import Mapping
from pathlib import Path


def show_tables(made: Mapping[str, str], document: Path | None) -> None:
    """Print tables by name, or put each that `document` has a mark for over the one there."""
    if document is None:
        for name, content in made.items():
            print(f"\n{name}\n\n{content}")
        return
    text = document.read_text(encoding="utf-8")
    for name, content in made.items():
        begin, end = f"<!-- table {name} -->\n", "<!-- end -->"
        before, found, after = text.partition(begin)
        if found:
            text = f"{before}{begin}{content}\n{end}{after.partition(end)[2]}"
    document.write_text(text, encoding="utf-8")

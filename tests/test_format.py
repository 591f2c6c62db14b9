"""docs/format.md lists what the schemas declare; ``python tests/test_format.py`` writes it anew."""

import importlib
from pathlib import Path

from synatlas.artifact import SCHEMAS, Schema, Variable

PAGE = Path(__file__).parent.parent / "docs" / "format.md"
MARK = "<!-- tables: written by tests/test_format.py -->"


def schemas() -> list[Schema]:
    found = []
    for where in SCHEMAS.values():
        module, name = where.split(":")
        found.append(getattr(importlib.import_module(module), name))
    return found


def row(name: str, variable: Variable) -> str:
    meaning = variable.long_name
    if variable.flags:
        meaning += ": " + ", ".join(f"{k} {v}" for k, v in sorted(variable.flags.items()))
    if not variable.required:
        meaning += " (MAY be absent)"
    dims = ", ".join(variable.dims) or "scalar"
    return f"| `{name}` | {dims} | {variable.dtype} | {variable.units or 'text'} | {meaning} |"


def tables() -> str:
    parts = []
    for schema in schemas():
        parts.append(f"## {schema.name}, version {schema.version}\n")
        parts.append("| variable | dims | dtype | units | meaning |\n|---|---|---|---|---|")
        parts += [row(n, v) for n, v in schema.variables.items()]
        parts.append("\n| coordinate | dims | dtype | units | meaning |\n|---|---|---|---|---|")
        parts += [row(n, v) for n, v in schema.coords.items()]
        attrs = ", ".join(f"`{a}`" for a in schema.attrs)
        always = "`schema`, `schema_version`, `fingerprint`"
        parts.append(f"\nAttributes that MUST be there: {always}, {attrs}.\n")
    return "\n".join(parts)


def test_the_format_page_is_what_the_schemas_declare() -> None:
    assert PAGE.read_text(encoding="utf-8").split(MARK + "\n")[1] == tables()


if __name__ == "__main__":
    head = PAGE.read_text(encoding="utf-8").split(MARK)[0]
    PAGE.write_text(head + MARK + "\n" + tables(), encoding="utf-8")

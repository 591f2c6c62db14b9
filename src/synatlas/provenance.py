"""run.json: what ran, on what, from which parents."""

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from synatlas.errors import RunFolderError

#: Version of the layout of run.json.
RECORD_VERSION: Final = 1

#: Packages whose version can change a number or a figure.
PACKAGES: Final = (
    "synatlas", "torch", "transformers", "tokenizers", "numpy", "scipy", "numba", "xarray",
    "h5netcdf", "plotly",
)  # fmt: skip


def environment() -> dict[str, str]:
    """Versions of Python and of the packages that matter, and the kind of machine."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def now() -> str:
    """The present moment in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_record(path: Path, record: Mapping[str, object]) -> None:
    """Write run.json under a temporary name, then rename it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(
            json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False) + "\n",
            encoding="utf-8",
        )
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_record(path: Path) -> dict[str, Any] | None:
    """Read run.json; None where there is none."""
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(path, f"{type(error).__name__}: {error}") from error
    if not isinstance(record, dict) or record.get("record_version") != RECORD_VERSION:
        raise _unreadable(path, "it is not a run record of this version")
    return record


def _unreadable(path: Path, cause: str) -> RunFolderError:
    return RunFolderError(
        given=f"the run record {path}",
        expected="a run.json as synatlas writes it",
        cause=cause,
        remedy="choose another --out, or pass --force to replace the run",
    )

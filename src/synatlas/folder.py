"""The run folder: one process at a time, one run, complete or resumable."""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from synatlas import provenance
from synatlas.config import differences
from synatlas.errors import RunFolderError

#: Stage -> file, in the order of the journey.
FILES: Final[Mapping[str, str]] = {
    "recording": "recording.nc",
    "atoms": "atoms.nc",
    "atlas": "atlas.nc",
    "divergence": "divergence.nc",
    "ablation_tests": "ablation_tests.nc",
    "report": "report.html",
}

RECORD_FILE: Final = "run.json"
PARTS_FOLDER: Final = ".parts"
LOCK_FILE: Final = ".lock"


def check_writable(folder: Path) -> None:
    """Raise :class:`RunFolderError` if `folder` cannot be made or written; write nothing."""
    if folder.exists() and not folder.is_dir():
        raise _refused(folder, "a file of that name is in the way", "choose another --out")
    existing = folder
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise _refused(
            folder, f"{existing} cannot be written", "choose another --out, or change its rights"
        )


def _refused(folder: Path, cause: str, remedy: str) -> RunFolderError:
    return RunFolderError(
        given=f"the output folder {folder}",
        expected="a folder that can be written",
        cause=cause,
        remedy=remedy,
    )


@contextmanager
def locked(folder: Path) -> Iterator[Path]:
    """Hold `folder` for this process; leave no trace of it where nothing was written.

    The lock is the kernel's: a killed process releases it.
    """
    check_writable(folder)
    made = [p for p in (folder, *folder.parents) if not p.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / LOCK_FILE).open("w")
    except OSError as error:
        raise _refused(folder, str(error.strerror), "choose another --out") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _refused(
                folder,
                "another synatlas process is working in it",
                "wait for it to end, or choose another --out",
            ) from error
        for name in (*FILES.values(), RECORD_FILE):
            for unfinished in folder.glob(f".{name}.*.tmp"):
                # A killed process was writing it; nobody else works here now.
                unfinished.unlink()
        try:
            yield folder
        finally:
            (folder / LOCK_FILE).unlink(missing_ok=True)
            _remove_empty(made)


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        if any(folder.iterdir()):
            return
        folder.rmdir()


def open_record(folder: Path, settings: Mapping[str, Any], *, force: bool) -> dict[str, Any]:
    """The record of this run in `folder`: the stored one, or a new one where there is none.

    Raises
    ------
    RunFolderError
        The folder holds another run and `force` is not given.
    """
    fresh = {
        "record_version": provenance.RECORD_VERSION,
        "status": "running",
        "settings": dict(settings),
        "stages": {},
        "environment": provenance.environment(),
        "started": provenance.now(),
    }
    if force:
        # The files of the other run are replaced one by one as this one's are finished.
        return fresh
    stored = provenance.read_record(folder / RECORD_FILE)
    if stored is None:
        strangers = [name for name in FILES.values() if (folder / name).exists()]
        if strangers:
            raise _another_run(folder, f"{', '.join(strangers)} without a {RECORD_FILE}")
        return fresh
    differing = differences(stored["settings"], settings)
    if differing:
        raise _another_run(folder, "; ".join(differing))
    return stored


def _another_run(folder: Path, cause: str) -> RunFolderError:
    return RunFolderError(
        given=f"the output folder {folder}, which holds another run",
        expected="an empty folder, or one that holds this run",
        cause=f"they differ in {cause}",
        remedy="choose another --out, or pass --force to replace the run that is there",
    )

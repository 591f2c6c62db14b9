"""Sparing the disk: what a study downloads is deleted once no cell needs it any more."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, final

from synatlas import provenance
from synatlas.folder import FILES
from synatlas.models.hub import cached_commits, delete_cached
from synatlas.study.cells import Cell, cell_folder
from synatlas.study.measures import MEASURES_FILE

#: What the study has downloaded and not yet deleted, in its folder.
DOWNLOADS: Final = "downloads.json"


@final
class SpareDisk:
    """Deletes commits of a Hub model from the cache, each after the last cell that needs it.

    A commit of which the cache held any file when the first of its cells began was there before,
    and is kept. What the study downloads is written down before it is, so that an interrupted
    study deletes it when it goes on. A cell that failed needs its commits still.

    Parameters
    ----------
    folder : of the study.
    model : Hub id.
    needs : cell -> commits that it reads, or that are to stay while it runs.
    """

    def __init__(self, folder: Path, model: str, needs: Mapping[str, frozenset[str]]) -> None:
        self._folder = folder
        self._model = model
        self._needs = dict(needs)
        self._complete: set[str] = set()
        self._file = folder / DOWNLOADS
        stored = provenance.read_record(self._file) if self._file.exists() else None
        self._own: set[str] = set(stored["commits"]) if stored else set()
        #: Bytes that were freed.
        self.freed = 0

    def before(self, cell: Cell) -> None:
        """Write down what the cell will download."""
        if self._is_read(cell):
            return
        new = self._needs.get(cell.name, frozenset()) - self._own
        if new and (absent := new - cached_commits(self._model)):
            self._own |= absent
            self._write()

    def after(self, cell: Cell) -> None:
        """Delete what no cell needs any more."""
        self._complete.add(cell.name)
        needed = {
            commit
            for name, commits in self._needs.items()
            if name not in self._complete
            for commit in commits
        }
        for commit in sorted(self._own - needed):
            self.freed += delete_cached(self._model, commit)
            self._own.discard(commit)
            self._write()

    def _is_read(self, cell: Cell) -> bool:
        """Whether nothing of the cell needs its model any more."""
        where = cell_folder(self._folder, cell.name)
        recorded = (where / FILES["recording"]).exists()
        return recorded and (not cell.measured or (where / MEASURES_FILE).exists())

    def _write(self) -> None:
        if not self._own:
            self._file.unlink(missing_ok=True)
            return
        content = {"model": self._model, "commits": sorted(self._own)}
        provenance.write_record(
            self._file, {"record_version": provenance.RECORD_VERSION, **content}
        )

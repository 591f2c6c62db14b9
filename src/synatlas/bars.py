"""Progress and results on the terminal."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from synatlas.progress import Progress


@contextmanager
def bars() -> Iterator[Progress]:
    """A progress bar per part of the work on a terminal, with the time left; else a line each."""
    stderr = Console(stderr=True)
    if not stderr.is_terminal:
        told = set()

        def tell(what: str, done: int, total: int) -> None:
            if what not in told:
                told.add(what)
                stderr.print(f"{what}: {total}", markup=False, highlight=False)

        yield tell
        return
    columns = (
        TextColumn("{task.description:<28}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=stderr, transient=True) as shown:
        tasks = {}

        def advance(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(what)
            shown.update(tasks[what], completed=done, total=total)

        yield advance


def tell(lines: Iterable[str]) -> None:
    """Print lines as they stand."""
    for line in lines:
        Console(soft_wrap=True).print(line, markup=False, highlight=False)

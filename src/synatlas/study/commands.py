"""Commands of the command line that run studies."""

from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from synatlas.bars import bars, tell
from synatlas.errors import StudyError

if TYPE_CHECKING:
    from synatlas.study.study import Done


def run_recipe(
    recipe: Path, /, *, out: Path | None = None, jobs: int = 1, force: bool = False
) -> None:
    """Run the study of a recipe: many maps, one table.

    Example: synatlas run recipes/seeds.toml --jobs 2

    Parameters
    ----------
    recipe
        A TOML file with the tables [map], [axes] and [[cell]].
    out
        Folder of the study; studies/ and its name where not given.
    jobs
        Maps at a time.
    force
        Replace another study that is in the folder.
    """
    from synatlas.study.recipe import read_recipe
    from synatlas.study.study import run_study

    started = monotonic()
    with bars() as progress:
        done = run_study(read_recipe(recipe), out, jobs=jobs, force=force, progress=progress)
    _end(done, monotonic() - started)


def _end(done: "Done", seconds: float) -> None:
    from synatlas.study.summary import lines

    tell(lines(done, seconds))
    if done.failed:
        raise StudyError(
            given=f"{len(done.failed)} of {len(done.outcomes)} maps of {done.study.name}",
            expected="every map to be made",
            cause=f"{done.failed[0].cell.name}: {done.failed[0].failure}",
            remedy="mend this and run the same command: what is complete is reused",
        )

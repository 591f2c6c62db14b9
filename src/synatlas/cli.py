"""The command line: parse, call, print."""

import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from synatlas.bars import bars, tell
from synatlas.commands import ablate
from synatlas.config import MapConfig
from synatlas.errors import InputError
from synatlas.study.commands import compare, difficulty, emerge, run_recipe

if TYPE_CHECKING:
    from synatlas.run import Run

EXIT_INPUT: Final = 2
EXIT_INTERRUPTED: Final = 130

Settings = Annotated[MapConfig, Parameter(name="*")]

app = App(
    name="synatlas",
    help="Find where a language model integrates information, and what of it survives controls.\n\n"
    "Every command takes --debug, which shows where an error arose.",
    help_epilogue="Start with: synatlas map",
    help_format="markdown",
    default_parameter=Parameter(negative=()),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)


@app.command(
    help_epilogue="Examples:\n\n"
    "- synatlas map\n"
    "- synatlas map path/to/model --prompt-style raw --out runs/mine\n"
    "- synatlas map EleutherAI/pythia-70m --revision step3000\n"
    "- synatlas map bundled:reference --random-init"
)
def map(config: Settings = MapConfig()) -> None:  # noqa: B008 - frozen
    """Record a model, decompose, rank, and write the report."""
    from synatlas.run import advance

    started = monotonic()
    with bars() as progress:
        run = advance(config, progress=progress)
    _summary(run, monotonic() - started)


@app.command
def record(config: Settings = MapConfig()) -> None:  # noqa: B008 - frozen
    """Record a model's units over the prompts, and stop there.

    Example: synatlas record bundled:reference --out runs/mine
    """
    from synatlas.run import advance

    started = monotonic()
    with bars() as progress:
        run = advance(config, until="recording", progress=progress)
    _summary(run, monotonic() - started)


@app.command
def decompose(folder: Path, /, *, force: bool = False) -> None:
    """Decompose the recording of a run folder.

    Parameters
    ----------
    folder
        A run folder with a recording.
    force
        Do it again although it is done.
    """
    _resume(folder, "atoms", redo=force)


@app.command
def rank(folder: Path, /, *, force: bool = False) -> None:
    """Rank the units of a run folder.

    Parameters
    ----------
    folder
        A run folder with a recording.
    force
        Do it again although it is done.
    """
    _resume(folder, "atlas", redo=force)


@app.command
def report(folder: Path, /, *, force: bool = False) -> None:
    """Write the report of a run folder.

    Parameters
    ----------
    folder
        A run folder with a recording.
    force
        Do it again although it is done.
    """
    _resume(folder, "report", redo=force)


def _resume(folder: Path, until: str, *, redo: bool) -> None:
    from synatlas.run import resume

    started = monotonic()
    with bars() as progress:
        run = resume(folder, until=until, redo=redo, progress=progress)
    _summary(run, monotonic() - started)


@app.command
def models(*, check: str = "") -> None:
    """List the bundled models and the covered architectures, or check one model.

    Parameters
    ----------
    check
        A model to load, probe and self-test.
    """
    from synatlas import catalogue

    tell(catalogue.checked(check) if check else catalogue.listed())


@app.command
def plan(*, prompts: int, steps: int, units: int, memory: float = 0.5) -> None:
    """Print the least excess of synergy over its null that a recording would show.

    Parameters
    ----------
    prompts
        Prompts to be recorded.
    steps
        Tokens of each.
    units
        Heads of the model.
    memory
        Correlation of a unit's activity with itself one token later.
    """
    from synatlas.planning import detectable_excess
    from synatlas.summary import plan_lines

    tell(plan_lines(detectable_excess(prompts=prompts, steps=steps, units=units, memory=memory)))


def _summary(run: "Run", seconds: float) -> None:
    from synatlas.summary import lines

    tell(lines(run, seconds))


app.command(ablate)
app.command(compare)
app.command(emerge)
app.command(run_recipe, name="run")
app.command(difficulty)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code: 0 done, 2 mendable by the user."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    stderr = Console(stderr=True, soft_wrap=True)
    try:
        app([a for a in given if a != "--debug"], exit_on_error=False, print_error=False)
    except (InputError, CycloptsError) as error:
        if debug:
            stderr.print_exception()
        message = str(error)
        if isinstance(error, CycloptsError):
            message += "\nWhat to do: synatlas --help lists the commands, COMMAND --help options."
        stderr.print(message, markup=False, highlight=False)
        return EXIT_INPUT
    except KeyboardInterrupt:
        stderr.print("Interrupted. The same command resumes where it stopped.")
        return EXIT_INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())

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


def compare(
    *models: str,
    units: str = "mixers",
    fresh: int = 2,
    prompts: str = "",
    tokens: int = 48,
    out: Path | None = None,
    jobs: int = 1,
    device: str | None = None,
    dtype: str | None = None,
    trust_remote_code: bool = False,
    force: bool = False,
) -> None:
    """Map several models and put their profiles side by side, with fresh weights as a control.

    Example: synatlas compare bundled:reference bundled:dense@step64 bundled:moe=experts --jobs 2

    Parameters
    ----------
    models
        Each MODEL, MODEL@REVISION or MODEL=UNITS; the bundled family where none is given.
    units
        What is a node: mixers (heads, and what stands for them in recurrent models), heads,
        recurrent, experts, all or sublayers.
    fresh
        Fresh weights of each architecture, that read what the model read.
    prompts
        A file of prompts; the built-in battery of 60 where not given.
    tokens
        Generated tokens per prompt; longer replies of small models repeat themselves.
    out
        Folder of the study; studies/ and a name made from the models' where not given.
    jobs
        Maps at a time.
    device
        Where the models run.
    dtype
        Type of the weights.
    trust_remote_code
        Let a Hub model run code of its own.
    force
        Replace another study that is in the folder.
    """
    from synatlas.config import MapConfig
    from synatlas.study.cells import LIGHT
    from synatlas.study.comparison import compare as compared

    started = monotonic()
    settings = {
        "prompts": prompts,
        "tokens": tokens,
        "device": device,
        "dtype": dtype,
        "trust_remote_code": trust_remote_code,
    }
    base = MapConfig.from_settings({**LIGHT, **settings})
    with bars() as progress:
        found = compared(
            models, out, base=base, units=units, fresh=fresh, jobs=jobs, force=force,
            progress=progress,
        )  # fmt: skip
    _end(found.done, monotonic() - started, page=found.page.headline, path=found.path)


def emerge(
    model: str = "bundled:dense",
    /,
    *,
    revisions: str = "",
    points: int = 10,
    seeds: int = 3,
    units: str = "heads",
    prompts: str = "",
    prompt_style: str = "auto",
    tokens: int = 48,
    out: Path | None = None,
    jobs: int = 1,
    spare_disk: bool = False,
    device: str | None = None,
    dtype: str | None = None,
    trust_remote_code: bool = False,
    force: bool = False,
) -> None:
    """Map a model at steps of its training: when does the profile take its final shape.

    Each step is mapped on replies of its own and on those of the last step, beside fresh and
    shuffled weights.

    Example: synatlas emerge EleutherAI/pythia-14m --points 12 --spare-disk --jobs 2

    Parameters
    ----------
    model
        A bundled model with snapshots, a folder of checkpoints, or a Hub id with branches of its
        training.
    revisions
        Regular expression of the names of revisions, with a group (?P<step>...); names like
        step1000, stage1-step1000-tokens4B and checkpoint-1000 are known.
    points
        Steps that are mapped, log-spaced, the first and the last among them.
    seeds
        Fresh networks, and shuffled ones, that serve as controls.
    units
        What is a node: heads, recurrent, mixers, experts, all or sublayers.
    prompts
        A file of prompts; the built-in battery of 60 where not given.
    prompt_style
        auto (chat where the tokenizer has a template, else question), chat, question or raw.
    tokens
        Generated tokens per prompt; longer replies of small models repeat themselves.
    out
        Folder of the study; studies/ and a name made from the model's where not given.
    jobs
        Maps at a time.
    spare_disk
        Delete what this downloads from the Hub, each revision after its last map.
    device
        Where the model runs.
    dtype
        Type of the weights.
    trust_remote_code
        Let a Hub model run code of its own.
    force
        Replace another study that is in the folder.
    """
    from synatlas.study.emerge import emergence, run_emergence

    started = monotonic()
    settings = {
        "units": units,
        "prompts": prompts,
        "prompt_style": prompt_style,
        "tokens": tokens,
        "device": device,
        "dtype": dtype,
        "trust_remote_code": trust_remote_code,
    }
    laid = emergence(model, points=points, pattern=revisions, seeds=seeds, settings=settings)
    with bars() as progress:
        found = run_emergence(
            laid, out, jobs=jobs, spare_disk=spare_disk, force=force, progress=progress
        )
    _end(found.done, monotonic() - started, page=found.headline, path=found.page)


def difficulty(
    *models: str,
    tasks: str = "generators",
    categories: tuple[str, ...] = (),
    seeds: int = 5,
    prompts: int = 8,
    out: Path | None = None,
    jobs: int = 1,
    force: bool = False,
) -> None:
    """Test whether a model's profile changes with the difficulty of its task, and how abruptly.

    Example: synatlas difficulty --jobs 2

    Parameters
    ----------
    models
        Each bundled:NAME, a local folder, or a Hub id; bundled:reference where none is given. The
        first leads, several are compared by size.
    tasks
        generators (six categories), reasoning-gym:NAME or reasoning-core:NAME.
    categories
        Categories of the generators; all where not given. Repeat the option for several.
    seeds
        Batches of questions.
    prompts
        Questions of each category and difficulty in a batch.
    out
        Folder of the study; studies/difficulty where not given.
    jobs
        Maps at a time.
    force
        Replace another study that is in the folder.
    """
    from synatlas.study.difficulty import Plan
    from synatlas.study.difficulty_run import difficulty as study_difficulty
    from synatlas.study.difficulty_run import lines
    from synatlas.tasks.graded import chosen, task_source

    started = monotonic()
    source = chosen(task_source(tasks), categories)
    plan = Plan(models=models or ("bundled:reference",), tasks=source, seeds=seeds, prompts=prompts)
    with bars() as progress:
        studied = study_difficulty(plan, out, jobs=jobs, force=force, progress=progress)
    tell(lines(studied, monotonic() - started))
    _refuse_incomplete(studied.done)


def _end(done: "Done", seconds: float, *, page: str = "", path: Path | None = None) -> None:
    from synatlas.study.summary import lines

    tell(lines(done, seconds))
    if page:
        tell((page,))
    if path is not None:
        tell((f"report: {path.resolve()}",))
    _refuse_incomplete(done)


def _refuse_incomplete(done: "Done") -> None:
    if done.failed:
        raise StudyError(
            given=f"{len(done.failed)} of {len(done.outcomes)} maps of {done.study.name}",
            expected="every map to be made",
            cause=f"{done.failed[0].cell.name}: {done.failed[0].failure}",
            remedy="mend this and run the same command: what is complete is reused",
        )

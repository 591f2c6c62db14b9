"""The command that ablates a run."""

from dataclasses import replace
from pathlib import Path
from time import monotonic

from synatlas.bars import bars, tell
from synatlas.errors import ConfigError


def ablate(
    folder: Path,
    /,
    *,
    orders: tuple[str, ...] = (),
    ablation: str = "",
    fractions: tuple[float, ...] = (),
    draws: int | None = None,
    points: int | None = None,
    prompts: int | None = None,
    questions: int | None = None,
    tasks: str = "",
    quick: bool = False,
    recipe: Path | None = None,
    model: str = "",
    seed: int | None = None,
    jobs: int = 0,
    device: str | None = None,
    trust_remote_code: bool = False,
    force: bool = False,
) -> None:
    """Ablate the units of a run in several orders, and compare the damage with that of random sets.

    Examples
    --------
    synatlas ablate runs/bundled-reference

    synatlas ablate runs/mine --quick --orders integration --orders redundant_first

    Parameters
    ----------
    folder
        A run folder with an atlas.
    orders
        Scores of the atlas, or redundant_first, norm, gradient, single_unit, excess; repeat the
        option for several. A dozen where not given.
    ablation
        What a unit is replaced by: zero, mean, mean_position, resample, noise, weight_noise; of
        experts also forbid (the router may not choose them) and renormalise. zero where not given.
    fractions
        Shares of the units at which sets are tested against random ones; repeat the option.
    draws
        Random sets of each kind at these fractions; 199 where not given.
    points
        Numbers of units on each curve.
    prompts
        Prompts of each category that are used; all where not given.
    questions
        Verifiable questions of each category and difficulty; 0 for none.
    tasks
        A .jsonl, .csv or .parquet file of questions and answers, in the place of the built-in ones.
    quick
        19 draws, 10 points, 3 prompts of each category, 2 questions: to see how it goes.
    recipe
        A TOML file whose table [ablate] holds these settings; options given beside it win.
    model
        The model that was mapped, where its name alone does not say where it is: a folder.
    seed
        Seed of all draws.
    jobs
        Processes; as many as cores for small models where not given.
    device
        Where the model runs.
    trust_remote_code
        Let a Hub model run code of its own.
    force
        Replace another ablation that is in the folder.
    """
    from synatlas.ablation import Ablation, ablate_run, read_recipe
    from synatlas.intervene.settings import Settings
    from synatlas.summary import ablation_lines

    started = monotonic()
    given = {
        "orders": orders, "ablation": ablation or None,
        "fractions": fractions, "draws": draws, "points": points, "prompts": prompts,
        "questions": questions, "seed": seed,
    }  # fmt: skip
    chosen = {name: value for name, value in given.items() if value not in (None, ())}
    settings = replace(read_recipe(recipe) if recipe else Settings(), **chosen).fitted()
    settings = settings.quick() if quick else settings
    settings = settings.silent() if questions is None else settings
    if tasks and questions == 0:
        raise ConfigError(
            given=f"--tasks {tasks} with --questions 0",
            expected="one or the other",
            remedy="leave out one of them",
        )
    asked = Ablation(
        folder=folder,
        settings=settings,
        model=model,
        tasks=tasks,
        device=device,
        trust_remote_code=trust_remote_code,
    )
    with bars() as progress:
        run = ablate_run(asked, jobs=jobs, force=force, progress=progress)
    tell(ablation_lines(run, monotonic() - started))

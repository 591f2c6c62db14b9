"""The study of difficulty from its command to its page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import numpy as np
import pandas as pd

from synatlas.models.load import parameters_of
from synatlas.progress import Progress, silent
from synatlas.study import difficulty_page
from synatlas.study.change import Graded
from synatlas.study.difficulty import DIFFERENCE, Plan, rows_of, study_of, write_prompts
from synatlas.study.difficulty_changes import Change, Sides, changes, find, sides
from synatlas.study.difficulty_words import CONTROLLED, Words, judged, told
from synatlas.study.sizes import Sizes, compared, widths
from synatlas.study.study import STUDIES, Done, held, run_held
from synatlas.study.table import write_table

#: Tables of the study's folder, and its page.
ROWS: Final = "prompts"
VERDICTS: Final = "verdicts"
PAGE_FILE: Final = "report.html"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Studied:
    """The study of difficulty as far as it came; `words` are None where no cell is complete."""

    done: Done
    rows: pd.DataFrame
    found: tuple[Change, ...]
    sides: tuple[Sides, ...]
    words: Words | None


def difficulty(
    plan: Plan,
    folder: Path | None = None,
    *,
    jobs: int = 1,
    force: bool = False,
    progress: Progress = silent,
) -> Studied:
    """Whether the profiles of models change with the difficulty of a task, and how.

    The folder holds the cells of the study, ``prompts.parquet`` with a row for every prompt,
    ``verdicts.parquet`` with a row for every model, view, category and score, and ``report.html``.

    Parameters
    ----------
    plan : models and questions.
    folder : where; ``studies/difficulty`` where None.
    jobs : cells at a time.
    force : replace another study in the folder.
    progress : told how far it is.

    Raises
    ------
    ConfigError
        Too few seeds or prompts, or a model twice.
    ModelError
        A model cannot be found.
    RunFolderError
        The folder holds another study, or cannot be written.
    """
    where = folder or STUDIES / "difficulty"
    with held(study_of(plan, where), where, jobs=jobs, force=force) as holding:
        write_prompts(plan, where)
        return _judged(plan, run_held(holding, until="atoms", progress=progress))


def _judged(plan: Plan, done: Done) -> Studied:
    """What the complete cells show, written into the folder."""
    rows = rows_of(plan, done.outcomes)
    if rows.empty:
        return Studied(done=done, rows=rows, found=(), sides=(), words=None)
    found, apart = changes(rows), sides(rows)
    words = judged(found, apart, periodic_shares(rows), sizes_of(plan, rows, found))
    write_table(rows, done.folder, ROWS)
    write_table(pd.DataFrame(list(_flat(found))), done.folder, VERDICTS)
    difficulty_page.write(done.folder / PAGE_FILE, found, apart, words, _summary(plan, rows))
    return Studied(done=done, rows=rows, found=found, sides=apart, words=words)


def periodic_shares(rows: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Least and greatest share of periodic replies over the difficulties of each category."""
    asked = rows.loc[(rows["protocol"] == "asked") & (rows["model"] == rows["model"].iloc[0])]
    shares = asked.groupby(["category", "difficulty"], sort=False)["periodic"].mean()
    return {
        str(category): (float(shares[category].min()), float(shares[category].max()))
        for category in asked["category"].unique()
    }


def sizes_of(plan: Plan, rows: pd.DataFrame, found: Sequence[Change]) -> tuple[Sizes, ...]:
    """What models of several sizes show over packed texts; nothing of one model."""
    models = [str(name) for name in rows["model"].unique()]
    if len(models) < 2:
        return ()
    named = dict(zip(models, plan.models, strict=False))
    parameters = [parameters_of(named[m]) for m in models]
    return tuple(
        compared(
            category,
            models,
            parameters,
            [find(found, model=m, view=CONTROLLED, category=category).verdict for m in models],
            [widths(_packed(rows, m, category), np.random.default_rng(4)) for m in models],
        )
        for category in dict.fromkeys(c.category for c in found)
    )


def _packed(rows: pd.DataFrame, model: str, category: str) -> Graded:
    chosen = (rows["model"] == model) & (rows["category"] == category)
    mine = rows.loc[chosen & (rows["protocol"] == CONTROLLED) & rows[DIFFERENCE].notna()]
    difficulty, level = np.unique(mine["difficulty"].to_numpy(dtype=float), return_inverse=True)
    return Graded(
        values=mine[DIFFERENCE].to_numpy(dtype=float)[None],
        level=level,
        seed=mine["seed"].to_numpy(dtype=np.int64),
        difficulty=difficulty,
        covariates=np.zeros((1, len(mine), 0)),
    )


def _flat(found: Sequence[Change]) -> Iterator[dict[str, object]]:
    for c in found:
        yield {
            "model": c.model,
            "view": c.view,
            "category": c.category,
            "score": c.score,
            "verdict": c.verdict,
            "status": c.status,
            "prompts": c.prompts,
            "p": c.p,
            "q": c.q,
            **{f"rise{end}": v for end, v in zip(("", "_low", "_high"), c.rise, strict=True)},
            **{f"rise_sd{end}": v for end, v in zip(("", "_low", "_high"), c.rise_sd, strict=True)},
            "turn": c.turn,
            "width": c.width,
            **{f"aic_{form}": value for form, value in c.aic.items()},
        }


def _summary(plan: Plan, rows: pd.DataFrame) -> str:
    levels = sum(map(len, plan.tasks.levels.values()))
    return (
        f"{', '.join(rows['model'].unique())} · {plan.tasks.name} · "
        f"{len(plan.tasks.levels)} categories with {levels} difficulties in all · {plan.seeds} "
        f"seeds of {plan.prompts} prompts a difficulty · replies of {plan.tokens} tokens, packed "
        f"texts of {2 * plan.tokens} · Gaussian estimator, MMI, lag 1, no null: scores of single "
        "prompts need none"
    )


def lines(studied: Studied, seconds: float) -> Iterator[str]:
    """What the command prints when it is done."""
    if studied.words is not None:
        model = studied.found[0].model
        for category in dict.fromkeys(c.category for c in studied.found):
            for view in ("asked", CONTROLLED, "fresh weights"):
                change = find(studied.found, model=model, view=view, category=category)
                yield f"{category:<14}{view:<15}{told(change)}"
        yield studied.words.headline
        yield from (f"Warning: {text}" for text in studied.words.warnings)
    done = studied.done
    yield f"{len(done.outcomes) - len(done.failed)} of {len(done.outcomes)} maps, {seconds:.1f} s"
    yield f"page: {(done.folder / PAGE_FILE).resolve()}"
    yield f"verdicts: {(done.folder / f'{VERDICTS}.parquet').resolve()}"

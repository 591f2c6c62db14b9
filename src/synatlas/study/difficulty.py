"""The study of difficulty: its prompts, texts and cells, and a row for every prompt."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float

from synatlas.artifact import open_artifact
from synatlas.config import MapConfig
from synatlas.errors import ConfigError
from synatlas.folder import FILES
from synatlas.models.identity import resolve
from synatlas.rank.cautions import PERIODIC
from synatlas.rank.profile import layer_means, middle_weights
from synatlas.rank.unit_scores import scores_per_prompt
from synatlas.study.cells import Cell, checked, slug
from synatlas.study.recipe import Study
from synatlas.study.travel import Travelled
from synatlas.tasks.graded import Question, Tasks, packed

#: How prompts are put to a model: asked, with a reply of fixed length; solved questions of one
#: difficulty packed into a text of fixed length and read; the same texts read by fresh weights.
PROTOCOLS: Final = ("asked", "packed", "fresh")

#: A packed text has as many times the tokens of a reply.
PACKED_TOKENS: Final = 2

#: Synergy less redundancy in nats: what the published rank of the difference is the rank of.
DIFFERENCE: Final = "synergy_minus_redundancy"
#: What independent series as self-predictable would have of it.
BASELINE: Final = "autocorrelation_baseline"
#: The difference less that baseline.
ABOVE: Final = "synergy_minus_redundancy_above_baseline"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is asked of which models.

    Parameters
    ----------
    models : names; the first leads.
    tasks : questions by category and difficulty.
    seeds : batches of questions, each drawn anew.
    prompts : questions of each category and difficulty in a batch.
    tokens : of every reply; packed texts have twice as many.
    """

    models: tuple[str, ...]
    tasks: Tasks
    seeds: int = 5
    prompts: int = 8
    tokens: int = 100

    def check(self) -> None:
        """Refuse what leaves nothing to compare."""
        for option, value, least in (("--seeds", self.seeds, 2), ("--prompts", self.prompts, 2)):
            if value < least:
                raise ConfigError(
                    given=f"{option} {value}",
                    expected=f"at least {least}",
                    cause="forms are fitted to all seeds but one, and each difficulty of a seed "
                    "has a variance",
                    remedy=f"pass {option} {least} or more",
                )
        names = [resolve(model).name for model in self.models]
        if not names or len(set(names)) < len(names):
            raise ConfigError(
                given=f"models {', '.join(names) or 'none'}",
                expected="at least one, each once",
                remedy="name every model once",
            )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question of a batch, by the name that its prompt has in a recording."""

    name: str
    category: str
    level: int
    question: Question


def asked_in(plan: Plan, seed: int) -> Iterator[Asked]:
    """Questions of one batch, the same whenever they are drawn."""
    for at, (category, levels) in enumerate(plan.tasks.levels.items()):
        for level in levels:
            rng = np.random.default_rng((seed, at, level, 0))
            drawn = plan.tasks.draw(category, level, plan.prompts, rng)
            for i, question in enumerate(drawn):
                name = f"{category}-{level}-{i}"
                yield Asked(name=name, category=category, level=level, question=question)


def texts_in(plan: Plan, seed: int) -> Iterator[dict[str, str]]:
    """Packed texts of one batch, one for each question that is asked."""
    for at, (category, levels) in enumerate(plan.tasks.levels.items()):
        for level in levels:
            rng = np.random.default_rng((seed, at, level, 1))
            for i in range(plan.prompts):
                text = packed(plan.tasks, category, level, PACKED_TOKENS * plan.tokens, rng)
                yield _row(f"{category}-{level}-{i}", text, category, level)


def _row(name: str, text: str, category: str, level: int) -> dict[str, str]:
    return {"id": name, "prompt": text, "category": f"{category}/{level}"}


def study_of(plan: Plan, folder: Path) -> Study:
    """The study in `folder`; its cells read what :func:`write_prompts` writes there."""
    plan.check()
    files = folder / "prompts"
    cells = [
        _cell(model, protocol, seed, plan, files)
        for model in plan.models
        for protocol in PROTOCOLS
        for seed in range(plan.seeds)
    ]
    return Study(
        name="difficulty",
        question="Does the profile change with the difficulty of a task, gradually or at once?",
        cells=checked(cells),
    )


def write_prompts(plan: Plan, folder: Path) -> None:
    """Write the prompts and texts of a study in `folder`, those that are not there yet."""
    files = folder / "prompts"
    for seed in range(plan.seeds):
        asked = (_row(a.name, a.question.prompt, a.category, a.level) for a in asked_in(plan, seed))
        _write(_file(files, "asked", seed, plan), asked)
        _write(_file(files, "packed", seed, plan), texts_in(plan, seed))


def _file(folder: Path, kind: str, seed: int, plan: Plan) -> Path:
    """Where the prompts or texts of a batch are: another place for every set of them."""
    levels = {category: list(known) for category, known in plan.tasks.levels.items()}
    content = json.dumps([plan.tasks.name, levels, plan.prompts, plan.tokens])
    return folder / f"{kind}-{seed}-{hashlib.sha256(content.encode()).hexdigest()[:8]}.jsonl"


def _write(path: Path, rows: Iterator[dict[str, str]]) -> None:
    """Write the rows where they are not there yet: drawing them takes a while."""
    if path.is_file():
        return
    content = "".join(f"{json.dumps(row)}\n" for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.tmp")
    unfinished.write_text(content, encoding="utf-8")
    unfinished.replace(path)


def _cell(model: str, protocol: str, seed: int, plan: Plan, files: Path) -> Cell:
    # Scores of prompts need no null, and the graphs of chance are not looked at.
    settings: dict[str, Any] = {"model": model, "nulls": (), "surrogates": 1, "seed": seed}
    if protocol == "asked":
        settings |= {"prompts": str(_file(files, "asked", seed, plan)), "tokens": plan.tokens}
    else:
        tokens = PACKED_TOKENS * plan.tokens
        settings |= {"texts": str(_file(files, "packed", seed, plan)), "tokens": tokens}
    if protocol == "fresh":
        settings |= {"random_init": True, "init_seed": seed}
    return Cell(
        name=slug(f"{resolve(model).name}_{protocol}_{seed}"),
        config=MapConfig.from_settings(settings),
        labels={"model_name": resolve(model).name, "protocol": protocol, "batch": seed},
    )


def rows_of(plan: Plan, outcomes: Sequence[Travelled]) -> pd.DataFrame:
    """A row for every prompt of every complete cell.

    Columns: ``model``, ``protocol``, ``seed``, ``category``, ``difficulty``, ``prompt``,
    ``prompt_tokens``, ``answer_tokens`` (of the first line of the reply that is not blank),
    ``periodic``, ``right`` (NaN where nothing was asked), ``units``, and the order parameter of
    each score, see :func:`order_parameters`, in nats.
    """
    parts = []
    for outcome in outcomes:
        if outcome.failure:
            continue
        label = outcome.cell.labels
        questions = {a.name: a for a in asked_in(plan, int(label["batch"]))}
        parts.append(_rows(outcome.folder, questions, asked=label["protocol"] == "asked"))
        parts[-1].insert(0, "model", label["model_name"])
        parts[-1].insert(1, "protocol", label["protocol"])
        parts[-1].insert(2, "seed", label["batch"])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _rows(folder: Path, questions: dict[str, Asked], *, asked: bool) -> pd.DataFrame:
    recording = open_artifact(folder / FILES["recording"])
    atoms = open_artifact(folder / FILES["atoms"])
    names = recording["prompt"].to_numpy().tolist()
    replies = recording["reply"].to_numpy().tolist()
    known = [questions[name] for name in names]
    ends = recording["token_end"].to_numpy()
    answered = [_first_line(r, e) for r, e in zip(replies, ends, strict=True)]
    right = [float(k.question.right(r)) for k, r in zip(known, replies, strict=True)]
    repetition = dict(
        zip(atoms["prompt"].to_numpy().tolist(), atoms["repetition"].to_numpy(), strict=True)
    )
    return pd.DataFrame(
        {
            "category": [k.category for k in known],
            "difficulty": [k.level for k in known],
            "prompt": names,
            "prompt_tokens": (recording["prompt_token"].to_numpy() >= 0).sum(axis=1),
            "answer_tokens": answered if asked else np.nan,
            "periodic": [repetition[name] > PERIODIC for name in names],
            "right": right if asked else np.nan,
            "units": atoms.sizes["unit"],
            **order_parameters(atoms),
        }
    )


def _first_line(reply: str, ends: np.ndarray) -> int:
    """Tokens up to the end of the first line that is not blank, which is what is marked."""
    start = len(reply) - len(reply.lstrip())
    stop = reply.find("\n", start)
    return int((ends >= 0).sum() if stop < 0 else np.searchsorted(ends, stop, side="right") + 1)


def order_parameters(atoms: xr.Dataset) -> dict[str, Float[np.ndarray, " prompt"]]:
    """Mean of a score over the units of the middle third of depth less that of the rest.

    For every prompt and every score that prompts have by themselves, in nats: means over the units
    of each layer first, then over layers. ``synergy_minus_redundancy`` is what the published rank
    is the rank of, and ``synergy_minus_redundancy_above_baseline`` that less the autocorrelation
    baseline. NaN where a layer of a prompt has no defined unit.
    """
    scores = scores_per_prompt(atoms)
    scores[DIFFERENCE] = scores["synergy"] - scores["redundancy"]
    scores[ABOVE] = scores[DIFFERENCE] - scores[BASELINE]
    layer = atoms["layer"].to_numpy().astype(np.int64)
    layers = np.unique(layer)
    depth = layers / max(int(atoms.attrs["n_layers"]) - 1, 1)
    weights = middle_weights(depth)
    return {name: layer_means(values, layer, layers) @ weights for name, values in scores.items()}

"""Tasks of lm-eval on a model while units are ablated.

lm-eval is an extra (``pip install 'synatlas[eval]'``) and imported when it is asked for.
Source: EleutherAI, https://github.com/EleutherAI/lm-evaluation-harness.
"""

import copy
import difflib
import importlib
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool

from synatlas.errors import ConfigError, first_line
from synatlas.intervene.accuracy import Applied, check_masks
from synatlas.models.batching import Batching, batching_of
from synatlas.models.load import LanguageModel
from synatlas.models.units import UnitTable
from synatlas.progress import Progress, silent
from synatlas.record.threads import fitting_threads

#: Columns of the table.
COLUMNS: Final = (
    "order", "n_ablated", "task", "filter", "metric", "value", "stderr", "items",
)  # fmt: skip

#: Rows that are put through at once where a model takes padded rows and no number is given.
_ROWS: Final = 16


def evaluate(
    model: LanguageModel,
    units: UnitTable,
    keep: Bool[np.ndarray, "mask unit"],
    tasks: Sequence[str | Mapping[str, Any]],
    *,
    applied: Applied,
    orders: Sequence[str],
    include: str | Path | None = None,
    limit: int | None = None,
    shots: int | None = None,
    chat: bool = False,
    batch_size: int | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Run tasks of lm-eval under each of several sets of ablated units.

    The model in memory is evaluated; nothing is fetched but the data sets of tasks that name some
    on the Hub. Tasks are loaded once. A task's file can hold code: run those that you trust.

    Parameters
    ----------
    model : the model.
    units : its units, in the order of `keep`.
    keep : sets, False where a unit is ablated.
    tasks : names of tasks, groups or tags, paths of YAML files, or configurations.
    applied : given the mask of a set, one row for all of a batch, a context in which it is applied.
    orders : the order that each set belongs to.
    include : folder of YAML tasks; those of lm-eval are indexed only where a name is not there.
    limit : questions of each task, the first; all where None.
    shots : solved examples before a question; the task's own where None.
    chat : whether to ask in the tokenizer's chat template.
    batch_size : rows at once; 16 where None, and 1 for models that do not take padded rows.
    seed : of the draws of lm-eval, such as those of examples; global generators are put back.
    progress : told how many sets are done.

    Returns
    -------
    pandas.DataFrame
        A row for each set, task, filter and metric: order, n_ablated, task, filter, metric, value,
        stderr (NaN where lm-eval gives none) and items, the number of questions.

    Raises
    ------
    ConfigError
        lm-eval is not installed, a task is unknown, its data cannot be had, or the masks are not
        of these units.
    """
    check_masks(keep, units)
    if len(orders) != len(keep):
        raise ConfigError(
            given=f"{len(orders)} orders for {len(keep)} sets",
            expected="the order of each set",
            remedy="pass as many as there are sets",
        )
    options: dict[str, Any] = {
        "num_fewshot": shots,
        "limit": limit,
        "apply_chat_template": chat,
        "log_samples": False,
    }
    options |= {
        f"{name}_seed": seed
        for name in ("random", "numpy_random", "torch_random", "fewshot_random")
    }
    rows: list[dict[str, Any]] = []
    with fitting_threads(model), _generators_kept():
        package, wrapped = _imported("lm_eval"), _wrapped(model, batch_size)
        loaded, manager = _loaded(tasks, include)
        for done, (kept, order) in enumerate(zip(keep, orders, strict=True), start=1):
            mask = torch.from_numpy(kept[None].copy()).to(model.device)
            with applied(mask):
                found = package.simple_evaluate(
                    model=wrapped, tasks=list(loaded), task_manager=manager, **options
                )
            place = {"order": order, "n_ablated": int((~kept).sum())}
            rows += [place | row for row in tidy(found)]
            progress("evaluating", done, len(keep))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def tidy(found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Rows (task, filter, metric, value, stderr, items) of what lm-eval returns."""
    counts = found.get("n-samples", {})
    for task, values in found["results"].items():
        for name, value in values.items():
            metric, comma, chain = name.partition(",")
            if not comma or metric.endswith("_stderr"):
                continue
            yield {
                "task": task,
                "filter": chain,
                "metric": metric,
                "value": _number(value),
                "stderr": _number(values.get(f"{metric}_stderr,{chain}")),
                "items": counts.get(task, {}).get("effective", values.get("sample_len", 0)),
            }


def _number(value: Any) -> float:
    """A value as a number, NaN where it is none ("N/A")."""
    return float(value) if isinstance(value, int | float | np.number) else float("nan")


def _imported(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(
            given="tasks of lm-eval",
            expected="the package lm-eval in this environment",
            cause=str(error),
            remedy="pip install 'synatlas[eval]'",
        ) from error


def _wrapped(model: LanguageModel, batch_size: int | None) -> Any:
    """The model as lm-eval takes it; the tokenizer is a copy, which it may give a padding token."""
    padded = batching_of(model.model) == Batching("padded", "padded")
    tokenizer = copy.deepcopy(model.tokenizer)
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is not None:
        tokenizer.pad_token = tokenizer.eos_token
    return _imported("lm_eval.models.huggingface").HFLM(
        pretrained=model.model,
        tokenizer=tokenizer,
        backend="causal",
        batch_size=batch_size or (_ROWS if padded else 1),
        max_length=model.context_length,
    )


def _loaded(
    tasks: Sequence[str | Mapping[str, Any]], include: str | Path | None
) -> tuple[list[Any], Any]:
    """Tasks and groups that stand in no other group, and what lists them."""
    managers = _imported("lm_eval.tasks")
    names = [task for task in tasks if isinstance(task, str)]
    for defaults in (False, True):
        # The index of all tasks of lm-eval takes seconds.
        manager = managers.TaskManager(
            include_path=None if include is None else str(include), include_defaults=defaults
        )
        known = manager.all_tasks
        missing = [name for name in names if name not in known and not Path(name).is_file()]
        if not missing:
            break
    if missing or not tasks:
        near = difflib.get_close_matches(missing[0], known, n=5) if missing else []
        raise ConfigError(
            given=f"the task {missing[0]!r}" if missing else "no tasks",
            expected="a task of lm-eval, a YAML file, or a task in the folder of `include`",
            cause=f"did you mean {', '.join(near)}?" if near else "",
            remedy="list what there is with: lm-eval ls tasks",
        )
    try:
        loaded = manager.load([task if isinstance(task, str) else dict(task) for task in tasks])
    except (OSError, ValueError) as error:
        raise ConfigError(
            given=f"the tasks {', '.join(names) or 'that were passed'}",
            expected="tasks whose data are in the cache, in a local file, or can be fetched",
            cause=first_line(error),
            remedy="check the task's data set; without a network name a local one in its YAML",
        ) from error
    inside = {name for children in loaded["group_map"].values() for name in children}
    both = {**loaded["groups"], **loaded["tasks"]}
    return [task for name, task in both.items() if name not in inside], manager


@contextmanager
def _generators_kept() -> Iterator[None]:
    """Put back the states of the global generators, which lm-eval seeds."""
    before, numpy_before = random.getstate(), np.random.get_state()  # noqa: NPY002 - lm-eval's
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(before)
            np.random.set_state(numpy_before)  # noqa: NPY002

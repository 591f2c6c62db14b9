"""Questions of other packages, which are imported when they are asked for.

Their difficulties lengthen questions: the study of difficulty regresses length out, and says where
the two cannot be told apart.
"""

import importlib
import random
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from synatlas.errors import ConfigError
from synatlas.tasks.generators import first_line
from synatlas.tasks.graded import Question, Tasks

#: Difficulties that are drawn.
LEVELS: Final = 6

#: A reply is right from this score on, where the package gives shares.
RIGHT: Final = 0.999


def reasoning_gym(task: str) -> Tasks:
    """A dataset of reasoning-gym, its difficulties the levels of its curriculum.

    Every attribute of the curriculum is at the same level, and questions are of that level alone
    (`RangeAttributeMode.UPPER_BOUND`); attributes with fewer levels stay at their last.

    Raises
    ------
    ConfigError
        The package is not installed, or has no such dataset or no curriculum for it.
    """
    factory = _imported("reasoning_gym.factory", "reasoning-gym")
    curricula = _imported("reasoning_gym.coaching.base_curriculum", "reasoning-gym")
    if task not in factory.CURRICULA:
        raise _unknown(task, sorted(factory.CURRICULA))
    attributes = factory.create_curriculum(task).attributes.values()
    count = min(LEVELS, max(len(attribute.levels) for attribute in attributes))

    def draw(
        category: str, level: int, number: int, rng: np.random.Generator
    ) -> tuple[Question, ...]:
        curriculum = factory.create_curriculum(category)
        curriculum.set_global_level(level - 1)
        mode = curricula.RangeAttributeMode.UPPER_BOUND
        config = curriculum.generate_configuration(
            {"seed": int(rng.integers(2**31)), "size": number},
            curricula.DefaultCurriculumContext(mode=mode),
        )
        dataset = factory.DATASETS[category][0](config)
        try:
            return tuple(_gym_question(dataset, dataset[i]) for i in range(number))
        except (IndexError, ValueError) as error:
            raise ConfigError(
                given=f"level {level} of the reasoning-gym dataset {category}",
                expected="questions of that level alone",
                cause=str(error),
                remedy="choose another dataset",
            ) from error

    return Tasks(name=f"reasoning-gym:{task}", levels={task: tuple(range(1, count + 1))}, draw=draw)


def _gym_question(dataset: Any, entry: Mapping[str, Any]) -> Question:
    return Question(
        prompt=str(entry["question"]),
        answer=str(entry["answer"]),
        right=partial(_gym_right, dataset, entry),
    )


def _gym_right(dataset: Any, entry: Mapping[str, Any], reply: str) -> bool:
    return float(dataset.score_answer(first_line(reply), entry)) >= RIGHT


def reasoning_core(task: str) -> Tasks:
    """A task of reasoning-core, its difficulties the levels from 0.

    The package draws from the global generators of Python and NumPy: they are seeded for each
    draw, and put back.

    Raises
    ------
    ConfigError
        The package is not installed, or has no such task.
    """
    core = _imported("reasoning_core", "reasoning-core[gen]")
    if task not in core.list_tasks():
        raise _unknown(task, sorted(core.list_tasks()))

    def draw(
        category: str, level: int, number: int, rng: np.random.Generator
    ) -> tuple[Question, ...]:
        maker = core.get_task(category)
        made = _seeded(
            int(rng.integers(2**31)),
            lambda: [maker.generate_example(level=level) for _ in range(number)],
        )
        return tuple(
            Question(
                prompt=str(entry.prompt),
                answer=str(entry.answer),
                right=partial(_core_right, maker, entry),
            )
            for entry in made
        )

    return Tasks(name=f"reasoning-core:{task}", levels={task: tuple(range(LEVELS))}, draw=draw)


def _core_right(maker: Any, entry: Any, reply: str) -> bool:
    return float(maker.score_answer(first_line(reply), entry)) >= RIGHT


def _seeded(seed: int, make: Callable[[], list[Any]]) -> list[Any]:
    """What `make` makes with the global generators seeded, which are put back."""
    before, numpy_before = random.getstate(), np.random.get_state()  # noqa: NPY002 - the package's
    try:
        random.seed(seed)
        np.random.set_state(np.random.RandomState(seed).get_state())  # noqa: NPY002
        return make()
    finally:
        random.setstate(before)
        np.random.set_state(numpy_before)  # noqa: NPY002


def _imported(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(
            given=f"questions of {package}",
            expected="the package in this environment",
            cause=str(error),
            remedy=f"pip install '{package}', or choose --tasks generators",
        ) from error


def _unknown(task: str, known: list[str]) -> ConfigError:
    return ConfigError(
        given=f"the task {task}",
        expected=f"one of {', '.join(known[:20])}{' ...' if len(known) > 20 else ''}",
        remedy="choose one of the package's own names",
    )


#: Packages by name.
ADAPTERS: Final[Mapping[str, Callable[[str], Tasks]]] = MappingProxyType(
    {"reasoning-gym": reasoning_gym, "reasoning-core": reasoning_core}
)

"""Questions of other packages, against small stand-ins of their interfaces.

Drawn by hand: chain_sum, basic_arithmetic, letter_counting and leg_counting of reasoning-gym
0.1.25.
reasoning-core 0.5.0 was not run: its stand-in follows its source.
"""

import random
import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from synatlas.errors import ConfigError
from synatlas.tasks.graded import packed, task_source


@dataclass
class SumConfig:
    seed: int
    size: int
    terms: int


class SumDataset:
    def __init__(self, config: SumConfig) -> None:
        self.config = config

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = random.Random(self.config.seed + index)
        terms = [rng.randint(1, 9) for _ in range(self.config.terms)]
        return {"question": " + ".join(map(str, terms)), "answer": str(sum(terms)), "metadata": {}}

    def score_answer(self, answer: str | None, entry: dict[str, Any]) -> float:
        return 1.0 if answer == entry["answer"] else 0.01


class SumCurriculum:
    attributes: ClassVar = {
        "terms": SimpleNamespace(levels=[2, 3, 4, 5]),
        "few": SimpleNamespace(levels=[1]),
    }

    def set_global_level(self, level: int) -> None:
        self.level = level

    def generate_configuration(self, defaults: dict[str, Any], context: Any) -> SumConfig:
        assert context.mode == "upper_bound"
        return SumConfig(**defaults, terms=self.attributes["terms"].levels[self.level])


@pytest.fixture
def gym(monkeypatch: pytest.MonkeyPatch) -> None:
    factory = ModuleType("reasoning_gym.factory")
    factory.__dict__.update(
        CURRICULA={"sums": SumCurriculum},
        DATASETS={"sums": (SumDataset, SumConfig)},
        create_curriculum=lambda name: {"sums": SumCurriculum}[name](),
    )
    curricula = ModuleType("reasoning_gym.coaching.base_curriculum")
    curricula.__dict__.update(
        RangeAttributeMode=SimpleNamespace(UPPER_BOUND="upper_bound"),
        DefaultCurriculumContext=lambda mode: SimpleNamespace(mode=mode),
    )
    for module in (factory, curricula):
        monkeypatch.setitem(sys.modules, module.__name__, module)


def test_a_curriculum_of_reasoning_gym_gives_the_difficulties(gym: None) -> None:
    tasks = task_source("reasoning-gym:sums")
    assert tasks.levels == {"sums": (1, 2, 3, 4)}
    for level in (1, 4):
        drawn = [tasks.draw("sums", level, 3, np.random.default_rng(s)) for s in (0, 0, 1)]
        prompts = [[q.prompt for q in one] for one in drawn]
        assert prompts[0] == prompts[1] != prompts[2]
        assert {text.count("+") for text in prompts[0]} == {level}
        question = drawn[0][0]
        assert question.right(f"\n {question.answer} \nand more")
        assert not question.right("0")
    assert "Answer: " in packed(tasks, "sums", 2, 20, np.random.default_rng(0))
    with pytest.raises(ConfigError, match="one of sums"):
        task_source("reasoning-gym:none")


class Adding:
    def generate_example(self, level: int) -> Any:
        number = random.randint(0, 10**6) + int(np.random.randint(10**6))  # noqa: NPY002
        return SimpleNamespace(prompt=f"level {level}: {number}", answer=number)

    def score_answer(self, answer: str, entry: Any) -> int:
        return int(answer == str(entry.answer))


def test_levels_of_reasoning_core_are_drawn_from_a_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    core = ModuleType("reasoning_core")
    core.__dict__.update(list_tasks=lambda: ["adding"], get_task=lambda name: Adding())
    monkeypatch.setitem(sys.modules, "reasoning_core", core)
    tasks = task_source("reasoning-core:adding")
    drawn = [tasks.draw("adding", 2, 2, np.random.default_rng(s)) for s in (0, 0, 1)]
    prompts = [[q.prompt for q in one] for one in drawn]
    assert prompts[0] == prompts[1] != prompts[2]
    assert all(text.startswith("level 2") for text in prompts[0])
    assert drawn[0][0].right(f" {drawn[0][0].answer}\n")
    with pytest.raises(ConfigError, match="one of adding"):
        task_source("reasoning-core:none")


def test_a_package_that_is_not_there_is_named_with_its_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("reasoning_gym.factory", "reasoning_core"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match="pip install 'reasoning-gym'"):
        task_source("reasoning-gym:chain_sum")
    with pytest.raises(ConfigError, match="pip install"):
        task_source("reasoning-core:arithmetics")

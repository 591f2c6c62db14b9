"""Recording against plain generation of the same tokens: what reading the units costs."""

from collections.abc import Callable

import pytest
import torch

from synatlas.models.identity import bundled_models
from synatlas.models.load import LanguageModel, load
from synatlas.record.generate import greedy
from synatlas.record.record import choose_batch_size, record
from synatlas.record.styles import render
from synatlas.tasks.battery import battery

TOKENS = 100


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    if not bundled_models():
        pytest.skip("no bundled model")
    torch.set_num_threads(1)
    return load(bundled_models()[0])


def plain(model: LanguageModel) -> None:
    """Batched generation in batches of the same size, nothing read."""
    prompts = battery()
    ids = [prompt.ids for prompt in render(model.tokenizer, prompts.texts, "question")]
    ids.sort(key=len)
    rows = choose_batch_size(model, prompts, tokens=TOKENS)
    for start in range(0, len(ids), rows):
        greedy(model, ids[start : start + rows], tokens=TOKENS, stop_at_eos=False)


def recorded(model: LanguageModel) -> None:
    record(model, tokens=TOKENS, prompt_style="question")


@pytest.mark.benchmark(group="60 prompts x 100 tokens, CPU, one thread")
@pytest.mark.parametrize("work", [plain, recorded], ids=["generate", "record"])
def test_record(benchmark: Callable, model: LanguageModel, work: Callable) -> None:
    benchmark.pedantic(work, args=(model,), rounds=3, warmup_rounds=1)

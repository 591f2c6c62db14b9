"""Training: the same again after a kill, one optimiser step as written, and the recipe's parts."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from synatlas.errors import ConfigError
from synatlas.tasks.generators import CATEGORIES
from synatlas.tasks.muon import Muon, orthogonalised
from synatlas.tasks.stream import StreamConfig
from synatlas.tasks.training import (
    ModelConfig,
    TrainConfig,
    Trainer,
    initial_model,
    llama_config,
    lr_scale,
    model_config,
)

RECIPE = Path(__file__).parents[2] / "recipes" / "train_model.py"
MODEL = ModelConfig(
    hidden_size=16,
    intermediate_size=16,
    n_layers=2,
    n_heads=2,
    head_dim=8,
    max_length=128,
    init_seed=5,
)
STREAM = StreamConfig(
    seed=1,
    story_share=0.05,
    prompt_weight=0.3,
    story_token_weight=0.03,
    easy_steps=2,
    copy_share=0.4,
    late_from=2,
    late_shares={category: [1.0, 0.0, 0.0, 0.0] for category in CATEGORIES},
)
TRAIN = TrainConfig(
    steps=3,
    tokens_per_step=256,
    micro_tokens=128,
    short_length=96,
    long_length=128,
    long_from=0.6,
    muon_lr=0.02,
    muon_momentum=0.95,
    muon_weight_decay=0.1,
    adam_lr=0.002,
    adam_betas=(0.9, 0.98),
    warmup_steps=2,
    decay_from=0.5,
    clip=1.0,
    checkpoint_every=1,
)


ARCHITECTURES = {
    "llama": MODEL,
    "mixtral": replace(
        MODEL, architecture="mixtral", n_experts=4, experts_per_token=2, balance_weight=0.1
    ),
    "mamba2": replace(MODEL, architecture="mamba2", n_heads=4, state_size=4, chunk_length=16),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums of several threads may differ in their last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trainer(
    tokenizer: PreTrainedTokenizerBase, config: TrainConfig = TRAIN, shape: ModelConfig = MODEL
) -> Trainer:
    model = initial_model(model_config(shape, tokenizer), shape.init_seed)
    return Trainer(model, tokenizer, config, STREAM)


def weights(made: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in made.model.state_dict().items()}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_killed_run_ends_like_an_undisturbed_one(
    bundled_tokenizer: PreTrainedTokenizerBase, tmp_path: Path, architecture: str
) -> None:
    shape = ARCHITECTURES[architecture]
    undisturbed = trainer(bundled_tokenizer, shape=shape)
    logs = list(undisturbed.run(3))
    for until in (1, 2, 3):
        process = trainer(bundled_tokenizer, shape=shape)
        assert process.restore(tmp_path) is (until > 1)
        for row in process.run(until):
            assert row.loss == logs[row.step - 1].loss
            assert row.tokens == logs[row.step - 1].tokens
        process.save(tmp_path)
    assert_same(weights(process), weights(undisturbed))
    assert not list(tmp_path.glob("*.part"))


def test_a_checkpoint_of_other_settings_is_refused(
    bundled_tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    trainer(bundled_tokenizer).save(tmp_path)
    with pytest.raises(ValueError, match="another work folder"):
        trainer(bundled_tokenizer, replace(TRAIN, clip=2.0)).restore(tmp_path)


def test_small_pieces_give_the_gradient_of_the_whole(
    bundled_tokenizer: PreTrainedTokenizerBase,
) -> None:
    whole, pieces = (
        next(trainer(bundled_tokenizer, replace(TRAIN, micro_tokens=size)).run(1))
        for size in (256, 96)
    )
    assert pieces.loss == pytest.approx(whole.loss, rel=1e-5)
    assert pieces.grad_norm == pytest.approx(whole.grad_norm, rel=1e-4)


def test_an_unknown_architecture_is_refused(bundled_tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(ConfigError, match="one of llama, mixtral, mamba2"):
        model_config(replace(MODEL, architecture="perceptron"), bundled_tokenizer)


def test_experts_are_balanced_by_a_gradient_that_no_loss_tells(
    bundled_tokenizer: PreTrainedTokenizerBase,
) -> None:
    shapes = [replace(ARCHITECTURES["mixtral"], balance_weight=weight) for weight in (0.0, 100.0)]
    free, balanced = (trainer(bundled_tokenizer, replace(TRAIN, steps=40), s) for s in shapes)
    assert next(free.run(1)).loss == next(balanced.run(1)).loss
    list(free.run(12))
    list(balanced.run(12))
    assert _unevenness(balanced) < 0.5 * _unevenness(free)


def _unevenness(made: Trainer) -> float:
    """Mean over layers of the load-balancing loss over its least value."""
    tokens = torch.arange(3, 259).reshape(4, 64)
    with torch.inference_mode():
        return float(made.model(input_ids=tokens, output_router_logits=True).aux_loss) - 2.0


def test_each_expert_is_a_matrix_of_its_own() -> None:
    generator = torch.Generator().manual_seed(0)
    start, gradient = torch.randn(2, 3, 20, 18, generator=generator)
    stack = torch.nn.Parameter(start.clone())
    alone = [torch.nn.Parameter(matrix.clone()) for matrix in start]
    stack.grad = gradient.clone()
    for matrix, own in zip(alone, gradient, strict=True):
        matrix.grad = own.clone()
    for matrices in ([stack], alone):
        Muon(matrices, momentum=0.9, weight_decay=0.1).step(0.1)
    assert torch.allclose(stack.data, torch.stack([m.data for m in alone]), atol=1e-6)


def test_training_lowers_the_loss(bundled_tokenizer: PreTrainedTokenizerBase) -> None:
    rows = list(trainer(bundled_tokenizer, replace(TRAIN, steps=40)).run(25))
    assert rows[-1].loss < rows[0].loss - 0.3


def test_learning_rate_warms_up_stays_and_falls() -> None:
    config = replace(TRAIN, steps=100, warmup_steps=10, decay_from=0.6)
    scales = [lr_scale(step, config) for step in range(100)]
    assert scales[0] == pytest.approx(0.1)
    assert scales[9:61] == [1.0] * 52
    assert scales[80] == pytest.approx(0.5)
    assert 0 < scales[99] < 0.03


def test_the_first_weights_come_from_their_seed_and_leave_the_global_state_alone(
    bundled_tokenizer: PreTrainedTokenizerBase,
) -> None:
    config = llama_config(MODEL, bundled_tokenizer)
    torch.manual_seed(0)
    expected_next = torch.rand(1)
    torch.manual_seed(0)
    first = initial_model(config, 5).state_dict()
    assert torch.equal(torch.rand(1), expected_next)
    assert_same(first, initial_model(config, 5).state_dict())
    assert not torch.equal(
        first["lm_head.weight"], initial_model(config, 6).state_dict()["lm_head.weight"]
    )


def test_step_zero_can_be_made_again_from_the_shipped_configuration(
    bundled_folder: Path, bundled_tokenizer: PreTrainedTokenizerBase, card: dict[str, Any]
) -> None:
    shape = ModelConfig(**card["settings"]["model"])
    ours = initial_model(llama_config(shape, bundled_tokenizer), shape.init_seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(card["init_seed"])
        theirs = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(bundled_folder))
    assert theirs.dtype == torch.float32
    assert_same(ours.state_dict(), theirs.state_dict())


@pytest.mark.parametrize("shape", [(3, 8, 20), (2, 20, 8), (1, 6, 6)])
def test_orthogonalised_matrices_keep_their_directions(shape: tuple[int, int, int]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, vh = torch.linalg.svd(x, full_matrices=False)
    values = u.mT @ orthogonalised(x) @ vh.mT
    diagonal = values.diagonal(dim1=1, dim2=2)
    assert (values - torch.diag_embed(diagonal)).abs().max() < 1e-4
    assert diagonal.min() > 0.3
    assert diagonal.max() < 1.3


def test_muon_is_torchs_muon_up_to_its_half_precision() -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(12, 6, generator=generator)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    muon = Muon([ours], momentum=0.95, weight_decay=0.1)
    reference = torch.optim.Muon([theirs], lr=0.02, momentum=0.95, weight_decay=0.1)
    for _ in range(3):
        gradient = torch.randn(12, 6, generator=generator)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        muon.step(0.02)
        reference.step()
        # bfloat16 has 8 bits, and the iteration enlarges their error.
        assert (ours - theirs).abs().max() < 0.1 * (ours - start).abs().max()


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    """The recipe as a module."""
    spec = importlib.util.spec_from_file_location("train_model", RECIPE)
    assert spec is not None
    assert spec.loader is not None
    sys.path.insert(0, str(RECIPE.parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules["train_model"] = module
    spec.loader.exec_module(module)
    return module


def test_the_recipe_resumes_its_log_and_exports_what_loads(
    recipe: ModuleType, bundled_tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    work, out = tmp_path / "work", tmp_path / "out"
    half_way = trainer(bundled_tokenizer)
    work.mkdir()
    list(half_way.run(1))
    half_way.save(work)
    finished = trainer(bundled_tokenizer)
    recipe.train(finished, work, out, (2,))
    assert finished.step == 3
    assert pd.read_csv(work / "log.csv")["step"].tolist() == [2, 3]
    recipe.export(finished, out)
    loaded = AutoModelForCausalLM.from_pretrained(out)
    assert loaded.dtype == torch.float32
    for name, value in finished.model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value.half().float())
    assert AutoTokenizer.from_pretrained(out).get_vocab() == bundled_tokenizer.get_vocab()
    # A snapshot is a whole model, of an earlier step.
    half_way = trainer(bundled_tokenizer)
    list(half_way.run(2))
    snapshot = AutoModelForCausalLM.from_pretrained(out / "step2").state_dict()
    for name, value in half_way.model.state_dict().items():
        assert torch.equal(snapshot[name], value.half().float())


def test_the_settings_of_the_recipe_are_those_of_the_card(
    recipe: ModuleType, card: dict[str, Any]
) -> None:
    settings = recipe.read_settings(recipe.SETTINGS)
    assert json.loads(json.dumps(card["settings"])) == card["settings"]
    assert settings.train.steps == card["steps"]
    assert settings.stream.seed == card["data_seed"]
    assert settings.model.init_seed == card["init_seed"]

"""Training of the bundled models: seeded, and resumable bit for bit."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, final

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    Mamba2Config,
    MixtralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from synatlas.errors import ConfigError
from synatlas.tasks.muon import Muon
from synatlas.tasks.stream import Batch, StreamConfig, batch_at
from synatlas.tasks.tokenizer import BOS_ID, EOS_ID, PAD_ID

#: A matrix of a layer with fewer rows or columns than this, such as a router's, which has one row
#: for each expert, is trained with AdamW.
_LEAST_MATRIX: Final = 16


@final
@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Shape of the model and the seed of its first weights.

    Attributes
    ----------
    hidden_size
        Width of the residual stream.
    intermediate_size
        Width of the feed-forward block, of each expert where there are several; 0 without one.
    n_layers, n_heads, head_dim
        Layers, heads of each, features of each head.
    max_length
        Longest sequence, in tokens.
    init_seed
        Seed of the first weights.
    architecture
        One of :data:`ARCHITECTURES`.
    n_experts, experts_per_token
        Routed experts of each layer, and how many of them a token visits.
    balance_weight
        Weight of the load-balancing loss beside the loss of the tokens.
    state_size
        Features of the recurrent state for each channel.
    chunk_length
        Positions that a state-space model computes as one product; changes rounding alone.
    """

    hidden_size: int
    intermediate_size: int
    n_layers: int
    n_heads: int
    head_dim: int
    max_length: int
    init_seed: int
    architecture: str = "llama"
    n_experts: int = 0
    experts_per_token: int = 0
    balance_weight: float = 0.0
    state_size: int = 0
    chunk_length: int = 0


@final
@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Schedule and optimiser.

    Attributes
    ----------
    steps
        Number of updates.
    tokens_per_step
        Tokens of one update; short and long sequences alike.
    micro_tokens
        Tokens of one forward pass; small enough to stay in the processor's cache.
    short_length, long_length
        Sequence lengths before and after `long_from`, a fraction of `steps`.
    muon_lr, adam_lr
        Peak learning rates: Muon for the matrices of the layers, AdamW for embeddings and norms.
    warmup_steps, decay_from
        Linear warm-up, then constant, then from this fraction of `steps` linearly to 0.
    checkpoint_every
        Steps between checkpoints.
    """

    steps: int
    tokens_per_step: int
    micro_tokens: int
    short_length: int
    long_length: int
    long_from: float
    muon_lr: float
    muon_momentum: float
    muon_weight_decay: float
    adam_lr: float
    adam_betas: tuple[float, float]
    warmup_steps: int
    decay_from: float
    clip: float
    checkpoint_every: int


@final
@dataclass(frozen=True)
class StepLog:
    """One row of the training log."""

    step: int
    loss: float
    grad_norm: float
    lr_scale: float
    tokens: int
    cpu_seconds: float


def llama_config(config: ModelConfig, tokenizer: PreTrainedTokenizerBase) -> LlamaConfig:
    """Llama with as many key-value heads as heads and tied embeddings."""
    return LlamaConfig(**_attention(config), **_common(config, tokenizer))


def mixtral_config(config: ModelConfig, tokenizer: PreTrainedTokenizerBase) -> MixtralConfig:
    """The same with several feed-forward blocks, of which each token visits the likeliest."""
    return MixtralConfig(
        **_attention(config),
        **_common(config, tokenizer),
        num_local_experts=config.n_experts,
        num_experts_per_tok=config.experts_per_token,
        router_aux_loss_coef=config.balance_weight,
    )


def mamba2_config(config: ModelConfig, tokenizer: PreTrainedTokenizerBase) -> Mamba2Config:
    """A state-space model: neither attention nor feed-forward blocks."""
    return Mamba2Config(
        **_common(config, tokenizer),
        num_heads=config.n_heads,
        head_dim=config.head_dim,
        expand=config.n_heads * config.head_dim // config.hidden_size,
        n_groups=1,
        state_size=config.state_size,
        chunk_size=config.chunk_length,
    )


def _attention(config: ModelConfig) -> dict[str, Any]:
    return {
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_length,
    }


def _common(config: ModelConfig, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    return {
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.n_layers,
        "vocab_size": len(tokenizer),
        "tie_word_embeddings": True,
        "pad_token_id": PAD_ID,
        "bos_token_id": BOS_ID,
        "eos_token_id": EOS_ID,
    }


#: What a model may be, by the name of its type in transformers.
ARCHITECTURES: Final[
    dict[str, Callable[[ModelConfig, PreTrainedTokenizerBase], PreTrainedConfig]]
] = {"llama": llama_config, "mixtral": mixtral_config, "mamba2": mamba2_config}


def model_config(config: ModelConfig, tokenizer: PreTrainedTokenizerBase) -> PreTrainedConfig:
    """The configuration of a model in transformers.

    Raises
    ------
    ConfigError
        An architecture that is not one of :data:`ARCHITECTURES`.
    """
    if config.architecture not in ARCHITECTURES:
        raise ConfigError(
            given=f"architecture {config.architecture}",
            expected=f"one of {', '.join(ARCHITECTURES)}",
            remedy="choose one of these names",
        )
    return ARCHITECTURES[config.architecture](config, tokenizer)


def initial_model(config: PreTrainedConfig, init_seed: int) -> PreTrainedModel:
    """The model at step 0, the same for the same seed; torch's global random state is kept.

    Parameters
    ----------
    config
        Architecture.
    init_seed
        Seed of the weights.

    Returns
    -------
    PreTrainedModel
        In float32.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(init_seed)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


@final
class Trainer:
    """A model, its two optimisers and the step they have reached."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        config: TrainConfig,
        stream: StreamConfig,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.config = config
        self.stream = stream
        self.step = 0
        self.tokens = 0
        self.cpu_seconds = 0.0
        layers = [p for name, p in model.named_parameters() if _is_matrix(name, p)]
        in_layers = {id(p) for p in layers}
        rest = [p for p in model.parameters() if id(p) not in in_layers]
        self.muon = Muon(
            layers, momentum=config.muon_momentum, weight_decay=config.muon_weight_decay
        )
        self.adam = torch.optim.AdamW(
            rest, lr=config.adam_lr, betas=config.adam_betas, weight_decay=0.0
        )

    def run(self, until: int) -> Iterator[StepLog]:
        """Train up to a step, one log row per update."""
        self.model.train()
        while self.step < until:
            yield self._update()

    def _update(self) -> StepLog:
        started = time.process_time()
        scale = lr_scale(self.step, self.config)
        for group in self.adam.param_groups:
            group["lr"] = self.config.adam_lr * scale
        batch = self._batch()
        loss = self._accumulate(batch)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.muon.step(self.config.muon_lr * scale)
        self.adam.step()
        self.adam.zero_grad()
        self.step += 1
        self.tokens += batch.tokens.numel()
        self.cpu_seconds += time.process_time() - started
        return StepLog(self.step, loss, float(norm), scale, self.tokens, self.cpu_seconds)

    def _batch(self) -> Batch:
        is_long = self.step >= self.config.long_from * self.config.steps
        length = self.config.long_length if is_long else self.config.short_length
        n_sequences = self.config.tokens_per_step // length
        return batch_at(
            self.step, self.stream, self.tokenizer, n_sequences=n_sequences, length=length
        )

    def _accumulate(self, batch: Batch) -> float:
        """Gradient of the weighted mean loss of a batch, in pieces of `micro_tokens`.

        The load-balancing loss of routed experts has a gradient, but is no part of the loss told.
        """
        balance = getattr(self.model.config, "router_aux_loss_coef", 0.0)
        routed = {"output_router_logits": True} if balance else {}
        rows = max(1, self.config.micro_tokens // batch.tokens.shape[1])
        total_weight = batch.weights[:, 1:].sum()
        total = 0.0
        for tokens, weights in zip(
            batch.tokens.split(rows), batch.weights.split(rows), strict=True
        ):
            output = self.model(input_ids=tokens, use_cache=False, **routed)
            losses = nn.functional.cross_entropy(
                output.logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), reduction="none"
            )
            loss = (losses * weights[:, 1:].flatten()).sum() / total_weight
            total += float(loss.detach())
            if routed:
                share = balance * tokens.shape[0] / batch.tokens.shape[0]
                loss = loss + share * output.aux_loss
            loss.backward()
        return total

    def save(self, folder: Path) -> None:
        """Write a checkpoint; a killed write leaves the old one whole."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items() if _is_own(k)}
        tensors |= {f"muon.{i}": average for i, average in enumerate(self.muon.averages)}
        for index, state in self.adam.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{key}": value for key, value in state.items()}
        # One file, so that weights, optimisers and step can never come from different steps.
        record = {"step": self.step, "tokens": self.tokens, "cpu_seconds": self.cpu_seconds}
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / "checkpoint.safetensors.part"
        save_file(
            {key: value.contiguous() for key, value in tensors.items()},
            unfinished,
            metadata={"progress": json.dumps(record), "settings": self._settings()},
        )
        os.replace(unfinished, folder / "checkpoint.safetensors")

    def restore(self, folder: Path) -> bool:
        """Continue from a checkpoint; False where there is none.

        Raises
        ------
        ValueError
            If the checkpoint was made with other settings.
        """
        path = folder / "checkpoint.safetensors"
        if not path.exists():
            return False
        metadata = read_metadata(path)
        if metadata["settings"] != self._settings():
            raise ValueError(
                f"{path} was trained with {metadata['settings']}, this run has "
                f"{self._settings()}; choose another work folder or delete it"
            )
        tensors = load_file(path)
        own = {key.removeprefix("model."): v for key, v in tensors.items() if key[:6] == "model."}
        self.model.load_state_dict(own, strict=False)
        for index, average in enumerate(self.muon.averages):
            average.copy_(tensors[f"muon.{index}"])
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("adam."):
                _, index, name = key.split(".")
                state.setdefault(int(index), {})[name] = value
        self.adam.load_state_dict(self.adam.state_dict() | {"state": state})
        progress = json.loads(metadata["progress"])
        self.step = progress["step"]
        self.tokens = progress["tokens"]
        self.cpu_seconds = progress["cpu_seconds"]
        return True

    def _settings(self) -> str:
        return json.dumps({"train": asdict(self.config), "stream": asdict(self.stream)})


def lr_scale(step: int, config: TrainConfig) -> float:
    """Learning rate of a step as a share of its peak."""
    warm = min(1.0, (step + 1) / config.warmup_steps)
    left = (config.steps - step) / (config.steps * (1.0 - config.decay_from))
    return min(warm, left, 1.0)


def read_metadata(path: Path) -> dict[str, str]:
    """The text metadata of a safetensors file."""
    with path.open("rb") as file:
        header = file.read(int.from_bytes(file.read(8), "little"))
    return json.loads(header)["__metadata__"]


def _is_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Whether it is a matrix of a layer, or a stack of matrices, one for each expert."""
    is_wide = parameter.ndim > 1 and min(parameter.shape[-2:]) >= _LEAST_MATRIX
    return is_wide and ".layers." in name


def _is_own(name: str) -> bool:
    # The output matrix is the embedding matrix; safetensors refuses shared memory.
    return name != "lm_head.weight"

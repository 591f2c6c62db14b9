"""Training of the bundled reference model: seeded, and resumable bit for bit."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from synatlas.tasks.muon import Muon
from synatlas.tasks.stream import Batch, StreamConfig, batch_at
from synatlas.tasks.tokenizer import BOS_ID, EOS_ID, PAD_ID


@final
@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Shape of the model and the seed of its first weights."""

    hidden_size: int
    intermediate_size: int
    n_layers: int
    n_heads: int
    head_dim: int
    max_length: int
    init_seed: int


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
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.n_layers,
        num_attention_heads=config.n_heads,
        num_key_value_heads=config.n_heads,
        head_dim=config.head_dim,
        max_position_embeddings=config.max_length,
        tie_word_embeddings=True,
        pad_token_id=PAD_ID,
        bos_token_id=BOS_ID,
        eos_token_id=EOS_ID,
    )


def initial_model(config: LlamaConfig, init_seed: int) -> PreTrainedModel:
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
        layers = [p for name, p in model.named_parameters() if p.ndim == 2 and ".layers." in name]
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
        """Gradient of the weighted mean loss of a batch, in pieces of `micro_tokens`."""
        rows = max(1, self.config.micro_tokens // batch.tokens.shape[1])
        total_weight = batch.weights[:, 1:].sum()
        total = 0.0
        for tokens, weights in zip(
            batch.tokens.split(rows), batch.weights.split(rows), strict=True
        ):
            logits = self.model(input_ids=tokens, use_cache=False).logits[:, :-1]
            losses = nn.functional.cross_entropy(
                logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none"
            )
            loss = (losses * weights[:, 1:].flatten()).sum() / total_weight
            loss.backward()
            total += float(loss.detach())
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


def _is_own(name: str) -> bool:
    # The output matrix is the embedding matrix; safetensors refuses shared memory.
    return name != "lm_head.weight"

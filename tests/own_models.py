"""Modelling code of users' own: attention that transformers knows nothing of."""

from typing import Any, Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import CausalLMOutput

HEADS: Final = 4
WIDTH: Final = 10
SIZE: Final = 32


class OwnConfig(PreTrainedConfig):
    model_type = "own"
    vocab_size: int = 258
    hidden_size: int = SIZE
    num_hidden_layers: int = 2
    mixing: str = "sdpa"
    gated: bool = True


def sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def matmul(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return _weights(q, k) @ v


def bmm(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.bmm(_weights(q, k).flatten(0, 1), v.flatten(0, 1)).unflatten(0, v.shape[:2])


def einsum(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    mixed = torch.einsum("bhqk,bkhd->bqhd", _weights(q, k), v.transpose(1, 2))
    return mixed.transpose(1, 2)


def sinks(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Weights that sum to less than one."""
    return (_weights(q, k) * 0.7) @ v


MIXINGS: Final = {f.__name__: f for f in (sdpa, matmul, bmm, einsum, sinks)}


def _weights(q: Tensor, k: Tensor) -> Tensor:
    scores = q @ k.transpose(-1, -2) / WIDTH**0.5
    later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(later, -torch.inf).softmax(-1)


class Block(nn.Module):
    """Fused queries, keys, values and gate; the output projection sits in the block itself."""

    def __init__(self, config: OwnConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(SIZE)
        self.all = nn.Linear(SIZE, 4 * HEADS * WIDTH)
        self.out = nn.Linear(HEADS * WIDTH, SIZE)
        self.mix = MIXINGS[config.mixing]
        self.gated = config.gated

    def forward(self, x: Tensor) -> Tensor:
        q, k, v, gate = self.all(self.norm(x)).chunk(4, dim=-1)
        q, k, v = (t.unflatten(-1, (HEADS, WIDTH)).transpose(1, 2) for t in (q, k, v))
        z = self.mix(q, k, v).transpose(1, 2).flatten(2)
        return x + self.out(z * gate.sigmoid() if self.gated else z)


class OwnForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = OwnConfig
    main_input_name = "input_ids"

    def __init__(self, config: OwnConfig) -> None:
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, SIZE)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.head = nn.Linear(SIZE, config.vocab_size)
        self.post_init()

    def get_input_embeddings(self) -> Any:
        return self.embed

    def get_output_embeddings(self) -> Any:
        return self.head

    def prepare_inputs_for_generation(self, input_ids: Tensor, **kwargs: Any) -> dict[str, Any]:
        return {"input_ids": input_ids, "attention_mask": kwargs.get("attention_mask")}

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **options: Any
    ) -> CausalLMOutput:
        del attention_mask, options
        x = self.embed(input_ids)
        for block in self.blocks:
            x = block(x)
        return CausalLMOutput(logits=self.head(x))


def own_model(**options: Any) -> OwnForCausalLM:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = OwnForCausalLM(OwnConfig(**options))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 2:
                    parameter.normal_(0.0, 0.3)
    return model.eval().requires_grad_(False)

"""A tiny random model of any causal-LM type of transformers: its default configuration, shrunk."""

from typing import Any, NamedTuple

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from synatlas.models.quiet import quiet
from tiny_models import scale_up

#: What a tiny configuration has, wherever the default one has a number or a list of that name.
TINY: dict[str, Any] = {
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input"), 258),
    **dict.fromkeys(
        ("hidden_size", "d_model", "n_embd", "embedding_size", "embedding_dim", "emb_dim"), 64
    ),
    **dict.fromkeys(
        (
            "num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers",
            "encoder_layers", "num_decoder_layers", "num_encoder_layers", "num_blocks",
        ),
        2,
    ),
    **dict.fromkeys(
        (
            "num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads",
            "decoder_attention_heads", "encoder_attention_heads", "num_decoder_attention_heads",
            "num_encoder_attention_heads", "swa_num_attention_heads",
        ),
        4,
    ),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "swa_num_key_value_heads"), 2),
    **dict.fromkeys(("head_dim", "swa_head_dim", "kv_channels", "global_head_dim"), 24),
    **dict.fromkeys(
        (
            "intermediate_size", "moe_intermediate_size", "ffn_dim", "decoder_ffn_dim",
            "encoder_ffn_dim", "ffn_hidden_size", "dff", "shared_expert_intermediate_size",
            "expert_ffn_hidden_size", "dense_intermediate_size", "shared_intermediate_size",
            "shared_experts_intermediate_size", "intermediate_size_mlp", "dim_ff", "n_inner",
            "moe_shared_expert_intermediate_size",
        ),
        40,
    ),
    **dict.fromkeys(
        (
            "num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts",
        ),
        4,
    ),
    **dict.fromkeys(
        ("num_experts_per_tok", "moe_topk", "num_experts_per_token", "moe_k", "top_k_experts"), 2
    ),
    **dict.fromkeys(("n_group", "topk_group", "num_expert_group"), 1),
    **dict.fromkeys(("n_shared_experts", "num_shared_experts", "moe_num_shared_experts"), 1),
    **dict.fromkeys(("first_k_dense_replace", "num_dense_layers"), 1),
    **dict.fromkeys(
        (
            "max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "context_length",
            "max_target_positions", "model_max_length",
        ),
        128,
    ),
    **dict.fromkeys(("sliding_window", "sliding_window_size", "attention_window_size"), 16),
    "hidden_size_global": 64, "adapter_in_dim": 64,
    "adapter_out_dim": 64, "adapter_input_size": 64,
    "q_lora_rank": 24,
    "kv_lora_rank": 12,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 10,
    "qk_head_dim": 18,
    "v_head_dim": 14,
    "index_head_dim": 16,
    "index_n_heads": 2,
    "index_topk": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 12,
    "linear_num_heads": 4,
    "linear_head_dim": 12,
    "mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_num_heads": 8,
    "mamba_head_dim": 16, "mamba_chunk_size": 8, "chunk_size": 8, "ssm_state_size": 8,
    "state_size": 8, "mamba_dt_rank": 8, "time_step_rank": 8, "n_groups": 2,
    "hidden_size_per_layer_input": 16, "num_kv_shared_layers": 1,
    "image_size": 32, "patch_size": 16,
    "lru_width": 64, "rotary_dim": 8,
}  # fmt: skip

#: Multi-head latent attention: keys have no groups, and the configured width is that of positions.
LATENT: dict[str, Any] = TINY | {"num_key_value_heads": 4, "head_dim": 8}

#: What is tiny even where the default has none.
ALWAYS = ("pad_token_id", "head_dim")

LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")

#: Kinds of layers that a tiny model keeps at most.
MOST_KINDS = 4

_QWEN4 = {
    "indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 24, "indexer_budget": 8,
    "indexer_compress_ratio": 2, "hc_lowrank": 8, "ple_embed_dim": 16,
}  # fmt: skip
_DOTS3 = {
    "num_hidden_layers": 3,
    "head_dim": 28,
    "per_layer_config": {
        i: {
            "num_attention_heads": 8,
            "num_key_value_heads": 8,
            "kv_lora_rank": 24,
            "qk_nope_head_dim": 20,
        }
        for i in (2,)
    },
}
_GEMMA4 = {
    "num_hidden_layers": 4,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "per_layer_config": {i: {"head_dim": 48} for i in (1, 3)},
    "num_kv_shared_layers": 2,
}
#: Where the general rule does not do: values by type, a dotted name for a nested configuration.
OVERRIDES: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1]},
    "cohere_compass_text": {
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}}
    },
    "blt": {
        f"{part}.{name}": value
        for part in ("patcher_config", "encoder_config", "decoder_config", "global_config")
        for name, value in {"head_dim": 16, "num_key_value_heads": 4}.items()
    } | {"encoder_hash_byte_group_vocab": 50},
    "dbrx": {
        "num_key_value_heads": 2,
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
        "ffn_config": {"ffn_hidden_size": 40, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v2": {"num_experts_per_tok": 2},
    "deepseek_v4": {
        "num_key_value_heads": 1, "o_groups": 2, "o_lora_rank": 12,
        "compress_rates": {"compressed_sparse_attention": 2, "heavily_compressed_attention": 4},
    },
    "dots1": {"first_k_dense_replace": 1, "n_routed_experts": 4, "n_shared_experts": 1,
              "num_experts_per_tok": 2},
    "dots3_note": {f"text_config.{k}": v for k, v in _DOTS3.items()},
    "dots3_note_text": _DOTS3,
    "falcon_h1": {"mamba_d_ssm": 128},
    "gemma4": {f"text_config.{k}": v for k, v in _GEMMA4.items()},
    "gemma4_text": _GEMMA4,
    "gemma4_unified": {f"text_config.{k}": v for k, v in _GEMMA4.items()},
    "gemma4_unified_text": _GEMMA4,
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"]},
    "helium": {"head_dim": 16},
    "hrm_text": {"num_hidden_layers": 16, "num_layers_per_stack": 2},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "laguna": {"num_attention_heads_per_layer": [4, 8]},
    "lfm2": {"num_hidden_layers": 2, "full_attn_idxs": [1],
             "layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "longcat_flash": {"zero_expert_num": 2},
    "mamba2": {"head_dim": 16, "num_heads": 8},
    "nemotron": {"num_key_value_heads": 2},
    "qwen4_exp": {f"text_config.{k}": v for k, v in _QWEN4.items()},
    "qwen4_exp_text": _QWEN4,
    "recurrent_gemma": {"num_hidden_layers": 3, "head_dim": 16},
    "reformer": {"axial_pos_embds_dim": [16, 48], "axial_pos_shape": [8, 16],
                 "attention_head_size": 16},
    "rwkv": {"attention_hidden_size": 64},
    "xlm": {"causal": True},
    "xlnet": {"d_head": 16, "d_inner": 40, "attn_type": "uni"},
    # Its cache is as wide as its heads where widths are multiples of 64.
    "xlstm": {"hidden_size": 128, "embedding_dim": 128, "num_heads": 4},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"num_hidden_layers": 4, "attention_hidden_size": 128, "attention_head_dim": 32,
              "layers_block_type": ["linear_attention", "hybrid"] * 2},
    "zamba2": {"num_hidden_layers": 4, "num_mem_blocks": 1,
               "layers_block_type": ["linear_attention", "hybrid"] * 2,
               "mamba_headdim": 16, "n_mamba_heads": 8, "attention_hidden_size": 128,
               "attention_head_dim": 32, "adapter_rank": 4, "kv_channels": 16,
               "num_query_groups": 4, "hybrid_layer_ids": [1, 3]},
    "zaya": {"num_experts_per_tok": 1, "router_hidden_size": 16},
}  # fmt: skip


def tiny_type(name: str, *, seed: int = 0) -> Any:
    """A tiny random model of this type, in evaluation mode."""
    with quiet(), torch.random.fork_rng():
        torch.manual_seed(seed)
        network = AutoModelForCausalLM.from_config(tiny_config(name), dtype=torch.float32)
        scale_up(network)
    return network.eval().requires_grad_(False)


def tiny_config(name: str) -> Any:
    """Configuration of a tiny model of this type."""
    values = _shrunk(AutoConfig.for_model(name))
    for path, value in OVERRIDES.get(name, {}).items():
        *parents, last = path.split(".")
        at = values
        for parent in parents:
            at = at[parent]
        at[last] = value
    values.pop("model_type")
    return AutoConfig.for_model(name, **values)


def _shrunk(config: Any) -> dict[str, Any]:
    """The configuration's values, with tiny ones wherever :data:`TINY` knows the name."""
    given = config.to_dict()
    tiny = LATENT if isinstance(given.get("kv_lora_rank"), int) else TINY
    layers = _Layers.of(given)
    out: dict[str, Any] = {}
    for name, value in given.items():
        nested = getattr(config, name) if name in config.sub_configs else None
        if nested is not None:
            out[name] = _shrunk(nested)
        elif name in LAYERS and layers.chosen:
            out[name] = len(layers.chosen)
        elif name in layers.lists:
            out[name] = [value[i] for i in layers.chosen]
        elif name in tiny and (isinstance(value, int | list) or name in ALWAYS):
            out[name] = tiny[name]
        elif name not in {"id2label", "label2id", "dtype", "architectures", "per_layer_config"}:
            out[name] = value
    if "is_decoder" in out or out.get("is_encoder_decoder"):
        out |= {"is_decoder": True, "is_encoder_decoder": False}
    return out | layers.uneven(tiny)


class _Layers(NamedTuple):
    """Which layers are kept: the first of every kind."""

    chosen: list[int]
    lists: dict[str, list[Any]]
    own: dict[int, dict[str, Any]]

    @classmethod
    def of(cls, given: dict[str, Any]) -> "_Layers":
        count = next((given[name] for name in LAYERS if isinstance(given.get(name), int)), 0)
        lists = {k: v for k, v in given.items() if isinstance(v, list) and len(v) == count > 0}
        own = {int(i): v for i, v in (given.get("per_layer_config") or {}).items()}
        kinds = [
            (*(str(values[i]) for values in lists.values()), str(own.get(i))) for i in range(count)
        ]
        chosen = [i for i, kind in enumerate(kinds) if kinds.index(kind) == i][:MOST_KINDS]
        if len(chosen) == 1:
            chosen.append(count - 1)
        return cls(chosen if lists else [], lists, own)

    def uneven(self, tiny: dict[str, Any]) -> dict[str, Any]:
        """Layers of their own size: twice as large."""
        found = {
            new: {name: 2 * tiny[name] for name in self.own[old]}
            for new, old in enumerate(self.chosen)
            if old in self.own
        }
        return {"per_layer_config": found} if found else {}

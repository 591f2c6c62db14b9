"""Tiny random models of many architectures, with a byte-level tokenizer."""

from collections.abc import Callable
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from synatlas.models.load import CONTEXT_NAMES, LanguageModel
from synatlas.models.probe import find_units
from synatlas.models.quiet import quiet

TinyModel = Callable[[str], LanguageModel]

_IDS = {"vocab_size": 258, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None}
#: Grouped heads, and a head width that is not hidden size / heads.
_GROUPED = _IDS | {
    "hidden_size": 48,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 20,
    "max_position_embeddings": 128,
}
_SQUARE = {name: value for name, value in _GROUPED.items() if name != "head_dim"}
_GPT = _IDS | {"n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 128}
_MOE = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2}
#: Experts narrower than the dense layers, and one that every token passes.
_SHARED = _MOE | {
    "n_routed_experts": 4,
    "moe_intermediate_size": 16,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
}
_MAMBA = _IDS | {"hidden_size": 48, "num_hidden_layers": 2, "state_size": 4}
#: Mamba-2 in a hybrid: six heads of sixteen features in two groups.
_SSM = {
    "mamba_n_heads": 6,
    "mamba_d_head": 16,
    "mamba_n_groups": 2,
    "mamba_d_state": 8,
    "mamba_chunk_size": 4,
}
#: A gated delta net, then attention: four value heads, two key heads.
_DELTA = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 10,
    "linear_value_head_dim": 14,
    "layer_types": ["linear_attention", "full_attention"],
}
_ZAMBA = _SQUARE | {
    "num_key_value_heads": 4,
    "num_hidden_layers": 4,
    "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"],
    "mamba_d_state": 4,
    "attention_hidden_size": 96,
    "attention_head_dim": 24,
}

#: Families whose configurations have the same names.
_LLAMA_LIKE = (
    "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "olmo", "olmo2",
    "cohere", "starcoder2", "phi", "phi3", "granite", "smollm3", "nemotron", "glm", "exaone4",
    "diffllama",
)  # fmt: skip

#: Model type, or a variant of one, and the configuration of its tiny model.
CONFIGS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        _LLAMA_LIKE,
        _GROUPED,
    ),
    **dict.fromkeys(("mixtral", "qwen3_moe", "gpt_oss"), _GROUPED | _MOE),
    "bert": _SQUARE,
    "gpt_neox": _SQUARE | {"rotary_pct": 0.5},
    "stablelm": _SQUARE | {"partial_rotary_factor": 0.5},
    "gpt2": _GPT,
    "gptj": _GPT | {"rotary_dim": 4},
    "gpt_bigcode": _GPT,
    "codegen": _GPT | {"n_embd": 64, "rotary_dim": 8},
    "gpt_neo": _IDS
    | {
        "hidden_size": 48,
        "num_layers": 2,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 1]],
        "max_position_embeddings": 128,
    },
    "opt": _SQUARE | {"ffn_dim": 64, "word_embed_proj_dim": 48},
    "bloom": _IDS | {"hidden_size": 48, "n_layer": 2, "n_head": 4},
    "falcon": _SQUARE | {"num_kv_heads": 2, "new_decoder_architecture": True},
    "mpt": _IDS | {"d_model": 48, "n_layers": 2, "n_heads": 4, "max_seq_len": 128},
    "xglm": _IDS | {"d_model": 48, "ffn_dim": 48, "num_layers": 2, "attention_heads": 4},
    "deepseek_v2": _SQUARE
    | {
        "num_key_value_heads": 4,
        "q_lora_rank": None,
        "kv_lora_rank": 12,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 10,
        "v_head_dim": 14,
        "head_dim": 8,
    }
    | _SHARED
    | {"n_shared_experts": 2, "first_k_dense_replace": 1, "topk_method": "greedy"},
    "olmoe": _SQUARE | _MOE,
    "granitemoe": _SQUARE | _MOE,
    "granitemoeshared": _SQUARE | _MOE | {"shared_intermediate_size": 24},
    "qwen2_moe": _SQUARE | _SHARED | {"shared_expert_intermediate_size": 24},
    "glm4_moe": _GROUPED | _SHARED | {"first_k_dense_replace": 1},
    "ernie4_5_moe": _SQUARE | _SHARED | {"moe_num_experts": 4, "moe_k": 2},
    "nemotron_h": _GROUPED
    | _SHARED
    | {
        "layers_block_type": ["attention", "moe"],
        "moe_shared_expert_intermediate_size": 24,
        "moe_latent_size": None,
    },
    "gemma4_text": _GROUPED
    | {
        "enable_moe_block": True,
        "num_experts": 4,
        "top_k_experts": 2,
        "moe_intermediate_size": 16,
        "global_head_dim": 20,
        "vocab_size_per_layer_input": 258,
        "hidden_size_per_layer_input": 8,
        "num_kv_shared_layers": 0,
    },
    "llama4_text": _GROUPED | _MOE | {"intermediate_size_mlp": 32, "interleave_moe_layer_step": 1},
    "jetmoe": _SQUARE | _MOE | {"kv_channels": 12, "num_key_value_heads": 2},
    "qwen3_next": _GROUPED
    | {
        "layer_types": ["full_attention", "full_attention"],
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
    },
    "lfm2": _GROUPED | {"layer_types": ["conv", "full_attention"]},
    "mamba": _MAMBA,
    "falcon_mamba": _MAMBA,
    "mamba2": _MAMBA
    | {"state_size": 8, "num_heads": 6, "head_dim": 16, "n_groups": 2, "chunk_size": 4},
    "rwkv": _IDS
    | {
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "attention_hidden_size": 48,
        "context_length": 128,
    },
    # Its heads are as wide as its cache says where the widths are multiples of 64.
    "xlstm": _IDS
    | {
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "num_blocks": 2,
        "num_heads": 4,
        "chunk_size": 8,
    },
    "recurrent_gemma": _SQUARE
    | {
        "lru_width": 48,
        "attention_window_size": 64,
        "block_types": ["recurrent", "attention"],
        "head_dim": 12,
    },
    "jamba": _SQUARE
    | {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 4,
        "expert_layer_offset": 3,
        "num_experts": 2,
        "mamba_d_state": 4,
        "mamba_dt_rank": 4,
    },
    "bamba": _SQUARE | _SSM | {"attn_layer_indices": [1]},
    "granitemoehybrid": _SQUARE
    | _SSM
    | {
        "layer_types": ["mamba", "attention"],
        "num_local_experts": 0,
        "shared_intermediate_size": 40,
    },
    # Both mixers in every layer, and a gate outside of any module.
    "falcon_h1": _SQUARE | _SSM | {"mamba_d_ssm": 96, "head_dim": 12},
    "zamba": _ZAMBA | {"mamba_dt_rank": 4, "n_mamba_heads": 2},
    "zamba2": _ZAMBA
    | {"mamba_headdim": 16, "n_mamba_heads": 6, "mamba_ngroups": 2, "chunk_size": 4}
    | {"num_mem_blocks": 1},
    "nemotron_h_mamba": _SQUARE
    | {
        "model_type": "nemotron_h",
        "layers_block_type": ["mamba", "attention", "mlp"],
        "num_hidden_layers": 3,
        "ssm_state_size": 8,
        "mamba_num_heads": 6,
        "mamba_head_dim": 16,
        "n_groups": 2,
        "chunk_size": 4,
        "head_dim": 12,
    },
    "qwen3_5_text": _GROUPED | _DELTA,
    "olmo_hybrid": _SQUARE | _DELTA,
    "kimi_linear": _SQUARE
    | _MOE
    | {
        "num_key_value_heads": 4,
        "layer_types": ["linear_attention", "full_attention"],
        "linear_num_heads": 4,
        "linear_head_dim": 10,
        "kv_lora_rank": 12,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 10,
        "v_head_dim": 14,
        "moe_intermediate_size": 16,
    },
    "minimax": _GROUPED
    | _MOE
    | {"layer_types": ["linear_attention", "full_attention"], "block_size": 4},
}


def tiny_tokenizer(**options: Any) -> PreTrainedTokenizerFast:
    """One token a byte; 0 begins a text by name only, 1 ends it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: i for i, symbol in enumerate(["<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    named = {"bos_token": "<s>", "eos_token": "</s>"} | options
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)


def tiny_network(name: str, *, seed: int = 0, **changes: Any) -> Any:
    """A random model; its matrices are scaled up so that heads and replies differ."""
    with quiet(), torch.random.fork_rng():
        torch.manual_seed(seed)
        settings = {"model_type": name} | CONFIGS[name] | changes
        config = AutoConfig.for_model(settings.pop("model_type"), **settings)
        network = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        scale_up(network)
    return network.eval().requires_grad_(False)


def scale_up(network: Any) -> None:
    """Scale matrices so that heads differ, whatever the spread that the type starts from."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 2 and parameter.std() > 0:
                parameter.mul_(0.15 / parameter.std())


def as_language_model(network: Any, tokenizer: PreTrainedTokenizerFast) -> LanguageModel:
    """What `load` makes of a folder, without the folder."""
    units = find_units(network)
    config = network.config.get_text_config(decoder=True)
    context = next((getattr(config, n) for n in CONTEXT_NAMES if hasattr(config, n)), None)
    return LanguageModel(
        model=network,
        tokenizer=tokenizer,
        name=f"tiny-{config.model_type}",
        revision="0" * 40,
        model_type=config.model_type,
        device=torch.device("cpu"),
        dtype=network.dtype,
        n_layers=units.n_layers,
        found=units,
        context_length=context,
    )

"""Norms of attention heads, written out from the weights in float64.

No transformers code: weights are looked up by name in the state dict, and every step of the
forward pass is spelt out for one sequence.
"""

from collections.abc import Mapping

import numpy as np
from scipy import special

Weights = Mapping[str, np.ndarray]


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def heads(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Causal attention; q, k, v and the result are (head, position, feature)."""
    score = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
    future = np.triu(np.ones(score.shape[-2:], dtype=bool), 1)
    return softmax(np.where(future, -np.inf, score)) @ v


def split(x: np.ndarray, count: int) -> np.ndarray:
    """(position, head * feature) as (head, position, feature)."""
    return x.reshape(len(x), count, -1).transpose(1, 0, 2)


def join(z: np.ndarray) -> np.ndarray:
    return z.transpose(1, 0, 2).reshape(z.shape[1], -1)


def rotate(x: np.ndarray, base: float, width: int) -> np.ndarray:
    """Rotary embedding of the first `width` features, halves paired."""
    half = width // 2
    angle = np.arange(x.shape[1])[:, None] * base ** (-np.arange(half) / half)
    a, b, rest = x[..., :half], x[..., half:width], x[..., width:]
    cos, sin = np.cos(angle), np.sin(angle)
    return np.concatenate([a * cos - b * sin, b * cos + a * sin, rest], axis=-1)


def rms(x: np.ndarray, gain: np.ndarray, eps: float) -> np.ndarray:
    return gain * x / np.sqrt((x**2).mean(-1, keepdims=True) + eps)


def layer_norm(x: np.ndarray, w: Weights, name: str, eps: float = 1e-5) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def llama(w: Weights, ids: np.ndarray, *, layers: int, n_heads: int, n_groups: int) -> np.ndarray:
    """Norms (position, unit) of a Llama with grouped key/value heads."""
    x = w["model.embed_tokens.weight"][ids]
    norms = []
    for i in range(layers):
        at = f"model.layers.{i}"
        h = rms(x, w[f"{at}.input_layernorm.weight"], 1e-6)
        q = split(h @ w[f"{at}.self_attn.q_proj.weight"].T, n_heads)
        k = split(h @ w[f"{at}.self_attn.k_proj.weight"].T, n_groups)
        v = split(h @ w[f"{at}.self_attn.v_proj.weight"].T, n_groups)
        width = q.shape[-1]
        q, k = rotate(q, 10000.0, width), rotate(k, 10000.0, width)
        share = n_heads // n_groups
        z = heads(q, k.repeat(share, axis=0), v.repeat(share, axis=0))
        norms.append(np.sqrt((z**2).sum(-1)).T)
        x = x + join(z) @ w[f"{at}.self_attn.o_proj.weight"].T
        h = rms(x, w[f"{at}.post_attention_layernorm.weight"], 1e-6)
        gate = h @ w[f"{at}.mlp.gate_proj.weight"].T
        up = h @ w[f"{at}.mlp.up_proj.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ w[f"{at}.mlp.down_proj.weight"].T
    return np.concatenate(norms, axis=1)


def gpt2(w: Weights, ids: np.ndarray, *, layers: int, n_heads: int) -> np.ndarray:
    """Norms (position, unit) of a GPT-2: fused matrices stored input by output."""
    x = w["transformer.wte.weight"][ids] + w["transformer.wpe.weight"][: len(ids)]
    norms = []
    for i in range(layers):
        at = f"transformer.h.{i}"
        h = layer_norm(x, w, f"{at}.ln_1")
        fused = h @ w[f"{at}.attn.c_attn.weight"] + w[f"{at}.attn.c_attn.bias"]
        q, k, v = (split(part, n_heads) for part in np.split(fused, 3, axis=1))
        z = heads(q, k, v)
        norms.append(np.sqrt((z**2).sum(-1)).T)
        x = x + join(z) @ w[f"{at}.attn.c_proj.weight"] + w[f"{at}.attn.c_proj.bias"]
        h = layer_norm(x, w, f"{at}.ln_2") @ w[f"{at}.mlp.c_fc.weight"] + w[f"{at}.mlp.c_fc.bias"]
        h = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
        x = x + h @ w[f"{at}.mlp.c_proj.weight"] + w[f"{at}.mlp.c_proj.bias"]
    return np.concatenate(norms, axis=1)


def gpt_neox(w: Weights, ids: np.ndarray, *, layers: int, n_heads: int) -> np.ndarray:
    """Norms (position, unit) of a GPT-NeoX: rows [q, k, v] head by head, half of each rotated.

    Attention and feed-forward network both read the layer's input and are added to it together.
    """
    x = w["gpt_neox.embed_in.weight"][ids]
    norms = []
    for i in range(layers):
        at = f"gpt_neox.layers.{i}"
        h = linear(layer_norm(x, w, f"{at}.input_layernorm"), w, f"{at}.attention.query_key_value")
        q, k, v = np.split(split(h, n_heads), 3, axis=-1)
        width = q.shape[-1] // 2
        z = heads(rotate(q, 10000.0, width), rotate(k, 10000.0, width), v)
        norms.append(np.sqrt((z**2).sum(-1)).T)
        attended = linear(join(z), w, f"{at}.attention.dense")
        h = layer_norm(x, w, f"{at}.post_attention_layernorm")
        h = linear(h, w, f"{at}.mlp.dense_h_to_4h")
        h = h * (1 + special.erf(h / np.sqrt(2))) / 2
        x = x + attended + linear(h, w, f"{at}.mlp.dense_4h_to_h")
    return np.concatenate(norms, axis=1)


def linear(x: np.ndarray, w: Weights, name: str) -> np.ndarray:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

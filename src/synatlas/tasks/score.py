"""How often a model answers verifiable questions correctly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from synatlas.tasks.generators import is_correct, render
from synatlas.tasks.generators.source import Item

#: room for the longest answer of the generators (six-digit sums) in the bundled tokenizer
MAX_ANSWER_TOKENS = 68


def score(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[Item],
    *,
    max_new_tokens: int = MAX_ANSWER_TOKENS,
    batch_size: int = 100,
) -> tuple[bool, ...]:
    """Greedy answers, marked.

    Parameters
    ----------
    model
        A causal language model.
    tokenizer
        Its tokenizer.
    items
        The questions.
    max_new_tokens
        Longest reply.
    batch_size
        Questions answered at once; no answer depends on it beyond rounding.

    Returns
    -------
    tuple of bool
        Whether each item was answered correctly.
    """
    replies: list[str] = []
    for first in range(0, len(items), batch_size):
        prompts = [render(item.prompt) for item in items[first : first + batch_size]]
        replies += greedy_replies(model, tokenizer, prompts, max_new_tokens=max_new_tokens)
    return tuple(is_correct(item, reply) for item, reply in zip(items, replies, strict=True))


def score_samples(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[Item],
    *,
    samples: int,
    temperature: float = 1.0,
    seed: int = 0,
    max_new_tokens: int = MAX_ANSWER_TOKENS,
) -> Bool[np.ndarray, "item sample"]:
    """Sampled answers, marked; torch's global random state is kept.

    The mean is the estimate of pass@1, and the share of items with a right sample that of pass@k
    for k samples.

    Parameters
    ----------
    model
        A causal language model.
    tokenizer
        Its tokenizer.
    items
        The questions, all answered in one batch.
    samples
        Answers to each.
    temperature
        What logits are divided by; all tokens may be drawn.
    seed
        Of the draws.
    max_new_tokens
        Longest reply.

    Returns
    -------
    numpy.ndarray
        (item, sample): whether it is right.
    """
    prompts = [render(item.prompt) for item in items for _ in range(samples)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        replies = _replies(
            model,
            tokenizer,
            prompts,
            max_new_tokens=max_new_tokens,
            do_sample=True,
            temperature=temperature,
            top_k=0,
            top_p=1.0,
        )
    asked = [item for item in items for _ in range(samples)]
    right = [is_correct(item, reply) for item, reply in zip(asked, replies, strict=True)]
    return np.array(right, dtype=bool).reshape(len(items), samples)


def greedy_replies(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    max_new_tokens: int,
) -> list[str]:
    """What a model writes after each text, up to the first line break or the length limit.

    Parameters
    ----------
    model
        A causal language model.
    tokenizer
        Its tokenizer, with a padding token.
    texts
        The texts to continue.
    max_new_tokens
        Longest reply.

    Returns
    -------
    list of str
        The replies, special tokens removed.
    """
    return _replies(model, tokenizer, texts, max_new_tokens=max_new_tokens, do_sample=False)


def _replies(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    **decoding: Any,
) -> list[str]:
    encoded = tokenizer(list(texts), return_tensors="pt", padding=True, padding_side="left")
    line_break = tokenizer.encode("\n", add_special_tokens=False)[-1]
    with torch.inference_mode():
        # The stubs of transformers do not say that a causal model can generate.
        output = cast(Any, model).generate(
            input_ids=encoded["input_ids"].to(model.device),
            attention_mask=encoded["attention_mask"].to(model.device),
            **decoding,
            eos_token_id=line_break,
            pad_token_id=tokenizer.pad_token_id,
        )
    prompt_length = encoded["input_ids"].shape[1]
    return tokenizer.batch_decode(output[:, prompt_length:], skip_special_tokens=True)

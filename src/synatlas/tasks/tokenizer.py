"""The tokenizer of the bundled model: whole words of the stream, else single bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = ("<|pad|>", "<|bos|>", "<|eos|>")
#: they come first in the vocabulary
PAD_ID, BOS_ID, EOS_ID = range(3)
#: a pre-token seen less often than this in the sample is spelled in bytes
MIN_COUNT = 12


def build_tokenizer(texts: Iterable[str], *, max_length: int) -> PreTrainedTokenizerFast:
    """Tokenizer whose words are the frequent words of a sample.

    Digits are always single tokens, and any text is encoded without loss, because a word outside
    the vocabulary falls back to its UTF-8 bytes.

    Parameters
    ----------
    texts
        The sample.
    max_length
        Longest sequence of the model it is for, in tokens.

    Returns
    -------
    PreTrainedTokenizerFast
        Puts the beginning-of-sequence token in front of a text.
    """
    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(piece for piece, _ in splitter.pre_tokenize_str(text))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = sorted(
        piece
        for piece, count in counts.items()
        if len(piece) > 1 and piece.lstrip("Ġ").isalpha() and count >= MIN_COUNT
    )
    vocabulary = {token: i for i, token in enumerate((*SPECIAL_TOKENS, *alphabet, *words))}
    # Without merges a word is in the vocabulary as a whole (ignore_merges) or spelled in bytes.
    tokenizer = Tokenizer(BPE(vocabulary, [], ignore_merges=True))
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|bos|> $A", pair="<|bos|> $A $B", special_tokens=[("<|bos|>", BOS_ID)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        bos_token="<|bos|>",
        eos_token="<|eos|>",
        model_max_length=max_length,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )

"""A model whose weights are set by hand: some of its heads copy what was seen before.

Every position holds the token read, its place, the token before it, what is predicted, and room
for noise, each in features of its own:

previous-token heads   attend from each place to the one before, by one-hot places, and write the
                       token found there; any one of them suffices.
induction heads        attend from a token to the places whose previous token it is, and write the
                       token found there into the prediction; each of them copies its own part of
                       the vocabulary, so that what ablating them costs adds up.
other heads            have random weights and write small noise.

On a random sequence that is repeated the circuit predicts the repeat (Elhage et al. 2021; Olsson
et al. 2022, arXiv 2209.11895, describe both kinds of heads in trained models).
"""

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from jaxtyping import Int

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

#: Heads in each layer.
HEADS: Final = 8

#: Words, and places of a sequence. A head is as wide as either, so that it can hold one of each.
WORDS: Final = 24
PLACES: Final = 24

#: Circuit heads in each layer: previous-token ones, then induction heads.
PREVIOUS: Final = (2, 2, 0, 0)
INDUCTION: Final = (0, 0, 3, 3)

#: How sharply heads attend: scores of a match, about, before the softmax.
_SHARP: Final = 40.0

#: What an induction head writes, and what a unit of it adds to a logit, before normalisation.
_WRITES, _GAIN = 3.0, 1.5

#: Standard deviation of the weights of other heads.
_NOISE: Final = 0.03


class Circuit(NamedTuple):
    """The model, and its circuit heads as (layer, head), in the order of layers."""

    network: "GPT2LMHeadModel"
    heads: Int[np.ndarray, "head 2"]


def induction_circuit(seed: int) -> Circuit:
    """Make a model of four layers of eight heads, ten of them a copying circuit.

    Which heads of a layer belong to it, which words each induction head copies, and the weights of
    all other heads depend on the seed. MLPs are 0, embeddings and readout fixed.

    Parameters
    ----------
    seed : of everything that is drawn.

    Returns
    -------
    Circuit
        In evaluation mode, float32. Sequences are those of :func:`repeated_words`.
    """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    rng = np.random.default_rng(seed)
    layers, width = len(PREVIOUS), WORDS
    config = GPT2Config(
        vocab_size=WORDS, n_positions=PLACES, n_embd=HEADS * width, n_layer=layers, n_head=HEADS,
        n_inner=1, tie_word_embeddings=False, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    network = GPT2LMHeadModel(config).eval().requires_grad_(False)
    for name, parameter in network.named_parameters():
        parameter.fill_(1.0 if name.endswith(("ln_1.weight", "ln_2.weight", "ln_f.weight")) else 0)
    eye = torch.eye(WORDS)
    body: Any = network.transformer
    body.wte.weight[:, _TOKEN] = eye
    body.wpe.weight[:, _PLACE] = torch.eye(PLACES)
    network.lm_head.weight[:, _PREDICTED] = _GAIN * eye
    shares = np.array_split(rng.permutation(np.arange(1, WORDS)), sum(INDUCTION))
    found = []
    for layer in range(layers):
        order = rng.permutation(HEADS)
        circuit = np.sort(order[: PREVIOUS[layer] + INDUCTION[layer]])
        for head in range(HEADS):
            weights = _other(rng, width)
            if head in circuit:
                weights = _previous(width) if PREVIOUS[layer] else _induction(shares.pop())
                found.append((layer, head))
            _write(body.h[layer].attn, head, weights)
    return Circuit(network, np.array(found))


#: Features of a position.
_TOKEN: Final = slice(0, WORDS)
_PLACE: Final = slice(WORDS, 2 * WORDS)
_BEFORE: Final = slice(2 * WORDS, 3 * WORDS)
_PREDICTED: Final = slice(3 * WORDS, 4 * WORDS)


class _Head(NamedTuple):
    """Weights of one head: (feature, width) query, key and value, and (width, feature) output."""

    query: np.ndarray
    key: np.ndarray
    value: np.ndarray
    output: np.ndarray


def _blank() -> _Head:
    features = HEADS * WORDS
    inward = np.zeros((3, features, WORDS))
    return _Head(inward[0], inward[1], inward[2], np.zeros((WORDS, features)))


def _previous(width: int) -> _Head:
    """Query of place i is the key of place i - 1."""
    head = _blank()
    head.query[_PLACE] = _SHARP / 4 * np.eye(PLACES, k=-1)
    head.key[_PLACE] = np.eye(PLACES)
    head.value[_TOKEN] = np.eye(width) / 8
    head.output[:, _BEFORE] = np.eye(width)
    return head


def _induction(words: np.ndarray) -> _Head:
    """Query of a token is the key of places that it stands before; some words are copied."""
    head = _blank()
    head.query[_TOKEN] = _SHARP / 4 * np.eye(WORDS)
    head.key[_BEFORE] = np.eye(WORDS)
    head.value[_TOKEN][words, words] = 1 / 8
    head.output[:, _PREDICTED] = _WRITES * np.eye(WORDS)
    return head


def _other(rng: np.random.Generator, width: int) -> _Head:
    features = HEADS * width
    inward = rng.normal(scale=_NOISE, size=(3, features, width))
    outward = rng.normal(scale=_NOISE, size=(width, features))
    return _Head(inward[0], inward[1], inward[2], outward)


def _write(attention: Any, head: int, weights: _Head) -> None:
    """Put a head's weights where GPT-2 keeps them: one matrix for query, key and value."""
    import torch

    features = HEADS * WORDS
    own = slice(head * WORDS, (head + 1) * WORDS)
    for at, part in enumerate((weights.query, weights.key, weights.value)):
        columns = slice(at * features + own.start, at * features + own.stop)
        attention.c_attn.weight[:, columns] = torch.from_numpy(part).float()
    attention.c_proj.weight[own] = torch.from_numpy(weights.output).float()


def repeated_words(sequences: int, rng: np.random.Generator) -> Int[np.ndarray, "sequence place"]:
    """Random sequences: word 0, then different words, then the same words again.

    Word 0 stands nowhere else. What the circuit can predict are all words of the repeat but its
    first one.
    """
    half = (PLACES - 1) // 2
    words = rng.permuted(np.tile(np.arange(1, WORDS), (sequences, 1)), axis=1)[:, :half]
    start = np.zeros((sequences, 1), dtype=np.int64)
    return np.concatenate([start, words, words], axis=1)


#: Places of :func:`repeated_words` whose next word the circuit predicts.
PREDICTING: Final = slice((PLACES - 1) // 2 + 1, 2 * ((PLACES - 1) // 2))

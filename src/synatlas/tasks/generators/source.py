"""What every generator draws from: a random generator restricted to one split."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, final, get_args

import numpy as np

from synatlas.tasks.lexicon import HELD_OUT

T = TypeVar("T")
Split = Literal["train", "fresh", "templates", "words", "heldout"]
SPLITS: tuple[Split, ...] = get_args(Split)

#: one prompt in this many is never in the training stream; it is what "fresh" draws from
RESERVED_SHARE = 8


@final
@dataclass(frozen=True)
class Item:
    """One verifiable question.

    Attributes
    ----------
    prompt
        The question, without "Question:" and "Answer:".
    answer
        The only reply that counts as correct.
    category
        Key of `CATEGORIES`.
    difficulty
        1 (easiest) and up.
    """

    prompt: str
    answer: str
    category: str
    difficulty: int


@final
@dataclass(frozen=True)
class Source:
    """Random choices of one category, restricted to one split."""

    rng: np.random.Generator
    category: str
    split: Split

    def pick(self, options: Sequence[T]) -> T:
        """One option, uniformly."""
        return options[int(self.rng.integers(len(options)))]

    def sample(self, options: Sequence[T], count: int) -> list[T]:
        """`count` different options in random order."""
        return [options[int(i)] for i in self.rng.permutation(len(options))[:count]]

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return bool(self.rng.random() < probability)

    def template(self, training: Sequence[str], held_out: Sequence[str]) -> str:
        """One wording; the held-out wordings belong to "templates" and "heldout" only."""
        return self.pick(held_out if self.split in {"templates", "heldout"} else training)

    def words(self, pool: Sequence[str], count: int) -> list[str]:
        """`count` different words; with held-out words, at least half of them are held out.

        A pool without a held-out word of the category gives ordinary words in every split.
        """
        reserved = [word for word in pool if word in HELD_OUT[self.category]]
        ordinary = [word for word in pool if word not in HELD_OUT[self.category]]
        if self.split not in {"words", "heldout"}:
            return self.sample(ordinary, count)
        n_reserved = min(len(reserved), (count + 1) // 2)
        chosen = self.sample(reserved, n_reserved) + self.sample(ordinary, count - n_reserved)
        return self.sample(chosen, count)

    def word(self, pool: Sequence[str]) -> str:
        """One word; a held-out one in the splits of held-out words."""
        return self.words(pool, 1)[0]


def is_reserved(prompt: str) -> bool:
    """Whether a prompt is kept out of training, decided by the prompt alone."""
    return zlib.crc32(prompt.encode()) % RESERVED_SHARE == 0

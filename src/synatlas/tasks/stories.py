"""A small grammar of plain English: stories, and open questions answered by them.

It gives a model that learns the tasks something to say about any prompt for as long as it is
asked to, and uses every word of the lexicon in roles of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from synatlas.tasks.generators.source import Item
from synatlas.tasks.lexicon import (
    ADJECTIVE_NOUNS,
    ADJECTIVE_VERBS,
    ADJECTIVES,
    ANIMALS,
    CONTAINERS,
    INTRANSITIVE_VERBS,
    LETTERS,
    NAMES,
    NOUN_VERBS,
    NOUNS,
    OBJECTS,
    PEOPLE,
    PREPOSITIONS,
    SCENERY,
    TRANSITIVE_VERBS,
    plural,
    pronoun,
    third_person,
)

OPENINGS = (
    "One day {name} found {a_adj} {noun} near the {scenery}.",
    "{name} lived in {a_adj} house by the {scenery}.",
    "Once there was {a_adj} {animal} with the name {name}.",
    "{name} was {a_adj} {person} who liked to {nv}.",
    "In the morning {name} went to the {scenery} to {nv}.",
)
MIDDLES = (
    "{They} had a {noun} and two {nouns}.",
    "The {noun} was {adj} and {adj2}.",
    "{They} put the {object} in the {container}.",
    "The {animals} {tv} the {nouns} every day.",
    "The {animal} {tvs} the {noun} {prep} the {scenery}.",
    "Then {name2} came and said, I {tv} the {nouns}.",
    "{name} and {name2} {iv} {prep} the {scenery} again.",
    "The {scenery} is {prep} the {scenery2}, so the {nouns} are not {adj}.",
    "It was a {an} day and the {nouns} were {adj}.",
    "A {person} {ivs} {prep} these {nouns}.",
    "{They} felt {emotion} because the {noun} was {prep} the {scenery}.",
    "{name2} asked, what is that {noun} for?",
    "They liked to {av} the {nouns} and to {nv} in the {an}.",
    "The {nv} was {adj}, but the {nvs} of the {animals} were {adj2}.",
    "We know that {animals} {iv} and that every {animal} {ivs}.",
    "The {an} {noun} was {av} when they came home.",
    "In one year {name} had 3 {nouns} and {name2} had 5.",
    "{name2} is more {adj} than {name}, they said.",
    "People need {nouns} when the {scenery} is {av}.",
)
ENDINGS = (
    "In the end {name} was {emotion}.",
    "After that {they} had a good {nv} and went home.",
    "So {name} and {name2} were friends for many years.",
    "From then on the {noun} was always {prep} the {scenery}.",
    "That is how {name} found the {noun}.",
)
EXPLANATIONS = (
    "It is {adj} because the {noun} is {prep} the {scenery}.",
    "People like {nouns} because they are {adj} and {adj2}.",
    "A {noun} is a {adj} thing that people {tv}.",
    "I think that the {noun} is {adj}, and that {animals} {tv} it.",
    "It would be a {adj} place with {adj2} {nouns} and many {animals}.",
    "You can use a {noun} to {nv} {prep} the {scenery}.",
    "First they {tv} the {noun}, and then they {iv}.",
)
OPEN_PROMPTS = (
    "Tell me a story about a {noun}.",
    "Write a short story about {name} and the {adj} {noun}.",
    "Describe a {adj} {noun} in your own words.",
    "Why do people like {nouns}?",
    "What can you do with a {noun}?",
    "Explain why the {nouns} are {adj}.",
    "Imagine a world where {animals} {tv} {nouns}. What is it like?",
    "What would happen if every {noun} was {adj}?",
    "What should {name} say to a {emotion} friend?",
    "Think of a new use for a {noun}.",
    "Make up a name for the {adj} {animal} and say who it is.",
    "How can {name} help when {name2} is {emotion}?",
    "Where would you look for a {noun}, and why?",
    "Give one reason to {nv} {prep} the {scenery}.",
    "Which is better, a {noun} or a {object}?",
    "Is this sentence about {nouns}?",
)
EMOTIONS = ("sad", "happy", "scared", "proud", "angry", "lonely")
COPY_PROMPTS = ("Say this again: {}", "Repeat these words: {}", "Write the same: {}", "{}")
_PLURALS = tuple(plural(noun) for noun in NOUNS)
_COPY_POOLS = (
    NOUNS + _PLURALS + NAMES,
    NOUNS + _PLURALS + NAMES + ADJECTIVES + PREPOSITIONS + INTRANSITIVE_VERBS + TRANSITIVE_VERBS,
    LETTERS,
    tuple("0123456789"),
)
MADE_UP_SHARE = 0.15
_SYLLABLES = tuple(c + v for c in "bcdfghjklmnpqrstvwxyz" for v in "aeiou")


@final
@dataclass(frozen=True)
class _Teller:
    """Fills sentence frames; the main person and thing stay the same through one text."""

    rng: np.random.Generator
    fixed: dict[str, str]

    def fill(self, frame: str) -> str:
        return frame.format_map(self._random_words() | self.fixed)

    def _random_words(self) -> dict[str, str]:
        adjective = self._pick(ADJECTIVES)
        noun_verb = self._pick(NOUN_VERBS)
        return {
            "adj": adjective,
            "adj2": self._pick(ADJECTIVES),
            "a_adj": f"{'an' if adjective[0] in 'aeiou' else 'a'} {adjective}",
            "an": self._pick(ADJECTIVE_NOUNS),
            "av": self._pick(ADJECTIVE_VERBS),
            "nv": noun_verb,
            "nvs": plural(noun_verb),
            "noun": self._pick(NOUNS),
            "nouns": plural(self._pick(NOUNS)),
            "object": self._pick(OBJECTS),
            "container": self._pick(CONTAINERS),
            "animal": self._pick(ANIMALS),
            "animals": plural(self._pick(ANIMALS)),
            "person": self._pick(PEOPLE),
            "scenery": self._pick(SCENERY),
            "scenery2": self._pick(SCENERY),
            "prep": self._pick(PREPOSITIONS),
            "iv": self._pick(INTRANSITIVE_VERBS),
            "ivs": third_person(self._pick(INTRANSITIVE_VERBS)),
            "tv": self._pick(TRANSITIVE_VERBS),
            "tvs": third_person(self._pick(TRANSITIVE_VERBS)),
            "emotion": self._pick(EMOTIONS),
        }

    def _pick(self, options: tuple[str, ...]) -> str:
        return options[int(self.rng.integers(len(options)))]


def tell_story(rng: np.random.Generator) -> str:
    """One story of three to six sentences, in one line.

    Parameters
    ----------
    rng
        Source of all randomness.

    Returns
    -------
    str
        Plain text without a line break.
    """
    return _story(_teller(rng))


def open_question(rng: np.random.Generator) -> Item:
    """An open question with one of many possible answers, in category "open", difficulty 1."""
    teller = _teller(rng)
    prompt = teller.fill(_choose(rng, OPEN_PROMPTS))
    if "story" in prompt:
        return Item(prompt, _story(teller), "open", 1)
    explained = [teller.fill(_choose(rng, EXPLANATIONS)) for _ in range(int(rng.integers(1, 3)))]
    return Item(prompt, " ".join([*explained, teller.fill(_choose(rng, MIDDLES))]), "open", 1)


def say_again(rng: np.random.Generator) -> Item:
    """A request to repeat random words, letters or digits, in category "copy", difficulty 1."""
    pool = _COPY_POOLS[int(rng.integers(len(_COPY_POOLS)))]
    count = int(rng.integers(3, 13))
    words = " ".join(pool[int(i)] for i in rng.integers(len(pool), size=count))
    return Item(_choose(rng, COPY_PROMPTS).format(words), words, "copy", 1)


def _story(teller: _Teller) -> str:
    rng = teller.rng
    frames = [_choose(rng, OPENINGS)]
    frames += [_choose(rng, MIDDLES) for _ in range(int(rng.integers(2, 5)))]
    frames.append(_choose(rng, ENDINGS))
    return " ".join(teller.fill(frame) for frame in frames)


def _teller(rng: np.random.Generator) -> _Teller:
    name, other = (NAMES[int(i)] for i in rng.permutation(len(NAMES))[:2])
    they = pronoun(name)
    if rng.random() < MADE_UP_SHARE:
        # A name outside the vocabulary is spelled, so single characters are trained as well.
        syllables = (_choose(rng, _SYLLABLES) for _ in range(int(rng.integers(2, 4))))
        name = "".join(syllables).capitalize()
    noun = _choose(rng, NOUNS)
    fixed = {
        "name": name,
        "name2": other,
        "noun": noun,
        "they": they,
        "They": they.capitalize(),
    }
    return _Teller(rng, fixed)


def _choose(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]

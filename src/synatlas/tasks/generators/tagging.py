"""Part-of-speech tagging.

Difficulty 1 to 4 is the number of words that could be two parts of speech (0, 1, 2 or 4), of eight.
From 5 on the sentence of 4 grows: each difficulty adds a phrase of three words to its end.
Only sentences with exactly one reading under `STRUCTURES` are used, so the context always decides.
"""

from __future__ import annotations

from collections.abc import Sequence

from synatlas.tasks.generators.source import Item, Source
from synatlas.tasks.lexicon import (
    ADJECTIVE_NOUNS,
    ADJECTIVE_VERBS,
    ADJECTIVES,
    INTRANSITIVE_VERBS,
    NOUN_VERBS,
    NOUNS,
    PREPOSITIONS,
    TRANSITIVE_VERBS,
    plural,
    third_person,
)

TEMPLATES = (
    "Tag each word: {}",
    "Name the part of speech of each word: {}",
    "What part of speech is each word here? {}",
    "Give the word classes: {}",
    "Label the words of this sentence: {}",
)
HELD_OUT_TEMPLATES = (
    "Give the part of speech of each word in this sentence: {}",
    "Name the word classes of this sentence: {}",
)
TAG_NAMES = {
    "D": "determiner",
    "A": "adjective",
    "N": "noun",
    "V": "verb",
    "P": "preposition",
}
STRUCTURES = ("DNVDNPDN", "DANVPDAN", "DANVDAAN", "DAANVPDN", "DNPDNVDN", "DNPDANVN", "DNVPDAAN")
AMBIGUOUS_WORDS = {1: 0, 2: 1, 3: 2, 4: 4, 5: 4, 6: 4}
_ADDED_PHRASE = "PDN"
#: a guesser that knows the structures but not the words
CHANCE = dict.fromkeys(AMBIGUOUS_WORDS, 1 / len(STRUCTURES))

_PLAIN = (
    [("the", "D"), ("a", "D")]
    + [(word, "A") for word in ADJECTIVES]
    + [(form, "N") for word in NOUNS for form in (word, plural(word))]
    + [(word, "P") for word in PREPOSITIONS]
    + [
        (form, "V")
        for word in INTRANSITIVE_VERBS + TRANSITIVE_VERBS
        for form in (word, third_person(word))
    ]
)
#: each word form and the tags it can have
READINGS: dict[str, str] = (
    dict(_PLAIN)
    | {form: "NV" for word in NOUN_VERBS for form in (word, third_person(word))}
    | dict.fromkeys(ADJECTIVE_NOUNS, "AN")
    | {plural(word): "N" for word in ADJECTIVE_NOUNS}
    | dict.fromkeys(ADJECTIVE_VERBS, "AV")
    | {third_person(word): "V" for word in ADJECTIVE_VERBS}
)


def generate_tagging(difficulty: int, source: Source) -> Item:
    """One sentence to tag."""
    n_ambiguous = AMBIGUOUS_WORDS[difficulty]
    possible = structures(difficulty)
    while True:
        structure = source.pick(possible)
        words = _fill(structure, n_ambiguous, source)
        if len(readings(words, possible)) == 1:
            break
    template = source.template(TEMPLATES, HELD_OUT_TEMPLATES)
    sentence = " ".join(words)
    return Item(
        template.format(sentence[0].upper() + sentence[1:] + "."),
        " ".join(TAG_NAMES[tag] for tag in structure),
        source.category,
        difficulty,
    )


def structures(difficulty: int) -> tuple[str, ...]:
    """The sequences of tags of one difficulty."""
    return tuple(structure + _ADDED_PHRASE * max(0, difficulty - 4) for structure in STRUCTURES)


def readings(words: Sequence[str], possible: Sequence[str]) -> tuple[str, ...]:
    """Structures whose every tag is possible for its word."""
    return tuple(
        structure
        for structure in possible
        if all(tag in READINGS[word] for tag, word in zip(structure, words, strict=True))
    )


def _fill(structure: str, n_ambiguous: int, source: Source) -> list[str]:
    open_slots = [i for i, tag in enumerate(structure) if tag in "ANV"]
    ambiguous = set(source.sample(open_slots, n_ambiguous))
    subject_is_plural = source.chance(0.5)
    subject = structure.index("N")
    words = []
    for i, tag in enumerate(structure):
        many = subject_is_plural if i == subject else source.chance(0.3)
        # Bare nouns exist only in the plural; "a" would need its noun in the singular.
        many = many or (tag == "N" and structure[i - 1] == "V")
        words.append(
            _word(
                tag,
                source,
                many=many,
                subject_is_plural=subject_is_plural,
                is_ambiguous=i in ambiguous,
            )
        )
    return words


def _word(
    tag: str, source: Source, *, many: bool, subject_is_plural: bool, is_ambiguous: bool
) -> str:
    if tag == "D":
        return "the"
    if tag == "P":
        return source.pick(PREPOSITIONS)
    if tag == "A":
        pool = ADJECTIVE_NOUNS + ADJECTIVE_VERBS if is_ambiguous else ADJECTIVES
        return source.word(pool)
    if tag == "N":
        noun = source.word((NOUN_VERBS + ADJECTIVE_NOUNS) if is_ambiguous else NOUNS)
        # The plural of "light" is only a noun, so ambiguity needs its singular.
        return plural(noun) if many and noun not in ADJECTIVE_NOUNS else noun
    verbs = NOUN_VERBS if is_ambiguous else TRANSITIVE_VERBS + INTRANSITIVE_VERBS
    verb = source.word(verbs)
    return verb if subject_is_plural else third_person(verb)

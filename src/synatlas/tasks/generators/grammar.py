"""Agreement correction: write the sentence again with the right verb.

Difficulty is what stands between a verb and its subject; the number of words hardly changes:
1 nothing, 2 a phrase with another noun, 3 a phrase before the subject and one after it (or two
after it), 4 a relative clause with a subject and a verb of its own, both verbs to be checked.
From 5 on the sentence of 4 grows: each difficulty adds a phrase with another noun, in turn after
the outer and after the inner subject.
"""

from __future__ import annotations

from collections.abc import Sequence

from synatlas.tasks.generators.source import Item, Source
from synatlas.tasks.lexicon import (
    ADJECTIVES,
    INTRANSITIVE_VERBS,
    NOUNS,
    PREPOSITIONS,
    TRANSITIVE_VERBS,
    plural,
    third_person,
)

TEMPLATES = (
    "Correct the sentence: {}",
    "Fix the verb: {}",
    "Write this in good English: {}",
    "Please correct this: {}",
    "What is the right form of this sentence? {}",
    "Make the grammar right: {}",
)
HELD_OUT_TEMPLATES = (
    "Please correct the grammar of this sentence: {}",
    "Is this good English? Write the right form: {}",
)
WRONG_SHARE = 0.7
#: a guesser that copies the sentence and picks each verb form by the share of wrong ones
CHANCE = {1: 0.7, 2: 0.7, 3: 0.7, 4: 0.49, 5: 0.49, 6: 0.49}


def generate_grammar(difficulty: int, source: Source) -> Item:
    """One sentence to correct."""
    n_added = max(0, difficulty - 4)
    words = source.words(NOUNS, 3 + n_added)
    is_plural = [source.chance(0.5) for _ in words]
    # A subject and its neighbours that agree in number would make the attractors harmless.
    if source.chance(0.7):
        is_plural[1] = not is_plural[0]
    nouns = [
        f"the {plural(word) if many else word}" for word, many in zip(words, is_plural, strict=True)
    ]
    prepositions = source.sample(PREPOSITIONS, max(2, 1 + n_added))
    main = _verb_forms(source)
    inner_verb = source.pick(TRANSITIVE_VERBS)
    inner = (third_person(inner_verb), inner_verb)
    layout = source.pick(_layouts(difficulty, nouns, prepositions))
    right = {"main": main[is_plural[0]], "inner": inner[is_plural[1]]}
    given = {
        "main": main[is_plural[0] ^ source.chance(WRONG_SHARE)],
        "inner": inner[is_plural[1] ^ source.chance(WRONG_SHARE)],
    }
    template = source.template(TEMPLATES, HELD_OUT_TEMPLATES)
    return Item(
        template.format(_sentence(layout.format(**given))),
        _sentence(layout.format(**right)),
        source.category,
        difficulty,
    )


def _layouts(difficulty: int, nouns: Sequence[str], prepositions: Sequence[str]) -> Sequence[str]:
    """Sentences of one difficulty, with {main} and {inner} for the verbs."""
    near, by, *more = prepositions
    first, second, third, *_ = nouns
    if difficulty < 4:
        return {
            1: (f"{first} {{main}} {near} {second} {by} {third}",),
            2: (f"{first} {near} {second} {{main}} {by} {third}",),
            3: (
                f"{near} {second} {first} {by} {third} {{main}}",
                f"{first} {near} {second} {by} {third} {{main}}",
            ),
        }[difficulty]
    # At difficulty 4 there is one noun left, and `near` is not used.
    phrases = [f" {a} {b}" for a, b in zip((by, near, *more), nouns[2:], strict=False)]
    outer = first + "".join(phrases[1::2])
    inner = second + "".join(phrases[::2])
    return (f"{outer} that {inner} {{inner}} {{main}}",)


def _verb_forms(source: Source) -> tuple[str, str]:
    """Singular and plural form of the main verb phrase."""
    if source.chance(0.5):
        adjective = source.pick(ADJECTIVES)
        return f"is {adjective}", f"are {adjective}"
    verb = source.pick(INTRANSITIVE_VERBS)
    return third_person(verb), verb


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:] + "."

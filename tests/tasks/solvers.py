"""Solvers that know the tasks only from the text of the question."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from synatlas.tasks.generators.source import Item
from synatlas.tasks.lexicon import (
    ADJECTIVE_NOUNS,
    ADJECTIVE_VERBS,
    ADJECTIVES,
    GIRLS,
    INTRANSITIVE_VERBS,
    NOUN_VERBS,
    NOUNS,
    PREPOSITIONS,
    TRANSITIVE_VERBS,
)

PLURAL_OF = {("boxes" if noun == "box" else noun + "s"): noun for noun in NOUNS}
VERBS = INTRANSITIVE_VERBS + TRANSITIVE_VERBS
BASE_OF = {("carries" if verb == "carry" else verb + "s"): verb for verb in VERBS}


def solve_grammar(item: Item) -> str:
    """Agree every verb with its subject: the first noun outside a fronted phrase, or after that."""
    sentence = re.split(r"[:?] ", item.prompt)[-1].rstrip(".")
    words = sentence.lower().split()
    subjects: list[int] = []
    i = 0
    is_fronted = words[0] in PREPOSITIONS
    for i, word in enumerate(words):
        is_noun = word in NOUNS or word in PLURAL_OF
        after_preposition = i >= 2 and words[i - 2] in PREPOSITIONS
        if is_noun and not after_preposition:
            subjects.append(i)
    assert len(subjects) == (2 if "that" in words else 1), (sentence, subjects)
    assert not is_fronted or subjects[0] > 2
    fixed = list(words)
    for i, word in enumerate(words):
        base = BASE_OF.get(word, word)
        if base in VERBS or word in {"is", "are"}:
            # The inner verb comes first and belongs to the later subject.
            is_many = words[subjects.pop()] in PLURAL_OF
            if word in {"is", "are"}:
                fixed[i] = "are" if is_many else "is"
            else:
                third = {b: t for t, b in BASE_OF.items()}[base]
                fixed[i] = base if is_many else third
    assert not subjects
    text = " ".join(fixed)
    return text[0].upper() + text[1:] + "."


def solve_tagging(item: Item) -> str:
    """The only tagging in which every noun phrase is the A* N and there is one verb."""
    sentence = re.split(r"[:?] ", item.prompt)[-1].rstrip(".")
    n_added = max(0, item.difficulty - 4)
    solutions = {tags for tags in _taggings(sentence.lower().split()) if _is_clause(tags, n_added)}
    assert len(solutions) == 1, (sentence, solutions)
    names = {"D": "determiner", "A": "adjective", "N": "noun", "V": "verb", "P": "preposition"}
    return " ".join(names[tag] for tag in solutions.pop())


def _possible(word: str) -> set[str]:
    tags: set[str] = set()
    tags |= {"D"} if word == "the" else set()
    tags |= {"P"} if word in PREPOSITIONS else set()
    singular = word[:-1] if word.endswith("s") else word
    tags |= {"N"} if word in NOUNS or word in PLURAL_OF else set()
    tags |= {"N", "V"} if singular in NOUN_VERBS else set()
    tags |= {"N"} if singular in ADJECTIVE_NOUNS else set()
    tags |= {"A"} if word in ADJECTIVES + ADJECTIVE_NOUNS + ADJECTIVE_VERBS else set()
    tags |= {"V"} if singular in ADJECTIVE_VERBS else set()
    tags |= {"V"} if word in VERBS or word in BASE_OF else set()
    assert tags, word
    return tags


def _taggings(words: list[str]) -> Iterator[str]:
    if not words:
        yield ""
        return
    for rest in _taggings(words[1:]):
        for tag in _possible(words[0]):
            yield tag + rest


def _is_clause(tags: str, n_added: int) -> bool:
    phrase = "DA{0,2}N"
    clause = rf"{phrase}(P{phrase})?V({phrase}(P{phrase})?|P{phrase}|A?N)"
    return re.fullmatch(clause + "PDN" * n_added, tags) is not None


def solve_arithmetic(item: Item) -> str:
    """Result from Python's integers; the column work checked equation by equation."""
    a, b = (int(number) for number in re.findall(r"\d+", item.prompt))
    is_minus = any(word in item.prompt for word in ("minus", "loses", "taken"))
    result = a - b if is_minus else a + b
    work, final = item.answer.rstrip(".").split(", so ")
    equations = work.split(", ")
    digits = []
    for equation in equations:
        left, right = equation.split("=")
        terms = [int(term) for term in re.findall(r"[+-]?\d+", left)]
        assert sum(terms) == int(right), equation
        digits.append(int(right) % 10)
    leading = result // 10 ** len(digits)
    spoken = int("".join(str(digit) for digit in reversed(digits))) + leading * 10 ** len(digits)
    assert spoken == result
    assert int(final) == result
    return f"{work}, so {result}."


def solve_common_sense(item: Item) -> str:
    """Follow the facts until nothing contains the place."""
    facts = dict(re.findall(r"(\w+) in (\w+)(?=[,.])", item.prompt))
    asked = [word for word in re.findall(r"\w+", item.prompt) if word in facts][-1]
    place, spoken = asked, []
    if asked not in item.prompt.rsplit(". ", maxsplit=1)[-1]:
        raise AssertionError(item.prompt)
    while place in facts:
        spoken.append(f"{place} in {facts[place]}")
        place = facts[place]
    return f"{', '.join(spoken)}, so {place}."


def solve_abstract(item: Item) -> str:
    """Describe the example by where each letter comes from, and do the same to the question."""
    a, b, c = (letters.split() for letters in letter_strings(item))
    moves = [(a.index(letter), 0) if letter in a else (-1, 0) for letter in b]
    lost = [i for i, letter in enumerate(a) if letter not in b]
    if len(a) == len(b) and lost:
        # A letter is lost though the length is kept: the last one stands for it, changed.
        moves[-1] = (lost[0], ord(b[-1]) - ord(a[lost[0]]))
    return " ".join(chr(ord(c[source]) + step) for source, step in moves)


def letter_strings(item: Item) -> tuple[str, str, str]:
    """Example before, example after, and question of an analogy, in this order."""
    found = re.findall(r"(?<!\w)(?:[a-z] )+[a-z](?!\w)", item.prompt)
    assert len(found) == 3, item.prompt
    target, *example = [found[0], found[1], found[2]] if _asks_first(item) else found[-1:] + found
    return example[0], example[1], target


def _asks_first(item: Item) -> bool:
    return item.prompt.startswith("Change")


def solve_social(item: Item) -> str:
    """Feelings from a table; beliefs by letting the people watch the story."""
    if item.difficulty == 1:
        return _feel(item)
    present: set[str] = set()
    beliefs: dict[str, str] = {}
    place, thing = "", ""
    events = re.findall(
        r"(\w+) (?:(leaves)\.|(?:puts|moves) the (\w+) (?:in|to) the (\w+)\.)", item.prompt
    )
    everybody = {str(name) for name, *_ in events}
    present |= everybody
    for name, leaves, moved, to in events:
        if leaves:
            present.discard(name)
        else:
            place, thing = to, moved
            beliefs |= dict.fromkeys(present, place)
    question = item.prompt.rsplit(". ", maxsplit=1)[-1]
    if question.startswith(("Where is", "In which place is")):
        return f"The {thing} is in the {place}."
    asked = [name for name in everybody if name in re.findall(r"\w+", question)]
    assert len(asked) == 1, item.prompt
    return f"{asked[0]} looks in the {beliefs[asked[0]]}."


FEELINGS = {
    "lost": "sad", "broke": "sad", "found": "happy", "won": "happy", "saw": "scared",
    "heard": "scared", "made": "proud", "painted": "proud", "fell": "angry", "was": "angry",
    "missed": "lonely", "had": "lonely",
}  # fmt: skip


def _feel(item: Item) -> str:
    *events, question = re.split(r"(?<=\.) (?=[A-Z])", item.prompt)
    happened = dict(event.rstrip(".").split(" ", maxsplit=1) for event in events)
    name = next(name for name in happened if name in question)
    they = "she" if name in GIRLS else "he"
    event = happened[name]
    return f"{name} feels {FEELINGS[event.split()[0]]} because {they} {event}."


SOLVERS: dict[str, Callable[[Item], str]] = {
    "grammar": solve_grammar,
    "tagging": solve_tagging,
    "arithmetic": solve_arithmetic,
    "common_sense": solve_common_sense,
    "abstract": solve_abstract,
    "social": solve_social,
}

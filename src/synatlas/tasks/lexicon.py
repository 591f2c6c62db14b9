"""The words of the tasks and stories, and which of them a category keeps for testing.

Every word occurs somewhere in the training stream.
A word in ``HELD_OUT[category]`` never occurs in that category's training items, so a test on it
asks whether the category's rule reaches a word whose embedding was trained in other roles.
"""

from __future__ import annotations

GIRLS = (
    "Anna", "Mia", "Lucy", "Emma", "Sara", "Nora", "Ruth", "Jane",
    "Clara", "Alice", "Eva", "Maria", "Helen", "Grace", "Rosa", "Kate",
)  # fmt: skip
BOYS = (
    "Tom", "Ben", "Sam", "Max", "Jack", "Paul", "Leo", "Adam",
    "Peter", "John", "Noah", "Oscar", "David", "Henry", "Mark", "Hugo",
)  # fmt: skip
NAMES = GIRLS + BOYS

#: small things that can be lost, found, counted and put into containers
OBJECTS = (
    "key", "ring", "coin", "ball", "cup", "book", "doll", "drum", "kite", "shell", "stone",
    "card", "hat", "shoe", "toy", "bell", "spoon", "pen", "plate", "rope", "apple", "letter",
)  # fmt: skip
#: from small to large: a chain of containment always goes up this list
CONTAINERS = (
    "tin", "jar", "pot", "bowl", "bag", "box", "basket", "drawer", "bucket", "sack",
    "chest", "crate", "trunk", "cart", "tent", "van", "hut", "shed", "barn", "tower",
)  # fmt: skip
ANIMALS = (
    "dog", "cat", "horse", "bird", "cow", "pig", "goat", "duck", "frog", "bear", "lion", "rabbit",
)  # fmt: skip
PEOPLE = (
    "boy", "girl", "farmer", "doctor", "teacher", "king", "baker", "sailor", "friend", "driver",
)  # fmt: skip
SCENERY = (
    "tree", "river", "hill", "house", "garden", "lake", "road", "bridge", "field", "wall",
    "door", "window", "table", "chair", "lamp",
)  # fmt: skip
NOUNS = OBJECTS + CONTAINERS + ANIMALS + PEOPLE + SCENERY

_IRREGULAR_PLURALS = {"box": "boxes"}
ADJECTIVES = (
    "old", "small", "big", "red", "blue", "green", "young", "happy", "sad", "tall",
    "quiet", "kind", "brave", "heavy", "pretty", "strange", "new", "round",
)  # fmt: skip
PREPOSITIONS = ("near", "by", "behind", "under", "beside", "above")
INTRANSITIVE_VERBS = ("sleep", "wait", "sing", "fall", "appear", "smile", "sit", "stand")
TRANSITIVE_VERBS = ("see", "like", "find", "hold", "follow", "carry", "know", "need")
#: words that are a noun or a verb
NOUN_VERBS = (
    "walk", "run", "play", "plant", "dream", "call", "paint", "dance", "hunt", "jump", "rest",
    "work",
)  # fmt: skip
#: words that are an adjective or a noun
ADJECTIVE_NOUNS = ("light", "cold", "orange", "square", "gold", "dark")
#: words that are an adjective or a verb
ADJECTIVE_VERBS = ("open", "clean", "warm", "dry", "slow", "cool")

LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")

#: words that a category never uses in training
HELD_OUT: dict[str, frozenset[str]] = {
    "grammar": frozenset({"goat", "sailor", "drum", "bridge", "shell", "lion", "crate", "lamp"}),
    "tagging": frozenset({"frog", "baker", "kite", "tower", "dance", "hunt", "young", "spoon"}),
    "arithmetic": frozenset({"Alice", "Rosa", "Noah", "Hugo", "bell", "card", "plate", "rope"}),
    "common_sense": frozenset({"coin", "doll", "hat", "pen", "bowl", "bag", "chest", "tent"}),
    "abstract": frozenset({"g", "q"}),
    "social": frozenset({"Clara", "Kate", "Leo", "Mark", "ball", "stone", "letter", "jar", "sack"}),
}


def plural(noun: str) -> str:
    """Plural of a noun of this lexicon.

    Parameters
    ----------
    noun
        A singular noun.

    Returns
    -------
    str
        Its plural.

    Examples
    --------
    >>> plural("box"), plural("key")
    ('boxes', 'keys')
    """
    return _IRREGULAR_PLURALS.get(noun, noun + "s")


def third_person(verb: str) -> str:
    """Third person singular of a verb of this lexicon.

    Parameters
    ----------
    verb
        The base form.

    Returns
    -------
    str
        The form used after a singular noun.

    Examples
    --------
    >>> third_person("carry"), third_person("sleep")
    ('carries', 'sleeps')
    """
    return verb[:-1] + "ies" if verb.endswith("ry") else verb + "s"


def pronoun(name: str) -> str:
    """Pronoun for a name of this lexicon: "she" or "he"."""
    return "she" if name in GIRLS else "he"

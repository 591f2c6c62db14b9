"""What people feel and what they believe.

Difficulty 1 asks for an emotion and its reason after an event. Difficulties 2 to 4 are stories in
which a thing is moved one to three times; people may leave, and who has left knows nothing of
later moves. Most questions ask where somebody looks, the others where the thing is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from synatlas.tasks.generators.source import Item, Source
from synatlas.tasks.lexicon import ANIMALS, CONTAINERS, NAMES, OBJECTS, pronoun

#: emotion -> what happened, as seen in the question and repeated in the answer
EVENTS: dict[str, tuple[str, ...]] = {
    "sad": ("lost the {thing}", "broke the {thing}"),
    "happy": ("found the {thing}", "won the {thing}"),
    "scared": ("saw the {animal}", "heard the {animal}"),
    "proud": ("made the {thing}", "painted the {thing}"),
    "angry": ("fell over the {thing}", "was hit with the {thing}"),
    "lonely": ("missed the {animal}", "had to leave the {animal}"),
}
FEELING_TEMPLATES = (
    "How does {name} feel, and why?",
    "Tell me how {name} feels and why.",
    "What does {name} feel, and why?",
)
HELD_OUT_FEELING_TEMPLATES = (
    "Tell me what {name} feels and why.",
    "How does {name} feel now, and why?",
)
BELIEF_TEMPLATES = (
    "Where does {name} look for the {thing}?",
    "Where will {name} look for the {thing}?",
    "In which place does {name} look for the {thing}?",
)
HELD_OUT_BELIEF_TEMPLATES = (
    "{name} needs the {thing}. Where will {name} look?",
    "Which place will {name} look in for the {thing}?",
)
PLACE_TEMPLATES = ("Where is the {thing} now?", "Where is the {thing} in the end?")
HELD_OUT_PLACE_TEMPLATES = ("In which place is the {thing} now?",)
BELIEF_SHARE = 0.75
#: guessers: an emotion at random; a place of the story at random
CHANCE = {1: 1 / len(EVENTS), 2: 1 / 2, 3: 1 / 3, 4: 1 / 4}


@final
@dataclass(frozen=True)
class _Story:
    """A told story, where the thing is at the end, and where each person believes it is."""

    text: str
    place: str
    beliefs: dict[str, str]


def generate_social(difficulty: int, source: Source) -> Item:
    """One feeling (difficulty 1) or one false-belief story."""
    if difficulty == 1:
        return _feeling(source)
    thing = source.word(OBJECTS)
    story = _tell(difficulty - 1, thing, source)
    if source.chance(BELIEF_SHARE):
        name = source.pick(tuple(story.beliefs))
        question = source.template(BELIEF_TEMPLATES, HELD_OUT_BELIEF_TEMPLATES)
        answer = f"{name} looks in the {story.beliefs[name]}."
    else:
        name = ""
        question = source.template(PLACE_TEMPLATES, HELD_OUT_PLACE_TEMPLATES)
        answer = f"The {thing} is in the {story.place}."
    prompt = f"{story.text} {question.format(name=name, thing=thing)}"
    return Item(prompt, answer, source.category, difficulty)


def _feeling(source: Source) -> Item:
    names = source.words(NAMES, 2)
    emotions = source.sample(tuple(EVENTS), 2)
    events = [
        source.pick(EVENTS[emotion]).format(thing=source.word(OBJECTS), animal=source.word(ANIMALS))
        for emotion in emotions
    ]
    asked = int(source.rng.integers(2))
    question = source.template(FEELING_TEMPLATES, HELD_OUT_FEELING_TEMPLATES)
    told = " ".join(f"{name} {event}." for name, event in zip(names, events, strict=True))
    return Item(
        f"{told} {question.format(name=names[asked])}",
        f"{names[asked]} feels {emotions[asked]} because {pronoun(names[asked])} {events[asked]}.",
        source.category,
        1,
    )


def _tell(n_moves: int, thing: str, source: Source) -> _Story:
    names = source.words(NAMES, n_moves + 1)
    places = source.words(CONTAINERS, n_moves + 1)
    present = set(names)
    beliefs = dict.fromkeys(names, places[0])
    sentences = [f"{names[0]} puts the {thing} in the {places[0]}."]
    for move in range(1, n_moves + 1):
        leavers = [name for name in names[:move] if name in present]
        if leavers and source.chance(0.7):
            leaver = source.pick(leavers)
            present.discard(leaver)
            sentences.append(f"{leaver} leaves.")
        sentences.append(f"{names[move]} moves the {thing} to the {places[move]}.")
        beliefs.update(dict.fromkeys(present, places[move]))
    return _Story(" ".join(sentences), places[-1], beliefs)

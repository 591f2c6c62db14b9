"""Where a thing is, when it is inside something that is inside something else.

Difficulty is the number of containers to pass, spoken in the answer.
Every prompt states `N_LINKS` facts in random order: the chain asked for and one that starts from
another thing. Containers are nested by size, as they are in the world.
"""

from __future__ import annotations

import itertools

from synatlas.tasks.generators.source import Item, Source
from synatlas.tasks.lexicon import CONTAINERS, OBJECTS

TEMPLATES = (
    "Notes: {facts}. Where is the {thing}?",
    "We know this: {facts}. Where is the {thing} in the end?",
    "Look: {facts}. Which place holds the {thing}?",
    "Given {facts}, where is the {thing}?",
    "Read this: {facts}. Where do we find the {thing}?",
)
HELD_OUT_TEMPLATES = (
    "We know: {facts}. Where do you find the {thing}?",
    "Read: {facts}. In which place is the {thing}?",
)
N_LINKS = 5
#: a guesser that follows the first link and then stops or goes on to any container named
CHANCE = {1: 1 / N_LINKS, 2: 1 / N_LINKS**2, 3: 1 / N_LINKS**3, 4: 1 / N_LINKS**4}


def generate_common_sense(difficulty: int, source: Source) -> Item:
    """One chain of containment among the links of another."""
    things = source.words(OBJECTS, 2)
    containers = source.words(CONTAINERS, N_LINKS)
    chain = [things[0], *sorted(containers[:difficulty], key=CONTAINERS.index)]
    other = [things[1], *sorted(containers[difficulty:], key=CONTAINERS.index)]
    spoken = _links(chain)
    facts = source.sample(spoken + _links(other), N_LINKS)
    prompt = source.template(TEMPLATES, HELD_OUT_TEMPLATES).format(
        facts=", ".join(facts), thing=chain[0]
    )
    answer = f"{', '.join(spoken)}, so {chain[-1]}."
    return Item(prompt, answer, source.category, difficulty)


def _links(chain: list[str]) -> list[str]:
    return [f"{inner} in {outer}" for inner, outer in itertools.pairwise(chain)]

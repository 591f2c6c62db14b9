"""Where a thing is, when it is inside something that is inside something else.

Difficulty is the number of containers to pass, spoken in the answer.
Every prompt states the chain asked for and one that starts from another thing, in random order:
five facts in all, and from difficulty 5 on one more than the chain has. Containers are nested by
size, as they are in the world.
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
#: facts in the prompt of each difficulty
N_LINKS = {1: 5, 2: 5, 3: 5, 4: 5, 5: 6, 6: 7, 7: 8, 8: 9}
#: a guesser that follows the first link and then stops or goes on to any container named
CHANCE = {level: 1 / n_links**level for level, n_links in N_LINKS.items()}


def generate_common_sense(difficulty: int, source: Source) -> Item:
    """One chain of containment among the links of another."""
    n_links = N_LINKS[difficulty]
    things = source.words(OBJECTS, 2)
    containers = source.words(CONTAINERS, n_links)
    chain = [things[0], *sorted(containers[:difficulty], key=CONTAINERS.index)]
    other = [things[1], *sorted(containers[difficulty:], key=CONTAINERS.index)]
    spoken = _links(chain)
    facts = source.sample(spoken + _links(other), n_links)
    prompt = source.template(TEMPLATES, HELD_OUT_TEMPLATES).format(
        facts=", ".join(facts), thing=chain[0]
    )
    answer = f"{', '.join(spoken)}, so {chain[-1]}."
    return Item(prompt, answer, source.category, difficulty)


def _links(chain: list[str]) -> list[str]:
    return [f"{inner} in {outer}" for inner, outer in itertools.pairwise(chain)]

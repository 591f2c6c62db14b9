"""Order parameters of prompts of graded difficulty, whose change with difficulty is known."""

from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float, Int

#: Forms that are planted.
PLANTED_FORMS: Final = ("constant", "linear", "sigmoid", "step")

#: Kinds of noise around the mean of a difficulty, each of standard deviation 1 over all prompts:
#: normal; its deviation growing threefold from the easiest to the hardest; and effects of prompts
#: of which a few are very large, as of odd wordings (Student's t of 3 degrees of freedom).
NOISES: Final = ("normal", "heteroscedastic", "prompt effects")

#: Standard deviation of what all prompts of a seed share.
SEED_EFFECT: Final = 0.5

#: Slope of the order parameter on a length that grows with difficulty, and how far the length
#: grows from the easiest to the hardest, in its deviations within a difficulty.
LENGTH_SLOPE, LENGTH_GROWTH = 0.5, 2.0


class PlantedOrder(NamedTuple):
    """Many data sets of one design.

    `values` is (sim, prompt); `length` a covariate (sim, prompt) that moves them, 0 where there
    is none; `level` and `seed` say of each prompt which it has.
    """

    values: Float[np.ndarray, "sim prompt"]
    length: Float[np.ndarray, "sim prompt"]
    level: Int[np.ndarray, " prompt"]
    seed: Int[np.ndarray, " prompt"]
    difficulty: Float[np.ndarray, " level"]


def plant_order(
    form: str,
    rng: np.random.Generator,
    *,
    levels: int = 6,
    seeds: int = 5,
    prompts: int = 8,
    effect: float = 1.0,
    noise: str = "normal",
    confounded: bool = False,
    sims: int = 1,
) -> PlantedOrder:
    """Draw order parameters whose mean has a known form over the difficulties.

    ``y = effect m(d) + noise + seed's own + LENGTH_SLOPE length``, where m goes from 0 at the
    easiest to 1 at the hardest difficulty: in proportion; at once between two neighbours, drawn
    anew for every sim; or as ``1 / (1 + exp(-(u - t) / 0.08))`` of the relative difficulty u, its
    turn t drawn from 0.35 to 0.65.

    Parameters
    ----------
    form : one of `PLANTED_FORMS`.
    rng : of all draws.
    levels, seeds, prompts : difficulties, batches, and prompts of each difficulty in a batch.
    effect : size of the change, in standard deviations of the noise.
    noise : one of `NOISES`.
    confounded : a length that grows with difficulty moves the values.
    sims : data sets.
    """
    level = np.tile(np.repeat(np.arange(levels), prompts), seeds)
    seed = np.repeat(np.arange(seeds), levels * prompts)
    relative = np.arange(levels) / (levels - 1)
    values = effect * _means(form, relative, sims, rng)[:, level]
    values += _noise(noise, relative[level], sims, rng)
    values += SEED_EFFECT * rng.normal(size=(sims, seeds))[:, seed]
    length = np.zeros(values.shape)
    if confounded:
        length = LENGTH_GROWTH * relative[level] + rng.normal(size=values.shape)
    return PlantedOrder(
        values=values + LENGTH_SLOPE * length,
        length=length,
        level=level,
        seed=seed,
        difficulty=np.arange(1.0, levels + 1),
    )


def _means(
    form: str, relative: Float[np.ndarray, " level"], sims: int, rng: np.random.Generator
) -> Float[np.ndarray, "sim level"]:
    if form == "step":
        first = rng.integers(1, relative.size, size=(sims, 1))
        return (np.arange(relative.size) >= first).astype(float)
    if form == "sigmoid":
        turn = rng.uniform(0.35, 0.65, size=(sims, 1))
        return 1 / (1 + np.exp(-(relative - turn) / 0.08))
    return np.tile(relative if form == "linear" else np.zeros(relative.size), (sims, 1))


def _noise(
    noise: str, relative: Float[np.ndarray, " prompt"], sims: int, rng: np.random.Generator
) -> Float[np.ndarray, "sim prompt"]:
    size = (sims, relative.size)
    if noise == "prompt effects":
        return rng.standard_t(3, size=size) / np.sqrt(3)
    if noise == "heteroscedastic":
        deviation = 1 + 2 * relative
        return rng.normal(size=size) * deviation / np.sqrt((deviation**2).mean())
    return rng.normal(size=size)

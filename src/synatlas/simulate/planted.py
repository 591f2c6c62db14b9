"""Planted cores: a few units whose future is predicted by their pasts together, among confounds.

Units stand in layers. The even heads of every layer form a set that correlates within the step;
the sets of two neighbouring layers are planted, the others are decoys without lagged coupling.
Memory and same-step correlation vary over layers each by a profile of its own, so that neither
tells where the plant is. With C the covariance of one step (variances 1) and M the diagonal
matrix of memories m, what is not planted follows x[t+1] = M x[t] + e[t], for which the
``same_step`` null is exactly true. Within a planted set S:

suppressor  the correlations one step apart are diag(m), not M C: no unit's past correlates with
            the future of another, yet given a unit's own past the others' pasts predict it.
coupled     they are M C + G, G of random signs and zero diagonal.
parity      e is mixed with |z| s_i (s_j - s_k) / sqrt(2), s the signs of x, z normal; j and k
            are the next two units of the set.
product     e is mixed with r_i (r_j - r_k) / sqrt(2), r = sqrt(3) (2 Phi(x) - 1).
envelope    as parity, s the signs of |x| - 0.674: products of x and y hold little of it.
triplet     e is mixed with |z| s_j s_k: a unit and one other hold nothing together.

Linear plants have the memory and the same-step correlation of decoys exactly, and are stationary
from the first step. Nonlinear ones, which leave all correlations across one step at about those
of decoys, lose a part of their same-step correlation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int
from scipy.special import ndtr, ndtri

from synatlas.axes import UNIT
from synatlas.errors import ConfigError
from synatlas.simulate.simulated import (
    Seed,
    innovation_covariance,
    layers_of,
    least_variance,
    simulated,
    stationary,
)

#: Steps before the first one kept: memory^50 is nothing.
BURN_IN: Final = 50

#: Correlation of a unit with itself one step later, lowest and highest of a profile.
MEMORY: Final = (0.2, 0.55)

#: Square of the loading on the factor that all units share within a step, lowest and highest.
SHARED: Final = (0.0, 0.3)

#: Same-step correlation within a set, lowest and highest, drawn for each set.
WITHIN: Final = (0.3, 0.4)

#: Times that random signs are drawn again before a coupling counts as too strong.
REDRAWS: Final = 50

#: Neighbouring layers that hold the plant.
BAND: Final = 2

#: Profiles over depth in [0, 1].
PROFILES: Final = MappingProxyType(
    {
        "flat": lambda depth: np.full(depth.shape, 0.5),
        "arch": lambda depth: 1 - (2 * depth - 1) ** 2,
        "valley": lambda depth: (2 * depth - 1) ** 2,
    }
)

#: Where the band of planted layers stands, from first (0) to last (1).
PLACES: Final = MappingProxyType({"low": 0.0, "mid": 0.5, "high": 1.0})


class System(NamedTuple):
    """What a simulation draws from: layout, and the linear dynamics x[t+1] = A x[t] + e[t].

    `group` is the set of each unit, -1 outside sets. The innovations' covariance is C - A C A'.
    """

    layer: Int[np.ndarray, " unit"]
    group: Int[np.ndarray, " unit"]
    truth: Bool[np.ndarray, " unit"]
    memory: Float[np.ndarray, " unit"]
    covariance: Float[np.ndarray, "unit unit"]
    matrix: Float[np.ndarray, "unit unit"]


#: From the past of one planted set (prompt, member) to what drives it, of variance about 1.
Drive = Callable[[np.ndarray, np.random.Generator], np.ndarray]

#: From a set's covariance, its memories and the strength to its covariance one step apart, (past,
#: future), minus that of a decoy.
Cross = Callable[[np.ndarray, np.ndarray, float, np.random.Generator], np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """A kind of plant: linear ones have a `cross`, nonlinear ones a `drive`, both a default."""

    meaning: str
    strength: float
    cross: Cross | None = None
    drive: Drive | None = None


def suppressor(
    covariance: np.ndarray, memory: np.ndarray, strength: float, rng: np.random.Generator
) -> np.ndarray:
    """Take `strength` of the cross-correlations one step apart away: at 1 none is left."""
    lagged = covariance * memory
    return -strength * (lagged - np.diag(np.diag(lagged)))


def coupled(
    covariance: np.ndarray, memory: np.ndarray, strength: float, rng: np.random.Generator
) -> np.ndarray:
    """Add `strength` with random signs to the cross-correlations one step apart."""
    sign = rng.choice([-1.0, 1.0], size=covariance.shape)
    np.fill_diagonal(sign, 0.0)
    return strength * sign


def parity(past: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sign of a unit times the difference of the next two units' signs, of random size."""
    size = np.abs(rng.standard_normal(past.shape))
    return size * _with_others(np.sign(past))


def product(past: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bounded value of a unit times the difference of the next two: interaction terms."""
    return _with_others(np.sqrt(3) * (2 * ndtr(past) - 1))


def envelope(past: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Parity of who is far from zero, which a product of two values hardly shows."""
    # Half of a normal variable's values are farther than this from zero.
    return parity(np.abs(past) - ndtri(0.75), rng)


def triplet(past: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Product of the signs of the next two units of the set, of random size."""
    sign = np.sign(past)
    size = np.abs(rng.standard_normal(past.shape))
    return size * np.roll(sign, -1, axis=1) * np.roll(sign, -2, axis=1)


def _with_others(value: np.ndarray) -> np.ndarray:
    # A difference of two has no mean where all of a set correlate alike, so that series do not
    # shift, and no direction in which all of a set grow together.
    return value * (np.roll(value, -1, axis=1) - np.roll(value, -2, axis=1)) / np.sqrt(2)


#: Plants by name.
PLANTS: Final = MappingProxyType(
    {
        "none": Plant(meaning="no lagged coupling at all", strength=0.0),
        "suppressor": Plant(
            meaning="joint prediction without cross-correlation", strength=1.0, cross=suppressor
        ),
        "coupled": Plant(meaning="linear coupling", strength=0.12, cross=coupled),
        "parity": Plant(meaning="parity of two signs, own included", strength=0.6, drive=parity),
        "product": Plant(meaning="product of two values", strength=0.6, drive=product),
        "envelope": Plant(meaning="parity of two sizes", strength=0.6, drive=envelope),
        "triplet": Plant(meaning="parity of two other signs", strength=0.6, drive=triplet),
    }
)


def planted(
    plant: str = "coupled",
    *,
    place: str = "mid",
    memory: str = "flat",
    same_step: str = "flat",
    strength: float | None = None,
    layers: int = 8,
    heads: int = 8,
    prompts: int = 60,
    steps: int = 100,
    seed: Seed = 0,
) -> xr.Dataset:
    """Series with a planted core, its decoys, and two confounds over depth.

    Parameters
    ----------
    plant : a name of :data:`PLANTS`; ``"none"`` leaves decoys alone.
    place : ``"low"``, ``"mid"`` or ``"high"``: which two layers hold the planted sets.
    memory, same_step : ``"flat"``, ``"arch"`` or ``"valley"``: profiles over depth of the memory
        (0.2 to 0.55) and of the squared loading on what all units share in a step (0 to 0.3).
    strength : of the plant: for ``"suppressor"`` the share of cross-correlation taken away, for
        ``"coupled"`` what is added to correlations one step apart, else the share of the
        innovations' standard deviation; the plant's own default where left out.
    layers, heads : units; at least 2 layers and 4 heads.
    prompts, steps : size.
    seed : a number, or a generator that is advanced.

    Returns
    -------
    xarray.Dataset
        See :func:`synatlas.simulate.simulated.simulated`: ``truth`` marks the planted sets; with
        coordinates ``set(unit)``, -1 outside sets, and ``memory(unit)``.

    Raises
    ------
    ConfigError
        An unknown name, too small a size, or a strength that no stationary series has.
    """
    for given, known in (
        (plant, PLANTS),
        (place, PLACES),
        (memory, PROFILES),
        (same_step, PROFILES),
    ):
        _check_known(given, known)
    _check_size(layers, heads)
    rng = np.random.default_rng(seed)
    kind = PLANTS[plant]
    strong = kind.strength if strength is None else strength
    base = _base(plant, place, memory, same_step, layers, heads, rng)
    if kind.cross is not None:
        base = _couple(base, kind.cross, strong, rng)
    if kind.drive is None:
        activity = stationary(base.matrix, base.covariance, prompts=prompts, steps=steps, rng=rng)
    else:
        activity = _driven(base, kind.drive, strong, prompts=prompts, steps=steps, rng=rng)
    settings = {
        "generator": "planted",
        "plant": plant,
        "place": place,
        "memory": memory,
        "same_step": same_step,
        "strength": strong,
    }
    data = simulated(activity, layer=base.layer, truth=base.truth, settings=settings)
    return data.assign_coords(set=(UNIT, base.group), memory=(UNIT, base.memory))


def planted_system(
    plant: str = "coupled",
    *,
    place: str = "mid",
    memory: str = "flat",
    same_step: str = "flat",
    strength: float | None = None,
    layers: int = 8,
    heads: int = 8,
    seed: Seed = 0,
) -> System:
    """Population of a linear plant: what :func:`planted` with the same arguments draws from.

    `covariance` is that of one step, ``covariance @ matrix.T`` that of past and future.
    """
    rng = np.random.default_rng(seed)
    kind = PLANTS[plant]
    base = _base(plant, place, memory, same_step, layers, heads, rng)
    strong = kind.strength if strength is None else strength
    return base if kind.cross is None else _couple(base, kind.cross, strong, rng)


def _base(
    plant: str,
    place: str,
    memory: str,
    same_step: str,
    layers: int,
    heads: int,
    rng: np.random.Generator,
) -> System:
    """Layout and dynamics of decoys alone."""
    units = layers * heads
    layer = layers_of(units, heads)
    depth = layer / (layers - 1)
    member = np.arange(units) % heads % 2 == 0
    group = np.where(member, layer, -1)
    first = round(PLACES[place] * (layers - BAND))
    inside = (layer >= first) & (layer < first + BAND)
    own = _between(MEMORY, PROFILES[memory](depth)) + rng.uniform(-0.03, 0.03, units)
    load = np.sqrt(_between(SHARED, PROFILES[same_step](depth)))
    within = rng.uniform(*WITHIN, layers)
    covariance = np.outer(load, load)
    together = (group[:, None] == group) & member[:, None]
    covariance = np.where(together, within[layer][:, None], covariance)
    np.fill_diagonal(covariance, 1.0)
    truth = inside & member & (plant != "none")
    return System(layer, group, truth, own, covariance, np.diag(own))


def _between(bounds: tuple[float, float], share: np.ndarray) -> np.ndarray:
    return bounds[0] + (bounds[1] - bounds[0]) * share


def _couple(base: System, cross: Cross, strength: float, rng: np.random.Generator) -> System:
    """Couple the planted sets; signs that no stationary series has are drawn again."""
    matrix = _coupled_matrix(base, cross, strength, rng)
    for _ in range(REDRAWS):
        if least_variance(matrix, base.covariance) > 0:
            break
        matrix = _coupled_matrix(base, cross, strength, rng)
    innovation_covariance(matrix, base.covariance)
    return base._replace(matrix=matrix)


def _coupled_matrix(
    base: System, cross: Cross, strength: float, rng: np.random.Generator
) -> Float[np.ndarray, "unit unit"]:
    matrix = base.matrix.copy()
    for k in np.unique(base.group[base.truth]):
        one = np.flatnonzero(base.group == k)
        square = np.ix_(one, one)
        covariance = base.covariance[square]
        change = cross(covariance, base.memory[one], strength, rng)
        # (past, future) covariance is C A', so A changes by (C^-1 change)'.
        matrix[square] += np.linalg.solve(covariance, change).T
    return matrix


def _driven(
    base: System,
    drive: Drive,
    strength: float,
    *,
    prompts: int,
    steps: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "prompt step unit"]:
    """Decoys' dynamics with the innovations of planted sets mixed with their drive."""
    shock = np.linalg.cholesky(innovation_covariance(base.matrix, base.covariance))
    sets = [np.flatnonzero(base.group == k) for k in np.unique(base.group[base.truth])]
    gain = np.sqrt(1 - base.memory**2)
    now = rng.standard_normal((prompts, base.layer.size)) @ np.linalg.cholesky(base.covariance).T
    out = np.empty((prompts, steps, base.layer.size))
    level = np.zeros(base.layer.size)
    for t in range(-BURN_IN, steps):
        noise = rng.standard_normal(now.shape) @ shock.T
        for one in sets:
            pushed = drive(now[:, one], rng)
            # Signs of correlated units have a mean product: left in, it would shift the series,
            # and products with a shifted series are partly linear.
            level[one] += (pushed.mean(axis=0) - level[one]) / (t + BURN_IN + 1)
            pushed = strength * gain[one] * (pushed - level[one])
            noise[:, one] = np.sqrt(1 - strength**2) * noise[:, one] + pushed
        now = base.memory * now + noise
        if t >= 0:
            out[:, t] = now
    return out


def _check_known(given: str, known: MappingProxyType) -> None:
    if given not in known:
        raise ConfigError(
            given=repr(given), expected=f"one of {', '.join(known)}", remedy="pass one of these"
        )


def _check_size(layers: int, heads: int) -> None:
    if layers < BAND or heads < 4:
        raise ConfigError(
            given=f"{layers} layers of {heads} heads",
            expected=f"at least {BAND} layers and 4 heads",
            cause="a set is every second head of a layer",
            remedy="pass more",
        )

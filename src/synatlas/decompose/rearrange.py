"""One surrogate data set: partners exchanged between prompts, or series rotated or made anew.

Exchanges are uniform permutations within sets of prompts, the real order among them, which makes
the count of surrogates beyond the data an exact p where the prompts of a set are exchangeable [1]_.
A prompt stays in place with probability 1 / size of its set; :attr:`Draw.kept` is the mean of that,
and :func:`unmixed` takes the share of the data out of a surrogate again.

References
----------
.. [1] Hemerik & Goeman (2018), TEST 27, 811-825, doi:10.1007/s11749-017-0571-1.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from synatlas.decompose.windows import Windows

#: Prompts of one set where sets are made by self-information.
STRATUM: Final = 5

#: Steps of a block of :func:`block_shuffle`.
BLOCK: Final = 10


#: Differences below this are rounding, in nats.
_TIE: Final = 1e-13


class Prepared(NamedTuple):
    """Data as a null needs them, per group of prompts of one length that takes part.

    `prompts` are positions among these prompts; `sets` are rows of a group that may be exchanged;
    `remake` makes windows of series.
    """

    windows: list[Windows]
    series: list[Float[np.ndarray, "prompt step unit"]]
    prompts: list[Int[np.ndarray, " _"]]
    sets: list[list[Int[np.ndarray, " _"]]]
    remake: Callable[[np.ndarray], Windows]


class Draw(NamedTuple):
    """Windows of first units and of second units; share of prompts expected to stay in place."""

    left: list[Windows]
    right: list[Windows]
    kept: float = 0.0


def one_set(windows: Windows, category: np.ndarray | None) -> list[np.ndarray]:
    """All prompts of one length."""
    del category
    return [np.arange(windows.shape[0])]


def by_category(windows: Windows, category: np.ndarray | None) -> list[np.ndarray]:
    """Prompts of one category."""
    del windows
    assert category is not None
    return [np.flatnonzero(category == name) for name in np.unique(category)]


def by_memory(windows: Windows, category: np.ndarray | None) -> list[np.ndarray]:
    """About :data:`STRATUM` prompts each, alike in the mean over units of self-information."""
    del category
    defined = windows.reason == 0
    sums = np.where(defined, windows.self_information, 0.0).sum(axis=1)
    order = np.argsort(sums / np.maximum(defined.sum(axis=1), 1), kind="stable")
    return np.array_split(order, max(1, len(order) // STRATUM))


def exchange(prepared: Prepared, rng: np.random.Generator) -> Draw:
    """Second units from another prompt of the same set."""
    others, stay, count = [], 0, 0
    for windows, sets in zip(prepared.windows, prepared.sets, strict=True):
        order = np.arange(windows.shape[0])
        for rows in sets:
            order[rows] = rows[rng.permutation(rows.size)]
        others.append(windows.take(order))
        stay += len(sets)
        count += windows.shape[0]
    return Draw(prepared.windows, others, kept=stay / count)


def rotate_windows(prepared: Prepared, rng: np.random.Generator) -> Draw:
    """Past and future of each series rotated together, by an offset of its own."""
    rotated = [_rotated(windows, rng) for windows in prepared.windows]
    return Draw(rotated, rotated)


def _rotated(windows: Windows, rng: np.random.Generator) -> Windows:
    prompts, units, samples = windows.shape
    offset = rng.integers(samples, size=(prompts, 1, units, 1))
    where = (np.arange(samples) + offset) % samples
    values = np.take_along_axis(windows.values, where, axis=3)
    return Windows(
        values=values,
        self_correlation=windows.self_correlation,
        self_information=windows.self_information,
        reason=windows.reason,
        resolution=windows.resolution,
    )


def _anew(
    prepared: Prepared, make: Callable[[np.ndarray, np.random.Generator], np.ndarray], rng
) -> Draw:
    made = [prepared.remake(make(series, rng)) for series in prepared.series]
    return Draw(made, made)


def rotate_series(prepared: Prepared, rng: np.random.Generator) -> Draw:
    """Each series rotated by an offset of its own; a seam joins its end to its start."""

    def make(series: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        prompts, steps, units = series.shape
        offset = rng.integers(steps, size=(prompts, 1, units))
        return np.take_along_axis(series, (np.arange(steps)[:, None] + offset) % steps, axis=1)

    return _anew(prepared, make, rng)


def shuffle_blocks(prepared: Prepared, rng: np.random.Generator) -> Draw:
    """Blocks of :data:`BLOCK` steps in an order of each series' own."""

    def make(series: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        prompts, steps, units = series.shape
        block = np.arange(steps) // BLOCK
        key = rng.random((prompts, block[-1] + 1, units))
        # Stable: steps of one block keep their order.
        order = np.argsort(key[:, block], axis=1, kind="stable")
        return np.take_along_axis(series, order, axis=1)

    return _anew(prepared, make, rng)


def randomise_phases(prepared: Prepared, rng: np.random.Generator) -> Draw:
    """Fourier phases of each series drawn uniformly, amplitudes kept [1]_.

    References
    ----------
    .. [1] Theiler et al. (1992), Physica D 58, 77-94, doi:10.1016/0167-2789(92)90102-S.
    """

    def make(series: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        steps = series.shape[1]
        spectrum = np.fft.rfft(series, axis=1)
        phase = rng.uniform(0.0, 2 * np.pi, size=spectrum.shape)
        # The mean stays, and with an even number of steps the highest frequency is real.
        phase[:, 0] = 0.0
        if steps % 2 == 0:
            phase[:, -1] = 0.0
        return np.fft.irfft(spectrum * np.exp(1j * phase), n=steps, axis=1)

    return _anew(prepared, make, rng)


def simulate_ar1(prepared: Prepared, rng: np.random.Generator) -> Draw:
    """A stationary Gaussian AR(1) series with each series' own lag-one correlation."""

    def make(series: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        centred = series - series.mean(axis=1, keepdims=True)
        power = np.einsum("psu,psu->pu", centred, centred)
        product = np.einsum("psu,psu->pu", centred[:, 1:], centred[:, :-1])
        memory = np.divide(product, power, out=np.zeros_like(power), where=power > 0)
        shock = rng.standard_normal(series.shape)
        shock[:, 1:] *= np.sqrt(1 - memory**2)[:, None]
        for step in range(1, series.shape[1]):
            shock[:, step] += memory * shock[:, step - 1]
        # What is constant stays constant, and what is not finite stays so.
        return np.where((power > 0)[:, None], shock, centred)

    return _anew(prepared, make, rng)


def unmixed(
    surrogate: Float[np.ndarray, "*item"], data: Float[np.ndarray, "*item"], kept: float
) -> Float[np.ndarray, "*item"]:
    """The surrogate without the share `kept` of it that is the data themselves.

    The map is monotone and leaves the data in place: which surrogates lie beyond them stays as it
    is. Everything in place (``kept=1``) stays the surrogate itself. What differs from the data by
    rounding alone is a tie.
    """
    if kept in (0.0, 1.0):
        kept = 0.0
    tied = np.abs(surrogate - data) <= _TIE
    return np.where(tied, data, (surrogate - kept * data) / (1 - kept))

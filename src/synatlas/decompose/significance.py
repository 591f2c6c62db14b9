"""Where each pair's atoms stand under a null: mean, spread, z and p of every atom."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from synatlas.decompose.estimators import Engine, Estimator
from synatlas.decompose.groups import Group, mean_atoms, total
from synatlas.decompose.lattice import grid, moebius
from synatlas.decompose.matching import Matching
from synatlas.decompose.nulls import (
    EXCHANGED_FROM,
    OWN_MEMORY,
    Null,
    draws,
    own_memory,
    prepare,
)
from synatlas.decompose.pairs import chunks, pair_count, panels
from synatlas.decompose.pooled import FLIPS, flipped, flips, knowns, prompt_table
from synatlas.decompose.rearrange import rotate_windows, unmixed
from synatlas.decompose.windows import Windows

Grid = Float[np.ndarray, "pair past future"]

#: Spreads below this are rounding: such an atom is 0 by construction.
_NO_SPREAD: Final = 1e-13


class Labelled(NamedTuple):
    """Values of a result's variable and its attributes."""

    values: Grid
    attrs: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """Variables of a test by name, and how well the null matches the data."""

    variables: dict[str, Labelled]
    attrs: dict[str, float]


def surrogate_test(
    null: Null,
    groups: list[Group],
    way: Estimator,
    engine: Engine,
    *,
    redundancy: str,
    lag: int,
    surrogates: int,
    seed: int,
) -> Tested:
    """Compare the data, prepared as the null needs them, with each surrogate in turn.

    Surrogates are visited twice where rotations are few: their centre has to be known before
    they can be widened (see :func:`_widening`).
    """
    prepared = prepare(null, groups, way.windows, lag)
    data = total(prepared.windows, prepared.windows, prepared.prompts, engine, per_unit=False)
    matching = Matching.of(prepared, data, way.self_information)
    observed = mean_atoms(data.pair)
    memory = None
    if null.adjusted and redundancy == "mmi":
        memory = _pairs(own_memory(prepared.windows, prepared.windows))

    def visit(*, first: bool = True) -> Iterator[Grid]:
        for draw, totals in draws(null, prepared, engine, surrogates=surrogates, seed=seed):
            if first:
                matching.add(draw.left, totals)
            atom = mean_atoms(totals.pair)
            if memory is not None:
                lost = memory - _pairs(own_memory(draw.left, draw.right))
                atom += lost[:, None, None] * OWN_MEMORY
            yield unmixed(atom, observed, draw.kept)

    few = null.draw is rotate_windows and data.prompts < EXCHANGED_FROM
    wide = _widening(prepared.windows) if few else np.ones(len(observed))
    centre = _Centre.of(visit(), observed)
    inner = centre.towards(observed, wide[:, None, None]) if few else observed
    above, below = centre.above, centre.below
    if few:
        above, below = np.zeros_like(observed), np.zeros_like(observed)
        for atom in visit(first=False):
            above += atom >= inner
            below += atom <= inner
    sd = centre.sd(surrogates) * wide[:, None, None]
    return Tested(
        variables=_tested(observed, centre.mean, sd, above, below, surrogates),
        attrs=matching.errors(),
    )


@dataclass(slots=True, kw_only=True)
class _Centre:
    """Mean of draws, sum of squares about it, whether all are positive, counts beyond the data."""

    mean: Grid
    square: Grid
    positive: Bool[np.ndarray, "pair past future"]
    above: Grid
    below: Grid

    @classmethod
    def of(cls, atoms: Iterator[Grid], observed: Grid) -> "_Centre":
        zero = np.zeros_like(observed)
        out = cls(
            mean=zero.copy(),
            square=zero.copy(),
            positive=observed > 0,
            above=zero.copy(),
            below=zero.copy(),
        )
        for k, atom in enumerate(atoms):
            # Welford's update: the spread is small beside the mean.
            change = atom - out.mean
            out.mean += change / (k + 1)
            out.square += change * (atom - out.mean)
            out.positive &= atom > 0
            out.above += atom >= observed
            out.below += atom <= observed
        return out

    def sd(self, count: int) -> Grid:
        if count < 2:
            return np.full_like(self.mean, np.nan)
        with np.errstate(invalid="ignore"):
            return np.sqrt(self.square / (count - 1))

    def towards(self, observed: Grid, wide: Float[np.ndarray, "pair one one"]) -> Grid:
        """The data, nearer to the centre by the factor that the draws should be wider.

        On a logarithmic scale where nothing is negative: redundancy cannot spread below 0.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            linear = self.mean + (observed - self.mean) / wide
            scaled = self.mean * (observed / self.mean) ** (1 / wide)
        return np.where(self.positive, scaled, linear)


def _widening(windows: list[Windows]) -> Float[np.ndarray, " pair"]:
    """sqrt(1 + 2/n) for n effectively different rotations of each pair.

    n is the sum over prompts of S / Σ_s ρ_a(s) ρ_b(s) over all S circular shifts s (Bartlett
    1946, doi:10.2307/2983611): rotations of series with long memory resemble each other, and
    their mean and spread, one n-th each, are known no better than from n draws. A product of
    power spectra.
    """
    units, effective = windows[0].shape[1], 0.0
    for group in windows:
        samples = group.shape[2]
        power = np.abs(np.fft.rfft(group.values[:, 0], axis=-1)) ** 2
        weight = np.full(power.shape[-1], 2.0)
        weight[0] = 1.0
        if samples % 2 == 0:
            weight[-1] = 1.0
        overlap = np.einsum("puf,pvf->puv", power * weight, power) / samples
        with np.errstate(divide="ignore"):
            effective = effective + (samples / overlap).sum(axis=0)
    upper = np.triu_indices(units, k=1)
    return np.sqrt(1 + 2 / np.asarray(effective)[upper])


def same_step_test(windows: list[Windows], *, seed: int) -> Tested:
    """Pooled atoms against their same-step null.

    The null's own noise is drawn by turning the sign of each prompt's departure from the null at
    random: if nothing is coupled it is as often positive as negative.
    """
    units = windows[0].shape[1]
    prompts = sum(group.shape[0] for group in windows)
    signs = flips(prompts, FLIPS if prompts > 1 else 0, seed)
    shape = (pair_count(units), 4, 4)
    observed, mean = np.empty(shape), np.empty(shape)
    centre, sd = np.full(shape, np.nan), np.full(shape, np.nan)
    above, below = np.full(shape, np.nan), np.full(shape, np.nan)
    for panel in panels(units):
        table = prompt_table(windows, panel)
        real, model = (_atoms(side) for side in knowns(np.ones((1, prompts)), table))
        observed[panel.pairs], mean[panel.pairs] = real[0], model[0]
        if prompts > 1:
            parts = [flipped(signs[c], table) for c in chunks(len(signs), panel.first.size)]
            noise = _atoms(np.concatenate(parts)) - model
            centre[panel.pairs], sd[panel.pairs] = noise.mean(axis=0), noise.std(axis=0, ddof=1)
            above[panel.pairs] = (noise >= real - model).sum(axis=0)
            below[panel.pairs] = (noise <= real - model).sum(axis=0)
    tested = _tested(observed, mean, sd, above, below, FLIPS)
    # Noise raises squares: z is of the excess beyond what noise alone gives.
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(sd > _NO_SPREAD, (observed - mean - centre) / sd, np.nan)
    tested["z"] = tested["z"]._replace(values=z)
    return Tested(variables=tested, attrs={})


def _atoms(rows: Float[np.ndarray, "draw row pair"]) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        known = [rows[:, k] / rows[:, 16] for k in range(16)]
    return grid(np.stack(moebius(known)))


def _pairs(square: Float[np.ndarray, "unit unit"]) -> Float[np.ndarray, " pair"]:
    return square[np.triu_indices(len(square), k=1)]


def _tested(
    observed: Grid, mean: Grid, sd: Grid, above: Grid, below: Grid, count: int
) -> dict[str, Labelled]:
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = observed - mean
        z = np.where(sd > _NO_SPREAD, excess / sd, np.nan)
    known = np.isfinite(excess) & np.isfinite(sd)
    greater = np.where(known, (1 + above) / (1 + count), np.nan)
    less = np.where(known, (1 + below) / (1 + count), np.nan)
    nat, one = {"units": "nat"}, {"units": "1"}
    return {
        "null_observed": Labelled(observed, {"long_name": "atom, prepared as the null", **nat}),
        "null_mean": Labelled(mean, {"long_name": "mean of the null", **nat}),
        "null_sd": Labelled(sd, {"long_name": "standard deviation of the null", **nat}),
        "z": Labelled(z, {"long_name": "excess in standard deviations of the null", **one}),
        "p_greater": Labelled(greater, {"long_name": "p of an atom above its null", **one}),
        "p_less": Labelled(less, {"long_name": "p of an atom below its null", **one}),
        "p": Labelled(
            np.minimum(1.0, 2 * np.minimum(greater, less)), {"long_name": "two-sided p", **one}
        ),
    }

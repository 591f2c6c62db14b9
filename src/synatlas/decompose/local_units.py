"""Local atoms of units: means over partners at every step, without any pair's series."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, Final, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from synatlas.axes import PROMPT, SHORT_NAMES, STEP, UNIT
from synatlas.decompose.blas import one_blas_thread
from synatlas.decompose.estimators import ESTIMATORS
from synatlas.decompose.groups import group_by_length
from synatlas.decompose.lattice import SWAP
from synatlas.decompose.local import (
    LOCALS,
    RULES,
    Cases,
    Local,
    Rule,
    local_atoms,
    local_attrs,
    read_for_local,
    step_coordinate,
)
from synatlas.decompose.options import choose
from synatlas.decompose.quadratic import Tile, sum_over_partners
from synatlas.decompose.windows import Windows
from synatlas.errors import ConfigError

#: Dimension of the atoms that were asked for.
ATOM: Final = "atom"

_LOCAL: Final = {"units": "nat", "long_name": "local atom, mean over partners"}
_PARTNERS: Final = {"units": "1", "long_name": "partners whose pair is defined"}

#: Units, and partners, at a time.
_SIDE: Final = 64


class Method(NamedTuple):
    """How local atoms of single pairs are found."""

    local: Local
    rule: Rule


@one_blas_thread()
def local_units(
    series: Any,
    *,
    atoms: Sequence[str] = ("sts", "rtr"),
    prompts: Sequence[int] | None = None,
    lag: int = 1,
    redundancy: str = "mmi",
    estimator: str = "gaussian",
    nuisance: Sequence[str] = (),
) -> xr.Dataset:
    """Atoms of every unit at every step: local atoms averaged over its partners, in nats.

    Under MMI with correlations the mean over partners is found by matrix products, in memory and
    time of the order of units² and units² x steps; otherwise every pair is visited.

    Parameters
    ----------
    series
        A Recording, or (step, unit) or (prompt, step, unit) as for
        :func:`synatlas.decompose.series.phiid`. It is not changed.
    atoms
        Short names of atoms, past before future: ``"sts"`` is synergy, ``"rtr"`` redundancy; of a
        unit, ``x`` is the unit itself and ``y`` its partners.
    prompts
        Positions of the prompts to return; all where None. Nuisances are fitted over all.
    lag, redundancy, estimator, nuisance
        As for :func:`synatlas.decompose.local.local_phiid`. Of two informations that tie exactly,
        either may be taken.

    Returns
    -------
    xarray.Dataset
        ``local(atom, [prompt,] step, unit)``, whose mean over `step` is the unit's atom of that
        prompt (`unit_atom` of :func:`synatlas.decompose.pipeline.decompose`), and
        ``partners([prompt,] unit)``, how many are defined. `step` is that of the future, from
        `lag` on. NaN where a unit has no partner and where a prompt has ended. Coordinates of
        units and prompts are kept.

    Raises
    ------
    ConfigError
        An option, the name of an atom or the shape of `series` cannot be used.

    Examples
    --------
    >>> import numpy as np
    >>> noise = np.random.default_rng(0).normal(size=(50, 4))
    >>> local_units(noise)["local"].dims
    ('atom', 'step', 'unit')
    """
    rule = choose(RULES, redundancy, "redundancy")
    way = choose(ESTIMATORS, estimator, "estimator")
    method = Method(LOCALS[estimator], rule)
    cells = _cells(atoms)
    given, begin = read_for_local(series, lag, nuisance)
    chosen = _positions(prompts, len(given.n_steps))
    labels = None if given.prompts is None else np.array(given.prompts)[chosen]
    values, n_steps = given.values[chosen], given.n_steps[chosen]
    count, steps, units = values.shape
    local = np.full((len(cells), count, units, steps - lag), np.nan)
    partners = np.zeros((count, units), dtype=np.int32)
    for group in group_by_length(values, n_steps):
        windows = way.windows(group.series, lag)
        if redundancy == "mmi" and way.correlated:
            total, defined = _by_products(windows, cells, method)
        else:
            total, defined = _by_pairs(windows, cells, method, _all_cases(windows))
        with np.errstate(divide="ignore", invalid="ignore"):
            local[:, group.prompts, :, : windows.shape[2]] = total / defined[..., None]
        partners[group.prompts] = defined
    found = xr.Dataset(
        {
            "local": ((ATOM, PROMPT, STEP, UNIT), local.transpose(0, 1, 3, 2), _LOCAL),
            "partners": ((PROMPT, UNIT), partners, _PARTNERS),
        },
        coords={
            ATOM: list(atoms),
            STEP: step_coordinate(begin, steps - lag),
            UNIT: list(given.units),
            **({} if labels is None else {PROMPT: labels}),
            **_kept(series, chosen),
        },
        attrs=local_attrs(lag, redundancy, estimator, nuisance),
    )
    return found.isel(prompt=0) if labels is None else found


def _positions(prompts: Sequence[int] | None, count: int) -> Int[np.ndarray, " prompt"]:
    if prompts is None:
        return np.arange(count)
    chosen = np.array(prompts, dtype=np.int64)
    if chosen.size == 0 or chosen.min() < 0 or chosen.max() >= count:
        raise ConfigError(
            given=f"prompts {list(prompts)!r}",
            expected=f"positions from 0 to {count - 1}",
            remedy="pass for example prompts=[0], or None for all",
        )
    return chosen


def _kept(series: Any, chosen: Any) -> dict[str, Any]:
    """Further labels of a Recording's units and prompts."""
    if not isinstance(series, xr.Dataset) or PROMPT not in series.dims:
        return {}
    some = series.isel(prompt=chosen)
    wanted = ("layer", "index", "kind", "kv_group", "category")
    return {name: some[name].variable for name in wanted if name in some.coords}


def _cells(atoms: Sequence[str]) -> tuple[int, ...]:
    named = [atoms] if isinstance(atoms, str) else list(atoms)
    if not named or isinstance(atoms, str) or not set(named) <= set(SHORT_NAMES):
        raise ConfigError(
            given=f"atoms {atoms!r}",
            expected=f"a list of some of {', '.join(SHORT_NAMES)}",
            remedy='pass for example atoms=("sts", "rtr")',
        )
    return tuple(SHORT_NAMES.index(name) for name in named)


def _by_products(
    windows: Windows, cells: tuple[int, ...], method: Method
) -> tuple[Float[np.ndarray, "atom prompt unit sample"], Int[np.ndarray, "prompt unit"]]:
    """Sums over partners and their number; thin pairs are added one by one."""
    prompts, units, samples = windows.shape
    total = np.zeros((len(cells), prompts, units, samples))
    count = np.zeros((prompts, units), dtype=np.int64)
    thin = []
    for tile in _tiles(prompts, units):
        found = sum_over_partners(windows, tile, cells)
        total[:, tile.prompts, tile.units] += found.sums
        count[tile.prompts, tile.units] += found.defined.sum(axis=-1)
        if found.thin.any():
            where = np.nonzero(found.thin)
            begin = (tile.prompts.start, tile.units.start, tile.partners.start)
            cases = Cases(*(at + start for at, start in zip(where, begin, strict=True)))
            # Each pair is met twice.
            thin.append(Cases(*(field[cases.first < cases.second] for field in cases)))
    if thin:
        cases = Cases(*(np.concatenate(parts) for parts in zip(*thin, strict=True)))
        more, also = _by_pairs(windows, cells, method, cases)
        total += more
        count += also
    return total, count


def _tiles(prompts: int, units: int) -> Iterator[Tile]:
    """Tiles that together hold every unit with every partner, small enough for the cache."""
    chunk = max(1, (_SIDE // min(units, _SIDE)) ** 2)
    sides = [slice(begin, min(begin + _SIDE, units)) for begin in range(0, units, _SIDE)]
    for begin in range(0, prompts, chunk):
        for rows, columns in product(sides, sides):
            yield Tile(slice(begin, min(begin + chunk, prompts)), rows, columns)


def _all_cases(windows: Windows) -> Cases:
    prompts, units, _ = windows.shape
    first, second = np.triu_indices(units, k=1)
    return Cases(
        np.repeat(np.arange(prompts), first.size), np.tile(first, prompts), np.tile(second, prompts)
    )


def _by_pairs(
    windows: Windows, cells: tuple[int, ...], method: Method, cases: Cases
) -> tuple[Float[np.ndarray, "atom prompt unit sample"], Int[np.ndarray, "prompt unit"]]:
    """Sums over the partners in `cases`, each of which counts for both of its units."""
    prompts, units, samples = windows.shape
    total = np.zeros((len(cells), prompts, units, samples))
    count = np.zeros((prompts, units), dtype=np.int64)
    for part in cases.parts(max(1, samples)):
        some = Cases(*(field[part] for field in cases))
        found = local_atoms(windows, some, *method)
        good = np.isin(found.status, (0, 2))
        for unit, turned in ((some.first, np.arange(16)), (some.second, SWAP)):
            np.add.at(count, (some.prompt, unit), good)
            for row, cell in enumerate(cells):
                values = np.where(good[:, None], found.atoms[turned[cell]], 0.0)
                np.add.at(total[row], (some.prompt, unit), values)
    return total, count

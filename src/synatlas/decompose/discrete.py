"""Binary series: above or below the window's mean, and plug-in informations of the counts.

Four binary windows have sixteen joint values. Their counts follow from how often each subset of
the windows is 1 at once, and these are numbers of bits in common: samples are packed 64 to a word.
With f(k) = k ln k, the entropy of counts c over n samples is ln n - sum f(c) / n, so every mutual
information is a few entries of one table:

    I(S; T) = (f(n) + sum f(c_ST) - sum f(c_S) - sum f(c_T)) / n.

All informations are finite, those of deterministic series too, and at most ln 2 for each window.
A copy or a complement makes a pair a duplicate; its informations are all I(x; a) by the formula
itself. Being a plug-in estimate, an information between d and e cells of independent series is
(d - 1)(e - 1) / 2n too large on average [1]_.

References
----------
.. [1] Miller (1955), Note on the bias of information estimates, in Information Theory in
   Psychology, 95-100.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt64

from synatlas.decompose.gaussian import Informations, minimum_information
from synatlas.decompose.pairs import (
    KEPT,
    PairSums,
    Panel,
    add_to_units,
    chunks,
    pair_count,
    panels,
    swapped_rows,
)
from synatlas.decompose.pointwise import local_changes
from synatlas.decompose.redundancy import with_shared
from synatlas.decompose.windows import CODE, LEAST_SAMPLES, Windows, standardise

#: Local informations of integer counts are 0 or at least 1 / n²; rounding is far below this.
_NOTHING = 1e-12


def binarise(series: Float[np.ndarray, "prompt step unit"], lag: int) -> Windows:
    """Cut each series into past ``[:-lag]`` and future ``[lag:]``: 1 above the window's mean.

    Values are the zeros and ones centred and scaled, so that their sign is the bit and their
    products are correlations; nulls reorder and rotate them like any others. A series is constant
    where a window varies by no more than the rounding of its largest value.
    """
    plain = standardise(series, lag)
    samples = plain.shape[2]
    if samples < LEAST_SAMPLES:
        return plain
    reason = np.where(plain.reason == CODE["deterministic"], 0, plain.reason).astype(np.int8)
    bad = reason != 0
    rows = np.where(bad[:, :, None], 0.0, series.transpose(0, 2, 1))
    # The sum of values beyond 1e306 overflows; a power of two changes no digit.
    size = np.abs(rows).max(axis=-1, keepdims=True)
    rows *= np.exp2(-np.clip(np.frexp(size)[1], -1000, 1000))
    windows = np.stack([rows[..., :samples], rows[..., rows.shape[2] - samples :]], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = windows > windows.mean(axis=-1, keepdims=True)
        ones = bits.sum(axis=-1, keepdims=True)
        high = np.sqrt((samples - ones) / (samples * ones))
        low = -np.sqrt(ones / (samples * (samples - ones)))
        values = np.where(bits, high, low)
    values[np.broadcast_to(bad[:, None, :], values.shape[:3])] = 0.0
    r = np.einsum("pus,pus->pu", values[:, 0], values[:, 1])
    return Windows(
        values=values,
        self_correlation=np.where(bad, np.nan, r),
        self_information=np.where(bad, np.nan, binary_self_information(values)),
        reason=reason,
        resolution=np.where(bad, np.inf, 0.0),
    )


def binary_self_information(
    values: Float[np.ndarray, "prompt window unit sample"],
) -> Float[np.ndarray, "prompt unit"]:
    """Plug-in I(past; future) of each series, in nats; 0 for windows that are 0."""
    past, future = values[:, 0] > 0, values[:, 1] > 0
    n = values.shape[-1]
    one, two, both = (bits.sum(axis=-1) for bits in (past, future, past & future))
    f = table(n)
    joint = f[both] + f[one - both] + f[two - both] + f[n - one - two + both]
    return (f[n] + joint - f[one] - f[n - one] - f[two] - f[n - two]) / max(n, 1)


@lru_cache(maxsize=16)
def table(samples: int) -> np.ndarray:
    """The values k ln k for counts k from 0 to `samples`, read-only."""
    k = np.arange(samples + 1)
    f = k * np.log(np.maximum(k, 1))
    f.flags.writeable = False
    return f


def pack(
    values: Float[np.ndarray, "prompt window unit sample"],
) -> UInt64[np.ndarray, "prompt window unit word"]:
    """Signs of windows as bits, 64 samples to a word, the last filled up with zeros."""
    packed = np.packbits(values > 0, axis=-1)
    words = np.zeros((*packed.shape[:-1], -(-packed.shape[-1] // 8) * 8), dtype=np.uint8)
    words[..., : packed.shape[-1]] = packed
    return words.view(np.uint64)


class Cells(NamedTuple):
    """Counts of the sixteen values of each case's x, y, a, b, of how many samples."""

    counts: Int[np.ndarray, "2 2 2 2 prompt pair"]
    samples: int

    def informations(self) -> Informations:
        """Nine mutual informations, plug-in, in nats."""
        f = table(self.samples)
        held = {axes: f[self.among(*axes)].sum(axis=(0, 1, 2, 3)) for axes in _SUBSETS}

        def between(past: tuple[int, ...], future: tuple[int, ...]) -> np.ndarray:
            return (f[-1] + held[past + future] - held[past] - held[future]) / self.samples

        return Informations(*(between(*sides) for sides in _SIDES))

    def local_informations(self) -> Informations:
        """The same for each cell: logarithms of counts over what independence expects."""
        log = np.log(np.maximum(np.arange(self.samples + 1), 1))
        held = {axes: log[self.among(*axes)] for axes in _SUBSETS}

        def between(past: tuple[int, ...], future: tuple[int, ...]) -> np.ndarray:
            local = log[-1] + held[past + future] - held[past] - held[future]
            # The sign decides, and an independent cell has none.
            local = np.where(np.abs(local) < _NOTHING, 0.0, local)
            return np.broadcast_to(local, self.counts.shape)

        return Informations(*(between(*sides) for sides in _SIDES))

    def among(self, *axes: int) -> Int[np.ndarray, "_ _ _ _ prompt pair"]:
        """Counts of the values of some windows, whatever the others are."""
        others = tuple(axis for axis in range(4) if axis not in axes)
        return self.counts.sum(axis=others, keepdims=True)


_X, _Y, _A, _B = range(4)
#: Past and future windows of each field of :class:`Informations`.
_SIDES = (
    ((_X,), (_A,)),
    ((_X,), (_B,)),
    ((_Y,), (_A,)),
    ((_Y,), (_B,)),
    ((_X, _Y), (_A,)),
    ((_X, _Y), (_B,)),
    ((_X,), (_A, _B)),
    ((_Y,), (_A, _B)),
    ((_X, _Y), (_A, _B)),
)
_SUBSETS = sorted({part for past, future in _SIDES for part in (past, future, past + future)})

#: From the counts of a block to its 16 knowns.
Rule = Callable[[Cells], list[np.ndarray]]


def binary_mmi(cells: Cells) -> list[np.ndarray]:
    """Minimum mutual information: a redundancy is the least of its informations, in nats >= 0."""
    return minimum_information(cells.informations())


def binary_ccs(cells: Cells) -> list[np.ndarray]:
    """Common change in surprisal, mean over samples, in nats; may be negative."""
    share = cells.counts / cells.samples
    means = [
        (share * change).sum(axis=(0, 1, 2, 3))
        for change in local_changes(cells.local_informations())
    ]
    return with_shared(cells.informations(), np.stack(means))


def sum_binary(
    left: Windows, right: Windows, rule: Rule, *, per_unit: bool, only: str = "all"
) -> PairSums:
    """:func:`synatlas.decompose.pairs.sum_pairs` for windows of :func:`binarise`, in NumPy."""
    prompts, units, samples = left.shape
    kept = KEPT[only]
    pair = np.zeros((kept.rows, pair_count(units)))
    unit = np.zeros((prompts, kept.rows, units)) if per_unit else None
    tally = np.zeros((len(CODE), pair_count(units)), dtype=np.int32)
    packed = pack(left.values), pack(right.values)
    for panel in panels(units):
        for chunk in chunks(prompts, panel.first.size):
            cells = _count(packed[0][chunk], packed[1][chunk], panel, samples)
            status = _statuses(left.reason[chunk], right.reason[chunk], panel, cells)
            defined = (status == CODE["ok"]) | (status == CODE["duplicate"])
            same = np.where(defined, _same_step(cells), 0.0)
            knowns = [np.where(defined, row, 0.0) for row in kept.of(rule(cells))]
            rows = [*knowns, same, np.abs(same), defined]
            for row, values in enumerate(rows):
                pair[row, panel.pairs] += values.sum(axis=0)
            for code in CODE.values():
                tally[code, panel.pairs] += (status == code).sum(axis=0, dtype=np.int32)
            if unit is not None:
                add_to_units(unit[chunk], np.stack(rows, axis=1), panel, swapped_rows(kept.rows))
    return PairSums(pair=pair, unit=unit, tally=tally if tally[1:].any() else None)


def _count(left: np.ndarray, right: np.ndarray, panel: Panel, samples: int) -> Cells:
    """Counts of a panel's pairs, by inclusion and exclusion from those of common ones."""
    first, second = left[:, :, panel.first], right[:, :, panel.second]
    windows = [first[:, 0], second[:, 0], first[:, 1], second[:, 1]]
    counts = np.empty((2, 2, 2, 2, len(left), panel.first.size), dtype=np.int64)
    for cell in np.ndindex(2, 2, 2, 2):
        chosen = [window for window, one in zip(windows, cell, strict=True) if one]
        common = np.bitwise_and.reduce(chosen) if chosen else None
        counts[cell] = samples if common is None else np.bitwise_count(common).sum(axis=-1)
    for axis in range(4):
        zero, one = np.moveaxis(counts, axis, 0)
        zero -= one
    return Cells(counts, samples)


def _statuses(
    left: Int[np.ndarray, "prompt unit"],
    right: Int[np.ndarray, "prompt unit"],
    panel: Panel,
    cells: Cells,
) -> Int[np.ndarray, "prompt pair"]:
    reason = np.maximum(left[:, panel.first], right[:, panel.second])
    duplicate = _one_to_one(cells.among(_X, _Y)) & _one_to_one(cells.among(_A, _B))
    return np.where((reason == 0) & duplicate, CODE["duplicate"], reason)


def _one_to_one(counts: Int[np.ndarray, "_ _ _ _ prompt pair"]) -> Bool[np.ndarray, "prompt pair"]:
    """Whether two windows agree in every sample or in none."""
    table_2x2 = counts.reshape(4, *counts.shape[4:])
    return (table_2x2[1] + table_2x2[2] == 0) | (table_2x2[0] + table_2x2[3] == 0)


def _same_step(cells: Cells) -> Float[np.ndarray, "prompt pair"]:
    """Same-step correlation of the bits, mean of the past's and the future's."""
    with np.errstate(divide="ignore", invalid="ignore"):
        past, future = (
            _correlation(cells.among(*axes), cells.samples) for axes in ((_X, _Y), (_A, _B))
        )
    return 0.5 * (past + future)


def _correlation(counts: np.ndarray, samples: int) -> np.ndarray:
    c = counts.reshape(2, 2, *counts.shape[4:])
    one, two, both = c[1].sum(axis=0), c[:, 1].sum(axis=0), c[1, 1]
    spread = (one * (samples - one)) * (two * (samples - two)).astype(np.float64)
    return (samples * both - one * two) / np.sqrt(spread)

"""Least squares of many series on few regressors: within each prompt, and across all of them.

With M the projection off each prompt's own regressors, residuals of series y on both are
M y - M D c with c the least-squares solution of M D c = M y, for indicators D that all prompts
share (Frisch and Waugh [1]_).

References
----------
.. [1] Frisch & Waugh (1933), Econometrica 1(4), 387-401, doi:10.2307/1907330.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

#: Directions that are smaller than this, relative to the largest, depend on the others.
DEPENDENT: Final = 1e-10


class Basis(NamedTuple):
    """Orthonormal columns of each prompt's regressors, 0 in padding and beyond `rank`."""

    columns: Float[np.ndarray, "prompt step column"]
    rank: Int[np.ndarray, " prompt"]


def basis_within(
    regressors: Float[np.ndarray, "prompt step column"], n_steps: Int[np.ndarray, " prompt"]
) -> Basis:
    """Orthonormal basis of a constant and the regressors of each prompt, by SVD.

    Regressors are centred and brought to one size first: their units do not decide the rank.
    """
    prompts, steps, count = regressors.shape
    columns = np.zeros((prompts, steps, min(count + 1, steps)))
    rank = np.zeros(prompts, dtype=np.int64)
    for prompt, length in enumerate(n_steps):
        own = regressors[prompt, :length]
        largest = np.abs(own).max(axis=0, initial=0.0)
        centred = own - own.mean(axis=0)
        # What rounding leaves of a constant is no regressor.
        spread = np.abs(centred).max(axis=0, initial=0.0)
        kept = spread > DEPENDENT * largest
        scaled = np.column_stack([np.ones(length), centred[:, kept] / spread[kept]])
        left, size, _ = np.linalg.svd(scaled, full_matrices=False)
        rank[prompt] = np.count_nonzero(size > DEPENDENT * size[0])
        columns[prompt, :length, : rank[prompt]] = left[:, : rank[prompt]]
    return Basis(columns, rank)


def residual_within(
    series: Float[np.ndarray, "prompt step unit"],
    columns: Float[np.ndarray, "prompt step column"],
) -> Float[np.ndarray, "prompt step unit"]:
    """What is left of each series off its prompt's orthonormal columns; twice, against rounding."""
    across = columns.transpose(0, 2, 1)
    for _ in range(2):
        series = series - columns @ (across @ series)
    return series


class Effect(NamedTuple):
    """Indicators that all prompts share.

    `code` names the one that a sample has, -1 for none. Only codes that occur `least` times have
    an indicator, the `most` most frequent of them, of equally frequent ones the lower code.
    """

    code: Int[np.ndarray, "prompt step"]
    least: int
    most: int


class Across(NamedTuple):
    """Residuals, and the rank of the shared indicators off the prompts' own regressors."""

    residual: Float[np.ndarray, "prompt step unit"]
    rank: int


def residual_across(
    residual: Float[np.ndarray, "prompt step unit"],
    effects: Sequence[Effect],
    basis: Basis,
    broken: Bool[np.ndarray, "prompt unit"],
) -> Across:
    """Residuals on the indicators besides each prompt's own regressors, jointly.

    Parameters
    ----------
    residual : residuals within prompts, 0 in padding.
    effects : families of indicators.
    basis : of the prompts' own regressors.
    broken : series that take no part; the fit of their unit is of its other prompts.
    """
    out = residual.copy()
    patterns, which = np.unique(broken, axis=1, return_inverse=True)
    rank = 0
    for pattern in range(patterns.shape[1]):
        units = np.flatnonzero(which == pattern)
        used = np.flatnonzero(~patterns[:, pattern])
        design = _indicators([effect._replace(code=effect.code[used]) for effect in effects])
        if design.total:
            where = np.ix_(used, np.arange(out.shape[1]), units)
            part = _fit(out[where], design, basis.columns[used])
            out[where] = part.residual
            rank = max(rank, part.rank)
    return Across(out, rank)


class _Design(NamedTuple):
    """`total` indicators: the one that each sample has in each family, `total` for none."""

    member: Int[np.ndarray, "family prompt step"]
    total: int

    def sums(self, values: Float[np.ndarray, "prompt step item"]) -> np.ndarray:
        """Sum of the values of each indicator's samples."""
        out = np.zeros((self.total + 1, values.shape[2]))
        for member in self.member:
            np.add.at(out, member, values)
        return out[:-1]

    def spread(self, coefficient: Float[np.ndarray, "indicator item"]) -> np.ndarray:
        """What the indicators with these coefficients make of each sample."""
        padded = np.concatenate([coefficient, np.zeros((1, coefficient.shape[1]))])
        return np.sum([padded[member] for member in self.member], axis=0)

    def products(self) -> Float[np.ndarray, "indicator indicator"]:
        """Samples that two indicators share."""
        out = np.zeros((self.total + 1, self.total + 1))
        for one in self.member:
            for other in self.member:
                np.add.at(out, (one, other), 1.0)
        return out[:-1, :-1]


def _indicators(effects: Sequence[Effect]) -> _Design:
    member, total = [], 0
    for effect in effects:
        known, count = np.unique(effect.code[effect.code >= 0], return_counts=True)
        known, count = known[count >= effect.least], count[count >= effect.least]
        chosen = np.sort(known[np.argsort(-count, kind="stable")[: effect.most]])
        has = np.isin(effect.code, chosen)
        member.append(np.where(has, np.searchsorted(chosen, effect.code) + total, -1))
        total += chosen.size
    return _Design(np.where(np.stack(member) < 0, total, member), total)


def _fit(
    residual: Float[np.ndarray, "prompt step unit"],
    design: _Design,
    columns: Float[np.ndarray, "prompt step column"],
) -> Across:
    own = [
        _Design(design.member[:, p : p + 1], design.total).sums(columns[p : p + 1])
        for p in range(len(columns))
    ]
    explained = np.concatenate(own, axis=1)
    # Normal equations: indicators are well conditioned but for exact dependences, and a second
    # pass takes off the error of the first.
    value, vector = np.linalg.eigh(design.products() - explained @ explained.T)
    kept = value > DEPENDENT * max(value[-1], 1.0)
    inverse = vector[:, kept] / np.sqrt(value[kept])
    for _ in range(2):
        fitted = design.spread(inverse @ (inverse.T @ design.sums(residual)))
        residual = residual - residual_within(fitted, columns)
    return Across(residual, int(np.count_nonzero(kept)))

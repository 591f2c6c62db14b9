"""Local informations of binary windows: logarithms of the counts of what each sample shows."""

import numpy as np
from jaxtyping import Bool, Float, Int

from synatlas.decompose.discrete import Cells
from synatlas.decompose.gaussian import Informations


def binary_informations(held: Float[np.ndarray, "case variable sample"]) -> Informations:
    """Nine local informations of the signs of x, y, a, b, ``(case, sample)`` each, in nats.

    ln of how often a sample's values occur together over what independence would give, plug-in.
    """
    cases, _, samples = held.shape
    cell = _cells(held)
    table = np.bincount((cell + 16 * np.arange(cases)[:, None]).ravel(), minlength=16 * cases)
    counts = table.reshape(cases, 16).T.reshape(2, 2, 2, 2, 1, cases)
    local = Cells(counts, samples).local_informations()
    return Informations(*(np.take_along_axis(i.reshape(16, cases).T, cell, axis=1) for i in local))


def binary_duplicates(held: Float[np.ndarray, "case variable sample"]) -> Bool[np.ndarray, " case"]:
    """Where y is x or its complement, in the past and in the future."""
    bits = held > 0
    agree = (bits[:, 0::2] == bits[:, 1::2]).sum(axis=-1)
    return np.logical_and.reduce((agree == 0) | (agree == held.shape[2]), axis=1)


def _cells(held: np.ndarray) -> Int[np.ndarray, "case sample"]:
    """Position of each sample's four bits among the sixteen."""
    return np.einsum("cvs,v->cs", (held > 0).astype(np.int64), np.array([8, 4, 2, 1]))

"""Joint prediction by least squares of every pair in every prompt, slow and plain."""

import itertools

import numpy as np


def residual(v: np.ndarray, *on: np.ndarray) -> np.ndarray:
    design = np.stack([np.ones_like(v), *on], axis=1)
    return v - design @ np.linalg.lstsq(design, v, rcond=None)[0]


def correlation(v: np.ndarray, w: np.ndarray) -> float:
    return float(np.corrcoef(v, w)[0, 1])


def guarded(series: np.ndarray, lag: int) -> tuple[np.ndarray, np.ndarray]:
    """Past and future (prompt, unit, sample) without what prompts and units share."""
    left = series - series.mean(axis=0)
    past, future = np.moveaxis(left[:, :-lag], 1, 2), np.moveaxis(left[:, lag:], 1, 2)
    out = np.empty((2, *past.shape))
    for p in range(len(series)):
        centred = past[p] - past[p].mean(axis=1, keepdims=True)
        common = (centred / centred.std(axis=1, keepdims=True)).mean(axis=0)
        for u in range(past.shape[1]):
            out[0, p, u] = residual(past[p, u], common)
            out[1, p, u] = residual(future[p, u], common)
    return out[0], out[1]


def terms(past: np.ndarray, future: np.ndarray) -> np.ndarray:
    """(term, prompt, i, j): the linear correlation and that of the interaction."""
    prompts, units, _ = past.shape
    transfer, of_own, interaction, cross = np.zeros((4, prompts, units, units))
    memory = np.zeros((prompts, units))
    for p, i in itertools.product(range(prompts), range(units)):
        x, a = past[p, i], future[p, i]
        left = residual(a, x, x**2)
        memory[p, i] = correlation(a, x)
        for j in range(units):
            if i == j:
                continue
            y = past[p, j]
            cross[p, i, j] = correlation(a, y)
            transfer[p, i, j] = correlation(left, residual(y, x, x**2))
            of_own[p, i, j] = correlation(residual(a, y), residual(x, y))
            interaction[p, i, j] = correlation(left, residual(x * y, x, x**2, y))
    other = np.abs(cross.mean(axis=0)) > np.abs(memory.mean(axis=0))[:, None]
    return np.stack([np.where(other, of_own, transfer), interaction])


def estimate(c: np.ndarray, shared: float) -> np.ndarray:
    """Half the mean of c_p c_q over p ≠ q, less half of `shared` times their variance."""
    pairs = list(itertools.permutations(range(len(c)), 2))
    mean = np.mean([c[p] * c[q] for p, q in pairs], axis=0)
    return 0.5 * (mean - shared * c.var(axis=0, ddof=1))


def unit_values(c: np.ndarray, shared: float) -> np.ndarray:
    pair = estimate(c, shared)
    both = 0.5 * (pair + pair.T)
    return both.sum(axis=1) / (len(both) - 1)


def joint_prediction(series: np.ndarray, lag: int) -> np.ndarray:
    """(term, prompt, unit): jackknife pseudo-values of prompts of one length."""
    count = len(series)
    out = []
    shares = (1 / (count * (count - 2)), 0.0)
    for c, shared in zip(terms(*guarded(series, lag)), shares, strict=True):
        whole = unit_values(c, shared)
        rest = [unit_values(np.delete(c, p, axis=0), shared) for p in range(count)]
        out.append(count * whole - (count - 1) * np.array(rest))
    return np.array(out)

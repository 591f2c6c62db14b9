"""Candidate scores made of cross-lag terms alone: what two pasts tell of a future together.

For a future a of a unit, its past x and another's past y, all standardised within the prompt:

transfer     squared partial correlation of a and y given x and x²: half of it is the transfer
             entropy to second order, in nats.
joint        the same for whichever of x and y tells less of a by itself, given the other: what
             is left of I(xy; a) when the better of I(x; a) and I(y; a) is taken off, the synergy
             of the two pasts about a under MMI (str + stx). It is 0 for a delayed copy.
interaction  squared correlation of what x and x² leave of a and what x, x² and y leave of the
             product x y: what no sum of functions of x and y of these degrees tells.
total        joint + interaction.

Partial correlations are averaged over prompts, c, and the variance of that average, s² / P, is
taken off: c² - s² / P is unbiased for the square of the mean, whatever the dependence within a
prompt. A unit's score is half the mean over its partners of both directions, in nats. Under the
same-step null every term is 0.

Guarded scores first take from every series its mean over prompts at each step, and condition on
the mean past of all units: what is the same in every prompt and what all units share cannot
predict. Guarded joint, interaction and total are the library's (`synatlas.decompose.prediction`);
the others are candidates that were not adopted.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

from synatlas.decompose.groups import Group
from synatlas.decompose.prediction import joint_prediction


class Score(NamedTuple):
    """A value of every unit in nats, and p that it is above 0."""

    value: np.ndarray
    p: np.ndarray


def cross_lag_scores(activity: np.ndarray, lag: int = 1) -> dict[str, Score]:
    """Every term alone and their sums, plain and guarded."""
    out = {}
    for prefix, guarded in (("", False), ("guarded ", True)):
        squares = {name: _squares(c) for name, c in _terms(activity, lag, guarded=guarded).items()}
        squares["total"] = squares["joint"] + squares["interaction"]
        squares["transfer + interaction"] = squares["transfer"] + squares["interaction"]
        squares["joint + bounded"] = squares["joint"] + squares["bounded"]
        for name, one in squares.items():
            out[prefix + name] = _score(0.5 * (one + one.transpose(0, 2, 1)))
        out[prefix + "total in"] = _score(squares["total"])
    return out | _adopted(activity, lag)


def _adopted(activity: np.ndarray, lag: int) -> dict[str, Score]:
    """Joint prediction as the library has it, and its parts."""
    group = Group(prompts=np.arange(len(activity)), series=activity)
    linear, interaction = joint_prediction([group], lag)
    parts = {"joint": linear, "interaction": interaction, "total": linear + interaction}
    return {f"guarded {name}": _of_pseudo_values(values) for name, values in parts.items()}


def _of_pseudo_values(values: np.ndarray) -> Score:
    count = len(values)
    mean, error = values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(count)
    return Score(mean, stats.t.sf(mean / error, count - 1))


def _terms(activity: np.ndarray, lag: int, *, guarded: bool) -> dict[str, np.ndarray]:
    """Partial correlation with the future of i of each term of i and j: (prompt, i, j)."""
    if guarded:
        activity = activity - activity.mean(axis=0)
    past, future = activity[:, :-lag], activity[:, lag:]
    x, a = _standard(past), _standard(future)
    if guarded:
        common = _standard(x.mean(axis=2, keepdims=True))
        x, a = _standard(x - _project(x, common)), _standard(a - _project(a, common))
    own = x**2 - 1
    own = _standard(own - _project(own, x))
    left = _standard(a - _project(a, x) - _project(a, own))
    samples = x.shape[1]
    rank = np.sqrt(3) * (2 * (stats.rankdata(x, axis=1) - 0.5) / samples - 1)
    transfer = _linear(left, x, own)
    return {
        "transfer": transfer,
        "joint": _weaker(x, a, transfer),
        "interaction": _interaction(left, x, x, own),
        "bounded": _interaction(left, rank, x, own),
    }


def _linear(left: np.ndarray, x: np.ndarray, own: np.ndarray) -> np.ndarray:
    explained = _moment(x, x) ** 2 + _moment(own, x) ** 2
    return _moment(left, x) / np.sqrt(np.maximum(1 - explained, 1e-12))


def _weaker(x: np.ndarray, a: np.ndarray, transfer: np.ndarray) -> np.ndarray:
    """Partial correlation of the past that pooled correlations say tells less, given the other."""
    same, cross = _moment(x, x), _moment(a, x)
    memory = np.diagonal(cross, axis1=1, axis2=2)[:, :, None]
    rest = np.maximum((1 - same**2) * (1 - cross**2), 1e-12)
    of_own = (memory - cross * same) / np.sqrt(rest)
    other_tells_more = np.abs(cross.mean(axis=0)) > np.abs(memory.mean(axis=0))
    return np.where(other_tells_more, of_own, transfer)


def _interaction(left: np.ndarray, v: np.ndarray, x: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Correlation of `left`, a without x_i and x_i², with v_i v_j without these and x_j."""
    mean = _moment(v, v)
    variance = _moment(v**2, v**2) - mean**2
    on_x = _moment(v * x, v)
    on_own = _moment(v * own, v)
    same = _moment(x, x)
    cross = _moment(own, x)
    # x_j without x_i and x_i²; v_i v_j on that.
    rest = np.sqrt(np.maximum(1 - same**2 - cross**2, 1e-12))
    on_other = (_moment(v, v * x) - same * on_x - cross * on_own) / rest
    target = _moment(left * v, v) - _moment(left, x) * on_other / rest
    spread = variance - on_x**2 - on_own**2 - on_other**2
    return target / np.sqrt(np.maximum(spread, 1e-6))


def _moment(f: np.ndarray, g: np.ndarray) -> np.ndarray:
    return f.transpose(0, 2, 1) @ g / f.shape[1]


def _standard(v: np.ndarray) -> np.ndarray:
    v = v - v.mean(axis=1, keepdims=True)
    return v / np.sqrt((v**2).mean(axis=1, keepdims=True))


def _project(v: np.ndarray, on: np.ndarray) -> np.ndarray:
    return on * (v * on).mean(axis=1, keepdims=True)


def _squares(c: np.ndarray) -> np.ndarray:
    """Half (mean² - variance of the mean) over all prompts, then with each prompt left out."""
    count = c.shape[0]
    total, square = c.sum(axis=0), (c**2).sum(axis=0)
    sums = np.concatenate([total[None], total - c])
    squares = np.concatenate([square[None], square - c**2])
    n = np.array([count] + [count - 1] * count)[:, None, None]
    mean = sums / n
    value = 0.5 * (mean**2 - (squares / n - mean**2) / (n - 1))
    value[:, np.arange(c.shape[1]), np.arange(c.shape[1])] = 0.0
    return value


def _score(values: np.ndarray) -> Score:
    """Mean over partners, and its jackknife over prompts referred to Student's t."""
    unit = values.sum(axis=2) / (values.shape[2] - 1)
    count = unit.shape[0] - 1
    spread = np.sqrt((count - 1) * unit[1:].var(axis=0))
    return Score(unit[0], stats.t.sf(unit[0] / spread, count - 1))

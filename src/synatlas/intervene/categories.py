"""Damage of the leading order in some categories against that in others."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from synatlas.inference import resampling_weights
from synatlas.intervene.measured import Measured
from synatlas.intervene.resamples import Resamples
from synatlas.intervene.sets import over_counts
from synatlas.intervene.tested import Sheet


class Contrast(NamedTuple):
    """Mean over one group of samples minus that over the others, and its bootstrap draws.

    `p` is two-sided, of a permutation test of the groups.
    """

    difference: float
    drawn: Float[np.ndarray, " draw"]
    p: float


NO_CONTRAST: Final = Contrast(np.nan, np.zeros(0), np.nan)


def contrast(
    values: Float[np.ndarray, " sample"],
    group: Bool[np.ndarray, " sample"],
    *,
    draws: int,
    rng: np.random.Generator,
) -> Contrast:
    """Compare the mean of two groups of prompts or questions.

    The permutation test takes Welch's t as its statistic, so that it holds its level for large
    groups where they vary differently too; ``p = (1 + count) / (1 + draws)``. Bootstraps draw
    within the groups. Undefined with fewer than two samples in a group or values that do not vary.

    References
    ----------
    Janssen (1997), https://doi.org/10.1016/S0167-7152(97)00043-6
    """
    if min(group.sum(), (~group).sum()) < 2 or not np.isfinite(values).all():
        return NO_CONTRAST
    shuffled = rng.permuted(np.tile(group, (draws, 1)), axis=1)
    t = np.abs(_welch(values, np.concatenate([group[None], shuffled])))
    drawn = [
        resampling_weights(int(side.sum()), draws, rng) @ values[side] for side in (group, ~group)
    ]
    return Contrast(
        difference=float(values[group].mean() - values[~group].mean()),
        drawn=drawn[0] - drawn[1],
        p=float((t >= t[0] * (1 - 1e-10)).mean()) if np.isfinite(t[0]) else np.nan,
    )


def _welch(
    values: Float[np.ndarray, " sample"], groups: Bool[np.ndarray, "draw sample"]
) -> Float[np.ndarray, " draw"]:
    """Welch's t; infinite where groups of no spread differ, NaN where nothing varies."""
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        return np.full(len(groups), np.nan)
    values = values - values.mean()
    means, errors = [], []
    for side in (groups, ~groups):
        n = side.sum(axis=1)
        mean = (side @ values) / n
        means.append(mean)
        errors.append(np.maximum((side @ values**2) / n - mean**2, 0) / (n - 1))
    error = np.maximum(np.sqrt(errors[0] + errors[1]), 1e-12 * np.sqrt((values**2).mean()))
    return (means[0] - means[1]) / error


def fill(
    out: Sheet, at: int, one: Measured, resamples: Resamples, *, leading: str,
    abstract: Sequence[str],
) -> None:  # fmt: skip
    """Excess of the leading order over its draws in every category, and abstract against others."""
    names = out.labels["category"]
    labels = np.array(one.category)
    for k, name in enumerate(names):
        out["category_count"][at, k] = int((labels == name).sum())
    if leading not in one.chosen:
        return
    for j, control in enumerate(out.labels["control"]):
        counts = one.shared(leading, control, one.tested)
        draws = one.draws_of(control, counts)
        if not len(draws) or not counts.any():
            continue
        own = one.of(leading)[counts]
        for k, name in enumerate(names):
            _category(out, (at, j, k), own, draws, labels == name, resamples)
        _abstract(out, (at, j), own, draws, np.isin(labels, list(abstract)), resamples)


def _category(
    out: Sheet, cell: tuple[int, int, int], own: Float[np.ndarray, "count sample"],
    draws: Float[np.ndarray, "set count sample"], inside: Bool[np.ndarray, " sample"],
    resamples: Resamples,
) -> None:  # fmt: skip
    if not inside.any():
        return
    mine, sets = own.mean(axis=0)[inside], draws.mean(axis=1)[:, inside]
    mean = sets.mean()
    out["category_excess"][cell] = mine.mean() - mean
    out["category_ratio"][cell] = mine.mean() / mean if mean > 0 else np.nan
    if inside.sum() < 2:
        return
    weights = resampling_weights(int(inside.sum()), resamples.draws, resamples.rng)
    chosen = resampling_weights(len(sets), resamples.draws, resamples.rng)
    drawn, theirs = weights @ mine, ((weights @ sets.T) * chosen).sum(axis=1)
    ratio = np.divide(drawn, theirs, out=np.full(drawn.shape, np.nan), where=theirs > 0)
    out["category_excess_interval"][cell] = resamples.interval(drawn - theirs)
    out["category_ratio_interval"][cell] = resamples.interval(ratio)


def _abstract(
    out: Sheet, cell: tuple[int, int], own: Float[np.ndarray, "count sample"],
    draws: Float[np.ndarray, "set count sample"], group: Bool[np.ndarray, " sample"],
    resamples: Resamples,
) -> None:  # fmt: skip
    if not group.any() or group.all():
        return
    mean = draws.mean(axis=0)
    options = {"draws": resamples.draws, "rng": resamples.rng}
    found = contrast((own - mean).mean(axis=0), group, **options)
    out["contrast"][cell] = found.difference
    out["contrast_interval"][cell] = resamples.interval(found.drawn)
    out["contrast_p"][cell] = found.p
    if (own > 0).all() and (mean > 0).all():
        found = contrast(np.log(own / mean).mean(axis=0), group, **options)
        out["contrast_log"][cell] = found.difference
        out["contrast_log_interval"][cell] = resamples.interval(found.drawn)
        out["contrast_log_p"][cell] = found.p
    among = over_counts(*_apart(own, draws, group))
    out["contrast_p_sets"][cell] = min(1.0, 2 * min(among.p_more[0], among.p_less[0]))


def _apart(
    own: Float[np.ndarray, "count sample"], draws: Float[np.ndarray, "set count sample"],
    group: Bool[np.ndarray, " sample"],
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """How much more each set damages one group than the others, at every count.

    As a logarithm of the ratio, which a set that is more damaging everywhere does not change; as a
    difference where some damage is not positive.
    """
    means = [(v[..., group].mean(axis=-1), v[..., ~group].mean(axis=-1)) for v in (own, draws)]
    positive = all((one > 0).all() for pair in means for one in pair)
    mine, theirs = (np.log(a / b) if positive else a - b for a, b in means)
    return mine, theirs

"""The course of training in numbers: shape at each step, against controls and the last step."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, final

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Bool, Float, Int

from synatlas.artifact import open_artifact
from synatlas.folder import FILES
from synatlas.inference import (
    correlation,
    percentile_interval,
    rank_correlation,
    resampling_weights,
    weighted_mean,
)
from synatlas.rank.cautions import FEW_PROMPTS
from synatlas.rank.profile import layer_means
from synatlas.rank.unit_scores import predictions, scores_of_units
from synatlas.study.emerge import COMMON, CONTROLS, OWN
from synatlas.study.shapes import ABOVE_BASELINE, DRAWS, aperiodic, prompt_scores, shapes
from synatlas.study.travel import Travelled

#: Scores that are followed, the published one first.
FOLLOWED: Final = (
    "rank_of_difference", "difference_of_ranks", "synergy", "redundancy",
    "autocorrelation_baseline", ABOVE_BASELINE, "joint_prediction",
)  # fmt: skip

#: Numbers of a profile that are compared with controls.
COMPARED: Final = ("curvature", "mid_minus_ends")

#: Which prompts count: those whose reply is not periodic, or all.
APERIODIC: Final = "aperiodic"
ALL: Final = "all"

#: Seed of the bootstrap draws of every state, so that they are paired.
SEED: Final = 0


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class State:
    """One network over one set of replies, as far as the course of training needs it.

    Parameters
    ----------
    name : of its cell.
    kind : ``step``, or a control: ``random_init`` or ``shuffled``.
    step : of its revision; of a control the step whose architecture or weights it takes.
    seed : of a control, -1 for a step.
    replies : ``own``, or ``of the last step``: the common tokens.
    layer : layer of every unit.
    per_prompt : score -> (prompt, unit), in nats.
    predicted : joint prediction and its parts -> pseudo-values (prompt, unit), in nats.
    aperiodic : prompts whose reply is not periodic.
    shapes : ``all`` and ``aperiodic`` -> :func:`synatlas.study.shapes.shapes`; the second is absent
        where fewer than ten replies are not periodic.
    loss, accuracy : of its network; NaN where they were not measured.
    mean_logprob : of the tokens it read, in nats.
    """

    name: str
    kind: str
    step: int
    seed: int
    replies: str
    layer: Int[np.ndarray, " unit"]
    per_prompt: Mapping[str, Float[np.ndarray, "prompt unit"]]
    predicted: Mapping[str, Float[np.ndarray, "prompt unit"]]
    aperiodic: Bool[np.ndarray, " prompt"]
    shapes: Mapping[str, xr.Dataset]
    loss: float
    accuracy: float
    mean_logprob: float

    @property
    def periodic(self) -> int:
        """Number of periodic replies."""
        return int((~self.aperiodic).sum())

    def counted(self, which: str) -> Bool[np.ndarray, " prompt"]:
        """The prompts that count."""
        return self.aperiodic if which == APERIODIC else np.ones_like(self.aperiodic)


class Contrast(NamedTuple):
    """A number of a state minus the mean of its controls of one kind.

    The interval is over draws of prompts, of the units of every layer and of controls; `differs`
    where it excludes 0. NaN and False where no control has the number.
    """

    value: float
    lower: float
    upper: float
    differs: bool


class Likeness(NamedTuple):
    """Correlation of profiles over layers (Pearson), and of scores over units (Spearman)."""

    profile: float
    profile_lower: float
    profile_upper: float
    units: float
    units_lower: float
    units_upper: float


_UNLIKE: Final = Likeness(*[math.nan] * 6)


def read_state(cell: Travelled, *, draws: int = DRAWS) -> State:
    """What the course needs of a complete cell."""
    labels, known = cell.cell.labels, cell.rows[0]
    return state_of(
        open_artifact(cell.folder / FILES["atoms"]),
        {name: labels[name] for name in ("kind", "step", "seed", "replies") if name in labels},
        name=cell.cell.name,
        loss=known.get("loss", math.nan),
        accuracy=known.get("accuracy", math.nan),
        mean_logprob=known["mean_logprob"],
        draws=draws,
    )


def state_of(
    atoms: xr.Dataset,
    labels: Mapping[str, Any],
    *,
    name: str,
    loss: float = math.nan,
    accuracy: float = math.nan,
    mean_logprob: float = math.nan,
    draws: int = DRAWS,
) -> State:
    """The state of a network from its atoms; `labels` as those of its cell."""
    kept = aperiodic(atoms)
    made = {ALL: shapes(atoms, scores=FOLLOWED, draws=draws, seed=SEED)}
    if kept.all():
        made[APERIODIC] = made[ALL]
    elif kept.sum() >= FEW_PROMPTS:
        made[APERIODIC] = shapes(atoms, prompts=kept, scores=FOLLOWED, draws=draws, seed=SEED)
    return State(
        name=name,
        kind=str(labels["kind"]),
        step=int(labels["step"]),
        seed=int(labels.get("seed", -1)),
        replies=str(labels["replies"]),
        layer=atoms["layer"].to_numpy().astype(np.int64),
        per_prompt=prompt_scores(atoms),
        predicted=predictions(atoms),
        aperiodic=kept,
        shapes=made,
        loss=loss,
        accuracy=accuracy,
        mean_logprob=mean_logprob,
    )


def likeness(
    one: State, other: State, score: str, which: str, *, draws: int = DRAWS, seed: int = SEED
) -> Likeness:
    """How alike two states are in a score, over the prompts that count in both.

    The intervals are over draws of prompts, the same for both. Drawing adds noise, which lowers
    a correlation, so the draws are moved on Fisher's scale to centre on the value. NaN with fewer
    than ten prompts or where one side is constant or undefined.
    """
    chosen = one.counted(which) & other.counted(which)
    if chosen.size < FEW_PROMPTS or chosen.sum() < FEW_PROMPTS:
        return _UNLIKE
    count = int(chosen.sum())
    drawn = resampling_weights(count, draws, np.random.default_rng(seed))
    weights = np.concatenate([np.full((1, count), 1 / count), drawn])
    values = [_units(state, score, chosen, weights) for state in (one, other)]
    layers = np.unique(one.layer)
    over_layers = [layer_means(v, one.layer, layers) for v in values]
    found = (pearson(*over_layers), rank_correlation(*values))
    (a, b, c), (d, e, f) = map(_centred, found)
    return Likeness(a, b, c, d, e, f)


def _units(
    state: State, score: str, chosen: Bool[np.ndarray, " prompt"], weights: np.ndarray
) -> Float[np.ndarray, "draw unit"]:
    if score in state.predicted:
        return weighted_mean(weights, state.predicted[score][chosen])
    return scores_of_units({k: v[chosen] for k, v in state.per_prompt.items()}, weights)[score]


def pearson(
    a: Float[np.ndarray, "row layer"], b: Float[np.ndarray, "row layer"]
) -> Float[np.ndarray, " row"]:
    """Pearson correlation along the last axis, over entries defined in both in every row."""
    both = np.isfinite(a).all(axis=0) & np.isfinite(b).all(axis=0)
    if both.sum() < 3:
        return np.full(a.shape[0], np.nan)
    return correlation(a[:, both], b[:, both])


def _centred(r: Float[np.ndarray, " draw"]) -> tuple[float, float, float]:
    """The first entry, and the interval of the others moved to centre on it."""
    value = float(r[0])
    if not math.isfinite(value) or abs(value) > 1 - 1e-12:
        return value, math.nan, math.nan
    z = np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12))
    lower, upper = np.tanh(percentile_interval(z[1:, None] - np.nanmean(z[1:]) + z[0], 0.95)[0])
    return value, float(lower), float(upper)


def contrasts(
    state: State, controls: Sequence[State], number: str, which: str
) -> dict[str, Contrast]:
    """Score -> a number of a state minus the mean of the controls over replies of the same kind.

    Of n controls n - 1 are drawn with replacement in every draw, which makes the variance of their
    mean unbiased (Rao, Wu 1988, https://doi.org/10.1080/01621459.1988.10478591): with two, a draw
    is of one of them.
    """
    made = [c.shapes[which] for c in controls if which in c.shapes]
    if which not in state.shapes or not made:
        return {}
    own = state.shapes[which]
    shared = [s for s in FOLLOWED if all(s in d["score"].to_numpy() for d in (own, *made))]
    each = np.stack([_draws(d, number, shared) for d in made])
    counts = _drawn_controls(len(made), each.shape[1])
    draws = _draws(own, number, shared) - np.einsum("cd,cds->ds", counts, each)
    value = _values(own, number, shared) - np.mean([_values(d, number, shared) for d in made], 0)
    bounds = percentile_interval(draws, 0.95)
    return {
        score: _contrast(float(v), bound)
        for score, v, bound in zip(shared, value, bounds, strict=True)
    }


def _drawn_controls(count: int, draws: int) -> Float[np.ndarray, "control draw"]:
    """Share of each control in each draw."""
    least = max(count - 1, 1)
    rng = np.random.default_rng([SEED, count])
    return rng.multinomial(least, np.full(count, 1 / count), size=draws).T / least


def _draws(made: xr.Dataset, number: str, scores: Sequence[str]) -> Float[np.ndarray, "draw score"]:
    rows = made[f"{number}_draw"].transpose("draw", "score").to_numpy()
    return rows[:, _positions(made, scores)]


def _values(made: xr.Dataset, number: str, scores: Sequence[str]) -> Float[np.ndarray, " score"]:
    return made[number].to_numpy()[_positions(made, scores)]


def _positions(made: xr.Dataset, scores: Sequence[str]) -> list[int]:
    known = made["score"].to_numpy().tolist()
    return [known.index(score) for score in scores]


def _contrast(value: float, bounds: Float[np.ndarray, "2"]) -> Contrast:
    lower, upper = map(float, bounds)
    return Contrast(value, lower, upper, differs=lower > 0 or upper < 0)


def since(holds: Iterable[tuple[int, bool]]) -> int | None:
    """The first step at which something holds and goes on to hold at every later one."""
    found = None
    for step, true in holds:
        found = (step if found is None else found) if true else None
    return found


def course(states: Sequence[State]) -> pd.DataFrame:
    """A row for each state, choice of prompts, and score.

    Columns, beside the labels of a state: ``prompts``, how many count; ``curvature``,
    ``mid_minus_ends`` and ``mid_minus_ends_raw`` with ``_low`` and ``_high``; ``level``, the mean
    of the profile over layers; ``profile_r`` and ``units_r``, the :class:`Likeness` to the last
    step over replies of the same kind; for each control ``CONTROL_NUMBER``, its
    :class:`Contrast`, with ``_low``, ``_high`` and ``_differs``; ``last_NUMBER``, the contrast
    with the last step; ``baseline_NUMBER``, that of synergy with the autocorrelation baseline of
    the same state; ``loss``, ``accuracy``, ``mean_logprob``; ``status``, why a row has no numbers.
    """
    rows = []
    alike = all(s.aperiodic.all() for s in states)
    for state in states:
        rows += (every := _rows(state, states, ALL))
        # Where no reply is periodic the prompts that count are the same.
        rows += (
            [row | {"counted": APERIODIC} for row in every]
            if alike
            else _rows(state, states, APERIODIC)
        )
    return pd.DataFrame(rows)


def _rows(state: State, states: Sequence[State], which: str) -> list[dict[str, Any]]:
    about: dict[str, Any] = {
        "cell": state.name,
        "kind": state.kind,
        "step": state.step,
        "seed": state.seed,
        "replies": state.replies,
        "counted": which,
        "prompts": int(state.counted(which).sum()),
        "periodic_replies": state.periodic,
        "loss": state.loss,
        "accuracy": state.accuracy,
        "mean_logprob": state.mean_logprob,
    }
    if which not in state.shapes:
        kept = about["prompts"]
        status = f"{kept} replies are not periodic, fewer than {FEW_PROMPTS}"
        return [about | {"score": score, "status": status} for score in FOLLOWED]
    made = state.shapes[which]
    there = [s for s in FOLLOWED if s in made["score"].to_numpy()]
    alike = [s for s in states if s.replies == state.replies and s.name != state.name]
    final = max((s.step for s in states if s.kind == "step"), default=state.step)
    others = {"last": [s for s in alike if s.kind == "step" and s.step == final]}
    others |= {kind: [s for s in alike if s.kind == kind] for kind in CONTROLS}
    against = {
        f"{kind}_{number}": contrasts(state, controls, number, which)
        for kind, controls in others.items()
        for number in COMPARED
    }
    return [
        about
        | {"score": score, "status": "complete"}
        | _shape(made.sel(score=score))
        | _alike(state, others["last"], score, which)
        | _contrasts(against, score)
        | (_baseline(made) if score == "synergy" else {})
        for score in there
    ]


def _shape(at: xr.Dataset) -> dict[str, float]:
    found = {"level": float(at["profile"].mean())}
    for number in (*COMPARED, "mid_minus_ends_raw"):
        low, high = at[f"{number}_interval"].to_numpy()
        found |= {number: float(at[number]), f"{number}_low": low, f"{number}_high": high}
    return found


def _alike(state: State, last: Sequence[State], score: str, which: str) -> dict[str, float]:
    if not last:
        return {}
    r = likeness(state, last[0], score, which)
    return {
        "profile_r": r.profile,
        "profile_r_low": r.profile_lower,
        "profile_r_high": r.profile_upper,
        "units_r": r.units,
        "units_r_low": r.units_lower,
        "units_r_high": r.units_upper,
    }


def _contrasts(against: Mapping[str, Mapping[str, Contrast]], score: str) -> dict[str, Any]:
    unknown = Contrast(math.nan, math.nan, math.nan, differs=False)
    found: dict[str, Any] = {}
    for name, by_score in against.items():
        found |= _named(name, by_score.get(score, unknown))
    return found


def _baseline(made: xr.Dataset) -> dict[str, Any]:
    """Synergy minus its autocorrelation baseline within the same draws, and their likeness."""
    pair = ["synergy", "autocorrelation_baseline"]
    found: dict[str, Any] = {}
    for number in COMPARED:
        gap = np.subtract(*_draws(made, number, pair).T)
        value = np.subtract(*_values(made, number, pair))
        interval = percentile_interval(gap[:, None], 0.95)[0]
        found |= _named(f"baseline_{number}", _contrast(float(value), interval))
    rows = made["profile"].to_numpy()[_positions(made, pair)]
    return found | {"baseline_profile_r": float(pearson(rows[:1], rows[1:])[0])}


def _named(name: str, found: Contrast) -> dict[str, float | bool]:
    return {
        name: found.value,
        f"{name}_low": found.lower,
        f"{name}_high": found.upper,
        f"{name}_differs": found.differs,
    }


class Trend(NamedTuple):
    """Spearman correlation over steps of a shape with something else; interval over draws."""

    value: float
    lower: float
    upper: float
    steps: int


def trend(
    states: Sequence[State], score: str, number: str, which: str, other: str, *, replies: str = OWN
) -> Trend:
    """Spearman correlation over steps of a number of the profile with `other`.

    `other` is ``loss`` or ``accuracy``, measured in the cells with replies of their own, or
    ``step``. The interval is over draws of prompts and units at every step; it says how well each
    step is known, not how another training would go. NaN with fewer than four steps.
    """
    steps = [s for s in states if s.kind == "step"]
    of_network = {s.step: _of(s, other) for s in steps if s.replies == OWN}
    known = [
        s
        for s in steps
        if s.replies == replies
        and which in s.shapes
        and score in s.shapes[which]["score"]
        and math.isfinite(of_network.get(s.step, math.nan))
    ]
    if len(known) < 4:
        return Trend(math.nan, math.nan, math.nan, len(known))
    x = np.array([of_network[s.step] for s in known])
    at = [s.shapes[which].sel(score=score) for s in known]
    value = np.array([float(a[number]) for a in at])
    draws = np.stack([a[f"{number}_draw"].to_numpy() for a in at], axis=1)
    found = rank_correlation(np.concatenate([value[None], draws]), np.tile(x, (len(draws) + 1, 1)))
    bounds = percentile_interval(found[1:, None], 0.95)[0]
    return Trend(float(found[0]), float(bounds[0]), float(bounds[1]), len(known))


def _of(state: State, other: str) -> float:
    return float(getattr(state, other))


def with_common(states: Sequence[State]) -> tuple[State, ...]:
    """The states, and the last step once more: its own replies are the common tokens."""
    steps = [s for s in states if s.kind == "step" and s.replies == OWN]
    last = max(steps, key=lambda s: s.step, default=None)
    return (*states,) if last is None else (*states, replace(last, replies=COMMON))

"""The course of training on planted worlds: an arch that comes at a step, and what explains it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from planted_atoms import make_atoms
from synatlas.study.course import (
    ALL,
    APERIODIC,
    State,
    contrasts,
    course,
    likeness,
    pearson,
    since,
    state_of,
    trend,
    with_common,
)
from synatlas.study.emerge import COMMON, OWN, emergence
from synatlas.study.emerge_page import emergence_page
from synatlas.study.emerge_verdict import judge
from synatlas.study.shapes import difference

ARCH = np.repeat(np.hanning(8), 4)
STEPS = (0, 1, 10, 100)


def planted(kind: str, step: int, height: float, *, seed: int, baseline: bool = False) -> State:
    """Synergy that arches by `height`; with `baseline`, because self-information does."""
    synergy = 0.05 + height * ARCH
    own = synergy / 2 if baseline else None
    atoms = make_atoms(
        layers=8,
        prompts=16,
        surrogates=2,
        draws=2,
        synergy=synergy,
        self_information=own,
        seed=seed,
    )
    labels = {"kind": kind, "step": step, "replies": OWN} | ({"seed": seed} if seed < 90 else {})
    skill = {"loss": 3.0 - height * 10, "accuracy": height * 10} if kind == "step" else {}
    return state_of(atoms, labels, name=f"{kind}{step}-{seed}", draws=60, **skill)


@pytest.fixture(scope="module")
def states() -> tuple[State, ...]:
    heights = dict(zip(STEPS, (0.0, 0.0, 0.02, 0.03), strict=True))
    found = [planted("step", s, h, seed=91 + s) for s, h in heights.items()]
    for kind in ("random_init", "shuffled"):
        found += [planted(kind, 100, 0.0, seed=seed) for seed in (1, 2)]
    return tuple(found)


@pytest.fixture(scope="module")
def table(states: tuple[State, ...]) -> pd.DataFrame:
    return course(states)


def rows(table: pd.DataFrame, **chosen: object) -> pd.DataFrame:
    for name, value in chosen.items():
        table = table[table[name] == value]
    return table.sort_values("step")


def test_the_planted_step_is_found_against_both_controls(table: pd.DataFrame) -> None:
    at = rows(table, kind="step", counted=APERIODIC, score="rank_of_difference")
    for kind in ("random_init", "shuffled"):
        differs = at[f"{kind}_curvature_differs"].astype(bool).tolist()
        assert differs == [False, False, True, True]
        assert since(zip(at["step"], differs, strict=True)) == 10
        assert (at[f"{kind}_curvature"].iloc[2:] < 0).all()
    assert not at["last_curvature_differs"].astype(bool).iloc[2]
    r = at["profile_r"].tolist()
    assert max(r[:2]) < 0.7
    assert r[2] > 0.95
    assert np.isnan(r[3])
    # Nothing is above the baseline that self-information gives but the arch itself.
    above = rows(table, kind="step", counted=APERIODIC, score="synergy_above_baseline")
    assert above["random_init_curvature_differs"].astype(bool).tolist() == differs


def test_an_arch_of_self_information_explains_that_of_synergy() -> None:
    found = [planted("step", s, 0.03, seed=95 + s, baseline=True) for s in (0, 1)]
    found += [planted("random_init", 1, 0.0, seed=s, baseline=True) for s in (1, 2)]
    table = course(found)
    synergy = rows(table, kind="step", counted=ALL, score="synergy")
    assert synergy["random_init_curvature_differs"].astype(bool).all()
    assert not synergy["baseline_curvature_differs"].astype(bool).any()
    assert (synergy["baseline_profile_r"] > 0.95).all()
    apart = course([planted("step", s, 0.03, seed=95 + s) for s in (0, 1)])
    flat = rows(apart, counted=ALL, score="synergy")
    assert flat["baseline_curvature_differs"].astype(bool).all()


def test_a_contrast_is_with_a_control_drawn_anew(states: tuple[State, ...]) -> None:
    last, controls = states[3], [s for s in states if s.kind == "shuffled"]
    alone = contrasts(last, controls[:1], "curvature", ALL)
    expected = difference(last.shapes[ALL], controls[0].shapes[ALL], "curvature")
    for score, found in alone.items():
        at = expected.sel(score=score)
        assert found.value == pytest.approx(float(at["difference"]))
        assert (found.lower, found.upper) == tuple(at["interval"].to_numpy())
    both = contrasts(last, controls, "curvature", ALL)["synergy"]
    each = [contrasts(last, [c], "curvature", ALL)["synergy"] for c in controls]
    assert both.value == pytest.approx(np.mean([c.value for c in each]))
    # Of two controls one is drawn: the same twice is the one alone.
    assert contrasts(last, controls[:1] * 2, "curvature", ALL) == alone
    assert both.differs
    assert contrasts(last, [], "curvature", ALL) == {}


def test_likeness_is_scipys_and_its_interval_holds_it(states: tuple[State, ...]) -> None:
    one, other = states[2], states[3]
    found = likeness(one, other, "synergy", ALL)
    values = [s.per_prompt["synergy"].mean(axis=0) for s in (one, other)]
    by_layer = [v.reshape(8, 4).mean(axis=1) for v in values]
    assert found.profile == pytest.approx(stats.pearsonr(*by_layer)[0])
    assert found.units == pytest.approx(stats.spearmanr(*values)[0])
    assert found.profile_lower < found.profile < found.profile_upper
    assert found.units_lower < found.units < found.units_upper
    assert likeness(one, one, "synergy", ALL).profile == pytest.approx(1)


def test_periodic_replies_are_left_out_and_counted(states: tuple[State, ...]) -> None:
    atoms = make_atoms(layers=8, prompts=16, surrogates=2, draws=2, seed=5)
    for left, defined in ((12, True), (9, False)):
        repetition = ("prompt", np.where(np.arange(16) < left, 0.1, 0.9))
        labels = {"kind": "step", "step": 5, "replies": OWN}
        made = atoms.assign_coords(repetition=repetition)
        state = state_of(made, labels, name="x", draws=60)
        assert state.periodic == 16 - left
        assert (APERIODIC in state.shapes) == defined
        found = rows(course([state, states[3]]), cell="x", counted=APERIODIC)
        assert set(found["prompts"]) == {left}
        assert found["curvature"].notna().all() if defined else "curvature" in found
        assert ("fewer than 10" in found["status"].iloc[0]) == (not defined)
        assert ("joint_prediction" in set(found["score"])) == (not defined)


def test_trend_over_steps(states: tuple[State, ...]) -> None:
    found = trend(states, "synergy", "mid_minus_ends_raw", ALL, "accuracy")
    steps = [s for s in states if s.kind == "step"]
    raw = [float(s.shapes[ALL]["mid_minus_ends_raw"].sel(score="synergy")) for s in steps]
    skill = [s.accuracy for s in steps]
    assert found.value == pytest.approx(stats.spearmanr(raw, skill)[0])
    assert found.lower <= found.value <= found.upper
    assert found.steps == 4
    mirrored = trend(states, "synergy", "mid_minus_ends_raw", ALL, "loss")
    assert mirrored.value == pytest.approx(-found.value)
    assert np.isnan(trend(steps[:3], "synergy", "curvature", ALL, "step").value)


def test_the_last_step_is_its_own_source_of_common_tokens(states: tuple[State, ...]) -> None:
    few = states[2:5]
    fed = [replace(s, replies=COMMON, name=f"{s.name}-fed") for s in few if s is not states[3]]
    both = with_common((*few, *fed))
    table = course(both)
    own, common = (rows(table, replies=r, counted=ALL, kind="step") for r in (OWN, COMMON))
    for name in ("curvature", "random_init_curvature", "profile_r"):
        np.testing.assert_array_equal(own[name], common[name])


@pytest.mark.parametrize(
    ("holds", "step"),
    [("0011", 2), ("1111", 0), ("0000", None), ("1101", 3), ("1110", None), ("", None)],
)
def test_since(holds: str, step: int | None) -> None:
    assert since((i, h == "1") for i, h in enumerate(holds)) == step


def test_pearson_leaves_out_undefined_layers() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 6))
    a[1, 2] = np.nan
    kept = [0, 1, 3, 4, 5]
    expected = [stats.pearsonr(x[kept], y[kept])[0] for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(pearson(a, b), expected)
    assert np.isnan(pearson(a[:, :2], b[:, :2])).all()


def test_the_verdict_and_the_page_say_what_was_planted(
    states: tuple[State, ...], tmp_path: Path
) -> None:
    fed = [replace(s, replies=COMMON, name=f"{s.name}-fed") for s in states if s is not states[3]]
    both = with_common((*states, *fed))
    table = course(both)
    found = judge(table, both)
    assert "it emerges in training, at step 10 of those mapped" in found.headline
    assert "beyond autocorrelation is told apart from both controls too" in found.headline
    holds = {f.claim: f.holds for f in found.findings}
    assert holds["The shape is told apart from fresh weights on the same tokens"] == (
        "from step 10 on"
    )
    laid = emergence("bundled:dense", points=4)
    page = emergence_page(tmp_path / "page.html", laid, both, table, found).read_text("utf-8")
    assert found.headline.split(";")[0][:60] in page
    # Without one of the controls nothing is said to emerge.
    alone = [s for s in both if s.kind != "shuffled"]
    assert "not shown to emerge" in judge(course(alone), alone).headline

"""The verdict on planted worlds: it claims what was planted, and nothing that was not."""

import json
import math

import numpy as np
import pytest
import xarray as xr

from planted_atoms import arch, make_atoms
from synatlas.errors import ConfigError
from synatlas.rank.findings import JOINT_CAUTION, NOT_ABSENCE
from synatlas.rank.profile import shape_of
from synatlas.rank.rank import rank
from synatlas.rank.verdict import Verdict, judge

CORE_UNITS = np.isin(np.arange(40), range(16, 24))
PLANTED = np.where(CORE_UNITS, 0.01, 0.0)


def verdict(atlas: xr.Dataset) -> Verdict:
    return Verdict.from_json(atlas.attrs["verdict"])


def judged(*, bootstrap: int = 200, **options: object) -> Verdict:
    return verdict(rank(make_atoms(**options), bootstrap=bootstrap, graph_draws=0))  # type: ignore[arg-type]


def test_planted_synergy_is_a_core_and_exactly_it() -> None:
    synergy = arch(10, 4, 0.03, 0.06)
    atlas = rank(
        make_atoms(synergy=synergy, excess=PLANTED, integration=PLANTED, synergy_ccs=synergy / 4),
        bootstrap=200,
        graph_draws=0,
    )
    found = verdict(atlas)
    assert (atlas.core.values == CORE_UNITS).all()
    for name in (
        "core", "integration", "synergy_over_cross_prompt", "synergy_over_window_shift",
        "mmi_and_ccs", "published_profile", "integration_profile",
    ):  # fmt: skip
        assert found.finding(name).holds == "yes", name
    assert found.finding("core").numbers["units_passing"] == 8
    assert "; 8 of 40 units pass every control" in found.headline
    assert found.headline.endswith("one model and one seed is one observation.")
    for name in ("random_weights", "sensitivity", "other_models"):
        assert found.finding(name).holds == "cannot tell", name


def test_joint_prediction_leads_and_counts_exactly_the_planted_units() -> None:
    planted = np.where(CORE_UNITS, 0.001, 0.0)
    found = judged(joint_prediction=planted)
    first = found.findings[0]
    assert first.name == "joint_prediction"
    assert first.holds == "yes"
    assert JOINT_CAUTION in first.why
    assert first.numbers["units_above_zero"] == 8
    assert first.numbers["units_linear_above_zero"] == 8
    assert first.numbers["units_interaction_above_zero"] == 0
    assert first.numbers["mean_nat"] == pytest.approx(8 / 40 * 0.001, rel=0.1)
    start = "8 of 40 units of planted predict each other's future jointly, most at depth 0."
    assert found.headline.startswith(start)
    assert found.finding("core").holds != "yes"


def test_no_joint_prediction_is_no_proof_of_absence() -> None:
    first = judged().findings[0]
    assert first.holds == "cannot tell"
    assert first.numbers["units_above_zero"] == 0
    assert first.numbers["largest_upper_bound_nat"] == pytest.approx(1e-4, rel=0.5)


def test_undefined_joint_prediction_is_said_to_be() -> None:
    found = judged(joint_prediction=np.nan)
    assert found.findings[0].numbers["units_above_zero"] is None
    assert found.headline.startswith("This run cannot measure joint prediction in planted; ")


def test_autocorrelation_alone_is_not_a_core_however_it_arches() -> None:
    """Synergy follows self-information exactly, with no excess: the published arch is there."""
    own = arch(10, 4, 0.02, 0.08)
    atlas = rank(
        make_atoms(synergy=2 * own, self_information=own, synergy_ccs=-0.01),
        bootstrap=200,
        graph_draws=0,
    )
    found = verdict(atlas)
    published = found.finding("published_profile")
    assert published.holds == "yes"
    assert published.numbers["self_information_share"] == pytest.approx(1, abs=0.1)
    assert (atlas.core == 0).all()
    for name in ("core", "integration", "mmi_and_ccs"):
        assert found.finding(name).holds != "yes", name
    assert "of its variance over units follows self-information" in found.headline
    assert "peaks at depth 0.4" in found.headline


def test_no_power_cannot_tell() -> None:
    found = judged(null_sd=0.02, integration_sd=0.02)
    core = found.finding("core")
    assert core.holds == "cannot tell"
    detectable = core.numbers["minimum_detectable_excess_nat"]
    assert detectable is not None
    assert detectable > 0.02
    assert "cannot show that there is none" in found.headline
    assert NOT_ABSENCE in core.why


def test_absence_needs_every_interval_inside_the_margin() -> None:
    found = judged(null_sd=1e-4, integration_sd=1e-4)
    core = found.finding("core")
    assert core.holds == "no"
    assert "effects above 10% of mean synergy are excluded" in found.headline
    margin = core.numbers["equivalence_margin_nat"]
    assert margin == pytest.approx(0.005, rel=0.02)
    for bound in ("largest_excess_bound_nat", "largest_integration_bound_nat"):
        value = core.numbers[bound]
        assert value is not None
        assert margin is not None
        assert value < margin
    assert found.finding("integration").holds == "no"


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("kind", ["excess", "integration"])
def test_one_unit_beyond_the_margin_forbids_absence(kind: str, sign: int) -> None:
    """Also a unit far BELOW its null: coupling can lower synergy under MMI."""
    effect = np.zeros(40)
    effect[5] = sign * 0.008
    options = {"null_sd": 1e-4, "integration_sd": 1e-4, kind: effect}
    expected = "no" if (kind, sign) == ("integration", -1) else "cannot tell"
    assert judged(**options).finding("core").holds == expected


def test_synergy_below_its_null_is_never_called_absence() -> None:
    found = judged(excess=-0.02)
    over = found.finding("synergy_over_cross_prompt")
    assert over.holds == "no"
    assert NOT_ABSENCE in over.why
    assert found.finding("core").holds == "cannot tell"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"nulls": ("window_shift",)}, "cross_prompt null was not run"),
        ({"null_error": 0.05}, "refused"),
        ({"synergy_ccs": None}, "CCS was not computed"),
        ({"prompts": 1}, "one prompt"),
        ({"surrogates": 3}, "do not resolve"),
    ],
)
def test_a_missing_ingredient_is_never_silently_passed(options: dict, said: str) -> None:
    found = judged(excess=PLANTED, integration=PLANTED, **options)
    core = found.finding("core")
    assert core.holds == "cannot tell"
    assert said in core.why
    assert core.numbers["units_passing"] is None
    assert "this run cannot tell" in found.headline


def test_an_excess_over_one_null_alone_is_no_core() -> None:
    atoms = make_atoms(excess=PLANTED, integration=PLANTED)
    atoms["null_observed"][1] -= 0.1
    atlas = rank(atoms, bootstrap=200, graph_draws=0)
    assert (atlas.core == 0).all()
    assert verdict(atlas).finding("synergy_over_cross_prompt").holds == "yes"
    assert verdict(atlas).finding("synergy_over_window_shift").holds == "no"


def test_an_undefined_score_is_not_blamed_on_layers_or_prompts() -> None:
    atoms = make_atoms()
    for name in ("pooled_atom", "same_step_atom", "pooled_excess_draw", "pooled_noise_draw"):
        atoms[name][:] = np.nan
    found = verdict(rank(atoms, bootstrap=40, graph_draws=0))
    assert "same_step null was not run" in found.finding("integration").why
    assert "undefined" in found.finding("integration_profile").why
    assert "(the same_step null was not run)" in found.headline


def test_negative_mean_synergy_gives_no_margin() -> None:
    """A margin below 0 would have no inside."""
    found = judged(synergy=-0.05, null_sd=1e-4, integration_sd=1e-4)
    core = found.finding("core")
    assert core.holds == "cannot tell"
    assert core.numbers["equivalence_margin_nat"] is None
    assert found.finding("synergy_over_cross_prompt").holds == "cannot tell"


def test_a_refused_null_tells_nothing_of_synergy() -> None:
    found = judged(null_error=0.05).finding("synergy_over_cross_prompt")
    assert found.holds == "cannot tell"
    assert "+5.0%" in found.why
    assert found.numbers["self_information_error"] == pytest.approx(0.05)


def test_ccs_of_the_other_sign_disagrees() -> None:
    level = arch(10, 4, 0.03, 0.06)
    assert judged(synergy=level, synergy_ccs=level / 3).finding("mmi_and_ccs").holds == "yes"
    assert judged(synergy=level, synergy_ccs=-level / 3).finding("mmi_and_ccs").holds == "no"
    assert judged(synergy=level, synergy_ccs=0.1 - level).finding("mmi_and_ccs").holds == "no"
    assert judged(synergy_ccs=None).finding("mmi_and_ccs").holds == "cannot tell"


@pytest.mark.parametrize(
    ("level", "holds"),
    [
        (arch(10, 4, 0.03, 0.06), "yes"),
        (arch(10, 4, 0.06, 0.03), "no"),
        (np.repeat(np.linspace(0.03, 0.06, 10), 4), "no"),
        (0.05, "cannot tell"),
        (arch(10, 4, 0.03, 0.06)[:28], "cannot tell"),
    ],
    ids=["arch", "valley", "rise", "flat", "seven layers"],
)
def test_the_published_profile_is_judged_by_curvature_and_both_lines(
    level: np.ndarray | float, holds: str
) -> None:
    layers = np.size(level) // 4 if np.size(level) > 1 else 10
    found = judged(synergy=level, layers=layers, prompt_sd=0.01).finding("published_profile")
    assert found.holds == holds
    if layers < 8:
        assert "too few" in found.why


def random_atlases(like: xr.Dataset, count: int, effect: np.ndarray) -> list[xr.Dataset]:
    """Atlases like `like` but for the published profile: `effect` plus noise over layers."""
    rng = np.random.default_rng(4)
    out = []
    for _ in range(count):
        profile = effect + rng.standard_normal(effect.size)
        other = like.copy(deep=True)
        other["profile"].loc["rank_of_difference"] = profile
        curvature = shape_of(profile, like["depth"].values).curvature
        other["curvature"].loc["rank_of_difference"] = curvature
        out.append(other)
    return out


def test_random_weights_need_a_band_and_then_decide() -> None:
    trained = rank(make_atoms(synergy=arch(10, 4, 0.03, 0.06)), bootstrap=100, graph_draws=0)
    flat = random_atlases(trained, 60, np.full(10, 20.0))
    few = judge(trained, random_init=flat[:19]).finding("random_weights")
    assert few.holds == "cannot tell"
    assert "19 atlases" in few.why
    enough = judge(trained, random_init=flat).finding("random_weights")
    assert enough.holds == "yes"
    assert enough.numbers["p_curvature"] == pytest.approx(1 / 61)
    assert enough.numbers["layers_outside_band"] >= 8
    own = trained["profile"].sel(score="rank_of_difference").values
    same = judge(trained, random_init=random_atlases(trained, 20, own))
    assert same.finding("random_weights").holds != "yes"
    assert same.finding("random_weights").numbers["layers_outside_band"] <= 2
    deeper = judge(trained, random_init=random_atlases(trained, 20, -np.hanning(10) * -90))
    assert deeper.finding("random_weights").holds == "no"


def test_random_weights_of_another_architecture_are_refused() -> None:
    other = rank(make_atoms(layers=9), bootstrap=40, graph_draws=0)
    with pytest.raises(ConfigError, match="36 units"):
        rank(make_atoms(), bootstrap=40, graph_draws=0, random_init=[other])


def test_random_weights_are_part_of_the_fingerprint() -> None:
    atoms = make_atoms()
    other = rank(make_atoms(seed=3), bootstrap=40, graph_draws=0)
    alone, beside = (
        rank(atoms, bootstrap=40, graph_draws=0),
        rank(atoms, bootstrap=40, graph_draws=0, random_init=[other]),
    )
    assert alone.attrs["fingerprint"] != beside.attrs["fingerprint"]
    assert verdict(beside).finding("random_weights").numbers["seeds"] == 1


def test_the_verdict_is_json_with_null_for_what_is_undefined() -> None:
    atlas = rank(make_atoms(prompts=1, layers=2), bootstrap=40, graph_draws=0)
    stored = json.loads(atlas.attrs["verdict"])
    assert stored["findings"][0].keys() == {"name", "claim", "holds", "numbers", "why"}
    numbers = [v for f in stored["findings"] for v in f["numbers"].values()]
    assert None in numbers
    assert all(v is None or math.isfinite(v) for v in numbers)
    assert verdict(atlas).to_json() == atlas.attrs["verdict"]
    assert judge(atlas).to_json() == atlas.attrs["verdict"]
    assert list(verdict(atlas).warnings) == json.loads(atlas.attrs["warnings"])


def test_too_few_layers_name_no_depth() -> None:
    assert "depth" not in judged(layers=2).headline

"""Bootstrap and split halves: against a loop over sampled prompts, and planted reliability."""

import numpy as np
import pytest

from synatlas.inference import half_weights, resampling_weights
from synatlas.progress import silent
from synatlas.rank.resampling import Resampled, resample, split_half
from synatlas.rank.score import ordinal_ranks

UNIT_LAYER = np.repeat(np.arange(4), 3)


def planted(prompts: int = 9, noise: float = 1.0, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    level = np.linspace(1, 2, 12)
    return {
        "synergy": level + noise * rng.standard_normal((prompts, 12)),
        "redundancy": 0.1 + 0.01 * rng.standard_normal((prompts, 12)),
        "tdmi": 1.0 + 0.01 * rng.standard_normal((prompts, 12)),
        "synergy_ccs": 0.2 + 0.01 * rng.standard_normal((prompts, 12)),
    }


def run(per_prompt: dict[str, np.ndarray], **changes: object) -> Resampled:
    options = {
        "pooled": {"integration": np.ones((40, 12))},
        "excess": np.full((2, 12), 5.0),
        "unit_layer": UNIT_LAYER,
        "layers": np.arange(4),
        "draws": 50,
        "rng": np.random.default_rng(3),
        "progress": silent,
        **changes,
    }
    return resample(per_prompt, options.pop("pooled"), **options)  # type: ignore[arg-type]


def test_a_draw_is_the_analysis_of_the_drawn_prompts() -> None:
    per_prompt = planted()
    found = run(per_prompt)
    weights = resampling_weights(9, 50, np.random.default_rng(3))
    for draw, weight in enumerate(weights):
        drawn = np.repeat(np.arange(9), np.round(weight * 9).astype(int))
        synergy = per_prompt["synergy"][drawn].mean(axis=0)
        ranks = ordinal_ranks(synergy - per_prompt["redundancy"][drawn].mean(axis=0))
        assert (found.rank[draw] == ranks).all()
        profile = [ranks[layer == UNIT_LAYER].mean() for layer in range(4)]
        assert found.profile["rank_of_difference"][draw] == pytest.approx(profile)
        means = [synergy[layer == UNIT_LAYER].mean() for layer in range(4)]
        assert found.profile["synergy"][draw] == pytest.approx(means)


def test_resampling_units_widens_the_profile() -> None:
    found = run(planted(noise=0.01), draws=400)
    assert found.shape_profile["synergy"].std() > found.profile["synergy"].std()
    spread = found.shape_profile["synergy"].std(axis=0) / found.profile["synergy"].std(axis=0)
    assert (spread > 3).all()


def test_recurrence_counts_draws_in_which_every_sign_holds() -> None:
    excess = np.full((2, 12), 5.0)
    excess[1, 0] = -5.0
    excess[0, 1] = np.nan
    integration = np.ones((40, 12))
    integration[:10, 3] = -1.0
    integration[:, 4] = np.nan
    per_prompt = planted()
    per_prompt["synergy_ccs"][:, 2] = -0.5
    found = run(per_prompt, excess=excess, pooled={"integration": integration}).recurrence
    assert found[:3].tolist() == [0, 0, 0]
    assert found[3] == pytest.approx(0.75)
    assert np.isnan(found[4])
    assert found[5:] == pytest.approx(1.0)


def test_recurrence_of_an_excess_at_the_edge_is_about_one_half() -> None:
    found = run(planted(prompts=40), excess=np.zeros((1, 12)), draws=2000).recurrence
    assert found == pytest.approx(0.5, abs=0.06)


def test_one_prompt_gives_no_draws() -> None:
    found = run(planted(prompts=1), pooled={"integration": np.ones((0, 12))})
    assert found.rank.shape == (0, 12)
    assert np.isnan(found.recurrence).all()


def test_halves_agree_as_far_as_prompts_do() -> None:
    rng = np.random.default_rng
    steady = split_half(planted(prompts=40, noise=0.01), rng(1))
    noise = split_half(
        {name: v - v.mean(axis=0) for name, v in planted(prompts=40).items()}, rng(1)
    )
    assert steady["synergy"] > 0.95
    # Halves of centred values are exact opposites.
    assert noise["synergy"] == pytest.approx(-1.0)
    assert steady == split_half(planted(prompts=40, noise=0.01), rng(1))


def test_split_half_is_the_mean_over_splits_of_scipys_spearman() -> None:
    from scipy import stats

    per_prompt = planted(noise=2.0)
    halves = half_weights(9, 100, np.random.default_rng(5))
    expected = []
    for first, second in zip(*halves, strict=True):
        a = per_prompt["synergy"][first > 0].mean(axis=0)
        b = per_prompt["synergy"][second > 0].mean(axis=0)
        expected.append(stats.spearmanr(a, b).statistic)
    found = split_half(per_prompt, np.random.default_rng(5))["synergy"]
    assert found == pytest.approx(np.mean(expected))


def test_one_prompt_has_no_halves() -> None:
    found = split_half(planted(prompts=1), np.random.default_rng(0))
    assert found.keys() >= {"synergy", "rank_of_difference"}
    assert np.isnan(list(found.values())).all()

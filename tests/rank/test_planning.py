"""Planned excesses: against fresh data, the atlas, the equation they solve, and coupled pairs."""

import math

import numpy as np
import pytest
from planted_series import make_recording
from scipy import stats

import synatlas as sa
from synatlas.cli import main
from synatlas.errors import ConfigError
from synatlas.simulate.simulated import stationary
from synatlas.simulate.uncoupled import independent_ar

NUMBERS = ["null_sd", "minimum_detectable", "detectable"]


def test_the_spread_is_that_of_fresh_series_beyond_their_own_memory() -> None:
    """Without any surrogate: sts - 2 min(S_a, S_b) of independent pairs, over data sets."""
    beyond = []
    for seed in range(5):
        made = independent_ar(np.full(20, 0.5), prompts=20, steps=100, seed=seed)
        series = made["activity"].values
        past, future = series[:, :-1], series[:, 1:]
        past, future = past - past.mean(axis=1)[:, None], future - future.mean(axis=1)[:, None]
        power = (past**2).sum(axis=1) * (future**2).sum(axis=1)
        own = -0.5 * np.log1p(-((past * future).sum(axis=1) ** 2) / power)
        first, second = np.triu_indices(20, k=1)
        memory = 2 * np.minimum(own[:, first], own[:, second]).mean(axis=0)
        atom = sa.phiid(series, atoms="rtr+sts")["atom"].sel(past="syn", future="syn").values
        beyond.append(atom - memory)
    plan = sa.detectable_excess(prompts=20, steps=100, surrogates=59)
    assert plan["null_sd"].sel(level="pair") == pytest.approx(np.std(beyond), rel=0.1)


def test_the_atlas_of_such_series_reports_what_was_planned() -> None:
    rho = np.linspace(0.3, 0.6, 24)
    series = independent_ar(rho, prompts=20, steps=60, seed=5)["activity"].values
    atlas = sa.rank(
        sa.decompose(make_recording(series, heads=4), nulls=("cross_prompt",), surrogates=49),
        bootstrap=40,
        graph_draws=2,
    )
    plan = sa.detectable_excess(prompts=20, steps=60, units=24, memory=(0.3, 0.6), surrogates=49)
    planned = float(plan["minimum_detectable"].sel(level="unit"))
    assert float(atlas["null_minimum_detectable"][0]) == pytest.approx(planned, rel=0.2)


def test_excesses_solve_their_equations() -> None:
    plan = sa.detectable_excess(prompts=20, steps=50, units=30, power=0.9, surrogates=49)
    for level, tail, pooled in (("pair", 0.025, 20), ("unit", 0.05 / 30, 20 * 29)):
        at = plan.sel(level=level)
        s = float(at["null_sd"])
        wide = s * math.sqrt(1 + 1 / 49)
        tail_t, power_t = stats.t.isf(tail, 48), stats.t.ppf(0.9, 48)
        e = float(at["detectable"])
        mixed = math.sqrt(4) / (20 - 4)
        threshold = tail_t * wide * math.sqrt(1 + (mixed * e / s) ** 2)
        spread = wide * math.sqrt(1 + 2 * math.sqrt(2) * e / (s * math.sqrt(pooled)))
        assert float(at["minimum_detectable"]) == pytest.approx((tail_t + power_t) * wide)
        assert e == pytest.approx(threshold + power_t * spread)
        assert float(at["share"]) == pytest.approx(e / float(at["null_mean"]))
    even = sa.detectable_excess(prompts=20, steps=50, power=0.5, surrogates=49).sel(level="pair")
    least = float(even["minimum_detectable"])
    assert float(even["detectable"]) == pytest.approx(
        least / math.sqrt(1 - (least / float(even["null_sd"]) / 8) ** 2)
    )


@pytest.mark.parametrize("atom", ["sts", "rtr"])
def test_more_prompts_steps_and_units_show_less(atom: str) -> None:
    def plan(prompts: int, steps: int, units: int):
        return sa.detectable_excess(
            prompts=prompts, steps=steps, units=units, atom=atom, surrogates=39
        )

    base = plan(10, 50, 12)
    for more, levels in (
        (plan(20, 50, 12), ["pair", "unit"]),
        (plan(10, 150, 12), ["pair", "unit"]),
        (plan(10, 50, 48), ["unit"]),
    ):
        for name in NUMBERS:
            ratio = (more[name] / base[name]).sel(level=levels)
            assert (ratio < 0.85).all(), (name, ratio.values)


def test_many_prompts_and_units_enter_by_the_root_of_their_number() -> None:
    """60 prompts and 24 units are simulated at most: against a simulation of more."""
    some = sa.detectable_excess(prompts=60, steps=50, units=24, surrogates=39)
    more = sa.detectable_excess(prompts=240, steps=50, units=93, surrogates=39)
    assert (more["null_sd"] / some["null_sd"]).values == pytest.approx([1 / 2, 1 / 4])
    made = independent_ar(np.full(8, 0.5), prompts=240, steps=50, seed=3)
    drawn = sa.phiid(made, null="cross_prompt", surrogates=39, atoms="rtr+sts")
    spread = np.median(drawn["null_sd"].sel(past="syn", future="syn"))
    assert float(more["null_sd"].sel(level="pair")) == pytest.approx(spread, rel=0.12)


def test_coupled_pairs_of_the_planned_excess_are_found_four_times_in_five() -> None:
    """Pairs that correlate within the step and keep their memory: synergy above the null."""
    units, c, m = 20, 0.162, 0.5
    covariance = np.kron(np.eye(units // 2), [[1, c], [c, 1]])
    matrix = m * np.linalg.inv(covariance)
    planted = np.flatnonzero(covariance[np.triu_indices(units, k=1)])
    excess, p = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        series = stationary(matrix, covariance, prompts=20, steps=100, rng=rng)
        found = sa.phiid(series, null="independence", surrogates=39, seed=seed, atoms="rtr+sts")
        at = found.sel(past="syn", future="syn").isel(pair=planted)
        excess.append((at["null_observed"] - at["null_mean"]).values)
        p.append(at["p"].values)
    plan = sa.detectable_excess(prompts=20, steps=100, surrogates=39).sel(level="pair")
    s, e = float(plan["null_sd"]), float(plan["detectable"])
    assert np.mean(excess) == pytest.approx(e, rel=0.1)
    # Coupled pairs spread more than the null does, by no more than is planned for.
    assert 1.1 < np.std(excess) / s < 1.1 * math.sqrt(1 + 2 * e / s / math.sqrt(20 / 2))
    assert np.mean(np.concatenate(p) <= 0.05) == pytest.approx(0.8, abs=0.1)


def test_what_cannot_be_called_has_no_number() -> None:
    plan = sa.detectable_excess(prompts=10, steps=50, units=30, surrogates=3)
    assert plan["status"].values.tolist() == [1, 1]
    assert plan[["minimum_detectable", "detectable"]].to_array().isnull().all()
    assert (plan["null_sd"] > 0).all()
    assert "3 surrogates" in plan.attrs["explanation"]
    assert plan.attrs["null_used"] == "cross_prompt"


def test_three_prompts_that_are_exchanged_show_nothing() -> None:
    """Surrogates that keep coupled prompts in place spread as fast as the excess grows."""
    plan = sa.detectable_excess(prompts=3, steps=50, units=272, null="cross_prompt", surrogates=59)
    at = plan.sel(level="unit")
    assert int(at["status"]) == 2
    assert float(at["minimum_detectable"]) > 0
    assert math.isnan(at["detectable"])
    assert "exchange of 3 prompts" in plan.attrs["explanation"]


def test_the_seed_decides_the_numbers() -> None:
    options = {"prompts": 4, "steps": 40, "units": 12, "surrogates": 19}
    first, again, other = (sa.detectable_excess(**options, seed=s) for s in (1, 1, 2))
    assert first.identical(again)
    assert first.attrs["null_used"] == "window_shift"
    ratio = (other["null_sd"] / first["null_sd"]).values
    assert (ratio != 1).all()
    assert ratio == pytest.approx([1, 1], rel=0.25)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"prompts": 0}, "prompts 0"),
        ({"steps": 5}, "lag + 5 = 6 steps"),
        ({"lag": 0}, "lag 0"),
        ({"units": 1}, "units 1"),
        ({"memory": 1.0}, "memory 1.0"),
        ({"memory": (0.1, 0.2, 0.3)}, "the lowest and the highest"),
        ({"memory": float("nan")}, "memory nan"),
        ({"alpha": 5.0}, "a percentage"),
        ({"power": 0.0}, "power 0.0"),
        ({"atom": "xtx"}, "sts, rtr"),
        ({"estimator": "kraskov"}, "gaussian"),
        ({"null": "same_step"}, "cross_prompt"),
        ({"null": "cross_prompt", "prompts": 1}, "at least 2 prompts"),
        ({"surrogates": 1}, "2 or more"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_bad_input_is_refused(option: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("+", r"\+")):
        sa.detectable_excess(**{"prompts": 10, "steps": 50, **option})


def test_the_command_line_prints_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    size = ["--prompts", "10", "--steps", "20", "--units", "400"]
    assert main(["plan", *size]) == 0
    told = capsys.readouterr().out
    plan = sa.detectable_excess(prompts=10, steps=20, units=400)
    assert f"{float(plan['detectable'][1]):.2g} nat" in told
    assert "one of 400 units" in told
    assert main(["plan", *size, "--memory", "1.5"]) == 2
    assert "no stationary series" in capsys.readouterr().err

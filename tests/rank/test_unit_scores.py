"""Scores of units from Atoms: closed forms, loops, and the bias of pooled draws."""

import math

import numpy as np
import pytest

from planted_atoms import make_atoms
from synatlas.axes import ATOM_LABELS, ROLES
from synatlas.decompose.series import phiid
from synatlas.rank.unit_scores import (
    GRID_SCORES,
    autocorrelation_baseline,
    grid_score,
    pooled_draws,
    pooled_scores,
    scores_of_units,
    scores_per_prompt,
)


def grid(**atoms: float) -> np.ndarray:
    out = np.zeros((4, 4))
    for name, value in atoms.items():
        past, future = ATOM_LABELS[name]
        out[ROLES.index(past), ROLES.index(future)] = value
    return out


def test_independent_series_have_synergy_but_no_revised_phi() -> None:
    """The closed form for independent series with self-information h and g, under MMI."""
    h, g = 0.3, 0.2
    low = min(h, g)
    one = grid(sts=2 * low, rts=low, str=low, xtx=h, yty=g, xts=-low, yts=-low, stx=-low, sty=-low)
    assert grid_score(one, "synergy") == pytest.approx(2 * low)
    assert grid_score(one, "phi_r") == pytest.approx(0.0)
    assert grid_score(one, "transfer") == 0.0
    assert grid_score(one, "tdmi") == pytest.approx(h + g)


def test_each_score_sums_its_own_atoms() -> None:
    parts = {
        "synergy": ["sts"],
        "redundancy": ["rtr"],
        "transfer": ["xty", "ytx"],
        "phi_r": ["sts", "xts", "yts", "stx", "sty", "xty", "ytx", "rts", "str"],
        "tdmi": list(ATOM_LABELS),
        "phi_wms": ["sts", "xts", "yts", "stx", "sty", "xty", "ytx", "rts", "str"],
    }
    assert parts.keys() == GRID_SCORES.keys()
    for name, members in parts.items():
        for atom in ATOM_LABELS:
            expected = -1 if (name, atom) == ("phi_wms", "rtr") else atom in members
            assert grid_score(grid(**{atom: 1.0}), name) == expected


def test_phi_of_the_whole_minus_its_parts_is_what_its_name_says() -> None:
    """TDMI less the two self-informations, from atoms of real series."""
    series = np.random.default_rng(0).standard_normal((400, 2))
    series[1:] += series[:-1] @ np.array([[0.5, 0.3], [0.1, 0.4]])
    out = phiid(series)
    rho = [np.corrcoef(x[1:], x[:-1])[0, 1] for x in series.T]
    own = [-0.5 * math.log(1 - r * r) for r in rho]
    atom = out["atom"].sel(past=list(ROLES), future=list(ROLES)).to_numpy()[0]
    assert grid_score(atom, "phi_wms") == pytest.approx(out["tdmi"].item() - sum(own))


def test_independent_series_hold_no_information_as_a_whole() -> None:
    h, g = 0.3, 0.2
    one = grid(sts=2 * g, rts=g, str=g, xtx=h, yty=g, xts=-g, yts=-g, stx=-g, sty=-g)
    assert grid_score(one, "phi_wms") == pytest.approx(0.0)


def test_baseline_is_twice_the_mean_minimum_over_partners() -> None:
    own = np.random.default_rng(0).exponential(size=(3, 7))
    own[1, 2] = np.nan
    own[2, 1:] = np.nan
    found = autocorrelation_baseline(own)
    for p in range(3):
        for i in range(7):
            partners = [own[p, j] for j in range(7) if j != i and np.isfinite(own[p, j])]
            if np.isfinite(own[p, i]) and partners:
                expected = 2 * np.mean([min(own[p, i], other) for other in partners])
                assert found[p, i] == pytest.approx(expected)
            else:
                assert math.isnan(found[p, i])


def test_labels_decide_and_not_positions() -> None:
    atoms = make_atoms(layers=3, heads=2, prompts=3, draws=5, surrogates=4)
    turned = atoms.isel(past=[2, 0, 3, 1], future=[3, 1, 0, 2])
    for name, values in scores_per_prompt(atoms).items():
        assert scores_per_prompt(turned)[name] == pytest.approx(values)
    for name, values in pooled_scores(atoms).items():
        assert pooled_scores(turned)[name] == pytest.approx(values)


def test_scores_are_means_over_the_prompts_where_a_unit_is_defined() -> None:
    per_prompt = {
        "synergy": np.array([[0.4, 0.2], [0.2, np.nan]]),
        "redundancy": np.array([[0.1, 0.2], [0.1, np.nan]]),
        "tdmi": np.array([[1.0, 0.5], [0.2, np.nan]]),
    }
    out = scores_of_units(per_prompt, np.array([[0.5, 0.5], [0.0, 1.0]]))
    assert out["synergy"] == pytest.approx(np.array([[0.3, 0.2], [0.2, np.nan]]), nan_ok=True)
    assert out["balance"] == pytest.approx(np.array([[0.75, 0.5], [2 / 3, np.nan]]), nan_ok=True)
    share = np.array([[0.5, 0.4], [1.0, np.nan]])
    assert out["synergy_per_tdmi"] == pytest.approx(share, nan_ok=True)
    share = np.array([[1 / 6, 0.4], [0.5, np.nan]])
    assert out["redundancy_per_tdmi"] == pytest.approx(share, nan_ok=True)
    expected = np.array([[2.0, 1.0], [1.0, np.nan]])
    assert out["rank_of_difference"] == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("tdmi", [0.0, -0.1])
def test_a_share_of_no_information_is_undefined(tdmi: float) -> None:
    per_prompt = {"synergy": np.full((2, 3), 0.1), "redundancy": np.full((2, 3), -0.1)}
    out = scores_of_units({**per_prompt, "tdmi": np.full((2, 3), tdmi)}, np.full((1, 2), 0.5))
    for name in ("synergy_per_tdmi", "redundancy_per_tdmi", "balance"):
        assert np.isnan(out[name]).all()


def test_shares_are_unchanged_when_all_information_is_multiplied() -> None:
    atoms = make_atoms(layers=3, heads=2, prompts=4, draws=4, surrogates=4)
    more = atoms.assign(unit_atom=7 * atoms["unit_atom"])
    flat = np.full((1, 4), 0.25)
    plain, scaled = (scores_of_units(scores_per_prompt(a), flat) for a in (atoms, more))
    for name in ("synergy_per_tdmi", "redundancy_per_tdmi", "balance"):
        assert scaled[name] == pytest.approx(plain[name])
    for name in ("phi_wms", "phi_r"):
        assert scaled[name] == pytest.approx(7 * plain[name])


def test_bias_of_pooled_draws_is_taken_off_twice() -> None:
    """A squared mean is biased by its variance, its bootstrap draws by twice that.

    For uncoupled units the corrected draws centre on zero; for coupled ones on the truth.
    """
    rng = np.random.default_rng(1)
    n, units, draws = 50, 400, 600
    for truth in (0.0, 0.5):
        sample = truth + rng.standard_normal((n, units))
        value = sample.mean(axis=0) ** 2
        weights = rng.multinomial(n, np.full(n, 1 / n), size=draws) / n
        atoms = make_atoms(layers=units, heads=1, prompts=2, draws=draws, surrogates=2)
        atoms["pooled_atom"][:, 3, 3] = atoms["same_step_atom"][:, 3, 3] + value
        atoms["pooled_excess_draw"][:, :, 3, 3] = (weights @ sample) ** 2
        assert value.mean() == pytest.approx(truth**2 + 1 / n, abs=0.02)
        corrected = pooled_draws(atoms)["integration"]
        assert corrected.mean() == pytest.approx(truth**2, abs=0.012)
        assert pooled_scores(atoms)["integration"] == pytest.approx(value)

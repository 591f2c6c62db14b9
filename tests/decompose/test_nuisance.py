"""Residuals against plain least squares on dummies, and spurious dependence that they remove."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from time_series import ar_series, recording_of, var_series

from synatlas.decompose.nuisance import NUISANCES, Facts, facts_of, remove
from synatlas.decompose.pipeline import decompose
from synatlas.decompose.series import phiid
from synatlas.errors import ConfigError

WITHIN = ("trend", "surprisal", "frequency")
ACROSS = ("position", "token")


def facts_for(rng, n_steps, vocabulary=7):
    shape = (len(n_steps), max(n_steps))
    return Facts(
        np.array(n_steps), rng.integers(vocabulary, size=shape), rng.exponential(size=shape)
    )


def dummies(facts, names):
    """Every regressor as a dense column over all recorded samples, with a constant per prompt."""
    steps = facts.token.shape[1]
    inside = np.arange(steps) < facts.n_steps[:, None]
    prompt, step = np.nonzero(inside)
    token = facts.token[inside]
    columns = [prompt == p for p in range(len(facts.n_steps))]
    log_count = np.log([np.sum(token == value) for value in token])
    own = {"trend": step, "surprisal": facts.surprisal[inside], "frequency": log_count}
    columns += [(prompt == p) * own[name] for name in names if name in own for p in set(prompt)]
    if "position" in names:
        columns += [step == t for t in range(steps) if np.sum(step == t) >= 2]
    if "token" in names:
        columns += [token == value for value in set(token) if np.sum(token == value) >= 5]
    return inside, np.stack(columns, axis=1).astype(float)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(
    st.lists(st.integers(20, 30), min_size=2, max_size=4),
    st.sets(st.sampled_from([*WITHIN, *ACROSS]), min_size=1),
    st.integers(0, 2**31),
)
def test_residuals_are_those_of_least_squares_on_all_regressors(n_steps, names, seed):
    rng = np.random.default_rng(seed)
    facts = facts_for(rng, n_steps)
    values = rng.normal(size=(len(n_steps), max(n_steps), 3)) * 10.0 ** rng.integers(-8, 8) + 5
    left = remove(values, sorted(names), facts, lag=1)
    inside, design = dummies(facts, names)
    y = values[inside]
    expected = y - design @ np.linalg.lstsq(design, y, rcond=1e-11)[0]
    found = left.values[inside]
    assert np.allclose(found, expected, atol=1e-10 * np.abs(y).max())
    sizes = np.linalg.norm(design, axis=0) * np.linalg.norm(y)
    assert (np.abs(design.T @ found) <= 1e-12 * sizes[:, None]).all()
    assert np.isnan(left.values[~inside]).all()
    rank = np.linalg.matrix_rank(design)
    assert np.isclose(left.lost.sum(), rank - len(n_steps))
    again = remove(left.values, sorted(names), facts, lag=1)
    assert np.allclose(again.values[inside], found, atol=1e-13 * np.abs(y).max())


def test_position_is_the_two_way_decomposition_and_trend_is_polyfit():
    values = np.random.default_rng(0).normal(size=(4, 20, 5))
    facts = Facts(np.full(4, 20))
    rows, steps = values.mean(axis=1, keepdims=True), values.mean(axis=0, keepdims=True)
    both = remove(values, ["position"], facts, lag=1)
    assert np.allclose(both.values, values - rows - steps + values.mean(axis=(0, 1)), atol=1e-14)
    assert np.allclose(both.lost, 19 / 4)
    line = remove(values, ["trend"], facts, lag=1)
    t = np.arange(20)
    for p in range(4):
        for u in range(5):
            fit = np.polyval(np.polyfit(t, values[p, :, u], 1), t)
            assert np.allclose(line.values[p, :, u], values[p, :, u] - fit, atol=1e-13)
    assert (line.lost == 1).all()


def test_differences_come_last():
    values = np.random.default_rng(0).normal(size=(2, 20, 3))
    facts = Facts(np.array([20, 15]))
    trended = remove(values, ["trend"], facts, lag=1).values
    left = remove(values, ["differences", "trend"], facts, lag=1)
    assert left.names == ("trend", "differences")
    assert left.n_steps.tolist() == [19, 14]
    assert np.allclose(left.values[0], np.diff(trended[0], axis=0))
    assert np.allclose(left.values[1, :14], np.diff(trended[1, :15], axis=0))
    assert np.isnan(left.values[1, 14:]).all()
    assert (left.lost == 2).all()


def test_phiid_of_differences_is_phiid_of_differenced_series():
    series = np.random.default_rng(1).normal(size=(3, 40, 4)).cumsum(axis=1)
    found = phiid(series, nuisance=("differences",))
    assert np.allclose(found["atom"], phiid(np.diff(series, axis=1))["atom"], atol=1e-14)
    assert found.attrs["nuisance"] == "differences"
    assert found.attrs["nuisance_degrees"] == 1
    assert phiid(series).attrs["nuisance"] == "none"


def test_shared_drift_is_spurious_redundancy_until_it_is_taken_out():
    rng = np.random.default_rng(2)
    noise = np.stack([ar_series(rng, 100, [0.2] * 6) for _ in range(20)])
    slope = rng.normal(size=(20, 1, 1))
    drifting = noise + slope * np.linspace(-4, 4, 100)[:, None]
    shared = noise + 6 * rng.normal(size=100).cumsum()[:, None] / 10
    clean = phiid(noise)["atom"].sel(past="red", future="red").mean()
    for series, name in ((drifting, "trend"), (shared, "position")):
        before = phiid(series)["atom"].sel(past="red", future="red").mean()
        after = phiid(series, nuisance=(name,))["atom"].sel(past="red", future="red").mean()
        assert before > 20 * clean
        assert np.isclose(after, clean, rtol=0.25)


def test_shared_tokens_are_spurious_redundancy_until_they_are_taken_out():
    rng = np.random.default_rng(3)
    # Runs of a token: its value persists, and all units follow it with one sign.
    token = np.repeat(rng.integers(6, size=(12, 25)), 4, axis=1)
    level = rng.normal(size=6)
    noise = rng.normal(size=(12, 100, 4))
    recording = recording_of((noise + 3 * level[token][:, :, None]), tokens=token)
    # A reply's sample is at the token before the one that it produces.
    shifted = np.concatenate([token[:, 1:], token[:, :1]], axis=1)
    recording["token"].values[:] = shifted
    recording["prompt_token"].values[:] = token[:, :1]
    red = {"past": "red", "future": "red"}
    atoms = decompose(recording, nulls=())
    without = decompose(recording, nulls=(), nuisance=("token",))
    clean = decompose(recording_of(noise), nulls=())
    assert atoms["atom"].sel(red).mean() > 20 * clean["atom"].sel(red).mean()
    assert np.isclose(without["atom"].sel(red).mean(), clean["atom"].sel(red).mean(), rtol=0.3)
    assert without.attrs["nuisance"] == "token"
    assert np.isclose(without.attrs["nuisance_degrees"], 5 / 12)
    assert len({atoms.attrs["fingerprint"], without.attrs["fingerprint"]}) == 2


def test_the_token_read_is_the_one_before_the_token_produced():
    recording = recording_of(np.random.default_rng(0).normal(size=(2, 10, 4)))
    recording["token"].values[:] = [[3, 4, 5, 6, 7, 8, 9, 1, 2, 3]] * 2
    recording["logprob"].values[:] = -np.arange(10.0)
    recording["prompt_token"].values[:] = [[11, 12, -1], [13, -1, -1]]
    reply = facts_of(recording)
    assert reply.token is not None
    assert reply.surprisal is not None
    assert reply.token[:, :3].tolist() == [[12, 3, 4], [13, 3, 4]]
    assert np.isnan(reply.surprisal[:, 0]).all()
    assert reply.surprisal[0, 1:4].tolist() == [0, 1, 2]
    recording.attrs["alignment"] = "document"
    document = facts_of(recording)
    assert document.token is not None
    assert document.surprisal is not None
    assert document.token[0, :3].tolist() == [3, 4, 5]
    assert document.surprisal[0, :3].tolist() == [0, 1, 2]
    # A reply's first sample has no surprisal: it neither bends the slope nor is bent.
    left = remove(recording["activity"].values.astype(float), ["surprisal"], reply, lag=1)
    y, x = recording["activity"].values[0, 1:, 0].astype(float), np.arange(9.0)
    residual = left.values[0, 1:, 0]
    assert np.isclose(np.polyfit(x, residual, 1)[0], 0, atol=1e-7)
    assert np.isclose(np.polyfit(x, y - residual, 2)[0], 0, atol=1e-7)


def test_covariates_are_taken_out_of_every_prompt():
    rng = np.random.default_rng(4)
    series = rng.normal(size=(3, 30, 4))
    covariates = rng.normal(size=(30, 2))
    same = phiid(series, covariates=covariates)
    each = phiid(series, covariates=np.broadcast_to(covariates, (3, 30, 2)))
    assert np.array_equal(same["atom"], each["atom"])
    design = np.column_stack([np.ones(30), covariates])
    by_hand = np.stack([y - design @ np.linalg.lstsq(design, y)[0] for y in series])
    assert np.allclose(same["atom"], phiid(by_hand)["atom"], atol=1e-12)
    assert same.attrs["nuisance_degrees"] == 2
    line = phiid(series, covariates=np.arange(30.0)[:, None])
    assert np.allclose(line["atom"], phiid(series, nuisance="trend")["atom"], atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
@pytest.mark.parametrize("names", [["trend"], ["differences"], ["position"], ["position", "trend"]])
def test_what_is_explained_wholly_is_constant(dtype, scale, names):
    rng = np.random.default_rng(5)
    values = rng.normal(size=(4, 50, 3)) * scale
    values[:, :, 1] = scale * (1e3 + 0.1234567 * np.arange(50))
    atoms = phiid(values.astype(dtype).astype(float), nuisance=names)
    assert atoms["status"].values.tolist() == [1, 0, 1]


def test_broken_and_padded_series_leave_the_others_alone():
    rng = np.random.default_rng(6)
    values = rng.normal(size=(5, 30, 4))
    facts = Facts(np.full(5, 30))
    broken = values.copy()
    broken[2, 7, 1] = np.nan
    names = ["position", "trend"]
    whole, part = remove(values, names, facts, lag=1), remove(broken, names, facts, lag=1)
    assert np.array_equal(part.values[:, :, [0, 2, 3]], whole.values[:, :, [0, 2, 3]])
    assert np.array_equal(part.values[2, :, 1], broken[2, :, 1], equal_nan=True)
    others = remove(values[[0, 1, 3, 4]], names, Facts(np.full(4, 30)), lag=1)
    assert np.allclose(part.values[[0, 1, 3, 4], :, 1], others.values[:, :, 1], atol=1e-13)
    assert phiid(broken, nuisance=names)["status"].values.tolist() == [0] * 6
    assert phiid(broken[2], nuisance=["trend"])["status"].values.tolist() == [5, 0, 0, 5, 5, 0]


def test_a_prompt_without_degrees_of_freedom_is_too_short():
    rng = np.random.default_rng(7)
    series = rng.normal(size=(2, 30, 3))
    series[1, 10:] = np.nan
    covariates = rng.normal(size=(30, 5))
    whole = phiid(series, covariates=covariates)
    assert np.allclose(whole["atom"], phiid(series[:1], covariates=covariates)["atom"])
    recording = recording_of(series, n_steps=[30, 8])
    atoms = decompose(recording, nuisance=["trend", "differences", "surprisal"], surrogates=2)
    assert (atoms["n_defined"] == 2).all()
    atoms = decompose(recording, lag=2, nuisance=["trend", "differences"], surrogates=2)
    assert (atoms["n_defined"] == 1).all()


def test_input_is_not_changed():
    recording = recording_of(np.random.default_rng(8).normal(size=(3, 20, 4)))
    before = recording.copy(deep=True)
    decompose(recording, nuisance=tuple(NUISANCES), nulls=())
    assert recording.identical(before)
    series, covariates = np.random.default_rng(9).normal(size=(2, 20, 4))
    copies = series.copy(), covariates.copy()
    phiid(series, nuisance=("trend", "differences"), covariates=covariates)
    assert np.array_equal(series, copies[0])
    assert np.array_equal(covariates, copies[1])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"nuisance": ("slope",)}, "trend, position"),
        ({"nuisance": ("token",)}, "series have no tokens"),
        ({"nuisance": ("position",)}, "take the nuisance trend"),
        ({"covariates": np.zeros((19, 2))}, r"an array of shape \(19, 2\)"),
        ({"covariates": np.full((20, 2), np.nan)}, "not finite"),
        ({"covariates": [["a"]] * 20}, "finite numbers"),
        ({"covariates": [[1.0], [1.0, 2.0]]}, "rows of different lengths"),
        ({"covariates": np.random.default_rng(0).normal(size=(20, 15))}, "fewer nuisances"),
    ],
)
def test_what_cannot_be_taken_out_is_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        phiid(var_series(np.random.default_rng(0), 20, 3), **options)

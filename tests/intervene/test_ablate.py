"""The experiment against one pass for each set; interrupted anywhere it ends the same."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from test_divergence import by_hand

import synatlas as sa
from synatlas.errors import ConfigError
from synatlas.intervene.ablate import table_of
from synatlas.intervene.texts import texts_of
from synatlas.models.load import LanguageModel
from tiny_models import TinyModel

PROMPTS = ("One two", "Tell me", "Why is it so", "Say it again")
ASKED = {
    "orders": ("rank_of_difference", "redundant_first", "single_unit", "gradient", "norm"),
    "draws": 6,
    "points": 4,
    "seed": 5,
}


@pytest.fixture(scope="module")
def run(tiny_model: TinyModel) -> tuple[LanguageModel, xr.Dataset, xr.Dataset]:
    model = tiny_model("llama")
    recording = sa.record(model, PROMPTS, tokens=9, prompt_style="raw")
    atoms = sa.decompose(recording, nulls=("window_shift",), surrogates=3)
    return model, recording, sa.rank(atoms, bootstrap=40, graph_draws=2)


@pytest.fixture(scope="module")
def divergence(run: tuple[LanguageModel, xr.Dataset, xr.Dataset]) -> xr.Dataset:
    return sa.ablate(*run, **ASKED)


def test_every_cell_is_what_its_set_does_alone(
    run: tuple[LanguageModel, xr.Dataset, xr.Dataset], divergence: xr.Dataset
) -> None:
    model, recording, _ = run
    table = table_of(model, recording)
    texts = texts_of(recording, range(len(PROMPTS)))
    rng = np.random.default_rng(0)
    cells = np.argwhere(np.isfinite(divergence["kl"].to_numpy()))
    for order, draw, count, prompt in cells[rng.choice(len(cells), 12, replace=False)]:
        cell = divergence.isel(order=order, draw=draw, n_ablated=count, prompt=prompt)
        keep = cell["place"].to_numpy() > int(cell["n_ablated"])
        expected = by_hand(model, table, keep, texts[prompt])
        found = [float(cell[name]) for name in ("kl", "reverse_kl", "agreement")]
        assert found == pytest.approx(expected.tolist(), abs=2e-6)


def test_what_is_asked_for_is_there(divergence: xr.Dataset) -> None:
    names = divergence["order"].values.tolist()
    assert names == [*ASKED["orders"], "random", "random_depth_matched"]
    assert divergence["n_ablated"].values.tolist() == [1, 2, 4, 6, 8]
    tested = np.isin(divergence["n_ablated"], divergence.attrs["tested"])
    there = np.isfinite(divergence["kl"]).all("prompt")
    assert there.sel(order=["norm", "random"]).isel(draw=0).all()
    assert not there.sel(order="norm").isel(draw=slice(1, None)).any()
    last = there.sel(order="random_depth_matched").isel(draw=5).to_numpy()
    assert last.tolist() == tested.tolist()
    # Where every unit is ablated all orders are the same set.
    everything = divergence["kl"].sel(n_ablated=8).isel(draw=0)
    assert (everything == everything[0]).all()
    assert float(divergence["noise_floor"].max()) < 1e-6


def test_the_oracle_goes_by_what_each_unit_does_alone(divergence: xr.Dataset) -> None:
    alone = divergence["single_kl"].mean("prompt").to_numpy()
    first = divergence["place"].sel(order="single_unit").isel(draw=0).to_numpy() == 1
    assert alone[first] == alone.max()
    assert float(divergence["kl"].sel(order="single_unit", n_ablated=1)[0].mean()) == pytest.approx(
        alone.max(), rel=1e-6
    )


@pytest.mark.parametrize("after", [1, 3, 6])
def test_interrupted_and_taken_up_again_it_ends_the_same(
    run: tuple[LanguageModel, xr.Dataset, xr.Dataset],
    divergence: xr.Dataset,
    tmp_path: Path,
    after: int,
) -> None:
    calls = 0

    def progress(what: str, done: int, total: int) -> None:
        nonlocal calls
        del what, done, total
        calls += 1
        if calls == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sa.ablate(*run, **ASKED, parts=tmp_path, progress=progress)
    for name in tmp_path.iterdir():
        # A file that was cut off is no finished piece.
        name.write_bytes(name.read_bytes()[:40])
        break
    again = sa.ablate(*run, **ASKED, parts=tmp_path)
    xr.testing.assert_identical(again, divergence)


def test_values_of_ones_own_are_an_order(
    run: tuple[LanguageModel, xr.Dataset, xr.Dataset],
) -> None:
    mine = np.array([3.0, 1.0, 7.0, 0.0, 2.0, 6.0, 5.0, 4.0])
    found = sa.ablate(*run, orders={"mine": mine}, draws=2, points=2, ablation="mean")
    assert found.attrs["matched_to"] == "mine"
    assert found["place"].sel(order="mine").isel(draw=0).values.tolist() == (8 - mine).tolist()
    layers = found["layer"].to_numpy()
    for draw in found["place"].sel(order="random_depth_matched").values:
        assert (layers[np.argsort(draw)] == layers[np.argsort(8 - mine)]).all()


def test_what_does_not_belong_together_is_refused(
    run: tuple[LanguageModel, xr.Dataset, xr.Dataset],
) -> None:
    model, recording, atlas = run
    elsewhere = recording.assign_attrs(model_revision="1" * 40)
    for wrong, told in (
        ({"recording": elsewhere}, "revision"),
        ({"ablation": "spoil"}, "spoil"),
        ({"fractions": (1.5,)}, "1.5"),
        ({"orders": "cleverness"}, "cleverness"),
        ({"orders": {"mine": [1.0, 2.0]}}, "mine"),
    ):
        given = {"model": model, "recording": recording, "atlas": atlas} | wrong
        with pytest.raises(ConfigError, match=told):
            sa.ablate(**given)  # pyright: ignore[reportArgumentType]

"""Orders and the sets they give, against counting by hand."""

import numpy as np
import pytest
import xarray as xr

from report_factory import World
from report_factory import atlas as make_atlas
from report_factory import recording as make_recording
from synatlas.errors import ConfigError
from synatlas.intervene.masks import grid, levels, masks_of
from synatlas.intervene.orders import Known, copied, draws_of, needed, order_of, resolve
from synatlas.intervene.settings import ORDERS, Settings

WORLD = World()


@pytest.fixture(scope="module")
def atlas() -> xr.Dataset:
    return make_atlas(WORLD)


@pytest.fixture(scope="module")
def known(atlas: xr.Dataset) -> Known:
    mine = np.arange(WORLD.units, dtype=float)
    return Known(
        atlas=atlas,
        recording=make_recording(WORLD),
        given={"mine": mine},
        single_kl=mine[::-1].copy(),
    )


def test_the_grid_holds_even_steps_and_every_tested_number() -> None:
    settings = Settings(points=4, fractions=(0.1, 0.25, 0.5))
    assert levels(64, settings) == (6, 16, 32)
    assert grid(64, settings) == (6, 16, 32, 48, 64)
    # Fewer units than points: each number once, none of no unit.
    assert grid(3, Settings(points=20)) == (1, 2, 3)


def test_names_stand_for_orders(atlas: xr.Dataset) -> None:
    names = resolve(ORDERS, atlas, {})
    assert "excess" not in names
    assert {f"excess_{null}" for null in WORLD.nulls} <= {*names}
    assert needed(names) == {"single_unit", "gradient"}
    assert needed(("integration",)) == frozenset()
    assert copied("", names) == "rank_of_difference"
    assert copied("", ("integration", "norm")) == "integration"


@pytest.mark.parametrize(
    ("asked", "given", "told"),
    [
        (("cleverness",), {}, "cleverness"),
        (("random",), {}, "random"),
        (("integration",), {"norm": 1}, "of your own"),
    ],
)
def test_orders_that_do_not_exist_are_refused(
    atlas: xr.Dataset, asked: tuple[str, ...], given: dict[str, object], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        resolve(asked, atlas, given)
    with pytest.raises(ConfigError, match="matched"):
        copied("integration", ("norm",))


def test_orders_go_from_the_highest_down(known: Known) -> None:
    last = WORLD.units - 1
    assert order_of("mine", known).tolist() == [*range(last, -1, -1)]
    assert order_of("single_unit", known).tolist() == [*range(last + 1)]
    ranks = known.atlas["rank_of_difference"].to_numpy()
    assert (np.diff(ranks[order_of("rank_of_difference", known)]) <= 0).all()
    assert (np.diff(ranks[order_of("redundant_first", known)]) >= 0).all()
    norm = np.abs(known.recording["activity"]).mean(("prompt", "step")).to_numpy()
    assert order_of("norm", known).tolist() == np.argsort(-norm, kind="stable").tolist()


def test_more_draws_add_to_fewer(known: Known) -> None:
    order = order_of("integration", known)
    for control in ("random", "random_depth_matched"):
        few, many = (draws_of(control, order, known.atlas, draws=n, seed=3) for n in (2, 5))
        assert np.array_equal(few, many[:2])
        assert len({d.tobytes() for d in many}) == 5
    layers = known.atlas["unit_layer"].to_numpy()
    matched = draws_of("random_depth_matched", order, known.atlas, draws=4, seed=0)
    assert (layers[matched] == layers[order]).all()


def test_every_set_is_kept_once_and_found_again() -> None:
    orders = {
        "a": np.array([[0, 1, 2, 3]]),
        "b": np.array([[1, 0, 3, 2]]),
        "random": np.array([[3, 2, 1, 0], [0, 2, 1, 3]]),
    }
    masks = masks_of(orders, counts=(1, 2, 4), tested=(2,), curve_draws=1)
    for i, (name, draws) in enumerate(orders.items()):
        for j, order in enumerate(draws):
            for k, n in enumerate(masks.counts):
                number = masks.which[i, j, k]
                if name == "random" and j > 0 and n != 2:
                    assert number == -1
                else:
                    assert set(np.flatnonzero(~masks.keep[number])) == set(order[:n])
    # {0}, {0 1}, all, {1}, {3}, {3 2}, {0 2}: a and b meet at 2, and all meet at 4.
    assert len(masks.keep) == 7
    assert len(np.unique(masks.keep, axis=0)) == 7
    spread = masks.spread(np.arange(7, dtype=float)[:, None])
    assert spread.shape == (3, 2, 3, 1)
    assert np.isnan(spread[0, 1]).all()
    assert (spread[..., 0][masks.which >= 0] == masks.which[masks.which >= 0]).all()
    assert masks.places[2, 0].tolist() == [4, 3, 2, 1]
    assert masks.places[0, 1].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    "wrong",
    [{"fractions": (1.5,)}, {"fractions": ()}, {"draws": 0}, {"orders": ()}, {"curve_draws": 500}],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Settings(**wrong).check()  # pyright: ignore[reportArgumentType]


def test_settings_come_back_from_plain_values() -> None:
    settings = Settings(orders=("norm",), draws=19, curve_draws=2, accuracy_draws=3).quick()
    assert Settings.from_settings(settings.identity()) == settings
    with pytest.raises(ConfigError, match="cheese"):
        Settings.from_settings({"cheese": 1})
    with pytest.raises(ConfigError, match="draws"):
        Settings.from_settings({"draws": "many"})

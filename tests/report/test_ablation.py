"""The section on ablation: its numbers are those of the tests, its texts are inert."""

from typing import Any

import numpy as np
import pytest
import xarray as xr

import report_factory as artifacts
from divergence_factory import World, by_value, divergence
from parsed_page import Element, figure, numbers, parse
from synatlas.errors import ArtifactError
from synatlas.intervene.statistics import ablation_tests
from synatlas.intervene.verdict import verdict
from synatlas.report.ablation import ablation_section
from synatlas.report.page import report
from synatlas.report.verdict import number

RUN = artifacts.World(layers=4, heads=8, scores=("rank_of_difference", "synergy"))
HOSTILE = "</script><b>x</b>"


@pytest.fixture(scope="module")
def made() -> tuple[xr.Dataset, xr.Dataset, xr.Dataset]:
    rng = np.random.default_rng(0)
    weight = rng.gamma(1.0, size=32)
    orders = {
        "rank_of_difference": by_value(weight),
        "norm": rng.permutation(32),
        HOSTILE: rng.permutation(32),
    }
    world = World(weight=weight, orders=orders, categories=("abstract", HOSTILE))
    found, atlas = divergence(world), artifacts.atlas(RUN)
    found.attrs |= {name: atlas.attrs[name] for name in ("model", "model_revision")}
    return found, ablation_tests(found, draws=200), atlas


@pytest.fixture(scope="module")
def page(made: Any, tmp_path_factory: pytest.TempPathFactory) -> Element:
    target = tmp_path_factory.mktemp("report") / "r.html"
    return parse(report([made[2], made[0], made[1]], target).read_text(encoding="utf-8"))


def test_the_verdict_comes_first_and_its_anchors_are_its_own(page: Element, made: Any) -> None:
    section = page.only("section", name="ablation")
    assert page.only("p", name="ablation-headline").text == verdict(*made[:2]).headline
    assert section.children[1].attrs["id"] == "ablation-headline"
    anchors = [element.attrs.get("id") for element in page.walk()]
    own = {element.attrs["id"] for element in section.walk() if "id" in element.attrs}
    assert all(anchors.count(name) == 1 for name in own)
    assert "#ablation" in {link.attrs["href"] for link in page.only("nav").find("a")}


def test_texts_of_the_data_are_text(page: Element) -> None:
    assert not page.find("b")
    cells = {cell.text for cell in page.only("section", name="ablation").find("th")}
    assert HOSTILE in cells
    names = [trace.get("name", "") for trace in figure(page, "ablation-kl-others")["data"]]
    assert "&lt;/script&gt;&lt;b&gt;x&lt;/b&gt;" in names


def test_curves_and_bars_are_the_numbers_of_the_artifact(page: Element, made: Any) -> None:
    found, tests, _ = made
    traces = {t.get("name"): t for t in figure(page, "ablation-kl")["data"]}
    curve = found["kl"].sel(order="norm", draw=0).mean("prompt").to_numpy()
    assert np.allclose(numbers(traces["norm"]["y"]), np.r_[0, curve], rtol=1e-5)
    bars = traces["random units, 5 to 95 % of 199"]
    drawn = tests.sel(outcome="kl", control="random")
    assert np.allclose(numbers(bars["y"]), drawn["control_damage"])
    high = numbers(bars["y"]) + numbers(bars["error_y"]["array"])
    assert np.allclose(high, drawn["control_quantile"].sel(quantile=0.95))
    answers = {t["name"]: t for t in figure(page, "ablation-accuracy")["data"]}
    kept = 1 - tests["damage"].sel(outcome="lost_accuracy", tested=8).to_numpy()
    orders = tests["order"].values.tolist()
    expected = kept[[orders.index(n) for n in ("rank_of_difference", "norm", "single_unit")]]
    assert np.allclose(numbers(answers["8 units"]["x"])[:3], expected)


def test_every_order_stands_in_the_table_beside_its_control(page: Element, made: Any) -> None:
    _, tests, _ = made
    table = page.only("section", name="ablation").find("table")[1]
    head = [cell.text for cell in table.only("thead").find("th")]
    rows = {row.children[0].text: [c.text for c in row.children]
            for row in table.only("tbody").find("tr")}  # fmt: skip
    assert len(rows) == tests.sizes["order"]
    at = tests.sel(outcome="kl", order="norm", control="random")
    row = rows["norm"]
    assert row[head.index("p, random units")] == number(at["p_more"].item())
    assert row[head.index("effect (SD of draws)")] == number(at["effect"].item())
    assert row[head.index("p, random units, same layers")] == "other layers"


def test_what_was_not_run_has_no_figure(made: Any) -> None:
    found, _, atlas = made
    lean = found.drop_vars("single_kl").isel(item=slice(0, 0))
    section = ablation_section(lean, ablation_tests(lean, draws=50), atlas)
    assert section.accuracy is None
    assert section.maps == []
    with pytest.raises(ArtifactError):
        ablation_section(atlas, ablation_tests(lean, draws=50), atlas)

"""Models side by side: who reads what, what the numbers are, and what is called on them."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from parsed_page import figure, parse
from parsed_page import numbers as values_of
from planted_atoms import make_atoms
from synatlas.artifact import save
from synatlas.cli import main
from synatlas.config import MapConfig
from synatlas.errors import ConfigError
from synatlas.study import contrast
from synatlas.study.cells import LIGHT, Cell
from synatlas.study.compare import COMMON, FRESH, OWN, Entry, compare_study, entry, tokenizer_groups
from synatlas.study.compare_page import compare_page
from synatlas.study.compare_verdict import findings, headline
from synatlas.study.page import write_page
from synatlas.study.travel import Travelled
from tiny_models import tiny_network, tiny_tokenizer

ARCH = np.hanning(12)[1:-1]


def test_names_of_models_are_read(tmp_path: Path) -> None:
    assert entry("bundled:dense@step64=experts") == Entry(
        name="bundled:dense@step64=experts",
        model="bundled:dense",
        revision="step64",
        units="experts",
    )
    assert entry("org/model").units == "mixers"
    odd = tmp_path / "a=b@c"
    odd.mkdir()
    assert entry(str(odd)).model == str(odd)
    assert entry(f"{odd}").name == "a=b@c"
    with pytest.raises(ConfigError, match="= one of"):
        entry("org/model=neurons")


def test_who_reads_what() -> None:
    models = [entry(f"org/{name}") for name in "abc"]
    study = compare_study(models, [0, 1, 0], MapConfig(tokens=20, prompts="p.csv"), seeds=2)
    read = {c.name: c.reads for c in study.cells}
    assert read == {
        "org-a": "", "org-a_fresh0": "org-a", "org-a_fresh1": "org-a",
        "org-b": "", "org-b_fresh0": "org-b", "org-b_fresh1": "org-b",
        "org-c": "", "org-c_common": "org-a", "org-c_fresh0": "org-a", "org-c_fresh1": "org-a",
    }  # fmt: skip
    cells = {c.name: c for c in study.cells}
    assert cells["org-a"].measured
    assert cells["org-c_fresh1"].config.init_seed == 1
    assert [c.config.prompts for c in study.cells if not c.reads] == ["p.csv"] * 3
    for wrong in (models[:1], [*models[:1], *models[:1]]):
        with pytest.raises(ConfigError, match="at least two models"):
            compare_study(wrong, [0] * len(wrong), MapConfig())


def outcome(
    folder: Path, model: str, role: str, synergy: np.ndarray, *, seed: int = -1, **more: Any
) -> Travelled:
    """A cell whose atoms have a planted profile; every cell the same noise of prompts."""
    name = f"{model}_{role}_{seed}".replace(" ", "-")
    where = folder / name
    where.mkdir()
    planted = np.repeat(synergy, 4)
    atoms = make_atoms(synergy=planted, prompt_sd=0.001, surrogates=2, draws=2, **more)
    save(atoms, where / "atoms.nc")
    labels = {"compared": model, "role": role, "init_seed": seed, "group": 0}
    return Travelled(cell=Cell(name=name, config=MapConfig(), labels=labels), folder=where)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[contrast.View, ...]:
    """Arched: a core that fresh weights lack. Copied: an arch that fresh weights have too."""
    folder = tmp_path_factory.mktemp("cells")
    arch, flat = 0.05 + 0.02 * ARCH, np.full(10, 0.05)
    loops = {"repetition": 0.9}
    return contrast.views(
        [
            outcome(folder, "arched", OWN, arch),
            outcome(folder, "arched", FRESH, flat, seed=0),
            outcome(folder, "copied", OWN, arch),
            outcome(folder, "copied", COMMON, arch),
            outcome(folder, "copied", FRESH, arch, seed=0),
            outcome(folder, "sunken", OWN, 0.07 - 0.02 * ARCH),
            outcome(folder, "looping", OWN, arch, **loops),
        ]
    )


def test_numbers_and_what_is_missing(found: tuple[contrast.View, ...]) -> None:
    table = contrast.numbers(found).set_index(["model", "role", "score"]).sort_index()
    raw = table.loc[("arched", OWN, "synergy"), "mid_minus_ends_raw"]
    middle = np.array([False] * 4 + [True] * 2 + [False] * 4)
    expected = 0.02 * (ARCH[middle].mean() - ARCH[~middle].mean())
    assert raw.item() == pytest.approx(expected, rel=0.05)
    looping = contrast.numbers(found).query("model == 'looping'")
    assert looping["status"].tolist() == ["every reply is periodic"]
    assert looping["aperiodic"].tolist() == [0]


def test_only_a_core_that_fresh_weights_lack_is_beyond_them(
    found: tuple[contrast.View, ...],
) -> None:
    fresh = contrast.against_fresh(found).set_index(["model", "score"])
    arched, copied = (fresh.loc[(m, "rank_of_difference")] for m in ("arched", "copied"))
    assert arched["low"] > 0
    # The same noise of prompts on both sides, the same draws: nothing is left.
    assert copied["low"] == copied["difference"] == copied["high"] == 0
    judged = findings(contrast.numbers(found), contrast.against_fresh(found), contrast.pairs(found))
    assert [f.holds for f in judged][:3] == ["in 2 of 3", "in 2 of 3", "in 1 of 2"]
    assert "in 2 of 3" in headline(judged)
    assert "in 1 of 2" in headline(judged)
    assert [f.tone for f in judged][:3] == ["open"] * 3


def test_pairs_are_compared_on_the_tokens_both_read(found: tuple[contrast.View, ...]) -> None:
    pairs = contrast.pairs(found).set_index(["first", "second", "score"])
    one = pairs.loc[("arched", "copied", "synergy")]
    assert one["tokens"] == "the same"
    assert one["agreement"] > 0.95
    assert one["agreement_low"] > 0.8
    other = pairs.loc[("arched", "sunken", "synergy")]
    assert other["agreement"] < -0.9
    assert "looping" not in {name for pair in pairs.index for name in pair}


def test_profiles_of_other_depths_are_compared_where_both_have_one() -> None:
    from synatlas.study.shapes import shapes

    fine = shapes(make_atoms(layers=19, synergy=np.repeat(np.linspace(0.05, 0.06, 19), 4)))
    coarse = shapes(make_atoms(layers=7, synergy=np.repeat(np.linspace(0.05, 0.06, 7), 4)))
    both = [s.sel(score="synergy") for s in (fine, coarse)]
    assert contrast.agreement(*both)["agreement"] > 0.9
    few = [s.sel(score="synergy").isel(layer=slice(0, 3)) for s in (fine, coarse)]
    assert np.isnan(contrast.agreement(*few)["agreement"])


def test_the_page_shows_every_model_and_doubt(
    found: tuple[contrast.View, ...], tmp_path: Path
) -> None:
    cells = [f"{v.model} {v.role}" for v in found]
    table = pd.DataFrame(
        {"cell": cells, "role": [v.role for v in found], "status": "complete", "loss": 2.5}
    )
    page = compare_page(found, table, failed=["<b>lost</b>"])
    html = parse(write_page(tmp_path / "r.html", page).read_text(encoding="utf-8"))
    doubts = [li.text for li in html.only("ul", kind="warnings").find("li")]
    assert "<b>lost</b> could not be run and is left out." in doubts
    assert "looping: 24 of 24 replies are periodic and left out." in doubts
    shown = figure(html, "profiles-synergy")
    titles = [note["text"] for note in shown["layout"]["annotations"]]
    assert titles == ["arched", "copied", "sunken", "looping"]
    (line,) = [t for t in shown["data"] if t.get("name") == COMMON]
    assert found[3].shapes is not None
    expected = found[3].shapes["profile"].sel(score="synergy")
    np.testing.assert_allclose(values_of(line["y"]), expected)


def test_two_models_from_the_command_line_to_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, few in (("ASKED", 1), ("READ", 1), ("ANSWER_TOKENS", 4)):
        monkeypatch.setattr(f"synatlas.study.measures.{name}", few)
    monkeypatch.setattr("synatlas.study.cells.LIGHT", {**LIGHT, "surrogates": 3})
    for name, seed in (("one", 0), ("two", 1)):
        folder = tmp_path / name
        tiny_network("llama", num_hidden_layers=4, seed=seed).save_pretrained(folder)
        tiny_tokenizer().save_pretrained(folder)
    prompts = tmp_path / "prompts.csv"
    prompts.write_text("prompt\nOne two\nWhy is it so\nTell me\n")
    models = [str(tmp_path / name) for name in ("one", "two")]
    assert tokenizer_groups([entry(m) for m in models]) == [0, 0]
    out = tmp_path / "out"
    options = ["--tokens", "12", "--fresh", "0", "--prompts", str(prompts), "--out", str(out)]
    assert main(["compare", *models, *options]) == 0
    assert "report: " in capsys.readouterr().out
    table = pd.read_parquet(out / "table.parquet")
    assert set(table["cell"]) == {"one", "two", "two_common"}
    assert {"loss", "accuracy"} <= set(table.columns)
    assert "No fresh weights were run" in (out / "report.html").read_text(encoding="utf-8")
    assert main(["compare", models[0], "--out", str(out)]) == 2
    assert "at least two models" in capsys.readouterr().err

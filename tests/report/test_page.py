"""The page: complete, self-contained, and deaf to what prompts say."""

import base64
import gzip
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from plotly.offline import get_plotlyjs

import report_factory as artifacts
from parsed_page import Element, figure, numbers, parse
from report_factory import VERDICT, WARNINGS, World
from synatlas.decompose.nulls import NULLS
from synatlas.errors import ArtifactError, RunFolderError
from synatlas.rank.findings import JOINT_CAUTION
from synatlas.report.page import REFERENCES, report
from synatlas.report.tables import null_table, topology_counts, topology_table
from synatlas.report.verdict import read_verdict

LIMIT = 6_000_000
#: Fewer figures, for tests that are about something else.
LEAN = World(layers=3, heads=2, scores=("rank_of_difference", "synergy"))


def page_of(tmp_path: Path, world: World | None = None, **settings: object) -> Element:
    made = report(artifacts.everything(world or World()), tmp_path / "r.html", settings=settings)
    return parse(made.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Element:
    return page_of(tmp_path_factory.mktemp("report"), tokens=100, environment={"torch": "2.13"})


def test_verdict_comes_first_and_is_the_atlas_verdict(page: Element) -> None:
    first = page.find("section")[0]
    assert first.attrs["id"] == "verdict"
    assert page.only("p", name="headline").text == VERDICT["headline"]
    rows = first.only("tbody").find("tr")
    assert [row.only("th").text for row in rows] == [f["claim"] for f in VERDICT["findings"]]
    assert [row.only("span", kind="holds").text for row in rows] == [
        "✗ no",
        "✓ yes",
        "? cannot tell",
    ]
    assert [li.text for li in first.only("ul", kind="warnings").find("li")] == WARNINGS


def test_sections_stand_in_the_order_of_the_design(page: Element) -> None:
    assert [section.attrs["id"] for section in page.find("section")] == [
        "verdict", "profiles", "units", "pairs", "topology", "scatters", "categories", "nulls",
        "core", "tokens", "prompts", "settings", "glossary", "references",
    ]  # fmt: skip
    targets = {link.attrs["href"] for link in page.only("nav").find("a")}
    ids = {"#" + element.attrs["id"] for element in page.walk() if "id" in element.attrs}
    assert targets <= ids


def test_topology_of_both_graphs_stands_beside_its_nulls(page: Element) -> None:
    atlas = artifacts.atlas(World())
    table = page.only("section", name="topology").only("table")
    head = [cell.text for cell in table.only("thead").find("th")]
    rows = [[cell.text for cell in row.children] for row in table.only("tbody").find("tr")]
    # Dividing the weights changes efficiency alone, so the other rows would stand there twice.
    assert [row[1] for row in rows].count("normalised") == 1
    assert len(rows) == 9
    (row,) = [row for row in rows if row[:2] == ["modularity", "density matched"]]
    at = atlas.sel(measure="modularity", weighting="density_matched", graph="redundancy")
    assert row[head.index("redundancy")] == f"{at.topology.item():.3g}"
    null = at.sel(graph_null="strengths_kept")
    mean, z, p = (f"{null[f'topology_{name}'].item():.3g}" for name in ("null", "z", "p"))
    assert row[head.index("redundancy, strengths kept")] == f"{mean} (z {z}, p {p})"
    assert head[-1] == "autocorrelation baseline"


def test_a_tail_beyond_the_draws_is_not_spelt_out() -> None:
    atlas = artifacts.atlas(World())
    atlas["topology_p"][:] = 1e-40
    cells = [
        cell for row in topology_table(atlas).rows for cell in row if "z" in cell and "(" in cell
    ]
    assert cells
    assert all(cell.endswith("p < 0.001)") for cell in cells)


def test_nulls_show_their_level_and_both_matching_errors() -> None:
    atlas = artifacts.atlas(World(nulls=("cross_prompt", "circular_shift", "of my own")))
    atlas["null_self_information_error"][:] = [0.0, -0.26, 0.01]
    atlas["null_same_step_error"][:] = [-0.05, 0.0, 0.01]
    table = null_table(atlas)
    at = [table.columns.index(c) for c in ("matching", "level", "error of self-information")]
    assert [[row[i] for i in at] for row in table.rows] == [
        ["accepted", "holds", "+0.00%"],
        ["refused", NULLS["circular_shift"].level, "-26.00%"],
        ["refused", "not measured", "+1.00%"],
    ]
    same_step = table.columns.index("error of same-step correlation")
    assert [row[same_step] for row in table.rows] == ["-0.05", "0", "0.01"]


def test_an_undefined_number_is_said_once() -> None:
    atlas = artifacts.atlas(World())
    row = {
        "claim": "c",
        "holds": "cannot tell",
        "why": "w",
        "numbers": {"rise": None, "rise_lower": None, "rise_upper": None},
    }
    atlas.attrs["verdict"] = json.dumps({"headline": "h", "findings": [row]})
    assert read_verdict(atlas).findings[0].numbers == (("rise", "not defined"),)


def test_what_a_graph_leaves_out_is_said() -> None:
    atlas = artifacts.atlas(World())
    atlas["graph_undefined"][:] = 23
    atlas["graph_negative"][1] = 4
    told = topology_counts(atlas)
    assert "23 pairs without a value have none" in told
    assert "4 negative values of redundancy count as no edge" in told
    assert "synergy count" not in told


def test_nothing_is_loaded_from_anywhere(page: Element) -> None:
    references = {address for _, address in REFERENCES}
    for element in page.walk():
        assert not {"src", "srcset", "action", "formaction", "data", "poster"} & set(element.attrs)
        assert not any(name.startswith("on") for name in element.attrs)
        href = element.attrs.get("href", "#")
        if element.tag == "a":
            assert href.startswith("#") or href in references
        else:
            assert href in ("#", "data:,")
    style = page.only("style").text
    assert "url(" not in style
    assert "@import" not in style


def test_policy_allows_exactly_the_two_scripts_of_the_page(page: Element) -> None:
    (policy,) = [
        meta.attrs["content"]
        for meta in page.find("meta")
        if meta.attrs.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data: blob:"
    (own,) = [script for script in page.find("script") if "type" not in script.attrs]
    digests = {
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in (own.text, get_plotlyjs())
    }
    assert set(rules["script-src"].split()) == digests


def test_plotly_is_there_once_and_whole(page: Element) -> None:
    bundle = page.only("script", name="plotly").text
    assert gzip.decompress(base64.b64decode(bundle)).decode() == get_plotlyjs()


def test_the_same_artifacts_give_the_same_bytes(tmp_path: Path) -> None:
    made = artifacts.everything(LEAN)
    first = report(made, tmp_path / "a.html").read_bytes()
    assert report(made[::-1], tmp_path / "b.html").read_bytes() == first
    assert len(first) <= LIMIT


def test_artifacts_are_not_changed(tmp_path: Path) -> None:
    made = artifacts.everything(LEAN)
    copies = [dataset.copy(deep=True) for dataset in made]
    report(made, tmp_path / "r.html")
    for before, after in zip(copies, made, strict=True):
        assert before.identical(after)


@pytest.mark.parametrize(
    ("given", "absent"),
    [
        (("atlas",), {"pairs", "prompts"}),
        (("recording", "atlas"), {"pairs"}),
        (("atoms", "atlas"), {"prompts"}),
    ],
)
def test_sections_without_their_artifact_are_left_out_and_said_so(
    given: tuple[str, ...], absent: set[str], tmp_path: Path
) -> None:
    chosen = [getattr(artifacts, name)(LEAN) for name in given]
    html = report(chosen, tmp_path / "r.html").read_text(encoding="utf-8")
    page = parse(html)
    sections = {section.attrs["id"] for section in page.find("section")}
    assert sections.isdisjoint(absent | {"tokens"})
    assert {"verdict", "profiles", "units", "nulls", "core", "settings"} <= sections
    assert len(page.find("p", kind="missing")) == len(absent)
    assert not {f'href="#{name}"' for name in absent if f'href="#{name}"' in html}


HOSTILE = (
    "<script>document.title = 'taken'</script>",
    "</script><script>alert(1)</script><!-- ",
    "{{ 7 * 7 }}{% raw %}{{ config }}",
    '"><img src=x onerror="alert(1)"> & &lt;b&gt;',
    "\n  leading and trailing  \n<pre>\n",
    "javascript:alert(1) <a href='javascript:alert(1)'>x</a>",
)


def hostile_world() -> World:
    return World(
        prompts=HOSTILE,
        replies=HOSTILE[::-1],
        prompt_ids=[f"{i}{text}" for i, text in enumerate(HOSTILE)],
        prompt_category=[HOSTILE[0]] * len(HOSTILE),
        categories=HOSTILE[:3],
        model=HOSTILE[1],
        warnings=HOSTILE,
        verdict={
            "headline": HOSTILE[0],
            "findings": [
                {"claim": HOSTILE[1], "holds": "no", "numbers": {HOSTILE[2]: 1}, "why": HOSTILE[3]}
            ],
        },
    )


def test_hostile_text_is_shown_exactly_and_adds_no_element(tmp_path: Path, page: Element) -> None:
    hostile = page_of(tmp_path, hostile_world(), model=HOSTILE[1])
    tags = {element.tag for element in hostile.walk()}
    assert tags == {element.tag for element in page.walk()}
    assert len(hostile.find("script")) == len(page.find("script"))
    assert [e.text for e in hostile.find(kind="prompt-text")] == list(HOSTILE)
    assert [e.text for e in hostile.find(kind="reply-text")] == list(HOSTILE[::-1])
    assert [e.text for e in hostile.find("bdi", kind="category")] == [HOSTILE[0]] * len(HOSTILE)
    assert hostile.only("h1").only("bdi").text == HOSTILE[1]
    assert hostile.only("p", name="headline").text == HOSTILE[0]
    assert [li.text for li in hostile.only("ul", kind="warnings").find("li")] == list(HOSTILE)


def test_hostile_labels_reach_plotly_escaped(tmp_path: Path) -> None:
    """Plotly reads tags and entities in any text that it draws; none of ours may be left."""

    def texts(value: object) -> list[str]:
        if isinstance(value, str):
            return [value]
        inner = value.values() if isinstance(value, dict) else value
        return [t for v in inner for t in texts(v)] if isinstance(value, dict | list) else []

    hostile = page_of(tmp_path, hostile_world())
    for script in hostile.find("script"):
        if script.attrs.get("type") == "application/json":
            assert not set("<>&") & set(script.text)
            for text in texts(json.loads(script.text)):
                assert not set("<>") & set(re.sub("<br>|</?extra>", "", text)), text
    titles = figure(hostile, "categories-rank_of_difference")["layout"]["annotations"]
    assert titles[2]["text"] == "{{ 7 * 7 }}{% raw %}{{<br>config }}"


def test_unseen_characters_are_shown_as_code_points(tmp_path: Path) -> None:
    texts = ("a\u202etxt.exe", "bell\x07 nul\x00 esc\x1b[31m", "lone \ud800 cr\rlf\r\nend")
    made = page_of(tmp_path, replace(LEAN, prompts=texts))
    assert [e.text for e in made.find(kind="prompt-text")] == [
        "a⟨U+202E⟩txt.exe",
        "bell⟨U+0007⟩ nul⟨U+0000⟩ esc⟨U+001B⟩[31m",
        "lone ⟨U+D800⟩ cr⟨U+000D⟩lf\nend",
    ]


def test_prompts_carry_category_steps_and_repetition(page: Element) -> None:
    rows = page.find("details", kind="prompt")
    assert [r.only("bdi", kind="category").text for r in rows] == ["numbers", "words", "words"]
    # The factory's shares are 0, 1/2 and 1: a reply is flagged above one half.
    assert [len(row.find("span", kind="flag")) for row in rows] == [0, 0, 1]
    assert "12 steps recorded; 50% of tokens" in rows[1].find("p")[0].text


def test_many_long_prompts_stay_within_the_size(tmp_path: Path) -> None:
    count = 300
    world = replace(
        LEAN,
        prompts=["<" * 5000] * count,
        replies=["é" * 5000] * count,
        prompt_ids=[f"p{i}" for i in range(count)],
        prompt_category=["c"] * count,
    )
    made = report(artifacts.everything(world), tmp_path / "r.html")
    assert made.stat().st_size <= LIMIT
    page = parse(made.read_text(encoding="utf-8"))
    shown = page.find(kind="prompt-text")
    assert len(shown) == 200
    assert shown[0].text == "<" * 2000 + " … (3000 more characters are in the recording)"
    assert "200 of 300" in page.only("section", name="prompts").find("p")[0].text


def test_profile_data_equal_the_atlas(page: Element) -> None:
    atlas = artifacts.atlas(World())
    for score in ("joint_prediction", "rank_of_difference", "difference_of_ranks", "synergy"):
        line = figure(page, f"profile-{score}")["data"][-1]
        expected = atlas["profile"].sel(score=score).values
        np.testing.assert_array_equal(numbers(line["y"]), expected)
        np.testing.assert_array_equal(numbers(line["x"]), atlas["depth"].values)


def test_joint_prediction_leads_with_its_caution_and_parts(page: Element) -> None:
    for section, name in (("profiles", "profile"), ("units", "map")):
        first = page.only("section", name=section).find("figure")[0]
        assert first.attrs["id"] == f"{name}-joint_prediction"
    caption = page.only("figure", name="profile-joint_prediction").only("figcaption").text
    assert JOINT_CAUTION in caption
    atlas = artifacts.atlas(World())
    lines = {line["name"]: line for line in figure(page, "profile-joint_prediction")["data"]}
    for part in ("linear", "interaction"):
        expected = atlas["profile"].sel(score=f"joint_prediction_{part}").values
        np.testing.assert_array_equal(numbers(lines[part]["y"]), expected)


def test_unit_maps_share_their_hover_data(page: Element) -> None:
    """The second map stores no hover data and names where they are."""
    first, second = (figure(page, f"map-{n}") for n in ("joint_prediction", "synergy"))
    assert {"text", "customdata"} <= set(first["data"][0])
    assert not {"text", "customdata"} & set(second["data"][0])
    plots = {p.attrs["data-figure"]: p.attrs for p in page.find("div", kind="plot")}
    assert plots["data-map-synergy"]["data-shares"] == "data-map-joint_prediction"
    assert "data-shares" not in plots["data-map-joint_prediction"]
    atlas = artifacts.atlas(World())
    grid = numbers(second["data"][0]["z"])
    np.testing.assert_array_equal(grid.T.ravel(), atlas["synergy"].values)


def test_every_figure_can_be_read_without_seeing_it(page: Element) -> None:
    assert page.only("html").attrs["lang"] == "en"
    for box in page.find("figure"):
        (plot,) = box.find("div", kind="plot")
        assert plot.attrs["role"] == "img"
        assert len(plot.attrs["aria-label"]) > 40
        assert "How to read it" in box.only("figcaption").text
        assert plot.attrs["data-figure"] == box.only("script").attrs["id"]
    for region in page.find("div", kind="scroll"):
        assert region.attrs["aria-label"]
        assert region.attrs["tabindex"] == "0"
    assert len(page.find("h1")) == 1


def test_core_units_are_listed_or_said_to_be_none(tmp_path: Path, page: Element) -> None:
    rows = page.only("section", name="core").only("tbody").find("tr")
    integration = artifacts.atlas(World())["integration"][:2]
    expected = integration["unit"].values[np.argsort(-integration.values)]
    assert [row.only("th").text for row in rows] == expected.tolist()

    none = page_of(tmp_path, replace(LEAN, core=0)).only("p", name="no-core").text
    assert none == "None shown: no unit passes every control."
    unmade = page_of(tmp_path, replace(LEAN, core=0, core_missing=["a window_shift null"]))
    assert unmade.only("p", name="no-core").text.endswith("the call of a core could not be made.")
    assert "a window_shift null" in unmade.only("section", name="core").find("p")[1].text


def test_settings_versions_and_fingerprints(page: Element) -> None:
    tables = page.find("table", kind="facts")
    settings, versions, prints = (
        {row.only("th").text: row.only("td").text for row in table.find("tr")} for table in tables
    )
    assert settings["tokens"] == "100"
    assert settings["lag"] == "1"
    assert "environment" not in settings
    assert "verdict" not in settings
    assert versions == {"torch": "2.13"}
    assert list(prints.values()) == ["f" * 32, "e" * 32, "d" * 32]


def test_an_atlas_without_nulls_categories_or_ccs(tmp_path: Path) -> None:
    made = page_of(tmp_path, replace(LEAN, nulls=(), categories=(), optional=False))
    assert not made.find("section", name="categories")
    assert "No surrogate null was run" in made.only("section", name="nulls").find("p")[0].text
    assert not made.find("figure", name="map-synergy_ccs")
    lines = [trace["name"] for trace in figure(made, "profile-synergy")["data"]]
    assert not [name for name in lines if name.startswith("null")]


def test_a_score_without_any_value_is_drawn_empty(tmp_path: Path) -> None:
    atlas = artifacts.atlas(LEAN)
    for name in atlas.data_vars:
        if atlas[name].dtype.kind == "f":
            atlas[name] = atlas[name] * np.nan
            atlas[name].attrs = artifacts.atlas(LEAN)[name].attrs
    page = parse(report([atlas], tmp_path / "r.html").read_text(encoding="utf-8"))
    drawn = figure(page, "profile-synergy")["data"]
    assert all(value is None for value in drawn[-1]["y"]) or np.isnan(numbers(drawn[-1]["y"])).all()
    table = page.find("details")[0].only("tbody")
    assert "not defined" in [cell.text for cell in table.find("td")]


def test_many_units_stay_within_the_size_and_say_that_blocks_are_averaged(tmp_path: Path) -> None:
    world = replace(LEAN, layers=27, heads=13)
    made = report([artifacts.atoms(world), artifacts.atlas(world)], tmp_path / "r.html")
    assert made.stat().st_size <= LIMIT
    page = parse(made.read_text(encoding="utf-8"))
    cells = numbers(figure(page, "matrix-synergy")["data"][0]["z"])
    assert cells.shape[0] <= 300
    caption = page.only("figure", name="matrix-synergy").only("figcaption").text
    assert "mean over blocks of 2 x 2 units" in caption


def test_no_atlas_twice_the_same_or_two_models_are_refused(tmp_path: Path) -> None:
    target = tmp_path / "r.html"
    atlas = artifacts.atlas(World())
    for wrong in (
        [],
        [artifacts.recording(World())],
        [atlas, atlas],
        [atlas, artifacts.atoms(World(model="another"))],
        [atlas.assign_attrs(verdict="{")],
        [atlas.assign_attrs(verdict="{}")],
        [atlas.assign_attrs(schema="divergence")],
    ):
        with pytest.raises(ArtifactError):
            report(wrong, target)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    atlas = artifacts.atlas(LEAN)
    with pytest.raises(RunFolderError, match="does not exist"):
        report([atlas], tmp_path / "nowhere" / "r.html")
    folder = tmp_path / "r.html"
    folder.mkdir()
    with pytest.raises(RunFolderError):
        report([atlas], folder)
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]

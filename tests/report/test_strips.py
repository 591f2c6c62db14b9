"""Token strips: the right numbers at the right tokens, and nothing that a token says is obeyed."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from test_page import HOSTILE, LEAN

import report_factory as artifacts
from parsed_page import parse
from report_factory import World
from synatlas.decompose.local import local_phiid
from synatlas.report import strips
from synatlas.report.page import report
from synatlas.report.strips import LEVELS, level_of, level_style, token_strips


def shown(world: World) -> strips.Strips:
    found = token_strips(artifacts.recording(world), artifacts.atoms(world), artifacts.atlas(world))
    assert found is not None
    return found


@pytest.mark.parametrize("core", [0, 2])
def test_each_token_carries_the_mean_of_its_step_over_core_units_or_all(core: int) -> None:
    world = replace(LEAN, core=core)
    recording = artifacts.recording(world)
    local = local_phiid(recording)["atom"].sel(past="syn", future="syn")
    units = recording["unit"].values[: core or world.units].tolist()
    inside = [
        local.sel(pair=(local["unit_a"] == unit) | (local["unit_b"] == unit)).mean("pair")
        for unit in units
    ]
    expected = xr.concat(inside, "unit").mean("unit")
    found = shown(world)
    assert ("core" in found.units) == bool(core)
    for strip in found.strips:
        values = [t.title.removesuffix(" nat").split(": ")[1] for t in strip.tokens]
        assert [t.title.split(":")[0] for t in strip.tokens] == [f"step {k}" for k in range(12)]
        assert values[0] == "not defined"
        numbers = np.array(values[1:], dtype=float)
        assert np.allclose(numbers, expected.sel(prompt=strip.name), atol=5.1e-5)
        assert np.isclose(float(strip.mean), numbers.mean(), rtol=0.01, atol=1e-4)


def test_the_most_the_least_and_the_middle_of_each_category_are_shown() -> None:
    count = 9
    world = replace(
        LEAN,
        prompts=["p"] * count,
        replies=["one two three"] * count,
        prompt_ids=[f"p{k}" for k in range(count)],
        prompt_category=[*"aaaa", *"bbb", "c", "d"],
        categories=tuple("abcd"),
        core=0,
    )
    atoms = artifacts.atoms(world)
    synergy = np.array([5, 1, 2, 9, 3, 8, 4, 6, np.nan])
    atoms["unit_atom"][...] = synergy[:, None, None, None]
    found = token_strips(artifacts.recording(world), atoms, artifacts.atlas(world))
    assert found is not None
    assert [(strip.name, strip.category, strip.why) for strip in found.strips] == [
        ("p3", "a", "most synergistic"),
        ("p1", "a", "least synergistic"),
        ("p0", "a", "middle of its category"),
        ("p6", "b", "middle of its category"),
        ("p7", "c", "middle of its category"),
    ]


def test_tokens_join_to_the_reply_and_hostile_ones_add_no_element(tmp_path: Path) -> None:
    """Tags are cut between tokens, so that neither half looks dangerous alone."""

    world = replace(
        LEAN,
        prompts=HOSTILE,
        replies=HOSTILE,
        prompt_ids=[str(k) for k in range(len(HOSTILE))],
        prompt_category=[str(k) for k in range(len(HOSTILE))],
    )
    path = report(artifacts.everything(world), tmp_path / "r.html")
    made = parse(path.read_text(encoding="utf-8"))
    section = made.only("section", name="tokens")
    ours = {"section", "h2", "p", "details", "summary", "bdi", "span", "div"}
    assert {element.tag for element in section.walk()} == ours
    assert made.only("nav").find("a")[-4].attrs["href"] == "#tokens"
    found = {}
    for strip in section.find("details"):
        tokens = strip.only("div", kind="tokens").find("span")
        assert len(tokens) == 12
        assert all(re.fullmatch(r"level-(none|\d+)", token.attrs["class"]) for token in tokens)
        name = strip.only("bdi", kind="name").text
        found[name] = "".join(token.text for token in tokens).replace("▫", "").replace("↵\n", "\n")
    assert found == {str(k): text for k, text in enumerate(HOSTILE)}


def test_unseen_characters_breaks_and_parts_of_characters_are_visible() -> None:
    recording = artifacts.recording(LEAN)
    recording["reply"][...] = "a\u202eb\n"
    recording["token_end"][:] = [0, 1, 2, 3, 4, 4, 4, 4, 4, 4, 4, 4]
    found = token_strips(recording, artifacts.atoms(LEAN), artifacts.atlas(LEAN))
    assert found is not None
    texts = [token.text for token in found.strips[0].tokens]
    assert texts == ["▫", "a", "⟨U+202E⟩", "b", "↵\n", *"▫▫▫▫▫▫▫"]


def test_short_and_long_replies(monkeypatch: pytest.MonkeyPatch) -> None:
    recording, atoms, atlas = artifacts.everything(LEAN)
    recording["activity"][1, 9:] = np.nan
    recording["n_steps"][1] = 9
    atoms["unit_atom"][...] = np.array([1.0, 0.0, 2.0])[:, None, None, None]
    monkeypatch.setattr(strips, "TOKENS_SHOWN", 10)
    found = token_strips(recording, atoms, atlas)
    assert found is not None
    counts = {strip.name: (len(strip.tokens), strip.left_out) for strip in found.strips}
    assert counts == {"p0": (10, 2), "p1": (9, 0), "p2": (10, 2)}


def test_pages_without_strips_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording, atoms, atlas = artifacts.everything(LEAN)
    assert token_strips(recording.drop_vars("token_end"), atoms, atlas) is None
    atoms["unit_atom"][...] = np.nan
    assert token_strips(recording, atoms, atlas) is None
    atoms = artifacts.atoms(LEAN)
    monkeypatch.setattr(strips, "PRODUCTS_AFFORDED", 14)
    path = report([recording, atoms, atlas], tmp_path / "r.html")
    page = parse(path.read_text(encoding="utf-8"))
    assert not page.find("section", name="tokens")
    assert "each token is left out" in page.only("p", kind="missing").text
    # Six units have 15 pairs: one reply can be afforded.
    monkeypatch.setattr(strips, "PRODUCTS_AFFORDED", 15)
    found = token_strips(recording, atoms, atlas)
    assert found is not None
    assert len(found.strips) == 1
    atoms.attrs["redundancy"] = "ccs"
    visited = token_strips(recording, atoms, atlas)
    assert visited is not None
    assert len(visited.strips) == 2
    assert not visited.has_memory


def test_shades_are_symmetric_end_at_the_limit_and_can_be_read() -> None:
    values = np.linspace(-3, 3, 25)
    levels = [int(level_of(value, 2.0).removeprefix("level-")) for value in values]
    assert levels == sorted(levels)
    assert [2 * LEVELS - level for level in levels[::-1]] == levels
    assert {levels[0], levels[12], levels[-1]} == {0, LEVELS, 2 * LEVELS}
    assert levels.count(0) > 4
    assert level_of(float("nan"), 1.0) == "level-none"
    assert level_of(0.3, 0.0) == f"level-{LEVELS}"
    rules = re.findall(
        r"\.level-(\d+) \{ background: rgb\((.*?)\); color: #(...); \}", level_style()
    )
    assert [int(rule[0]) for rule in rules] == list(range(2 * LEVELS + 1))
    for _, shade, ink in rules:
        light = [
            luminance([int(c) for c in shade.split()]),
            luminance([17 * int(c, 16) for c in ink]),
        ]
        assert (max(light) + 0.05) / (min(light) + 0.05) >= 4.5


def luminance(channels: list[int]) -> float:
    linear = [(c / 255 / 12.92 if c < 11 else ((c / 255 + 0.055) / 1.055) ** 2.4) for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

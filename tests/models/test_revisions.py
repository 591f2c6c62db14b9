"""Revisions: every way of naming them, in the order of training, and what has none."""

import json
from pathlib import Path

import pytest
from huggingface_hub import GitRefInfo, GitRefs, HfApi, constants
from hypothesis import given, settings
from hypothesis import strategies as st

from synatlas.errors import ConfigError, ModelError
from synatlas.models.identity import snapshots
from synatlas.models.revisions import Revision, revisions, spaced


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of branches of every model on the Hub; tests append theirs."""
    names = ["main"]

    def refs(self: HfApi, repo_id: str, **_: object) -> GitRefs:
        del self, repo_id
        made = [
            GitRefInfo(name=n, ref=f"refs/heads/{n}", target_commit=f"{i:040x}")
            for i, n in enumerate(names)
        ]
        return GitRefs(branches=made, converts=[], tags=[], pull_requests=None)

    monkeypatch.setattr(HfApi, "list_repo_refs", refs)
    return names


def folder_of(path: Path, *names: str) -> str:
    for name in names:
        (path / name).mkdir(parents=True)
        (path / name / "config.json").write_text("{}")
    return str(path)


def test_snapshots_of_a_bundled_model() -> None:
    found = revisions("bundled:dense")
    assert tuple(r.name for r in found.revisions) == snapshots("bundled:dense")
    assert [r.step for r in found.revisions] == sorted(r.step for r in found.revisions)
    assert found.settings(found.final) == {"model": "bundled:dense", "revision": "step1850"}


def test_branches_as_pythia_names_them(hub: list[str]) -> None:
    hub += ["step143000", "step0", "step1", "step512", "step1000", "experiment"]
    found = revisions("EleutherAI/pythia-14m")
    assert [r.step for r in found.revisions] == [0, 1, 512, 1000, 143000]
    assert found.left_out == ("main", "experiment")
    assert {r.name: r.commit for r in found.revisions}["step0"] == f"{2:040x}"
    assert found.settings(found.final) == {
        "model": "EleutherAI/pythia-14m",
        "revision": "step143000",
    }


def test_stages_as_olmo_names_them_are_counted_through(hub: list[str]) -> None:
    hub += [
        "stage2-ingredient2-step500-tokens5B",
        "stage2-ingredient1-step1000-tokens9B",
        "stage2-ingredient1-step500-tokens5B",
        "stage1-step10000-tokens42B",
        "stage1-step150-tokens1B",
        "step600-tokens3B",
    ]
    found = revisions("allenai/OLMo-2-1124-7B")
    assert [(r.stage, r.step, r.tokens) for r in found.revisions] == [
        ("stage1", 150, 10**9),
        ("stage1", 10000, 42 * 10**9),
        ("stage2", 10500, 47 * 10**9),
        ("stage2", 11000, 51 * 10**9),
    ]
    # An ingredient beside the first, and one that does not say its stage.
    left = {"main", "stage2-ingredient2-step500-tokens5B", "step600-tokens3B"}
    assert set(found.left_out) == left


def test_tokens_without_a_stage(hub: list[str]) -> None:
    hub += ["step1000-tokens4B", "step0-tokens0B"]
    found = revisions("allenai/OLMo-7B").revisions
    assert [(r.step, r.tokens) for r in found] == [(0, 0), (1000, 4 * 10**9)]


def test_a_pattern_of_the_user(hub: list[str]) -> None:
    hub += ["rl-20", "rl-100", "sft-20", "step5"]
    assert [r.name for r in revisions("a/b", r"rl-(?P<step>\d+)").revisions] == ["rl-20", "rl-100"]
    for pattern, told in [
        (r"rl-(\d+", "regular expression"),
        (r"rl-(\d+)", "named groups are none"),
        (r"(rl|sft)-(?P<step>\d+)", "step 20 has rl-20, sft-20"),
        (r"none(?P<step>\d+)", "0 of its 5 branches match"),
    ]:
        with pytest.raises(ConfigError, match=told.replace("(", r"\(")):
            revisions("a/b", pattern)


def test_subfolders_and_the_model_beside_them(tmp_path: Path) -> None:
    model = folder_of(tmp_path, "checkpoint-90", "checkpoint-500", "step4", "other")
    (tmp_path / "checkpoint-7").mkdir()
    found = revisions(model)
    assert [r.name for r in found.revisions] == ["step4", "checkpoint-90", "checkpoint-500"]
    assert found.left_out == ("other",)
    assert found.settings(found.final) == {
        "model": str(tmp_path / "checkpoint-500"),
        "revision": None,
    }
    (tmp_path / "config.json").write_text("{}")
    assert revisions(model) == found
    (tmp_path / "trainer_state.json").write_text(json.dumps({"global_step": 500}))
    assert revisions(model) == found
    (tmp_path / "trainer_state.json").write_text(json.dumps({"global_step": 600}))
    last = revisions(model)
    assert (last.final.name, last.final.step) == (".", 600)
    assert Path(str(last.settings(last.final)["model"])) == tmp_path


def test_models_without_revisions(hub: list[str], tmp_path: Path) -> None:
    assert hub == ["main"]
    one = folder_of(tmp_path, "step5")
    for model in ("some/model", one, "bundled:nosuch", str(tmp_path / "no")):
        with pytest.raises((ConfigError, ModelError)) as told:
            revisions(model)
        assert len(str(told.value).splitlines()) == 4
    with pytest.raises(ConfigError, match=r"1 of its 1 subfolders with config\.json are named so"):
        revisions(str(tmp_path))


def test_without_a_connection_the_cache_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(HfApi, "list_repo_refs", unreachable)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="the Hub cannot be reached"):
        revisions("org/model")
    for step in (2, 10):
        commit = f"{step:040x}"
        repo = tmp_path / "models--org--model"
        (repo / "snapshots" / commit).mkdir(parents=True)
        (repo / "snapshots" / commit / "config.json").write_text("{}")
        (repo / "refs").mkdir(exist_ok=True)
        (repo / "refs" / f"step{step}").write_text(commit)
    found = revisions("org/model").revisions
    assert [(r.step, r.commit) for r in found] == [(2, f"{2:040x}"), (10, f"{10:040x}")]


steps = st.lists(st.integers(0, 10**6), min_size=2, max_size=60, unique=True).map(sorted)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(steps, st.integers(2, 20))
def test_points_are_log_spaced(at: list[int], points: int) -> None:
    line = [Revision(name=f"step{s}", step=s) for s in at]
    chosen = spaced(line, points)
    assert chosen[0] == line[0]
    assert chosen[-1] == line[-1]
    assert len(chosen) == min(points, len(line))
    assert [r.step for r in chosen] == sorted({r.step for r in chosen})


def test_points_of_powers_are_evenly_spaced() -> None:
    line = [Revision(name=f"step{s}", step=s) for s in (0, *(2**k for k in range(17)))]
    found = [r.step for r in spaced(line, 6)]
    assert found == [0, 1, 16, 256, 4096, 65536]
    with pytest.raises(ConfigError, match="--points 1"):
        spaced(line, 1)

"""Sparing the disk: in a cache that the Hub's own client has laid out."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import hf_hub_download

from fake_hub import NAME, FakeHub, served
from synatlas.config import MapConfig
from synatlas.errors import ModelError
from synatlas.models.hub import cached_commits, pin
from synatlas.models.load import load
from synatlas.models.revisions import revisions
from synatlas.study.cells import Cell
from synatlas.study.disk import DOWNLOADS, SpareDisk
from synatlas.study.travel import Travelled, travel
from tiny_models import tiny_network, tiny_tokenizer

STEPS = ("step1", "step5")


@pytest.fixture(scope="module")
def branches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Revisions of a tiny model, with one tokenizer."""
    found = {}
    for seed, name in enumerate((*STEPS, "main")):
        found[name] = tmp_path_factory.mktemp("hub") / name
        torch.manual_seed(seed)
        tiny_network("llama", num_hidden_layers=2).save_pretrained(found[name])
        tiny_tokenizer().save_pretrained(found[name])
    return found


@pytest.fixture
def hub(
    branches: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FakeHub]:
    with served(FakeHub(dict(branches)), tmp_path / "cache", monkeypatch) as made:
        yield made


def cells_of(tmp_path: Path) -> tuple[Cell, ...]:
    """The last step first, whose replies the others are fed too."""
    prompts = tmp_path / "prompts.csv"
    prompts.write_text("prompt\nOne two\nTell me\n")
    own = {"model": NAME, "tokens": 8, "prompt_style": "raw", "prompts": str(prompts)}
    found = []
    for step in reversed(STEPS):
        config = MapConfig.from_settings(own, revision=step)
        found.append(Cell(name=step, config=config))
        if step != STEPS[-1]:
            fed = MapConfig.from_settings({"model": NAME, "tokens": 8}, revision=step)
            found.append(Cell(name=f"{step}-fed", config=fed, reads=STEPS[-1]))
    return tuple(found)


def sparing(hub: FakeHub, cells: tuple[Cell, ...], folder: Path) -> SpareDisk:
    needs = {c.name: frozenset({hub.commits[str(c.config.revision)]}) for c in cells}
    return SpareDisk(folder, NAME, needs)


def go(cells: tuple[Cell, ...], folder: Path, watcher: object) -> tuple[Travelled, ...]:
    folder.mkdir(exist_ok=True)
    return travel(cells, folder, until="recording", watcher=watcher)


def test_each_revision_goes_after_its_last_cell(hub: FakeHub, tmp_path: Path) -> None:
    cells, seen = cells_of(tmp_path), []
    folder = tmp_path / "study"
    spare = sparing(hub, cells, folder)

    class Spy:
        def before(self, cell: Cell) -> None:
            spare.before(cell)

        def after(self, cell: Cell) -> None:
            spare.after(cell)
            steps = {commit: step for step, commit in hub.commits.items()}
            seen.append((cell.name, {steps[c] for c in cached_commits(NAME)}))

    assert not [o.failure for o in go(cells, folder, Spy()) if o.failure]
    assert seen == [
        ("step5", set()),
        ("step1", {"step1"}),
        ("step1-fed", set()),
    ]
    assert spare.freed > 2 * 10**5
    assert not list((tmp_path / "cache").rglob("model.safetensors"))
    assert not (folder / DOWNLOADS).exists()
    assert [r.step for r in revisions(NAME).revisions] == [1, 5]


def test_what_was_there_before_stays_and_shared_files_with_it(hub: FakeHub, tmp_path: Path) -> None:
    cells, folder = cells_of(tmp_path), tmp_path / "study"
    # A single file of a revision is enough: it was there before.
    kept = Path(hf_hub_download(NAME, "tokenizer.json", revision="step5"))
    go(cells, folder, sparing(hub, cells, folder))
    assert cached_commits(NAME) == {hub.commits["step5"]}
    assert kept.read_bytes() == (hub.branches["step5"] / "tokenizer.json").read_bytes()
    assert (kept.parent / "model.safetensors").exists()
    assert all(blob.exists() for blob in (tmp_path / "cache").rglob("snapshots/*/*"))


def test_a_study_that_goes_on_deletes_what_it_had_downloaded(hub: FakeHub, tmp_path: Path) -> None:
    cells, folder = cells_of(tmp_path), tmp_path / "study"
    folder.mkdir()
    # Killed after the last cell of a revision was complete, and before its commit was deleted.
    first = sparing(hub, cells, folder)
    first.before(cells[0])
    travel(cells[:1], folder, until="recording")
    assert cached_commits(NAME) == {hub.commits["step5"]}
    # A revision that the user has fetched since is the user's.
    hf_hub_download(NAME, "config.json", revision="step1")
    go(cells, folder, sparing(hub, cells, folder))
    assert cached_commits(NAME) == {hub.commits["step1"]}
    assert not (folder / DOWNLOADS).exists()


def test_a_cell_that_failed_keeps_its_revision(
    hub: FakeHub, branches: dict[str, Path], tmp_path: Path
) -> None:
    hub.branches["step1"] = tmp_path
    (tmp_path / "config.json").write_bytes((branches["step1"] / "config.json").read_bytes())
    cells, folder = cells_of(tmp_path), tmp_path / "study"
    outcomes = go(cells, folder, sparing(hub, cells, folder))
    assert [bool(o.failure) for o in outcomes] == [False, True, True]
    assert cached_commits(NAME) == {hub.commits["step1"]}


def test_a_model_that_was_asked_once_is_found_offline(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    online = load(NAME, revision="step5").revision
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert pin(NAME, "step5").commit == online == hub.commits["step5"]
    assert pin(NAME, "step5").offline
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
        pin(NAME, "step1")

"""The run folder: refused when it is another's, locked, and left clean when nothing was done."""

import json
import multiprocessing
import os
from pathlib import Path

import pytest

from synatlas import provenance
from synatlas.config import MapConfig, differences
from synatlas.errors import ConfigError, RunFolderError
from synatlas.folder import LOCK_FILE, RECORD_FILE, check_writable, locked, open_record

SETTINGS = {"model": "m", "tokens": 100}


def stored(folder: Path, settings: dict[str, object]) -> None:
    record = open_record(folder, settings, force=False)
    provenance.write_record(folder / RECORD_FILE, record)


def test_the_same_run_is_taken_up_again(tmp_path: Path) -> None:
    stored(tmp_path, SETTINGS)
    assert open_record(tmp_path, SETTINGS, force=False)["settings"] == SETTINGS


def test_another_run_is_refused_by_the_setting_that_differs(tmp_path: Path) -> None:
    stored(tmp_path, SETTINGS)
    with pytest.raises(RunFolderError, match=r"tokens: 100 there, 50 now") as raised:
        open_record(tmp_path, {**SETTINGS, "tokens": 50}, force=False)
    assert "--force" in raised.value.remedy


def test_force_begins_anew_and_writes_nothing_yet(tmp_path: Path) -> None:
    stored(tmp_path, SETTINGS)
    before = (tmp_path / RECORD_FILE).read_bytes()
    assert open_record(tmp_path, {**SETTINGS, "tokens": 50}, force=True)["stages"] == {}
    assert (tmp_path / RECORD_FILE).read_bytes() == before


def test_artifacts_without_a_record_are_another_run(tmp_path: Path) -> None:
    (tmp_path / "atoms.nc").write_bytes(b"")
    with pytest.raises(RunFolderError, match=r"atoms\.nc without a run\.json"):
        open_record(tmp_path, SETTINGS, force=False)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"record_version": 99}', "\x00"])
def test_a_damaged_record_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / RECORD_FILE).write_text(content)
    with pytest.raises(RunFolderError):
        open_record(tmp_path, SETTINGS, force=False)


def test_an_untouched_folder_leaves_no_trace(tmp_path: Path) -> None:
    with locked(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_stays(tmp_path: Path) -> None:
    with locked(tmp_path / "a" / "b") as folder:
        (folder / "kept").touch()
    assert [p.name for p in (tmp_path / "a" / "b").iterdir()] == ["kept"]


def _hold(folder: Path, entered: object, leave: object) -> None:
    with locked(folder):
        entered.set()  # type: ignore[attr-defined]
        leave.wait(30)  # type: ignore[attr-defined]


def test_two_processes_do_not_share_a_folder_and_a_killed_one_frees_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    entered, leave = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path / "run", entered, leave))
    holder.start()
    assert entered.wait(60)
    with pytest.raises(RunFolderError, match="another synatlas process"), locked(tmp_path / "run"):
        pass
    holder.kill()
    holder.join()
    with locked(tmp_path / "run"):
        pass


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(RunFolderError, match="in the way"):
        check_writable(tmp_path / "out")
    with pytest.raises(RunFolderError):
        check_writable(tmp_path / "out" / "below")


def test_a_folder_without_rights_is_refused(tmp_path: Path, monkeypatch) -> None:
    # The tests may run as root, to whom every folder is writable.
    monkeypatch.setattr(os, "access", lambda *_a, **_k: False)
    with pytest.raises(RunFolderError, match="cannot be written"):
        check_writable(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_a_killed_process_left_half_written_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".recording.nc.123.tmp").touch()
    (tmp_path / ".run.json.123.tmp").touch()
    (tmp_path / ".mine.tmp").touch()
    with locked(tmp_path):
        assert sorted(p.name for p in tmp_path.iterdir()) == [LOCK_FILE, ".mine.tmp"]


def test_lock_is_removed(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with locked(tmp_path):
        assert (tmp_path / LOCK_FILE).exists()
    assert not (tmp_path / LOCK_FILE).exists()


def test_settings_survive_json() -> None:
    config = MapConfig(model="m", lag=2, nulls=("same_step",), surrogates=9, out="x", force=True)
    again = MapConfig.from_settings(json.loads(json.dumps(config.identity())), out="x", force=True)
    assert again == config


def test_how_a_run_is_done_is_not_its_identity() -> None:
    one = MapConfig(model="m", out="a", device="cpu", batch_size=3, threads=1)
    two = MapConfig(model="m", out="b", device="cuda", batch_size=9, threads=2, force=True)
    assert one.identity() == two.identity()
    assert differences(one.identity(), MapConfig(model="n").identity()) == (
        "model: 'm' there, 'n' now",
    )


def test_unknown_settings_are_named() -> None:
    with pytest.raises(ConfigError, match="tokenz"):
        MapConfig.from_settings({"tokenz": 5})


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (MapConfig(tokens=7), "--tokens 7"),
        (MapConfig(lag=0), "--lag 0"),
        (MapConfig(lag=100), "--lag 100"),
        (MapConfig(lag=96), "at most 95"),
        (MapConfig(tokens=20, lag=30), "--lag 30"),
        (MapConfig(redundancy="imin"), "--redundancy imin"),
        (MapConfig(estimator="ksg"), "--estimator ksg"),
        (MapConfig(nulls=("shuffle",)), "--nulls shuffle"),
        (MapConfig(prompt_style="poem"), "--prompt-style poem"),
        (MapConfig(surrogates=0), "--surrogates 0"),
        (MapConfig(batch_size=0), "--batch-size 0"),
        (MapConfig(seed=-1), "--seed -1"),
    ],
)
def test_impossible_settings_are_refused_before_a_model_is_loaded(
    config: MapConfig, told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        config.check()


def test_folder_is_named_after_the_model() -> None:
    assert MapConfig(model="EleutherAI/pythia-70m", revision="step3000").folder() == Path(
        "runs/EleutherAI-pythia-70m_step3000"
    )
    assert MapConfig(random_init=True).folder() == Path("runs/bundled-reference_random-init")
    assert MapConfig(model="../..", out="").folder().parts[0] == "runs"

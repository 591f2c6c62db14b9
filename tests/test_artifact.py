"""Artifacts: what is saved is what is opened, and anything else is refused by name."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from synatlas.artifact import check, fingerprint_of, finish, open_artifact, require, save
from synatlas.errors import ArtifactError
from synatlas.netcdf import read
from synatlas.record.recording import RECORDING

TEXT = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), min_size=0, max_size=20
)


def recording(texts: list[str] | None = None, *, seed: int = 0) -> xr.Dataset:
    texts = ["one", "two <script>", "drei ü"] if texts is None else texts
    prompts, steps, units = len(texts), 9, 4
    rng = np.random.default_rng(seed)
    activity = rng.random((prompts, steps, units)).astype("f4")
    activity[0, -1] = np.nan
    dataset = xr.Dataset(
        {
            "activity": (("prompt", "step", "unit"), activity),
            "token": (("prompt", "step"), rng.integers(0, 9, (prompts, steps)).astype("i4")),
            "logprob": (("prompt", "step"), -rng.random((prompts, steps)).astype("f4")),
            "prompt_token": (("prompt", "position"), np.full((prompts, 3), -1, "i4")),
            "n_steps": ("prompt", np.full(prompts, steps, "i4")),
        },
        coords={
            "prompt": [f"p{i}" for i in range(prompts)],
            "unit": [f"L00H0{i}" for i in range(units)],
            "layer": ("unit", np.zeros(units, "i4")),
            "index": ("unit", np.arange(units, dtype="i4")),
            "kind": ("unit", ["head"] * units),
            "kv_group": ("unit", np.arange(units, dtype="i4")),
            "category": ("prompt", texts),
            "text": ("prompt", texts),
            "rendered": ("prompt", texts),
            "reply": ("prompt", texts),
        },
        attrs=dict.fromkeys(RECORDING.attrs, "x") | {"n_layers": 1, "live_replay_error": 1e-7},
    )
    return finish(dataset, RECORDING, fingerprint="f" * 32)


def test_round_trip_is_identical_and_bytes_repeat(tmp_path: Path) -> None:
    made = recording()
    save(made, tmp_path / "a.nc")
    save(made, tmp_path / "b.nc")
    assert open_artifact(tmp_path / "a.nc").identical(made)
    assert (tmp_path / "a.nc").read_bytes() == (tmp_path / "b.nc").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nc", "b.nc"]


@pytest.mark.parametrize("kind", ["recording", "others"])
def test_a_file_is_read_as_xarray_reads_it(kind: str, tmp_path: Path) -> None:
    """Texts, scalars, empty sizes, attributes of every kind, coordinates of two dimensions."""
    other = xr.Dataset(
        {
            "flag": (
                "x",
                np.array([True, False, True]),
                {"valid": [1, 2], "one": [5], "say": ["a"]},
            ),
            "none": (("x", "empty"), np.zeros((3, 0)), {"names": ["a", "b"], "half": 0.5}),
            "alone": ((), 3.5),
            "square": (("x", "x2"), np.eye(3)),
        },
        coords={"x": ["a", "", "ü"], "both": (("x", "x2"), np.ones((3, 3))), "when": 7},
        attrs={"n": 3, "text": "", "list": ["p", "q"], "array": np.arange(3)},
    )
    (recording() if kind == "recording" else other).to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as stored:
        expected = stored.load()
    found = read(tmp_path / "a.nc")
    xr.testing.assert_identical(found, expected)
    assert list(found.variables) == list(expected.variables)
    for one, there in ((found, expected), *((found[n], expected[n]) for n in found.variables)):
        assert {k: type(v) for k, v in one.attrs.items()} == {
            k: type(v) for k, v in there.attrs.items()
        }


@settings(max_examples=25, derandomize=True, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=4))
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("text") / "a.nc"
    save(recording(texts), path)
    assert open_artifact(path)["text"].values.tolist() == texts


def test_a_list_of_one_survives_as_an_attribute(tmp_path: Path) -> None:
    dataset = recording()
    dataset.attrs["tested"] = [8]
    assert open_artifact(save(dataset, tmp_path / "one.nc")).attrs["tested"] == 8


def test_saving_twice_through_a_file_changes_nothing(tmp_path: Path) -> None:
    save(recording(), tmp_path / "a.nc")
    save(open_artifact(tmp_path / "a.nc"), tmp_path / "b.nc")
    assert (tmp_path / "a.nc").read_bytes() == (tmp_path / "b.nc").read_bytes()


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.9])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: float) -> None:
    path = save(recording(), tmp_path / "a.nc")
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep < 1 else int(keep)])
    with pytest.raises(ArtifactError, match="truncated or edited"):
        open_artifact(path)


def test_an_edited_value_is_refused(tmp_path: Path) -> None:
    import h5py

    path = save(recording(), tmp_path / "a.nc")
    with h5py.File(path, "r+") as file:
        file["activity"][0, 0, 0] = 5.0
    with pytest.raises(ArtifactError, match="not those that were written"):
        open_artifact(path)


@pytest.mark.parametrize("content", [b"", b"not a netcdf file", b"\x89HDF\r\n\x1a\n" + b"0" * 99])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.nc"
    path.write_bytes(content)
    with pytest.raises(ArtifactError):
        open_artifact(path)


def test_a_foreign_netcdf_is_refused(tmp_path: Path) -> None:
    xr.Dataset({"x": ("t", np.arange(3))}).to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with pytest.raises(ArtifactError, match="schema"):
        open_artifact(tmp_path / "a.nc")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist"):
        open_artifact(tmp_path / "none.nc")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda d: d.drop_vars("token"), "token"),
        (lambda d: d.assign(activity=d["activity"].astype("f8")), "float64"),
        (lambda d: d.assign(extra=("step", np.zeros(9))), "extra"),
        (lambda d: d.assign(logprob=d["logprob"].T), "logprob"),
        (lambda d: d.assign_attrs(schema_version=99), "99"),
        (lambda d: d.drop_attrs(deep=False), "schema"),
    ],
)
def test_the_first_difference_is_named(spoil, told: str) -> None:
    with pytest.raises(ArtifactError, match=told):
        check(spoil(recording()), RECORDING)


def test_require_says_what_was_passed() -> None:
    with pytest.raises(ArtifactError, match="ndarray"):
        require(np.zeros(3), RECORDING)


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch) -> None:
    path = save(recording(seed=1), tmp_path / "a.nc")
    before = path.read_bytes()

    def fail(*_args: object, **_kwargs: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(xr.Dataset, "to_netcdf", fail)
    with pytest.raises(OSError, match="disk full"):
        save(recording(seed=2), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.nc"]


def test_fingerprints_follow_what_determines_values() -> None:
    base = fingerprint_of(stage="s", version=1, config={"a": 1, "b": 2}, parents=("p",))
    assert base == fingerprint_of(stage="s", version=1, config={"b": 2, "a": 1}, parents=("p",))
    assert base != fingerprint_of(stage="s", version=2, config={"a": 1, "b": 2}, parents=("p",))
    assert base != fingerprint_of(stage="s", version=1, config={"a": 1, "b": 3}, parents=("p",))
    assert base != fingerprint_of(stage="s", version=1, config={"a": 1, "b": 2}, parents=("q",))


def test_finish_does_not_touch_its_input() -> None:
    dataset = recording()
    before = dataset.copy(deep=True)
    finish(dataset, RECORDING, fingerprint="g" * 32)
    assert dataset.identical(before)

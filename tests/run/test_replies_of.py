"""A run over the prompts and replies of another run."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from synatlas.config import MapConfig
from synatlas.errors import ConfigError
from synatlas.run import Run, advance

LlamaFolder = Callable[..., Path]


def config(model: Path, out: Path, **changes: object) -> MapConfig:
    settings = {"tokens": 16, "nulls": (), "surrogates": 3, "prompt_style": "auto"} | changes
    return MapConfig(model=str(model), out=str(out), **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def source(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("source")
    prompts = folder / "prompts.csv"
    prompts.write_text("id,prompt,category\na,One two,x\nb,Tell me é,x\nc,Why is it so,y\n")
    return advance(config(tiny, folder / "run", prompts=str(prompts)), until="recording")


def test_over_its_own_replies_a_model_does_the_same(
    source: Run, tiny: Path, tmp_path: Path
) -> None:
    given = config(tiny, tmp_path / "same", replies_of=str(source.folder))
    again = advance(given, until="atoms")
    for name in ("token", "n_steps", "prompt_token", "text", "category", "reply"):
        np.testing.assert_array_equal(again.recording[name], source.recording[name])
    for name in ("activity", "logprob"):
        np.testing.assert_allclose(again.recording[name], source.recording[name], rtol=1e-5)
    assert again.record["settings"]["replies_of"] == source.recording.attrs["fingerprint"]
    assert advance(given, until="atoms").reused == ("recording", "atoms")


def test_another_model_reads_what_the_first_one_wrote(
    source: Run, llama_folder: LlamaFolder, tmp_path: Path
) -> None:
    other = llama_folder(seed=1)
    found = advance(
        config(other, tmp_path / "other", replies_of=str(source.folder / "recording.nc"), tokens=9),
        until="recording",
    ).recording
    np.testing.assert_array_equal(found["token"], source.recording["token"][:, :9])
    # What it reads is likelier to the model that wrote it.
    assert float(found["logprob"].mean()) < float(source.recording["logprob"][:, :9].mean())


def test_a_model_with_another_tokenizer_is_refused(
    source: Run, llama_folder: LlamaFolder, tmp_path: Path
) -> None:
    folder = llama_folder(seed=1)
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    special, rest = [*content["model"]["vocab"]][:2], [*content["model"]["vocab"]][2:]
    content["model"]["vocab"] = {name: i for i, name in enumerate([*special, *reversed(rest)])}
    file.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="own tokenizer"):
        advance(config(folder, tmp_path / "no", replies_of=str(source.folder)), until="recording")
    assert not (tmp_path / "no" / "recording.nc").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"tokens": 17}, "at most 16, its shortest reply"),
        ({"system": "Be brief."}, "one or the other"),
        ({"capture": "live"}, "--capture live"),
        ({"replies_of": "nowhere"}, "there is no recording"),
    ],
)
def test_what_cannot_be_given(
    source: Run, tiny: Path, tmp_path: Path, changes: dict[str, object], told: str
) -> None:
    given = {"replies_of": str(source.folder)} | changes
    with pytest.raises(ConfigError, match=told):
        advance(config(tiny, tmp_path / "no", **given), until="recording")
    assert not (tmp_path / "no").exists()

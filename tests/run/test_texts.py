"""A run over texts that are read as they stand."""

from pathlib import Path

import numpy as np
import pytest

import synatlas as sa
from synatlas.config import MapConfig
from synatlas.errors import ConfigError
from synatlas.run import advance

TEXTS = ("One two three four five", "Why is it so, tell me why", "Tell me é and nothing more")


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    file = tmp_path / "texts.csv"
    file.write_text("prompt,category\n" + "\n".join(f'"{text}",x/1' for text in TEXTS) + "\n")
    return file


def test_texts_are_replayed_as_documents(tiny: Path, tmp_path: Path, texts: Path) -> None:
    settings = MapConfig(
        model=str(tiny), out=str(tmp_path / "run"), texts=str(texts), tokens=12, nulls=()
    )
    found = advance(settings, until="atoms")
    model = sa.load(str(tiny))
    rows = [model.tokenizer(text)["input_ids"][:12] for text in TEXTS]
    expected = sa.replay(model, rows, 0)
    for name in ("activity", "logprob", "token"):
        np.testing.assert_array_equal(found.recording[name], expected[name])
    assert found.recording.attrs["alignment"] == "document"
    assert found.recording["text"].to_numpy().tolist() == list(TEXTS)
    assert set(found.recording["category"].to_numpy().tolist()) == {"x/1"}
    assert np.isfinite(found.atoms["unit_atom"]).all()
    assert advance(settings, until="atoms").reused == ("recording", "atoms")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"tokens": 100}, "the text p000 of"),
        ({"prompts": "asked.csv"}, "--texts .* with --prompts"),
        ({"capture": "live"}, "--capture live"),
        ({"replies_of": "elsewhere"}, "--replies-of elsewhere with --texts"),
    ],
)
def test_texts_that_cannot_be_read(
    tiny: Path, tmp_path: Path, texts: Path, changes: dict[str, object], told: str
) -> None:
    settings = {"model": str(tiny), "texts": str(texts), "tokens": 12} | changes
    with pytest.raises(ConfigError, match=told):
        advance(MapConfig.from_settings(settings, out=str(tmp_path / "no")), until="recording")

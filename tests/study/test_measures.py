"""Loss and accuracy of a model: against transformers' own loss and another way to mark answers."""

import math
from pathlib import Path

import pytest
import torch

from synatlas.config import MapConfig
from synatlas.errors import ConfigError, RunFolderError
from synatlas.models.load import LanguageModel, load
from synatlas.study.measures import (
    ANSWER_TOKENS,
    MEASURES_FILE,
    answers,
    held_items,
    held_texts,
    loss,
    measured,
    read_measures,
)
from synatlas.tasks.generators import CATEGORIES
from synatlas.tasks.score import score
from tiny_models import tiny_network, tiny_tokenizer


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return load("bundled:reference")


def test_the_loss_is_that_of_transformers(model: LanguageModel) -> None:
    texts = held_texts()[:5]
    total = count = 0.0
    for text in texts:
        ids = model.tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            mean = model.model(input_ids=ids, labels=ids).loss
        total, count = total + float(mean) * (ids.shape[1] - 1), count + ids.shape[1] - 1
    assert loss(model, texts) == pytest.approx(total / count, rel=1e-5)
    assert loss(model, texts) < math.log(model.model.config.vocab_size) / 2
    with pytest.raises(ConfigError, match="fewer than two tokens"):
        loss(model, [])


def test_answers_are_marked_as_elsewhere(model: LanguageModel) -> None:
    items = held_items(1, seed=9)
    assert {item.category for item in items} == set(CATEGORIES)
    right = answers(model, items, tokens=ANSWER_TOKENS)
    expected = score(model.model, model.tokenizer, items, max_new_tokens=ANSWER_TOKENS)
    assert right == expected
    assert 6 < sum(right) < len(items)


def test_measures_are_made_once_for_each_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synatlas.study.measures.ASKED", 1)
    folder = tmp_path / "tiny"
    tiny_network("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    config = MapConfig(str(folder), random_init=True)
    revision = load(str(folder), random_init=True).revision
    assert read_measures(tmp_path) is None
    found = measured(config, tmp_path, revision)
    # Fresh weights know nothing: as many nats as the vocabulary has, about.
    assert found["loss"] == pytest.approx(math.log(len(tiny_tokenizer())), rel=0.2)
    assert found["accuracy"] == 0.0
    monkeypatch.setattr("synatlas.study.measures.load_model", lambda _: pytest.fail("again"))
    assert measured(config, tmp_path, revision)["loss"] == found["loss"]
    (tmp_path / MEASURES_FILE).write_text("{")
    with pytest.raises(RunFolderError, match=r"measures\.json"):
        read_measures(tmp_path)

"""Fixtures that every room may use."""

from functools import cache

import pytest
import torch

from synatlas.models.load import LanguageModel
from tiny_models import TinyModel, as_language_model, tiny_network, tiny_tokenizer


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_model() -> TinyModel:
    """Make the tiny model of a family once; tests must leave it as it is."""

    @cache
    def make(name: str) -> LanguageModel:
        return as_language_model(tiny_network(name), tiny_tokenizer())

    return make

"""The bundled model and tokenizer, loaded once."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)


@pytest.fixture(scope="session")
def bundled_folder() -> Path:
    """Folder of the reference model."""
    return Path(str(files("synatlas.models").joinpath("bundled", "reference")))


@pytest.fixture(scope="session")
def bundled_tokenizer(bundled_folder: Path) -> PreTrainedTokenizerBase:
    """Tokenizer of the reference model."""
    return AutoTokenizer.from_pretrained(bundled_folder)


@pytest.fixture(scope="session")
def bundled_model(bundled_folder: Path) -> PreTrainedModel:
    """The reference model in float32, on one thread."""
    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(bundled_folder, dtype=torch.float32).eval()


@pytest.fixture(scope="session")
def card(bundled_folder: Path) -> dict[str, Any]:
    """Content of the reference model's card."""
    return json.loads((bundled_folder / "card.json").read_text())

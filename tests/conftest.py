"""Fixtures that every room may use."""

from functools import cache

# What synatlas imports is imported here first: whatever is read while a module of synatlas is
# being loaded for shape checks is compiled anew in every process, thousands of files.
import accelerate  # noqa: F401
import beartype.door  # noqa: F401
import cyclopts  # noqa: F401
import huggingface_hub.hf_api  # noqa: F401
import numba  # noqa: F401
import pandas as pd  # noqa: F401
import plotly.graph_objects  # noqa: F401
import pyarrow.parquet  # noqa: F401
import pytest
import rich.progress  # noqa: F401
import scipy.optimize
import scipy.signal
import scipy.spatial.distance
import scipy.stats  # noqa: F401
import sympy  # noqa: F401
import torch
import transformers.generation
import transformers.modeling_utils  # noqa: F401
import xarray as xr  # noqa: F401

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

"""Silence of the libraries below: what they say is for developers, not for the user's terminal."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.utils import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)
from huggingface_hub.utils import logging as hub_logging
from transformers.utils import logging as model_logging


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings, log lines or progress bars of transformers, the Hub client and torch inside."""
    verbosity, hub_verbosity = model_logging.get_verbosity(), hub_logging.get_verbosity()
    bars, hub_bars = model_logging.is_progress_bar_enabled(), not are_progress_bars_disabled()
    try:
        model_logging.set_verbosity(logging.CRITICAL)
        hub_logging.set_verbosity(logging.CRITICAL)
        if bars:
            model_logging.disable_progress_bar()
        if hub_bars:
            disable_progress_bars()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        model_logging.set_verbosity(verbosity)
        hub_logging.set_verbosity(hub_verbosity)
        if bars:
            model_logging.enable_progress_bar()
        if hub_bars:
            enable_progress_bars()

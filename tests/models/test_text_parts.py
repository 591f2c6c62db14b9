"""Models that also see: their decoder of text is read, from a folder and from memory alike."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText

import synatlas as sa
from synatlas.models.quiet import quiet
from tiny_models import CONFIGS, scale_up, tiny_network, tiny_tokenizer

PROMPTS = ["Why is the sky blue?", "Name two colours."]
_EYE = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 28,
    "patch_size": 14,
}
SEEING: dict[str, dict[str, Any]] = {
    "gemma3": {"text": "gemma3_text", "vision_config": _EYE, "mm_tokens_per_image": 4},
    "llava": {"text": "llama", "vision_config": _EYE | {"model_type": "clip_vision_model"}},
    "mistral3": {"text": "mistral", "vision_config": _EYE | {"model_type": "pixtral"}},
}


@pytest.mark.parametrize("name", SEEING)
def test_the_text_part_is_that_of_the_model_without_eyes(name: str, tmp_path: Path) -> None:
    settings = dict(SEEING[name])
    part = settings.pop("text")
    settings["text_config"] = CONFIGS[part] | {"model_type": part}
    with quiet(), torch.random.fork_rng():
        torch.manual_seed(0)
        network = AutoModelForImageTextToText.from_config(AutoConfig.for_model(name, **settings))
        scale_up(network)
    network.eval().save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    alone = tiny_network(part)
    alone.model.load_state_dict(network.model.language_model.state_dict())
    alone.lm_head.load_state_dict(network.lm_head.state_dict())
    seeing = sa.load(str(tmp_path))
    assert seeing.context_length == 128
    given = {"tokens": 8, "site": "proj_in"}
    expected = sa.record(sa.adopt(alone, tiny_tokenizer()), PROMPTS, **given)
    for model in (seeing, sa.adopt(network, tiny_tokenizer())):
        found = sa.record(model, PROMPTS, **given)
        assert found["unit"].equals(expected["unit"])
        np.testing.assert_array_equal(found["activity"], expected["activity"])

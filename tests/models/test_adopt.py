"""Models from memory: the same as from their folder, adapted, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from synatlas.errors import ModelError
from synatlas.models.adopt import adopt, weights_digest
from synatlas.models.load import load
from synatlas.record.record import record
from tiny_models import tiny_network, tiny_tokenizer

PROMPTS = ["Why is the sky blue?", "Name two colours."]


def test_what_is_recorded_is_what_the_folder_gives(tmp_path: Path) -> None:
    network = tiny_network("llama")
    network.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    mine = record(adopt(network, tiny_tokenizer()), PROMPTS, tokens=8)
    stored = record(load(str(tmp_path)), PROMPTS, tokens=8)
    np.testing.assert_array_equal(mine["activity"], stored["activity"])
    assert mine["unit"].equals(stored["unit"])
    assert mine.attrs["fingerprint"] != stored.attrs["fingerprint"]


def test_the_digest_tells_weights_apart_and_nothing_else() -> None:
    one, again, other = (tiny_network("llama", seed=s) for s in (0, 0, 1))
    assert weights_digest(one) == weights_digest(again) != weights_digest(other)
    with torch.no_grad():
        again.lm_head.weight[0, 0] += 1e-3
    assert weights_digest(one) != weights_digest(again)
    assert weights_digest(one.to(torch.bfloat16)) != weights_digest(tiny_network("llama"))


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_an_adapter_takes_part() -> None:
    """LoRA: the same heads and other activity; merged into the weights, that activity again."""
    plain = record(adopt(tiny_network("llama"), tiny_tokenizer()), PROMPTS, tokens=8)
    settings = LoraConfig(r=2, target_modules=["v_proj", "o_proj"], init_lora_weights=False)
    torch.manual_seed(0)
    adapted = get_peft_model(tiny_network("llama"), settings).eval()
    found = record(adopt(adapted, tiny_tokenizer()), PROMPTS, tokens=8)
    assert found["unit"].equals(plain["unit"])
    assert found.attrs["live_replay_error"] < 1e-5
    assert not np.allclose(found["activity"], plain["activity"], rtol=1e-2)
    merged = record(adopt(adapted.merge_and_unload().eval(), tiny_tokenizer()), PROMPTS, tokens=8)
    np.testing.assert_array_equal(merged["token"], found["token"])
    np.testing.assert_allclose(merged["activity"], found["activity"], rtol=1e-4)


def test_training_mode_is_refused() -> None:
    with pytest.raises(ModelError, match=r"model\.eval"):
        adopt(tiny_network("llama").train(), tiny_tokenizer())

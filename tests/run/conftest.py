"""Small random models saved as folders, and small prompt files."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    MambaConfig,
    PreTrainedTokenizerFast,
)

LlamaFolder = Callable[..., Path]


def save_tokenizer(folder: Path) -> None:
    """A byte-level tokenizer without merges: one token a byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: i for i, symbol in enumerate(["<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> LlamaFolder:
    """Make a folder with a tiny random Llama."""

    def make(*, layers: int = 3, heads: int = 2, context: int = 256, seed: int = 0) -> Path:
        folder = tmp_path_factory.mktemp("llama")
        config = LlamaConfig(
            vocab_size=258,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=1,
            head_dim=8,
            max_position_embeddings=context,
            bos_token_id=0,
            eos_token_id=1,
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            # Larger weights than the default make the replies less monotonous.
            for parameter in model.parameters():
                if parameter.ndim == 2:
                    parameter.mul_(20)
        model.save_pretrained(folder)
        save_tokenizer(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny(llama_folder: LlamaFolder) -> Path:
    """One tiny Llama that tests only read."""
    return llama_folder()


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder without a language-model head of the causal kind."""
    folder = tmp_path_factory.mktemp("encoder")
    config = AutoConfig.for_model("vit")
    config.save_pretrained(folder)
    save_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def mamba_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state-space model: no attention heads."""
    folder = tmp_path_factory.mktemp("mamba")
    config = MambaConfig(vocab_size=258, hidden_size=16, num_hidden_layers=2, state_size=4)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """Four short prompts in two categories."""
    path = tmp_path / "prompts.csv"
    path.write_text(
        "id,prompt,category\na,One two,x\nb,Tell me,x\nc,Why is it so,y\nd,<b>bold</b>,y\n"
    )
    return path

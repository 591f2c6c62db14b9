"""A model that the user has loaded: quantised, adapted, spread over devices, or made by hand."""

import hashlib
from itertools import chain
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from synatlas.errors import ModelError
from synatlas.models.load import LanguageModel, context_length
from synatlas.models.placement import input_device, weights_present
from synatlas.models.probe import find_units


def adopt(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, *, name: str = "adopted"
) -> LanguageModel:
    """Find the units of a model in memory, and make it one that can be recorded.

    For what :func:`synatlas.models.load.load` does not load: models with adapters (PEFT),
    quantised by bitsandbytes or another library, spread over devices by ``device_map``, or changed
    by hand. The model is not changed, moved or copied. One that is spread over devices must take
    its tokens on the device of its input embedding.

    Parameters
    ----------
    model : a causal language model in evaluation mode.
    tokenizer : its tokenizer.
    name : what it is called in artifacts and reports.

    Returns
    -------
    LanguageModel
        Its `revision` is a digest of all parameters and buffers, so that recordings of a changed
        model are told apart; a model of many billion parameters takes a minute.

    Raises
    ------
    ModelError
        The model is in training mode, or :func:`synatlas.models.probe.find_units` refuses it.

    Examples
    --------
    >>> from transformers import AutoModelForCausalLM, AutoTokenizer
    >>> from synatlas.models.identity import BUNDLED_FOLDER
    >>> folder = BUNDLED_FOLDER / "reference"
    >>> network = AutoModelForCausalLM.from_pretrained(folder).eval()
    >>> adopted = adopt(network, AutoTokenizer.from_pretrained(folder), name="mine")
    >>> len(adopted.units)
    64
    """
    if model.training:
        raise ModelError(
            given=f"a model of class {type(model).__name__} in training mode",
            expected="a model in evaluation mode",
            cause="dropout would make every recording another one",
            remedy="call model.eval() first",
        )
    config: Any = model.config
    embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
    units = find_units(model)
    return LanguageModel(
        model=model,
        tokenizer=tokenizer,
        name=name,
        revision=weights_digest(model),
        model_type=config.model_type,
        device=input_device(model),
        dtype=embedding.weight.dtype,
        n_layers=units.n_layers,
        found=units,
        context_length=context_length(config),
    )


def weights_digest(model: nn.Module) -> str:
    """SHA-256 over the class, and name, type, shape and bytes of every parameter and buffer."""
    digest = hashlib.sha256(type(model).__name__.encode())
    for path, module in model.named_modules():
        with weights_present(module):
            own = (module.named_parameters(path, False), module.named_buffers(path, False))
            for name, tensor in chain(*own):
                digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
                values = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
                digest.update(values.numpy().tobytes())
    return digest.hexdigest()[:40]

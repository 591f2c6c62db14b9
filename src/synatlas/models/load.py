"""Loading a causal language model with its tokenizer, pinned to what its files are."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, final

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    PreTrainedConfig,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from synatlas.errors import ConfigError, ModelError, first_line
from synatlas.models.hub import pin
from synatlas.models.identity import Source, card_seed, folder_digest, resolve
from synatlas.models.owned import Ownership
from synatlas.models.ownership import owned
from synatlas.models.placement import input_device
from synatlas.models.probe import find_units
from synatlas.models.quiet import quiet
from synatlas.models.shuffling import shuffle
from synatlas.models.units import UnitTable

#: Types of the weights, by name.
DTYPES: Final = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}

#: Names under which configurations state the longest sequence they were made for.
CONTEXT_NAMES: Final = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")

#: The device that stands for all of them.
SPREAD: Final = "auto"

#: Types of models that transformers knows and that write text after text.
TEXT_TYPES: Final = (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.keys() | MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.keys()
)

#: What transformers raises on files that it cannot turn into a configuration, tokenizer or model.
_FILE_ERRORS: Final = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ImportError,
    RuntimeError,
    SafetensorError,
)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class LanguageModel:
    """A causal language model, ready to be run and read.

    Parameters
    ----------
    model : the transformers model, in evaluation mode, without gradients.
    tokenizer : its tokenizer.
    name : name as given; of a local folder the folder's own name.
    revision : commit of a Hub model, digest of the files of a folder; with ``+random_init:SEED``
        where the weights are fresh, ``+shuffled:SEED`` where they are shuffled.
    model_type : architecture, as the configuration names it.
    device : where it runs.
    dtype : type of the weights.
    n_layers : decoder layers.
    found : everything that can be read of it, at every site.
    context_length : longest sequence the model was made for, in tokens; None without limit.
    """

    model: nn.Module = field(repr=False)
    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    name: str
    revision: str
    model_type: str
    device: torch.device
    dtype: torch.dtype
    n_layers: int
    found: UnitTable = field(repr=False)
    context_length: int | None

    @property
    def units(self) -> UnitTable:
        """Its attention heads, before anything else is done to their outputs."""
        return self.found.select()

    @cached_property
    def owned(self) -> Ownership:
        """Which slices of which parameters are each unit's own, and what units lack, and why.

        Found at the first use by running the model with gradients, see
        :func:`synatlas.models.ownership.owned`; a unit's slices are
        ``model.owned.of("L07H03")``, and ``model.model.get_parameter(s.parameter)[s.at]`` are the
        values of one.
        """
        return owned(self.model, self.found)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Pinned:
    """Where the files are, and which version of them."""

    location: str
    revision: str
    options: dict[str, Any]


def load(
    name: str,
    *,
    revision: str | None = None,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    random_init: bool = False,
    shuffled: bool = False,
    seed: int | None = None,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
) -> LanguageModel:
    """Load a causal language model and find its units.

    Of a model that also takes images or sound the decoder of text is read, and nothing else is
    ever fed to it.

    Parameters
    ----------
    name : ``bundled:NAME``, a local folder, or a Hub id.
    revision : branch, tag or commit of a Hub model, which is resolved to a commit; of a bundled
        model a snapshot of its training, such as ``step64``.
    dtype : type of the weights; float32 on a CPU and the checkpoint's own elsewhere where None.
    device : where to run; the first GPU, else the CPU, where None. ``auto`` spreads the layers
        over all devices, which takes the package accelerate.
    random_init : fresh weights of the same architecture, drawn in float32 on the CPU; no weights
        file is needed.
    shuffled : the stored weights, the entries of each tensor permuted; see
        :func:`synatlas.models.shuffling.shuffle`.
    seed : seed of the fresh weights (a bundled model's own, else 0, where None) or of the
        permutations (0 where None).
    trust_remote_code : let a model that transformers does not know run code of its own; the code
        that comes with one that it knows is never run.
    allow_pickle : read weights from pickled files where there are no safetensors; torch reads
        them with restricted unpickling.

    Returns
    -------
    LanguageModel
        In evaluation mode, without gradients.

    Raises
    ------
    ModelError
        The model cannot be found or reached, has no safetensors weights or no tokenizer, is no
        causal language model, or its architecture is not covered.
    ConfigError
        `dtype` or `device` has no such value, or weights are to be both fresh and shuffled.
    """
    source = resolve(name, revision)
    random_init = random_init or source.untrained
    if random_init and shuffled:
        raise ConfigError(
            given=f"shuffled weights of {name}, which are fresh",
            expected="stored weights to shuffle",
            cause="fresh weights have no order to lose",
            remedy="leave one of the two out",
        )
    spread = device == SPREAD and not random_init
    where = _device(None if device == SPREAD else device)
    with quiet():
        pinned = _pin(source, revision)
        if trust_remote_code and not _is_known(source, pinned):
            pinned.options["trust_remote_code"] = True
        config = _config(source, pinned)
        tokenizer = _tokenizer(source, pinned)
        weights_type = _dtype(dtype, where)
        if random_init:
            seed = _init_seed(source, seed)
            model = _fresh(config, seed, weights_type, pinned)
        else:
            model = _stored(
                source, pinned, config, weights_type, allow_pickle=allow_pickle, spread=spread
            )
            if shuffled:
                shuffle(model, seed or 0)
        if spread:
            where = input_device(model)
        else:
            model = model.to(where)
        model = model.eval().requires_grad_(False)
    units = find_units(model)
    return LanguageModel(
        model=model,
        tokenizer=tokenizer,
        name=source.name,
        revision=pinned.revision + _marked(seed, random_init=random_init, shuffled=shuffled),
        model_type=config.model_type,
        device=where,
        dtype=model.dtype,
        n_layers=units.n_layers,
        found=units,
        context_length=context_length(config),
    )


def _marked(seed: int | None, *, random_init: bool, shuffled: bool) -> str:
    """What a revision says of weights that are not those of its files."""
    if random_init:
        return f"+random_init:{seed}"
    return f"+shuffled:{seed or 0}" if shuffled else ""


def tokenizer_of(
    name: str, *, revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """The tokenizer of a model alone; arguments and errors are those of :func:`load`."""
    source = resolve(name, revision)
    with quiet():
        pinned = _pin(source, revision)
        if trust_remote_code and not _is_known(source, pinned):
            pinned.options["trust_remote_code"] = True
        return _tokenizer(source, pinned)


def parameters_of(name: str, *, revision: str | None = None) -> int:
    """Number of a model's parameters, from its configuration: no weights are read or drawn.

    Arguments and errors are those of :func:`load`.
    """
    source = resolve(name, revision)
    with quiet():
        config = _config(source, _pin(source, revision))
        with torch.device("meta"):
            network = _class_of(config).from_config(config, trust_remote_code=False)
    return int(network.num_parameters())


def _device(device: torch.device | str | None) -> torch.device:
    if device is None:
        device = "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        where = torch.device(device)
        torch.empty(0, device=where)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            given=f"device {device}",
            expected="cpu, or a GPU that torch finds, such as cuda:0",
            cause=first_line(error),
            remedy="choose a device of this machine",
        ) from error
    return where


def _dtype(dtype: torch.dtype | str | None, device: torch.device) -> torch.dtype | None:
    """Type of the weights, None for the checkpoint's own."""
    if dtype is None:
        return torch.float32 if device.type == "cpu" else None
    chosen = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if chosen not in DTYPES.values():
        raise ConfigError(
            given=f"dtype {dtype}",
            expected=f"one of {', '.join(DTYPES)}",
            remedy="choose one of these names",
        )
    return chosen


def _pin(source: Source, revision: str | None) -> _Pinned:
    if source.kind == "hub":
        return _pin_hub(source, revision)
    digest = folder_digest(source.folder) if source.folder else ""
    options = {"local_files_only": True, "trust_remote_code": False}
    return _Pinned(location=source.location, revision=digest, options=options)


def _pin_hub(source: Source, revision: str | None) -> _Pinned:
    pinned = pin(source.name, revision)
    options = {
        "revision": pinned.commit,
        "local_files_only": pinned.offline,
        "trust_remote_code": False,
    }
    return _Pinned(location=source.location, revision=pinned.commit, options=options)


def _is_known(source: Source, pinned: _Pinned) -> bool:
    """Whether transformers itself has the model's architecture."""
    try:
        settings, _ = PreTrainedConfig.get_config_dict(pinned.location, **pinned.options)
    except _FILE_ERRORS as error:
        raise _unreadable(source, "config.json", error) from error
    return settings.get("model_type") in TEXT_TYPES


def _config(source: Source, pinned: _Pinned) -> PreTrainedConfig:
    try:
        config = AutoConfig.from_pretrained(pinned.location, **pinned.options)
    except _FILE_ERRORS as error:
        raise _unreadable(source, "config.json", error) from error
    known = config.model_type in TEXT_TYPES
    own_code = "AutoModelForCausalLM" in getattr(config, "auto_map", {})
    if config.is_encoder_decoder or not (known or own_code):
        raise ModelError(
            given=f"the model {source.name} of type {config.model_type}",
            expected="a causal language model (decoder only)",
            cause="it is an encoder, an encoder-decoder, or has no language-model head",
            remedy="choose a causal language model, such as Llama, Qwen, Gemma or GPT-NeoX",
        )
    return config


def _class_of(config: PreTrainedConfig) -> Any:
    """What builds the model: where a type also sees, text alone if it can be had alone."""
    sees = config.model_type in TEXT_TYPES - MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.keys()
    return AutoModelForImageTextToText if sees else AutoModelForCausalLM


def _tokenizer(source: Source, pinned: _Pinned) -> PreTrainedTokenizerBase:
    try:
        tokenizer = AutoTokenizer.from_pretrained(pinned.location, **pinned.options)
    except _FILE_ERRORS as error:
        raise _unreadable(source, "the tokenizer's files", error) from error
    if len(tokenizer) == 0:
        raise _unreadable(source, "the tokenizer's files", ValueError("its vocabulary is empty"))
    return tokenizer


def _unreadable(source: Source, what: str, error: BaseException) -> ModelError:
    return ModelError(
        given=f"the model {source.name}",
        expected="config.json, safetensors weights and tokenizer files that transformers can read",
        cause=f"{what}: {first_line(error)}",
        remedy="check that the model is complete, or choose another",
    )


def _init_seed(source: Source, seed: int | None) -> int:
    if seed is None and source.kind == "bundled" and source.folder is not None:
        seed = card_seed(source.folder)
    return 0 if seed is None else seed


def _fresh(
    config: PreTrainedConfig,
    seed: int,
    dtype: torch.dtype | None,
    pinned: _Pinned,
) -> Any:
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        model = _class_of(config).from_config(
            config,
            dtype=torch.float32,
            trust_remote_code=pinned.options["trust_remote_code"],
        )
    return model if dtype is None else model.to(dtype)


def _stored(
    source: Source,
    pinned: _Pinned,
    config: PreTrainedConfig,
    dtype: torch.dtype | None,
    *,
    allow_pickle: bool,
    spread: bool,
) -> Any:
    safe = source.folder is None or any(source.folder.glob("*.safetensors"))
    if not (safe or allow_pickle):
        raise ModelError(
            given=f"the model {source.name}",
            expected="weights in *.safetensors files",
            cause="its folder has none; pickled weights can execute code and are not read",
            remedy="convert the weights to safetensors, allow pickled ones (--allow-pickle), or "
            "ask for random_init",
        )
    try:
        loaded: Any = _class_of(config).from_pretrained(
            pinned.location,
            config=config,
            dtype="auto" if dtype is None else dtype,
            use_safetensors=None if allow_pickle else True,
            output_loading_info=True,
            device_map="auto" if spread else None,
            # Else transformers asks the Hub for an adapter, for many seconds where there is no net.
            adapter_kwargs={"local_files_only": pinned.options["local_files_only"]},
            **pinned.options,
        )
    except _FILE_ERRORS as error:
        raise _unreadable(source, "the weights", error) from error
    model, info = loaded
    absent = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if absent:
        raise ModelError(
            given=f"the model {source.name}",
            expected="weights for every parameter",
            cause=f"{len(absent)} parameters are missing or of another shape, such as {absent[0]}; "
            "they would be random numbers",
            remedy="check that the files are complete and fit config.json",
        )
    return model


def context_length(config: PreTrainedConfig) -> int | None:
    """Longest sequence that the configuration states, in tokens; None where it states none."""
    text = config.get_text_config(decoder=True)
    for name in CONTEXT_NAMES:
        length = getattr(text, name, None)
        if isinstance(length, int) and length > 0:
            return length
    return None

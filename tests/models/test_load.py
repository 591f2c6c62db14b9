"""Loading: what a model is called, which version it is, and every way in which it cannot be had."""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi, constants
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig

from synatlas.errors import ConfigError, ModelError
from synatlas.models import identity
from synatlas.models.identity import bundled_models, card_seed, content_revision, resolve, snapshots
from synatlas.models.load import load, parameters_of
from synatlas.models.shuffling import shuffle
from tiny_models import CONFIGS, tiny_network, tiny_tokenizer


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama as save_pretrained writes it; tests copy it before they change it."""
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    tiny_network("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def test_a_folder_is_loaded_and_named_by_itself(saved: Path, capfd: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = load(str(saved))
    assert (model.name, model.model_type, model.n_layers) == ("tiny-llama", "llama", 2)
    assert (model.context_length, len(model.units)) == (128, 8)
    assert (model.device.type, model.dtype) == ("cpu", torch.float32)
    assert not model.model.training
    assert not any(p.requires_grad for p in model.model.parameters())
    stored = load_file(saved / "model.safetensors")
    found = model.model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in stored.items())
    assert capfd.readouterr() == ("", "")


def test_revision_is_that_of_the_content(saved: Path, folder: Path) -> None:
    first = load(str(saved)).revision
    assert load(str(folder)).revision == first == content_revision(str(folder))
    weights = load_file(folder / "model.safetensors")
    name = next(iter(weights))
    weights[name] = weights[name] + 1e-3
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert content_revision(str(folder)) != first
    shutil.copy(saved / "model.safetensors", folder)
    assert content_revision(str(folder)) == first
    (folder / "README.md").write_text("no matter")
    assert content_revision(str(folder)) == first


def test_random_init_is_seeded_needs_no_weights_and_leaves_the_generator(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    one, again, other = (load(str(folder), random_init=True, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    weights = [m.model.get_parameter("lm_head.weight") for m in (one, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert one.revision.endswith("+random_init:1")
    assert load(str(folder), random_init=True).revision.endswith("+random_init:0")
    # The same draw as transformers' own, whatever the dtype.
    with torch.random.fork_rng():
        torch.manual_seed(1)
        half = load(str(folder), random_init=True, seed=1, dtype="bfloat16")
    assert torch.equal(half.model.get_parameter("lm_head.weight"), weights[0].bfloat16())


def test_shuffled_weights_keep_their_values_and_lose_their_order(folder: Path) -> None:
    stored = load(str(folder))
    one, again, other = (load(str(folder), shuffled=True, seed=s) for s in (1, 1, 2))
    assert one.revision == f"{stored.revision}+shuffled:1"
    changed = 0
    for name, parameter in stored.model.named_parameters():
        shuffled = one.model.get_parameter(name)
        assert torch.equal(parameter.flatten().sort().values, shuffled.flatten().sort().values)
        assert torch.equal(shuffled, again.model.get_parameter(name))
        changed += not torch.equal(shuffled, other.model.get_parameter(name))
    assert changed > 2
    with pytest.raises(ConfigError, match="which are fresh"):
        load(str(folder), shuffled=True, random_init=True)
    packed = nn.Linear(2, 2)
    packed.weight = nn.Parameter(torch.zeros(2, 2, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(ModelError, match="packed numbers"):
        shuffle(packed, 0)


def test_a_bundled_model_starts_from_its_own_seed(tmp_path: Path) -> None:
    assert card_seed(tmp_path) is None
    (tmp_path / "card.json").write_text(json.dumps({"init_seed": 17}))
    assert card_seed(tmp_path) == 17


@pytest.mark.skipif(not bundled_models(), reason="no bundled model")
def test_bundled_models_load() -> None:
    for name in bundled_models():
        model = load(name)
        assert model.name == name
        seed = card_seed(Path(resolve(name).location)) or 0
        assert load(name, random_init=True).revision == f"{model.revision}+random_init:{seed}"


@pytest.fixture
def family(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout's folder of models, with one of the family and two snapshots of its training."""
    weights = load_file(saved / "model.safetensors")
    for step, folder in ((8, "dense"), (1, "dense/step1"), (4, "dense/step4")):
        shutil.copytree(saved, tmp_path / folder, dirs_exist_ok=True)
        changed = {name: value * step for name, value in weights.items()}
        save_file(changed, tmp_path / folder / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "dense" / "card.json").write_text(json.dumps({"init_seed": 17, "steps": 8}))
    monkeypatch.setattr(identity, "FAMILY_FOLDER", tmp_path)
    return tmp_path / "dense"


def test_snapshots_are_revisions_and_the_last_is_the_model(family: Path) -> None:
    assert "bundled:dense" in bundled_models()
    assert snapshots("bundled:dense") == ("step0", "step1", "step4", "step8")
    models = {step: load("bundled:dense", revision=step) for step in snapshots("bundled:dense")}
    for step, folder in (("step1", family / "step1"), ("step4", family / "step4")):
        assert models[step].name == "bundled:dense"
        assert models[step].revision == content_revision(str(folder))
        stored = load_file(folder / "model.safetensors")["lm_head.weight"]
        assert torch.equal(models[step].model.get_parameter("lm_head.weight"), stored)
    last = load("bundled:dense")
    assert models["step8"].revision == last.revision == content_revision("bundled:dense", "step8")
    again = load("bundled:dense", random_init=True)
    assert models["step0"].revision == again.revision == f"{last.revision}+random_init:17"
    for name, value in again.model.state_dict().items():
        assert torch.equal(models["step0"].model.state_dict()[name], value)
    assert card_seed(family / "step4") == 17
    for revision in ("step2", "step", "main", "../dense"):
        with pytest.raises(ModelError, match="one of step0, step1, step4, step8"):
            load("bundled:dense", revision=revision)


def test_the_family_is_not_in_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "FAMILY_FOLDER", tmp_path / "models")
    assert bundled_models() == ("bundled:reference",)
    with pytest.raises(ModelError, match="clone of the repository"):
        load("bundled:dense")
    with pytest.raises(ModelError, match="no bundled model has this name"):
        load("bundled:nosuch")


def test_dtype_and_device(saved: Path) -> None:
    assert load(str(saved), dtype="bfloat16").dtype == torch.bfloat16
    assert load(str(saved), dtype=torch.float64).dtype == torch.float64
    with pytest.raises(ConfigError, match="int8"):
        load(str(saved), dtype="int8")
    with pytest.raises(ConfigError, match="nowhere"):
        load(str(saved), device="nowhere")
    with pytest.raises(ModelError, match="revision main"):
        load(str(saved), revision="main")


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def adapter_alone(folder: Path) -> None:
    (folder / "config.json").rename(folder / "adapter_config.json")


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def unknown_type(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "nosuchtype"}')


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def truncated(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def no_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


def missing_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.self_attn.v_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def other_shape(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_key_value_heads": 4}))


def encoder_decoder(folder: Path) -> None:
    AutoConfig.for_model("t5").save_pretrained(folder)


def encoder(folder: Path) -> None:
    AutoConfig.for_model("vit").save_pretrained(folder)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (no_config, "no config.json"),
        (adapter_alone, r"adapter alone(.|\n)*synatlas\.adopt"),
        (broken_config, "config.json"),
        (unknown_type, "nosuchtype"),
        (pickled, "pickled weights"),
        (truncated, "the weights"),
        (no_tokenizer, "tokenizer"),
        (missing_weight, "model.layers.1.self_attn.v_proj.weight"),
        (other_shape, "the weights|another shape"),
        (encoder_decoder, "type t5"),
        (encoder, "type vit"),
    ],
)
def test_damaged_folders(folder: Path, damage: Callable[[Path], None], told: str) -> None:
    damage(folder)
    with pytest.raises(ModelError, match=told):
        load(str(folder))


@pytest.mark.parametrize("name", ["bert"])
def test_architectures_that_are_not_covered(name: str, tmp_path: Path) -> None:
    AutoConfig.for_model(name, **CONFIGS[name]).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="class"):
        load(str(tmp_path), random_init=True)


@pytest.mark.parametrize("name", ["bundled:nosuch", "./nosuch", "", "no such/model name"])
def test_names_that_mean_nothing(name: str) -> None:
    with pytest.raises(ModelError):
        load(name)


def unreachable(*args: object, **kwargs: object) -> None:
    raise ConnectionError("no route")


def test_an_unreachable_hub_is_one_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(HfApi, "model_info", unreachable)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="cannot be reached"):
        load("some/model")


def test_a_cached_hub_model_needs_no_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, saved: Path
) -> None:
    commit = "a" * 40
    repository = tmp_path / "models--some--model"
    shutil.copytree(saved, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(HfApi, "model_info", unreachable)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path))
    model = load("some/model")
    assert (model.name, model.revision) == ("some/model", commit)
    assert content_revision("some/model") is None


def test_pickled_weights_on_request_alone(saved: Path, folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")  # noqa: TID251
    with pytest.raises(ModelError, match="allow-pickle"):
        load(str(folder))
    found = load(str(folder), allow_pickle=True).model.state_dict()
    expected = load(str(saved)).model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("options", [{}, {"random_init": True}])
def test_code_beside_a_known_architecture_never_runs(
    folder: Path, options: dict[str, bool]
) -> None:
    """A folder that calls itself Llama and brings its own configuration and model."""
    settings = json.loads((folder / "config.json").read_text())
    settings["auto_map"] = {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.OwnModel"}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "own.py").write_text("raise RuntimeError('own code has run')")
    model = load(str(folder), trust_remote_code=True, **options)
    assert type(model.model).__name__ == "LlamaForCausalLM"


def test_layers_spread_over_all_devices(saved: Path) -> None:
    """On a machine with a CPU alone that is where they are."""
    spread = load(str(saved), device="auto")
    plain = load(str(saved))
    ids = torch.arange(3, 10)[None]
    with torch.no_grad():
        assert torch.equal(
            spread.model(input_ids=ids.to(spread.device)).logits.cpu(),
            plain.model(input_ids=ids.to(plain.device)).logits.cpu(),
        )


@pytest.mark.parametrize("name", ["llama", "gemma2", "mixtral", "mamba2"])
def test_parameters_are_counted_without_weights(name: str, tmp_path: Path) -> None:
    network = tiny_network(name)
    network.config.save_pretrained(tmp_path)
    assert parameters_of(str(tmp_path)) == network.num_parameters()

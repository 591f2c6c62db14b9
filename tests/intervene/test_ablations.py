"""What stands in for ablated units, against loops over prompts and positions written out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from synatlas.errors import ConfigError
from synatlas.intervene.ablations import ABLATIONS, Fitted, Mean, Noise, Resample, Zero, fit
from synatlas.models.load import LanguageModel
from synatlas.models.reducers import identity
from synatlas.models.taps import capture
from synatlas.record.generate import greedy
from tiny_models import TinyModel

#: Of unequal lengths, prompts and replies; the second reply is the longest.
PROMPTS = ([5, 9, 30, 4], [7, 40, 8, 21, 6, 33, 90], [60, 61])
REPLIES = ([11, 12, 13], [50, 51, 52, 53, 54], [70, 71, 72, 73])
HEADS = 8


@pytest.fixture
def model(tiny_model: TinyModel) -> LanguageModel:
    return tiny_model("llama")


def fed(i: int) -> list[int]:
    return [*PROMPTS[i], *REPLIES[i][:-1]]


def logits(model: LanguageModel, prompt: int, rows: int = 1) -> Tensor:
    with torch.no_grad():
        ids = torch.tensor([fed(prompt)] * rows)
        return model.model(input_ids=ids, use_cache=False).logits


def vectors(model: LanguageModel, prompt: int, rows: int = 1) -> Tensor:
    """(row, position, unit, feature), the layers side by side."""
    with capture(model.model, model.units, reduce=identity) as taken:
        logits(model, prompt, rows)
    return torch.cat(taken.outputs(), dim=2)


def fitted(model: LanguageModel, name: str) -> Fitted:
    return fit(ABLATIONS[name], model, model.units, PROMPTS, REPLIES, seed=3)


def keeping(*rows: list[int]) -> Tensor:
    """Masks that leave out these units."""
    keep = torch.ones(len(rows), HEADS, dtype=torch.bool)
    for row, units in enumerate(rows):
        keep[row, units] = False
    return keep


@contextmanager
def given(model: LanguageModel, what: Callable[[int, int], Tensor], units: list[int]) -> Any:
    """Units give ``what(unit, position)``: written into what the projections read."""
    network: Any = model.model

    def hook_of(layer: int) -> Callable[..., Any]:
        def hook(module: Any, args: tuple[Tensor]) -> tuple[Tensor]:
            x = args[0].clone()
            for unit in (u for u in units if u // 4 == layer):
                for position in range(x.shape[1]):
                    x[:, position, unit % 4 * 20 : unit % 4 * 20 + 20] = what(unit, position)
            return (x,)

        return hook

    handles = [
        layer.self_attn.o_proj.register_forward_pre_hook(hook_of(i))
        for i, layer in enumerate(network.model.layers)
    ]
    yield
    for handle in handles:
        handle.remove()


def samples(model: LanguageModel) -> list[Tensor]:
    """Of each prompt (step, unit, feature), in float64, from where its reply is predicted."""
    return [vectors(model, i)[0, len(PROMPTS[i]) - 1 :].double() for i in range(3)]


def test_a_mean_over_all(model: LanguageModel) -> None:
    mean = torch.cat(samples(model)).mean(0).float()
    with given(model, lambda unit, _: mean[unit], [1, 6]):
        expected = logits(model, 2)
    with fitted(model, "mean").applied(keeping([1, 6]), prompt=2, masks=[0]):
        torch.testing.assert_close(logits(model, 2), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(logits(model, 2), expected, atol=1e-2)


def test_a_mean_by_position(model: LanguageModel) -> None:
    """The fifth step is of one prompt alone, whose vectors would be its own."""
    of_prompts = samples(model)
    everywhere = torch.cat(of_prompts).mean(0)
    before = torch.cat([vectors(model, i)[0, : len(PROMPTS[i]) - 1].double() for i in range(3)])

    def mean(unit: int, position: int) -> Tensor:
        step = position - len(PROMPTS[1]) + 1
        if step < 0:
            return before.mean(0)[unit].float()
        has = [x[step, unit] for x in of_prompts if len(x) > step]
        return (torch.stack(has).mean(0) if len(has) > 1 else everywhere[unit]).float()

    assert [len(x) for x in of_prompts] == [3, 5, 4]
    with given(model, mean, [1, 6]):
        expected = logits(model, 1)
    with fitted(model, "mean_position").applied(keeping([1, 6]), prompt=1, masks=[0]):
        torch.testing.assert_close(logits(model, 1), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(logits(model, 1), expected, atol=1e-2)


def from_donor(model: LanguageModel, donor: int, prompt: int) -> Callable[[int, int], Tensor]:
    """Vectors of one prompt at the positions of another."""
    z, start = vectors(model, donor)[0], len(PROMPTS[donor]) - 1
    before, after = [*range(start)] * 9, [*range(start, len(z))] * 9

    def other(unit: int, position: int) -> Tensor:
        step = position - len(PROMPTS[prompt]) + 1
        return z[before[step] if step < 0 else after[step], unit]

    return other


def test_vectors_of_another_prompt(model: LanguageModel) -> None:
    """From the start of the reply on, forwards and backwards, and again where it is too short."""
    one, drawn = fitted(model, "resample"), []
    for prompt in range(3):
        with one.applied(keeping([1, 6]), prompt=prompt, masks=[0]):
            found = logits(model, prompt)
        for donor in {0, 1, 2} - {prompt}:
            with given(model, from_donor(model, donor, prompt), [1, 6]):
                expected = logits(model, prompt)
            if torch.allclose(found, expected, rtol=1e-4, atol=1e-5):
                drawn.append((prompt, donor))
    assert [prompt for prompt, _ in drawn] == [0, 1, 2]


def test_noise_is_of_the_size_of_what_units_give(model: LanguageModel) -> None:
    sd = torch.cat(samples(model)).std(0, correction=0)
    one = fit(Noise(scale=0.5), model, model.units, PROMPTS, REPLIES)
    keep = keeping(*[[0, 2]] * 400)
    clean = vectors(model, 1, rows=400)
    with one.applied(keep, prompt=1, masks=range(400)):
        noise = vectors(model, 1, rows=400) - clean
    assert torch.equal(noise[:, :, [1, 3]], torch.zeros_like(noise[:, :, [1, 3]]))
    drawn = noise[:, :, [0, 2]].double() / (0.5 * sd[[0, 2]])
    assert abs(float(drawn.mean())) < 5 / drawn.numel() ** 0.5
    assert drawn.flatten(0, 1).std(0).sub(1).abs().max() < 5 / (2 * 400 * 11) ** 0.5
    together = np.corrcoef(drawn[:, 0].flatten(1).numpy(), rowvar=False)
    assert np.abs(together - np.eye(40)).max() < 5.5 / 400**0.5


def test_noise_of_a_mask_is_the_same_in_any_batch(model: LanguageModel) -> None:
    one = fitted(model, "noise")
    keep = keeping([0], [1, 6], [1, 6], [1])
    with one.applied(keep, prompt=0, masks=[4, 7, 8, 9]):
        together, again = logits(model, 0, rows=4), logits(model, 0, rows=4)
    assert torch.equal(together, again)
    assert not torch.allclose(together[1], together[2], atol=1e-2)
    for row, number in enumerate([4, 7, 8, 9]):
        with one.applied(keep[row : row + 1], prompt=0, masks=[number]):
            torch.testing.assert_close(logits(model, 0)[0], together[row], rtol=0, atol=1e-5)
    with one.applied(keep[1:2], prompt=1, masks=[7]):
        other = vectors(model, 1)
    with one.applied(keep[1:2], prompt=0, masks=[7]):
        assert not torch.allclose(vectors(model, 0)[0, 0, 1], other[0, 0, 1])


def test_the_mean_of_what_is_constant_changes_nothing(model: LanguageModel) -> None:
    """One token again and again: every head gives the same at every position."""
    texts = ([[40] * 4, [40] * 6], [[40] * 5, [40] * 3])
    ids = torch.tensor([[40] * 8])
    plain = model.model(input_ids=ids, use_cache=False).logits
    for ablation in (Mean(), Mean(over="position"), Resample(), Noise()):
        one = fit(ablation, model, model.units, *texts)
        with one.applied(keeping([*range(HEADS)]), prompt=0, masks=[0]):
            found = model.model(input_ids=ids, use_cache=False).logits
        torch.testing.assert_close(found, plain, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ["zero", "mean", "noise"])
def test_texts_that_were_not_fitted(name: str, model: LanguageModel) -> None:
    """Also in generation; an untouched row says what it said."""
    one, keep = fitted(model, name), keeping([1, 6], [])
    prompts = [[80, 81, 82], [90, 91, 92]]
    said = []
    plain = greedy(model, prompts, tokens=12, stop_at_eos=False)
    for _ in range(2):
        with one.anywhere(keep):
            said.append(greedy(model, prompts, tokens=12, stop_at_eos=False))
    assert said[0] == said[1]
    assert said[0][1] == plain[1]
    assert said[0][0] != plain[0]


def test_recurrent_units_and_heads_together(tiny_model: TinyModel) -> None:
    model = tiny_model("qwen3_5_text")
    units = model.found.select("mixers")
    keep = torch.ones(2, len(units), dtype=torch.bool)
    keep[0, [0, len(units) - 1]] = False
    plain = logits(model, 0, rows=2)
    for name in ("zero", "mean", "mean_position", "resample", "noise"):
        one = fit(ABLATIONS[name], model, units, PROMPTS, REPLIES)
        with one.applied(keep, prompt=0, masks=[0, 1]):
            found = logits(model, 0, rows=2)
        assert torch.equal(found[1], plain[1])
        assert not torch.allclose(found[0], plain[0], atol=1e-3)


def refusals(model: LanguageModel, mixture: LanguageModel) -> Iterator[tuple[str, Any]]:
    keep = keeping([0])
    for name in ("mean_position", "resample"):
        yield (
            "at least 2",
            lambda n=name: fit(ABLATIONS[n], model, model.units, PROMPTS[:1], REPLIES[:1]),
        )
        yield "in other texts", lambda n=name: fitted(model, n).anywhere(keep)
    yield "at least 1", lambda: fit(Mean(), model, model.units, [], [])
    experts = mixture.found.select("experts")
    for name in ("mean", "mean_position", "resample", "noise"):
        yield "of experts", lambda n=name: fit(ABLATIONS[n], mixture, experts, PROMPTS, REPLIES)
    yield "zero, forbid, renormalise", lambda: Zero(experts="none")
    yield "one of all, position", lambda: Mean(over="time")
    for scale in (-1.0, float("nan"), float("inf")):
        yield "a finite number", lambda s=scale: Noise(scale=s)


def test_what_is_refused(model: LanguageModel, tiny_model: TinyModel) -> None:
    for message, attempt in refusals(model, tiny_model("mixtral")):
        with pytest.raises(ConfigError, match=message):
            attempt()
    one = fitted(model, "resample").applied(keeping([0]), prompt=1, masks=[0])
    with one, pytest.raises(ConfigError, match="a pass over 6 tokens"):
        logits(model, 0)

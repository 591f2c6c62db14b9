"""Divergence against one pass for each mask with the columns of the units at 0."""

from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from synatlas.intervene import divergence
from synatlas.intervene.divergence import damage, gradient_importance, rows_of_a_pass
from synatlas.intervene.texts import Text
from synatlas.models.edits import at_projections, edit
from synatlas.models.load import LanguageModel
from synatlas.models.units import UnitTable
from tiny_models import TinyModel

TEXT = Text(prompt=(5, 9, 40, 77), reply=(12, 100, 31, 8, 200, 64))
DOCUMENT = Text(prompt=(), reply=(5, 9, 40, 77, 12, 100))
FAMILIES = ("llama", "gpt2", "gpt_neox", "mixtral", "deepseek_v2", "mamba2")


def table_of(model: LanguageModel) -> UnitTable:
    kind = "recurrent" if model.model_type == "mamba2" else "head"
    return at_projections(model.found, model.found.of_kinds({kind}))


def zeroed(model: LanguageModel, table: UnitTable):
    def applied(keep: Tensor, numbers: Sequence[int]) -> AbstractContextManager[None]:
        del numbers
        return edit(model.model, table, keep)

    return applied


def by_hand(model: LanguageModel, table: UnitTable, keep: np.ndarray, text: Text) -> np.ndarray:
    """Both divergences and agreement, the columns of ablated units set to 0 in the weights."""

    def log_p() -> Tensor:
        logits = model.model(input_ids=torch.tensor([text.fed])).logits[0].double()
        return logits[text.first : text.first + len(text.predicted)].log_softmax(-1)

    with torch.no_grad():
        clean = log_p()
        held = [
            (model.model.get_parameter(s.parameter), s.at)
            for label, kept in zip(table.label, keep, strict=True)
            if not kept
            for s in model.owned.of(label, roles=("output",))
        ]
        before = [parameter[at].clone() for parameter, at in held]
        for parameter, at in held:
            parameter[at] = 0
        ablated = log_p()
        for (parameter, at), values in zip(held, before, strict=True):
            parameter[at] = values
    forward = functional.kl_div(ablated, clean, reduction="none", log_target=True).sum(-1).mean()
    reverse = functional.kl_div(clean, ablated, reduction="none", log_target=True).sum(-1).mean()
    agree = (clean.argmax(-1) == ablated.argmax(-1)).double().mean()
    return torch.stack([forward, reverse, agree]).numpy()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("text", [TEXT, DOCUMENT], ids=["reply", "document"])
def test_masks_in_a_batch_are_what_each_is_alone(
    tiny_model: TinyModel, name: str, text: Text
) -> None:
    model = tiny_model(name)
    table = table_of(model)
    keep = np.random.default_rng(1).random((5, len(table))) > 0.4
    found = damage(model, text, keep, zeroed(model, table), rows=3)
    expected = np.array([by_hand(model, table, row, text) for row in keep])
    assert found.kl == pytest.approx(expected[:, 0], abs=1e-6)
    assert found.reverse_kl == pytest.approx(expected[:, 1], abs=1e-6)
    assert found.agreement.tolist() == pytest.approx(expected[:, 2].tolist())
    assert (found.kl > 1e-3).all()
    assert 0 <= abs(found.noise_floor) < 1e-6
    alone = damage(model, text, keep, zeroed(model, table), rows=1)
    assert alone.kl == pytest.approx(found.kl, abs=1e-6)


def test_rows_that_keep_everything_do_nothing(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    table = table_of(model)
    found = damage(model, TEXT, np.ones((2, len(table)), dtype=bool), zeroed(model, table), rows=4)
    assert np.abs(found.kl).max() < 1e-6
    assert found.agreement.tolist() == [1.0, 1.0]


def test_a_token_that_cannot_be_counts_nothing(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    table = table_of(model)
    network = model.model

    def forbid(module: object, args: object, output: Tensor) -> Tensor:
        del module, args
        return output.index_fill(-1, torch.tensor([7]), -torch.inf)

    head = network.get_output_embeddings()  # type: ignore[operator]
    keep = np.array([[True] + [False] * (len(table) - 1)])
    handle = head.register_forward_hook(forbid)
    try:
        found = damage(model, TEXT, keep, zeroed(model, table), rows=2)
    finally:
        handle.remove()
    assert np.isfinite(found.kl).all()
    assert np.isfinite(found.reverse_kl).all()


def test_the_gradient_is_the_slope_of_the_loss(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    table = table_of(model)
    found = gradient_importance(model, table, TEXT)

    def loss(sizes: Tensor) -> float:
        with torch.no_grad(), edit(model.model, table, sizes[None]):
            logits = model.model(input_ids=torch.tensor([TEXT.fed])).logits[0]
        return float(functional.cross_entropy(logits[TEXT.first :], torch.tensor(TEXT.reply)))

    step = 1e-2
    for unit in range(len(table)):
        up, down = torch.ones(len(table)), torch.ones(len(table))
        up[unit] += step
        down[unit] -= step
        slope = abs(loss(up) - loss(down)) / (2 * step)
        assert found[unit] == pytest.approx(slope, abs=2e-4)


def test_a_batch_holds_at_least_the_identity_and_a_mask(tiny_model: TinyModel) -> None:
    assert rows_of_a_pass(tiny_model("llama"), TEXT) >= 2


@pytest.mark.parametrize("at_once", [1, 23, 130, 10**6])
def test_the_slab_that_is_compared_at_once_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """Rows, or steps of a row, that are compared together, against KL in double precision."""
    drawn = torch.Generator().manual_seed(4)
    clean = 4 * torch.randn(5, 13, generator=drawn)
    ablated = clean + torch.randn(7, 5, 13, generator=drawn)
    ablated[0] = clean
    monkeypatch.setattr(divergence, "VALUES_AT_ONCE", {"cpu": at_once})
    kl, reverse, agreement = divergence.Clean.of(clean).compared(ablated).double().T
    p, q = (x.double().log_softmax(-1) for x in (clean.expand(7, -1, -1), ablated))
    of = {"reduction": "none", "log_target": True}
    assert kl.numpy() == pytest.approx(functional.kl_div(q, p, **of).sum(-1).mean(-1), abs=1e-6)
    assert reverse.numpy() == pytest.approx(
        functional.kl_div(p, q, **of).sum(-1).mean(-1), abs=1e-6
    )
    expected = (p.argmax(-1) == q.argmax(-1)).double().mean(-1)
    assert agreement.tolist() == pytest.approx(expected.tolist())
    assert (kl[0], reverse[0]) == (0, 0)

"""Noise in the parameters of chosen units, for a while."""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import numpy as np
import torch
from torch import Tensor

from synatlas.errors import ConfigError, ModelError
from synatlas.models.load import LanguageModel
from synatlas.models.owned import NEEDED, Owned

#: Roles of the published perturbation: rows that make a head's queries, its columns of the output
#: projection, and every parameter of an expert (arXiv:2601.06851, Fig. 4b). How strong its noise
#: is, it does not say.
PUBLISHED: Final = ("query", "output", "expert")


def check_scale(scale: float) -> None:
    """Refuse a strength of noise that is no finite number from 0."""
    if not 0 <= scale < float("inf"):
        raise ConfigError(
            given=f"noise of scale {scale}",
            expected="a finite number from 0",
            remedy="give it in standard deviations of what it is added to, such as 1.0",
        )


@contextmanager
def weight_noise(
    model: LanguageModel,
    labels: Sequence[str],
    *,
    scale: float,
    seed: int,
    roles: Collection[str] = PUBLISHED,
) -> Iterator[None]:
    r"""Add normal noise to parameters that chosen units own, wherever they are stored.

    Of each slice :math:`w` of a parameter, found by :attr:`LanguageModel.owned`,

    .. math:: w' = w + \mathrm{scale} \cdot \mathrm{sd}(w) \cdot \epsilon,
              \qquad \epsilon \sim N(0, 1) \text{ independent},

    with sd over the slice's own entries. What a unit shares with units that are not chosen, such
    as grouped keys, is left alone. A slice's noise depends on the seed and on the slice, not on
    what else is chosen nor in which order. Afterwards every entry is what it was, bit for bit,
    also after an exception.

    Parameters
    ----------
    model : the model; its parameters are changed in place for as long as the context lasts.
    labels : of the units, such as ``L07H03``.
    scale : standard deviation of the noise in that of the slice.
    seed : of the noise.
    roles : which slices, keys of :data:`synatlas.models.owned.ROLES`.

    Raises
    ------
    ConfigError
        There is no such unit or role; the scale is no finite number from 0; units own nothing
        alone in these roles.
    ModelError
        A role's slice of a unit could not be found in this model, or is kept elsewhere until it
        is used.
    """
    check_scale(scale)
    held: list[tuple[Tensor, Owned, Tensor]] = []
    slices = _slices(model, labels, roles)
    try:
        with torch.no_grad():
            for one in slices:
                parameter = model.model.get_parameter(one.parameter)
                stock = parameter[one.at].clone()
                held.append((parameter, one, stock))
                parameter[one.at] = _noisy(stock, one, scale=scale, seed=seed)
        yield
    finally:
        with torch.no_grad():
            # Backwards: slices may overlap.
            for parameter, one, stock in reversed(held):
                parameter[one.at] = stock


def _slices(
    model: LanguageModel, labels: Sequence[str], roles: Collection[str]
) -> tuple[Owned, ...]:
    """Slices that belong to `labels` and to no other unit."""
    chosen = frozenset(labels)
    slices = [s for s in model.owned.of(*labels, roles=roles) if chosen.issuperset(s.units)]
    for gap in model.owned.gaps:
        if gap.unit in chosen and gap.role in roles:
            raise ModelError(
                given=f"weight noise in {gap.role} of {gap.unit}",
                expected="parameters that are its own",
                cause=gap.reason,
                remedy="leave out the role, choose other units, or ablate what they give",
            )
    has = {unit for s in slices for unit in s.units}
    without = [label for label in labels if label not in has]
    if without:
        kind = next(
            k for k, n in zip(model.found.kind, model.found.label, strict=True) if n == without[0]
        )
        raise ConfigError(
            given=f"weight noise in {', '.join(roles)} of {without[0]}",
            expected="units with parameters of their own in these roles",
            cause="it has none, or shares them with units that are not chosen",
            remedy=f"choose other roles, such as {', '.join(NEEDED[kind])}, or all that share",
        )
    offloaded = [s for s in slices if model.model.get_parameter(s.parameter).is_meta]
    if offloaded:
        raise ModelError(
            given=f"weight noise in {offloaded[0].parameter}",
            expected="parameters in memory",
            cause="it is kept elsewhere until it is used",
            remedy="load the model on a device that holds all of it",
        )
    return tuple(slices)


def _noisy(stock: Tensor, one: Owned, *, scale: float, seed: int) -> Tensor:
    """The slice with noise, added in float32."""
    name = f"{one.parameter} {one.axis} {one.indices.tolist()}"
    own = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
    drawn = np.random.default_rng([seed, own]).standard_normal(stock.shape, dtype=np.float32)
    values = stock.float()
    sd = values.double().std(correction=0).float()
    return (values + scale * sd * torch.from_numpy(drawn).to(values.device)).to(stock.dtype)

"""What an experiment measured, as plain arrays: damage of sets in prompts or in questions."""

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, final

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int

from synatlas.intervene.orders import CONTROLS


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measured:
    """Damage by one outcome; more is worse.

    Parameters
    ----------
    values : (order, draw, count, sample), NaN where not run; a sample is a prompt or a question.
    orders : names of the first dimension.
    counts : units ablated.
    tested : whether a count is one at which there are many draws.
    category : of every sample.
    """

    values: Float[np.ndarray, "order draw count sample"]
    orders: tuple[str, ...]
    counts: Int[np.ndarray, " count"]
    tested: Bool[np.ndarray, " count"]
    category: tuple[str, ...]

    @property
    def chosen(self) -> tuple[str, ...]:
        """Orders that are no controls."""
        return tuple(name for name in self.orders if name not in CONTROLS)

    def of(self, order: str) -> Float[np.ndarray, "count sample"]:
        """Damage of an order that is no control, NaN where it was not run."""
        return self.values[self.orders.index(order), 0]

    def draws_of(
        self, control: str, counts: Bool[np.ndarray, " count"]
    ) -> Float[np.ndarray, "draw chosen sample"]:
        """Damage of the draws of a control that were run at all of these counts."""
        if control not in self.orders:
            return np.zeros((0, int(counts.sum()), self.values.shape[3]))
        draws = self.values[self.orders.index(control)][:, counts]
        return draws[np.isfinite(draws).all(axis=(1, 2))]

    def shared(self, order: str, control: str, among: Bool[np.ndarray, " count"]) -> np.ndarray:
        """Which counts an order and at least one draw of a control were run at."""
        own = np.isfinite(self.of(order)).all(axis=1) & among
        if control not in self.orders:
            return np.zeros_like(own)
        draws = np.isfinite(self.values[self.orders.index(control)]).all(axis=2)
        return own & draws.any(axis=0)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One way to measure damage: the variable it needs, its samples, and how it is computed."""

    variable: str
    sample: str
    category: str
    damage: Callable[[xr.Dataset], np.ndarray]


def _kl(divergence: xr.Dataset) -> np.ndarray:
    return divergence["kl"].to_numpy()


def _reverse_kl(divergence: xr.Dataset) -> np.ndarray:
    return divergence["reverse_kl"].to_numpy()


def _disagreement(divergence: xr.Dataset) -> np.ndarray:
    return 1 - divergence["agreement"].to_numpy()


def _lost_accuracy(divergence: xr.Dataset) -> np.ndarray:
    correct = divergence["correct"].to_numpy().astype(float)
    clean = divergence["clean_correct"].to_numpy().astype(float)
    return np.where(correct >= 0, clean - correct, np.nan)


#: Outcomes, the leading one first: divergences in nats, the share of tokens whose most likely
#: token changed, and the share of questions answered right by the clean model less that of the
#: ablated one.
OUTCOMES: Final = MappingProxyType(
    {
        "kl": Outcome(variable="kl", sample="prompt", category="category", damage=_kl),
        "reverse_kl": Outcome(
            variable="reverse_kl", sample="prompt", category="category", damage=_reverse_kl
        ),
        "disagreement": Outcome(
            variable="agreement", sample="prompt", category="category", damage=_disagreement
        ),
        "lost_accuracy": Outcome(
            variable="correct", sample="item", category="item_category", damage=_lost_accuracy
        ),
    }
)


def measured(divergence: xr.Dataset) -> dict[str, Measured]:
    """Damage by every outcome that was measured.

    Parameters
    ----------
    divergence : a Divergence artifact.

    Returns
    -------
    dict
        Outcome -> its damage. Samples that lack a number where others have one are left out.
    """
    counts = divergence["n_ablated"].to_numpy().astype(np.int64)
    tested = np.isin(counts, np.atleast_1d(divergence.attrs["tested"]))
    found = {}
    for name, outcome in OUTCOMES.items():
        if not divergence.sizes[outcome.sample]:
            continue
        values = outcome.damage(divergence).astype(float)
        defined = np.isfinite(values)
        whole = (defined == defined.any(axis=3, keepdims=True)).all(axis=(0, 1, 2))
        if defined.any() and whole.any():
            category = divergence[outcome.category].to_numpy()[whole]
            found[name] = Measured(
                values=values[..., whole],
                orders=tuple(map(str, divergence["order"].to_numpy().tolist())),
                counts=counts,
                tested=tested,
                category=tuple(map(str, category.tolist())),
            )
    return found

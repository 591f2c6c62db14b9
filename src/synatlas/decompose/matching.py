"""How well a null matches the data: its self-information and its same-step correlation."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from synatlas.decompose.groups import Totals
from synatlas.decompose.pairs import ABSOLUTE, DEFINED
from synatlas.decompose.rearrange import Prepared
from synatlas.decompose.windows import Windows

#: Relative errors below this are those of sums in another order.
ROUNDING: Final = 1e-12

#: I(past; future) of each series, from the values of its windows.
SelfInformation = Callable[[np.ndarray], np.ndarray]


@dataclass(slots=True, kw_only=True)
class Matching:
    """Means of the data and of the surrogates seen so far.

    Parameters
    ----------
    self_information : of the estimator.
    information, same_step : of the data: mean over prompts and units of self-information, and
        over pairs and prompts of the absolute same-step correlation.
    """

    self_information: SelfInformation
    information: float
    same_step: float
    drawn_information: list[float] = field(default_factory=list)
    drawn_same_step: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, prepared: Prepared, data: Totals, self_information: SelfInformation) -> "Matching":
        """What surrogates of these data have to match."""
        return cls(
            self_information=self_information,
            information=mean_self_information(prepared.windows, self_information),
            same_step=_same_step(data),
        )

    def add(self, windows: list[Windows], totals: Totals) -> None:
        """Take one surrogate into account."""
        self.drawn_information.append(mean_self_information(windows, self.self_information))
        self.drawn_same_step.append(_same_step(totals))

    def errors(self) -> dict[str, float]:
        """Relative error of self-information, absolute error of same-step correlation."""
        error = np.nan
        if self.information:
            error = float(np.mean(self.drawn_information) / self.information - 1)
        return {
            # The mean of the same numbers in another order is off by its rounding.
            "null_self_information_error": 0.0 if abs(error) < ROUNDING else error,
            "null_same_step_error": float(np.mean(self.drawn_same_step) - self.same_step),
        }


def _same_step(totals: Totals) -> float:
    """Mean absolute same-step correlation over defined pair-prompts; NaN where there are none."""
    defined = totals.pair[DEFINED].sum()
    return float(totals.pair[ABSOLUTE].sum() / defined) if defined else np.nan


def mean_self_information(windows: list[Windows], self_information: SelfInformation) -> float:
    """Mean over prompts and units, computed from the windows; NaN where none is defined."""
    every = np.concatenate([self_information(group.values)[group.reason == 0] for group in windows])
    return float(every.mean()) if every.size else np.nan

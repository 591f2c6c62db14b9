"""Whether a change sharpens with the size of the model: the criterion of a transition."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from jaxtyping import Float

from synatlas.inference import percentile_interval
from synatlas.study.change import Graded, resampled, without_seeds
from synatlas.study.forms import ABRUPT, FORMS, fit

#: Bootstrap draws of a width.
DRAWS: Final = 400


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """One category in models of several sizes, the smallest first.

    `width` is the range of difficulties from 10 % to 90 % of the fitted sigmoid's change and
    `narrowing` the 95 % interval of the smallest model's width less the largest one's.
    """

    category: str
    models: tuple[str, ...]
    parameters: tuple[int, ...]
    verdicts: tuple[str, ...]
    width: tuple[float, ...]
    narrowing: tuple[float, float]

    @property
    def sharpens(self) -> bool:
        """Abrupt in every model, narrower in each than in the one before, surely so overall."""
        narrower = all(a > b for a, b in zip(self.width, self.width[1:], strict=False))
        return (
            len(self.models) > 1
            and all(v in ABRUPT for v in self.verdicts)
            and narrower
            and self.narrowing[0] > 0
        )

    @property
    def says(self) -> str:
        """The same in words."""
        each = "; ".join(
            f"{m} ({n:,} parameters): {v}"
            + (f", 10 to 90 % over {w:.1f} difficulties" if v in ABRUPT else "")
            for m, n, v, w in zip(
                self.models, self.parameters, self.verdicts, self.width, strict=True
            )
        )
        said = "sharpens with size" if self.sharpens else "not shown to sharpen with size"
        return f"{each}. {said.capitalize()}."


def widths(
    graded: Graded, rng: np.random.Generator, draws: int = DRAWS
) -> Float[np.ndarray, " draw"]:
    """Width of the sigmoid fitted to one data set, then to resampled prompts.

    In difficulties, from 10 % to 90 % of the change. Widths below that of a change between two
    neighbouring difficulties are set to that: what is narrower cannot be seen.
    """
    graded = without_seeds(graded)
    chosen = resampled(graded, draws, rng)
    chosen = np.concatenate([np.arange(graded.level.size)[None], chosen])
    drawn = Graded(
        values=graded.values[0][chosen],
        level=graded.level,
        seed=graded.seed,
        difficulty=graded.difficulty,
        covariates=np.zeros((1, graded.level.size, 0)),
    )
    found = fit(drawn).width[FORMS.index("sigmoid")]
    return np.maximum(found, float(np.diff(graded.difficulty).min()))


def compared(
    category: str,
    models: Sequence[str],
    parameters: Sequence[int],
    verdicts: Sequence[str],
    drawn: Sequence[Float[np.ndarray, " draw"]],
) -> Sizes:
    """Put models of several sizes in order, and compare the widths of their change.

    Parameters
    ----------
    category : of the questions.
    models, parameters, verdicts : name, size and verdict of each model.
    drawn : of each model, what :func:`widths` gives.
    """
    order = sorted(range(len(models)), key=lambda i: parameters[i])
    narrowing = drawn[order[0]][1:] - drawn[order[-1]][1:]
    low, high = percentile_interval(narrowing, 0.95).tolist()
    return Sizes(
        category=category,
        models=tuple(models[i] for i in order),
        parameters=tuple(parameters[i] for i in order),
        verdicts=tuple(verdicts[i] for i in order),
        width=tuple(float(drawn[i][0]) for i in order),
        narrowing=(low, high),
    )

"""Which implementation sums the pairs: NumPy for small work, compiled for large.

For an artifact the choice depends on the size of the work alone, so that its digits do not depend
on what ran before. Calls on arrays may have a :class:`History`: repeated work becomes compiled,
and the two implementations differ by rounding, below 1e-12 nat.
"""

import os
import sys
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from jaxtyping import Float

from synatlas.decompose.accelerated import Accelerator
from synatlas.decompose.estimators import ESTIMATORS, Engine, Estimator
from synatlas.decompose.pairs import pair_count
from synatlas.decompose.windows import Windows

#: Earlier pair-prompts under MMI after which the next call is taken as one of many.
REPEATED_FROM: Final = 250_000

#: Pair-prompts of one call below which its fixed costs rule, and NumPy stays.
LEAST_REPEATED: Final = 4_096

_WEIGHED_BY: Final = ESTIMATORS["gaussian"].engines["mmi"].compile_from

#: Pair-prompts below which a second thread costs more than it saves.
_THREADS_FROM: Final = 500_000


@dataclass(slots=True)
class History:
    """Pair-prompts that earlier calls have put through NumPy in this process.

    Dearer ones, which pay for compiled code sooner, count more.
    """

    cases: int = 0

    def makes_compiled(self, cases: int) -> bool:
        """Whether a call of `cases` is compiled: what is loaded is used; else it is counted."""
        if cases < LEAST_REPEATED:
            return False
        if "synatlas.decompose.kernels" in sys.modules or self.cases >= REPEATED_FROM:
            return True
        self.cases += cases
        return False


def choose_engine(
    redundancy: str,
    *,
    estimator: Estimator = ESTIMATORS["gaussian"],
    units: int,
    passes: int,
    samples: int = 100,
    threads: int | None,
    history: History | None = None,
    only: str = "all",
    accelerator: Accelerator | None = None,
) -> Engine:
    """Engine of a redundancy function for `passes` data sets (prompts, times surrogates).

    Without `history` the size of the work alone decides; `samples` are the steps of the longest
    data set, which count where every one is visited. `only` says what sums hold, see
    :data:`synatlas.decompose.pairs.KEPT`: ``"all"`` knowns, or the two ``"extremes"`` red-red and
    syn-syn, which cost less. An `accelerator` is used wherever the redundancy function has an
    engine for it.
    """
    cases = pair_count(units) * passes
    engines = estimator.engines[redundancy]
    if accelerator is not None and engines.accelerated is not None:
        return partial(engines.accelerated(accelerator), only=only)
    work = max(cases, cases * samples // 100) if engines.by_sample else cases
    weighed = work * _WEIGHED_BY // engines.compile_from
    repeated = history is not None and history.makes_compiled(weighed)
    engine = engines.plain
    if repeated or work >= engines.compile_from:
        engine = engines.compiled(1 if cases < _THREADS_FROM else threads or os.cpu_count() or 1)
    return partial(engine, only=only)


def measure(engine: Engine, windows: list[Windows]) -> Float[np.ndarray, "row pair"] | None:
    """Rows of :func:`synatlas.decompose.tiles.measure_tiles`, if `engine` would compile anyway.

    None where that function does not apply: then sums say the same.
    """
    tiles = sys.modules.get("synatlas.decompose.tiles")
    if tiles is None or not isinstance(engine, partial) or engine.func is not tiles.sum_tiles:
        return None
    if engine.keywords.get("only", "all") != "all" or len(windows) != 1 or windows[0].shape[0] != 1:
        return None
    return tiles.measure_tiles(windows[0], threads=engine.keywords["threads"])

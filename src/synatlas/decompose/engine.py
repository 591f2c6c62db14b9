"""Which implementation sums the pairs: NumPy for small work, compiled for large.

For an artifact the choice depends on the size of the work alone, so that its digits do not depend
on what ran before. Calls on arrays may have a :class:`History`: repeated work becomes compiled,
and the two implementations differ by rounding, below 1e-12 nat.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from synatlas.decompose.pairs import PairSums, Redundancy, pair_count, sum_pairs
from synatlas.decompose.redundancy import ccs, ccs_compiled, mmi

#: Sums over prompts for windows of first and of second units; `per_unit` is a keyword.
Engine = Callable[..., PairSums]

#: Pair-prompts, over all surrogates, from which the compiled kernel pays for its start: about a
#: second to load and, once per machine, several to compile.
COMPILE_FROM: Final = 8_000_000

#: The same for the pointwise loop of CCS.
COMPILE_CCS_FROM: Final = 100_000

#: Earlier pair-prompts after which the next call is taken as one of many.
REPEATED_FROM: Final = 250_000

#: Pair-prompts of one call below which its fixed costs rule, and NumPy stays.
LEAST_REPEATED: Final = 4_096

#: Pair-prompts below which a second thread costs more than it saves.
_THREADS_FROM: Final = 500_000


@dataclass(slots=True)
class History:
    """Pair-prompts that earlier calls have put through NumPy in this process."""

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
    redundancy: Redundancy,
    *,
    units: int,
    passes: int,
    threads: int | None,
    history: History | None = None,
) -> Engine:
    """Engine for `passes` data sets (prompts, times surrogates) of `units` units.

    Without `history` the size of the work alone decides.
    """
    cases = pair_count(units) * passes
    repeated = history is not None and history.makes_compiled(cases)
    if redundancy is mmi and (repeated or cases >= COMPILE_FROM):
        # numba takes a second to import.
        from synatlas.decompose.tiles import sum_tiles

        threads = 1 if cases < _THREADS_FROM else threads or os.cpu_count() or 1
        return partial(sum_tiles, redundancy=mmi, threads=threads)
    if redundancy is ccs and (repeated or cases >= COMPILE_CCS_FROM):
        return partial(sum_pairs, redundancy=ccs_compiled)
    return partial(sum_pairs, redundancy=redundancy)

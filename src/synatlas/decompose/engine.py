"""Which implementation sums the pairs: NumPy for small work, compiled for large.

The choice depends on the size of the work alone, so that results do not depend on what ran before.
"""

import os
from collections.abc import Callable
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


def choose_engine(
    redundancy: Redundancy, *, units: int, passes: int, threads: int | None
) -> Engine:
    """Engine for `passes` data sets (prompts, times surrogates) of `units` units."""
    cases = pair_count(units) * passes
    if redundancy is mmi and cases >= COMPILE_FROM:
        # numba takes a second to import.
        from synatlas.decompose.tiles import sum_tiles

        return partial(sum_tiles, redundancy=mmi, threads=threads or os.cpu_count() or 1)
    if redundancy is ccs and cases >= COMPILE_CCS_FROM:
        return partial(sum_pairs, redundancy=ccs_compiled)
    return partial(sum_pairs, redundancy=redundancy)

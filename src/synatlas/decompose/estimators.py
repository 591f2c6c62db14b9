"""Estimators: how series become windows, and what can be computed from these."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Final

import numpy as np
from jaxtyping import Float

from synatlas.decompose.accelerated import Accelerator, sum_accelerated
from synatlas.decompose.copula import normal_scores
from synatlas.decompose.discrete import (
    binarise,
    binary_ccs,
    binary_mmi,
    binary_self_information,
    sum_binary,
)
from synatlas.decompose.pairs import PairSums, sum_pairs
from synatlas.decompose.redundancy import ccs, ccs_compiled, mmi
from synatlas.decompose.windows import Windows, gaussian_self_information, standardise

#: Sums over prompts for windows of first and of second units. Its keywords: `per_unit`, and `only`,
#: one of :data:`synatlas.decompose.pairs.KEPT`.
Engine = Callable[..., PairSums]


@dataclass(frozen=True, slots=True, kw_only=True)
class Engines:
    """Implementations of one redundancy function; the first two agree within 1e-12 nat.

    Parameters
    ----------
    plain : in NumPy.
    compiled : the compiled engine on so many threads; the call imports numba, which takes a
        second.
    compile_from : pair-prompts, over all surrogates, from which the compiled engine pays for its
        start: about a second to load and, once per machine, several to compile.
    by_sample : the plain engine visits every sample, and `compile_from` is meant for 100 of them.
    accelerated : the engine of a torch device; None where there is none.
    """

    plain: Engine
    compiled: Callable[[int], Engine]
    compile_from: int
    by_sample: bool = False
    accelerated: Callable[[Accelerator], Engine] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimator:
    """How informations are estimated; every one is in nats.

    Parameters
    ----------
    meaning : in words, for messages and documents.
    windows : ``windows(series, lag)`` cuts series (prompt, step, unit) into pasts and futures.
    self_information : I(past; future) of each series, from the values of such windows, also when
        a null has rotated them; 0 for windows that are 0.
    engines : redundancy function -> its implementations on such windows.
    correlated : whether the correlations of such windows decide every information, as in closed
        forms and in the pooled same-step null.
    """

    meaning: str
    windows: Callable[[Float[np.ndarray, "prompt step unit"], int], Windows]
    self_information: Callable[
        [Float[np.ndarray, "prompt window unit sample"]], Float[np.ndarray, "prompt unit"]
    ]
    engines: Mapping[str, Engines]
    correlated: bool


def _tiles(threads: int) -> Engine:
    from synatlas.decompose.tiles import sum_tiles

    return partial(sum_tiles, redundancy=mmi, threads=threads)


def _ccs_loop(threads: int) -> Engine:
    return partial(sum_pairs, redundancy=ccs_compiled)


def _binary_tiles(threads: int, *, common_change: bool) -> Engine:
    from synatlas.decompose.binary_tiles import sum_binary_tiles

    return partial(sum_binary_tiles, common_change=common_change, threads=threads)


#: Engines of windows whose correlations decide.
_CORRELATED: Final = MappingProxyType(
    {
        "mmi": Engines(
            plain=partial(sum_pairs, redundancy=mmi),
            compiled=_tiles,
            compile_from=8_000_000,
            accelerated=lambda accelerator: partial(sum_accelerated, accelerator=accelerator),
        ),
        "ccs": Engines(
            plain=partial(sum_pairs, redundancy=ccs),
            compiled=_ccs_loop,
            compile_from=100_000,
            by_sample=True,
        ),
    }
)

#: Engines of windows whose signs are counted.
_COUNTED: Final = MappingProxyType(
    {
        "mmi": Engines(
            plain=partial(sum_binary, rule=binary_mmi),
            compiled=partial(_binary_tiles, common_change=False),
            compile_from=1_500_000,
        ),
        "ccs": Engines(
            plain=partial(sum_binary, rule=binary_ccs),
            compiled=partial(_binary_tiles, common_change=True),
            compile_from=500_000,
        ),
    }
)

#: Estimators by name.
ESTIMATORS: Final = MappingProxyType(
    {
        "gaussian": Estimator(
            meaning="correlations of each window",
            windows=standardise,
            self_information=gaussian_self_information,
            engines=_CORRELATED,
            correlated=True,
        ),
        "copula": Estimator(
            meaning="correlations of the normal scores of each window's ranks",
            windows=normal_scores,
            self_information=gaussian_self_information,
            engines=_CORRELATED,
            correlated=True,
        ),
        "binary": Estimator(
            meaning="counts of samples above each window's mean",
            windows=binarise,
            self_information=binary_self_information,
            engines=_COUNTED,
            correlated=False,
        ),
    }
)

#: Those whose windows' correlations decide every information.
CORRELATED: Final = MappingProxyType(
    {name: estimator for name, estimator in ESTIMATORS.items() if estimator.correlated}
)

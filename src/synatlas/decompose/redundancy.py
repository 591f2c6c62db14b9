"""Double-redundancy functions: from the informations of a block of pairs to its 16 knowns."""

from collections.abc import Callable
from typing import Final

import numpy as np
from jaxtyping import Float, Int

from synatlas.decompose.gaussian import minimum_information
from synatlas.decompose.pairs import Block, Redundancy
from synatlas.decompose.pointwise import common_change

#: Cases gathered at a time: four windows of 100 samples are 3 kB.
_GATHERED: Final = 8192


def mmi(block: Block) -> list[np.ndarray]:
    """Minimum mutual information: a redundancy is the least of its informations, in nats >= 0."""
    return minimum_information(block.informations)


def ccs(block: Block) -> list[np.ndarray]:
    """Common change in surprisal, mean over samples, in nats; may be negative."""
    return _with_shared(block, common_change)


def ccs_compiled(block: Block) -> list[np.ndarray]:
    """:func:`ccs` with the compiled loop."""
    from synatlas.decompose.kernels import common_change_compiled

    return _with_shared(block, common_change_compiled)


def _with_shared(block: Block, shared: Callable[[np.ndarray], np.ndarray]) -> list[np.ndarray]:
    prompt, position = np.nonzero(block.defined)
    means = np.zeros((7, *block.defined.shape))
    for begin in range(0, prompt.size, _GATHERED):
        some = slice(begin, begin + _GATHERED)
        means[:, prompt[some], position[some]] = shared(
            _gather(block, prompt[some], position[some])
        ).T
    rows: list[np.ndarray] = [means[k] for k in range(7)]
    double, to_a, to_b, to_ab, to_x, to_y, to_xy = rows
    i = block.informations
    return [
        *(double, to_a, to_b, to_ab),
        *(to_x, i.xa, i.xb, i.x_ab),
        *(to_y, i.ya, i.yb, i.y_ab),
        *(to_xy, i.xy_a, i.xy_b, i.xy_ab),
    ]


def _gather(
    block: Block, prompt: Int[np.ndarray, " case"], position: Int[np.ndarray, " case"]
) -> Float[np.ndarray, "case variable sample"]:
    first, second = block.panel.first[position], block.panel.second[position]
    windows = np.empty((prompt.size, 4, block.left.shape[3]))
    windows[:, 0::2] = block.left[prompt, :, first]
    windows[:, 1::2] = block.right[prompt, :, second]
    return windows


#: Double-redundancy functions.
REDUNDANCIES: Final[dict[str, Redundancy]] = {"mmi": mmi, "ccs": ccs}

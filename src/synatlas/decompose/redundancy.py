"""Double-redundancy functions: from the informations of a block of pairs to its 16 knowns."""

from typing import Final

import numpy as np
from jaxtyping import Float

from synatlas.decompose.gaussian import Informations, minimum_information
from synatlas.decompose.pairs import Block, Redundancy
from synatlas.decompose.pointwise import common_change, gather

#: Cases gathered at a time: four windows of 100 samples are 3 kB.
_GATHERED: Final = 8192


def mmi(block: Block) -> list[np.ndarray]:
    """Minimum mutual information: a redundancy is the least of its informations, in nats >= 0."""
    return minimum_information(block.informations)


def ccs(block: Block) -> list[np.ndarray]:
    """Common change in surprisal, mean over samples, in nats; may be negative."""
    prompt, position = np.nonzero(block.defined)
    means = np.zeros((7, *block.defined.shape))
    for begin in range(0, prompt.size, _GATHERED):
        some = slice(begin, begin + _GATHERED)
        windows = gather(block, prompt[some], position[some])
        means[:, prompt[some], position[some]] = common_change(windows).T
    return with_shared(block.informations, means)


def ccs_compiled(block: Block) -> list[np.ndarray]:
    """:func:`ccs` with the compiled loop."""
    from synatlas.decompose.kernels_ccs import common_change_compiled

    return with_shared(block.informations, common_change_compiled(block))


def with_shared(i: Informations, means: Float[np.ndarray, "seven prompt pair"]) -> list[np.ndarray]:
    """The 16 knowns of nine informations and the seven redundancies that CCS takes sample-wise."""
    double, to_a, to_b, to_ab, to_x, to_y, to_xy = means
    return [
        *(double, to_a, to_b, to_ab),
        *(to_x, i.xa, i.xb, i.x_ab),
        *(to_y, i.ya, i.yb, i.y_ab),
        *(to_xy, i.xy_a, i.xy_b, i.xy_ab),
    ]


#: Double-redundancy functions.
REDUNDANCIES: Final[dict[str, Redundancy]] = {"mmi": mmi, "ccs": ccs}

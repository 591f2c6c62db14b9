"""Double-redundancy functions: from the informations of a block of pairs to its 16 knowns."""

from typing import Final

import numpy as np

from synatlas.decompose.gaussian import minimum_information
from synatlas.decompose.pairs import Block, Redundancy


def mmi(block: Block) -> list[np.ndarray]:
    """Minimum mutual information: a redundancy is the least of its informations, in nats >= 0."""
    return minimum_information(block.informations)


#: Double-redundancy functions.
REDUNDANCIES: Final[dict[str, Redundancy]] = {"mmi": mmi}

"""Speed and agreement side by side with phyid [1]_, in one run.

Run with: python benchmarks/peers.py PHYID_PATH, where PHYID_PATH is a checkout of the reference
package. Both get the same series; phyid takes one pair a call, so it gets a sample of pairs.

References
----------
.. [1] https://github.com/Imperial-MIND-lab/integrated-info-decomp
"""

import argparse
import sys
import time
from collections.abc import Callable
from itertools import combinations

import numpy as np
from test_decompose import memories

from synatlas.decompose.series import phiid

SHORT = {"red": "r", "un1": "x", "un2": "y", "syn": "s"}


def cpu_seconds(work: Callable[[], object], rounds: int) -> float:
    """Least processor time of several rounds."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def main() -> None:
    """Print nanoseconds a pair of both, their ratio and their greatest difference."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("phyid_path", help="folder that holds the package phyid")
    parser.add_argument("--units", type=int, default=256)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--sample", type=int, default=200, help="pairs that phyid decomposes")
    options = parser.parse_args()
    sys.path.insert(0, options.phyid_path)
    from phyid.calculate import calc_PhiID

    series = memories(1, options.steps, options.units)[0]
    pairs = list(combinations(range(options.units), 2))
    chosen = np.random.default_rng(0).choice(len(pairs), options.sample, replace=False)
    theirs = []

    def peer() -> None:
        theirs.clear()
        for k in chosen:
            one, two = pairs[k]
            found = calc_PhiID(series[:, one], series[:, two], 1, kind="gaussian", redundancy="MMI")
            theirs.append({name: np.mean(values) for name, values in found[0].items()})

    for _ in range(12):
        ours = phiid(series)
    mine = cpu_seconds(lambda: phiid(series), 100) / len(pairs)
    other = cpu_seconds(peer, 3) / len(chosen)
    worst = max(
        abs(atoms[f"{SHORT[past]}t{SHORT[future]}"] - ours["atom"].sel(past=past, future=future)[k])
        for k, atoms in zip(chosen, theirs, strict=True)
        for past in SHORT
        for future in SHORT
    )
    print(f"synatlas {1e9 * mine:.0f} ns a pair, phyid {1e9 * other:.0f} ns a pair")
    print(f"ratio {other / mine:.0f}, greatest difference {float(worst):.1e} nat")


if __name__ == "__main__":
    main()

"""Speed, memory and agreement side by side with other packages, in one run on the same data.

Run with::

    python -m venv ENV
    ENV/bin/pip install hoi thoi syntropyx dit omegaid   # those that are wanted and install
    python benchmarks/peers.py --python ENV/bin/python --phyid CHECKOUT

CHECKOUT is a folder that holds the package phyid [1]_, which is not on the package index. Each
package runs in a process of its own (`peer_worker.py`), so it needs nothing of this project and
this project nothing of it; what is not installed is left out. Packages that take a pair a call get
a sample of the pairs. Times are processor times on one thread, the least of some rounds; synatlas
is timed before and after the others.

References
----------
.. [1] https://github.com/Imperial-MIND-lab/integrated-info-decomp
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path

import numpy as np
from peer_worker import NAMES, PEERS
from test_decompose import memories

#: Packages that take many pairs a call -> how many they get at most; the others get the sample.
MANY = {"hoi": 2_016, "thoi": 1_000_000}

#: Threads of every library that has a say in them.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    "JAX_PLATFORMS": "cpu",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One data set under one redundancy function and one estimator."""

    units: int
    steps: int
    redundancy: str
    estimator: str

    def title(self) -> str:
        """The heading of its tables."""
        return f"N = {self.units}, T = {self.steps}, {self.redundancy.upper()}, {self.estimator}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one package did with a job; atoms of the sampled pairs in nats."""

    peer: str
    version: str
    seconds: float
    megabytes: float
    pairs: int
    atoms: np.ndarray


def run(peer: str, job: Job, given: argparse.Namespace) -> Row | str:
    """Start the worker of one package; a word on why there is no row where there is none."""
    every = np.array(list(combinations(range(job.units), 2)))
    order = np.random.default_rng(0).permutation(len(every))
    pairs = every[order[: max(given.sample, MANY.get(peer, 0))]]
    asked = {
        "redundancy": job.redundancy,
        "estimator": job.estimator,
        "phyid": given.phyid,
        "warm": 5.0,
        "rounds": {"synatlas": 30, "hoi": 1}.get(peer, 3),
        "counted": len(every) if peer == "synatlas" else len(pairs),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        series = memories(1, job.steps, job.units)[0]
        np.savez(folder / "job.npz", series=series, pairs=pairs)
        (folder / "job.json").write_text(json.dumps(asked), encoding="utf-8")
        python = sys.executable if peer in ("synatlas", "phyid") else given.python
        worker = Path(__file__).parent / "peer_worker.py"
        done = subprocess.run(
            [python, str(worker), peer, name],
            env=os.environ | ONE_THREAD,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            return f"failed: {done.stderr.strip().splitlines()[-1]}"
        said = json.loads((folder / f"{peer}.json").read_text(encoding="utf-8"))
        if "missing" in said:
            return str(said["missing"])
        atoms = np.load(folder / f"{peer}.npz")["atoms"]
    del said["peer"]
    return Row(peer=peer, atoms=atoms[: given.sample], **said)


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def tables(job: Job, given: argparse.Namespace) -> Iterator[str]:
    """Time and memory, and the greatest difference from synatlas in each atom."""
    first = run("synatlas", job, given)
    others = [run(peer, job, given) for peer in given.peers]
    again = run("synatlas", job, given)
    if isinstance(first, str) or isinstance(again, str):
        yield f"synatlas {first}"
        return
    mine = min(first.seconds, again.seconds)
    yield markdown(
        ["package", "processor time a pair", "times synatlas", "memory", "pairs"],
        [
            [
                f"{row.peer} {row.version}",
                _time(mine if row is first else row.seconds),
                f"{row.seconds / mine:,.0f}" if row is not first else "1",
                f"{max(row.megabytes, 0):.0f} MB",
                f"{row.pairs:,}",
            ]
            for row in (first, *others)
            if not isinstance(row, str)
        ],
    )
    yield f"synatlas before and after: {_time(first.seconds)}, {_time(again.seconds)} a pair."
    for peer, row in zip(given.peers, others, strict=True):
        if isinstance(row, str):
            yield f"{peer}: {row}."
    rows = [row for row in others if not isinstance(row, str)]
    differences = [np.abs(row.atoms - first.atoms).max(axis=0) for row in rows]
    yield markdown(
        ["greatest difference [nat]", *(row.peer for row in rows)],
        [[name, *(f"{column[k]:.1e}" for column in differences)] for k, name in enumerate(NAMES)],
    )


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.0f} ns"


def main() -> None:
    """Print the tables of every job."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=sys.executable, help="Python that has the packages")
    parser.add_argument("--phyid", default="", help="folder that holds the package phyid")
    parser.add_argument("--peers", nargs="+", default=list(PEERS)[1:], choices=list(PEERS)[1:])
    parser.add_argument("--units", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--redundancy", nargs="+", default=["mmi"], choices=["mmi", "ccs"])
    parser.add_argument("--estimator", nargs="+", default=["gaussian"])
    parser.add_argument("--sample", type=int, default=200, help="pairs of a package that takes one")
    given = parser.parse_args()
    for steps, units, redundancy, estimator in product(
        given.steps, given.units, given.redundancy, given.estimator
    ):
        job = Job(units=units, steps=steps, redundancy=redundancy, estimator=estimator)
        print(f"\n## {job.title()}\n", flush=True)
        for table in tables(job, given):
            print(table, end="\n\n", flush=True)


if __name__ == "__main__":
    main()

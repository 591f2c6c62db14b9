"""One package on one job, in its own process: what `peers.py` starts for each row of its table.

Run as ``python peer_worker.py PEER FOLDER`` by a Python that has the package; nothing of this
project is imported for the others. FOLDER holds ``job.npz`` (series of shape (step, unit), pairs)
and ``job.json`` (redundancy, estimator, rounds, folders). Written there: ``PEER.npz`` with atoms of
the pairs in nats, and ``PEER.json`` with processor time a pair, memory and version.
"""

import ctypes
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from itertools import combinations
from pathlib import Path

import numpy as np

NAMES = [f"{past}t{future}" for past in "rxys" for future in "rxys"]

#: Atoms (pair, 16) in nats of series (step, unit), for the pairs given.
Work = Callable[[], np.ndarray]


class NotForThisJobError(Exception):
    """The package does not do what the job asks for."""


def need(job: dict, **wanted: tuple[str, ...]) -> None:
    """Refuse a job that the package has no answer to."""
    for what, known in wanted.items():
        if job[what] not in known:
            raise NotForThisJobError(f"{what} {job[what]}")


def assembled(known: dict) -> np.ndarray:
    """Atoms under MMI of nine informations, for packages that have no lattice of their own.

    Keys are past and future letters, as ``("xy", "a")``.
    """
    pasts, futures = ("r", "x", "y", "xy"), ("r", "a", "b", "ab")
    cells = dict(known)
    for past in pasts[1:]:
        cells[past, "r"] = np.minimum(known[past, "a"], known[past, "b"])
    for future in futures[1:]:
        cells["r", future] = np.minimum(known["x", future], known["y", future])
    cells["r", "r"] = np.minimum(cells["r", "a"], cells["r", "b"])
    below = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 1, 1]], dtype=float)
    stacked = np.stack([np.asarray(cells[p, f]) for p in pasts for f in futures], axis=-1)
    return stacked @ np.linalg.inv(np.kron(below, below)).T


def synatlas(series: np.ndarray, pairs: np.ndarray, job: dict) -> Work:
    import synatlas as sa

    options = {"redundancy": job["redundancy"], "estimator": job["estimator"]}
    position = {pair: k for k, pair in enumerate(combinations(range(series.shape[1]), 2))}
    chosen = [position[one, two] for one, two in pairs.tolist()]

    def work() -> np.ndarray:
        return sa.phiid(series, **options)["atom"].values.reshape(-1, 16)[chosen]

    # Repeated calls are compiled; the first ones are not what is compared.
    start = time.perf_counter()
    while time.perf_counter() < start + job["warm"]:
        work()
    return work


def phyid(series: np.ndarray, pairs: np.ndarray, job: dict) -> Work:
    sys.path.insert(0, job["phyid"])
    from phyid.calculate import calc_PhiID

    kind = {"gaussian": "gaussian", "binary": "discrete"}[job["estimator"]]
    unit = np.log(2) if kind == "discrete" else 1.0

    def work() -> np.ndarray:
        rows = []
        for one, two in pairs:
            found, _ = calc_PhiID(
                series[:, one], series[:, two], 1, kind=kind, redundancy=job["redundancy"].upper()
            )
            rows.append([found[name].mean() for name in NAMES])
        return unit * np.array(rows)

    return work


def omegaid(series: np.ndarray, pairs: np.ndarray, job: dict) -> Work:
    from omegaid.core import calc_phiid_multivariate

    kind = {"gaussian": "gaussian", "binary": "discrete"}[job["estimator"]]
    unit = np.log(2) if kind == "discrete" else 1.0

    def work() -> np.ndarray:
        rows = []
        for pair in pairs:
            two = np.ascontiguousarray(series[:, pair].T)
            found, _ = calc_phiid_multivariate(
                two, two, 1, kind=kind, redundancy=job["redundancy"].upper()
            )
            rows.append([found[name].mean() for name in NAMES])
        return unit * np.array(rows)

    return work


def syntropyx(series: np.ndarray, pairs: np.ndarray, job: dict) -> Work:
    need(job, estimator=("gaussian",), redundancy=("mmi",))
    from syntropy.gaussian.decompositions import integrated_information_decomposition

    node = {"r": ((0,), (1,)), "x": ((0,),), "y": ((1,),), "s": ((0, 1),)}
    cells = [(node[name[0]], node[name[2]]) for name in NAMES]

    def work() -> np.ndarray:
        rows = []
        for pair in pairs:
            windows = np.concatenate([series[:-1, pair], series[1:, pair]], axis=1).T
            found = integrated_information_decomposition(
                (0, 1), (2, 3), windows, np.cov(windows), "mmi"
            )
            rows.append([found[cell] for cell in cells])
        return np.array(rows)

    return work


def hoi(series: np.ndarray, pairs: np.ndarray, job: dict) -> Work:
    """Every atom is a fit of its own, which compiles anew; in bits, not centred by the package."""
    need(job, estimator=("gaussian",), redundancy=("mmi",))
    from hoi.metrics import AtomsPhiID

    centred = series - series.mean(axis=0)
    multiplets = [tuple(map(int, pair)) for pair in pairs]
    letters = {"r": "r", "x": "u1", "y": "u2", "s": "s"}

    def work() -> np.ndarray:
        model = AtomsPhiID(centred, multiplets=multiplets, verbose=False)
        columns = [
            model.fit(atoms=[f"{letters[name[0]]}t{letters[name[2]]}"], method="gauss")[:, 0]
            for name in NAMES
        ]
        return np.log(2) * np.stack(columns, axis=1)

    return work


def thoi(series: np.ndarray, pairs: np.ndarray, job: dict) -> Work:
    """Total correlations of eleven subsets a pair, from which the atoms are assembled here."""
    need(job, estimator=("gaussian",), redundancy=("mmi",))
    import torch
    from thoi.measures.gaussian_copula import nplets_measures

    torch.set_num_threads(1)
    units = series.shape[1]
    column = {"x": pairs[:, 0], "y": pairs[:, 1]}
    column |= {"a": pairs[:, 0] + units, "b": pairs[:, 1] + units}
    subsets = ("xy", "ab", "xa", "xb", "ya", "yb", "xya", "xyb", "xab", "yab", "xyab")

    def work() -> np.ndarray:
        windows = np.concatenate([series[:-1], series[1:]], axis=1)
        covariance = torch.as_tensor(np.cov(windows.T))
        total = {"x": 0.0, "y": 0.0, "a": 0.0, "b": 0.0}
        for some in subsets:
            where = torch.as_tensor(np.stack([column[letter] for letter in some], axis=1))
            # The default batch of a million takes gigabytes and twice the time.
            measures = nplets_measures(
                covariance, where, covmat_precomputed=True, batch_size=10_000, verbose=50
            )
            total[some] = measures[:, 0, 0].numpy()
        known = {
            (past, future): total[past + future] - total[past] - total[future]
            for past in ("x", "y", "xy")
            for future in ("a", "b", "ab")
        }
        return assembled(known)

    return work


def dit(series: np.ndarray, pairs: np.ndarray, job: dict) -> Work:
    """Informations of a joint distribution, from which the atoms are assembled here."""
    need(job, estimator=("binary",), redundancy=("mmi",))
    import dit as package

    past, future = series[:-1], series[1:]
    symbols = np.concatenate([past > past.mean(axis=0), future > future.mean(axis=0)], axis=1)
    units = series.shape[1]
    rows = {"x": [0], "y": [1], "xy": [0, 1], "a": [2], "b": [3], "ab": [2, 3]}

    def work() -> np.ndarray:
        out = []
        for one, two in pairs:
            four = symbols[:, [one, two, one + units, two + units]].astype(int)
            seen, count = np.unique(four, axis=0, return_counts=True)
            words = ["".join(map(str, row)) for row in seen]
            joint = package.Distribution(words, count / len(four))
            known = {
                (p, f): package.shannon.mutual_information(joint, rows[p], rows[f])
                for p in ("x", "y", "xy")
                for f in ("a", "b", "ab")
            }
            out.append(assembled(known))
        return np.log(2) * np.array(out)

    return work


#: Package -> what makes its work of a job.
PEERS = {
    "synatlas": synatlas,
    "phyid": phyid,
    "omegaid": omegaid,
    "syntropyx": syntropyx,
    "hoi": hoi,
    "thoi": thoi,
    "dit": dit,
}


def resident(field: str) -> float:
    """Megabytes of this process, now (VmRSS) or at most (VmHWM); NaN where Linux is not."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    (found,) = re.findall(rf"{field}:\s+(\d+) kB", status.read_text(encoding="utf-8"))
    return int(found) / 1024


def forget() -> None:
    """Give freed memory back, and let the greatest memory start from what is held now."""
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
        reset.write_text("5", encoding="utf-8")


def version_of(peer: str, job: dict) -> str:
    if peer != "phyid":
        return version(peer)
    done = subprocess.run(
        ["git", "-C", job["phyid"], "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "a checkout"


def main() -> None:
    """Do one job and write what came of it."""
    peer, folder = sys.argv[1], Path(sys.argv[2])
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    given = np.load(folder / "job.npz")
    said: dict = {"peer": peer}
    try:
        work = PEERS[peer](given["series"], given["pairs"], job)
        said["version"] = version_of(peer, job)
    except NotForThisJobError as error:
        said["missing"] = f"has no {error}"
    except ModuleNotFoundError as error:
        said["missing"] = f"not installed ({error.name})"
    else:
        forget()
        before = resident("VmRSS")
        times, atoms = [], np.empty(0)
        for _ in range(job["rounds"]):
            start = time.process_time()
            atoms = work()
            times.append(time.process_time() - start)
        said |= {"seconds": min(times) / job["counted"], "pairs": job["counted"]}
        said |= {"megabytes": resident("VmHWM") - before}
        np.savez(folder / f"{peer}.npz", atoms=atoms)
    (folder / f"{peer}.json").write_text(json.dumps(said), encoding="utf-8")


if __name__ == "__main__":
    main()

"""How often the analysis of difficulty says what was planted, and how often something else.

Run with: python benchmarks/difficulty_power.py, or with --into docs/validity.md to put the tables
there. About three minutes of one core.
"""

import argparse
from collections import Counter
from pathlib import Path
from typing import Any, Final

import numpy as np
from marked_tables import show_tables

from synatlas.simulate.graded import NOISES, PLANTED_FORMS, plant_order
from synatlas.study.change import Graded, change_p, without_covariates
from synatlas.study.forms import ABRUPT, FORMS, LIMIT, VERDICTS, held_out_aic, verdict

SIMS: Final = 300
PERMUTATIONS: Final = 199
EFFECTS: Final = (0.5, 1.0, 2.0)
DESIGNS: Final = tuple((levels, seeds) for levels in (4, 6, 8) for seeds in (5, 3))
COLUMNS: Final = VERDICTS[:-1]


def called(form: str, key: int, *, regressed: bool = True, **settings: Any) -> np.ndarray:
    """Verdicts of simulated data sets."""
    return calls(*tested(form, key, regressed=regressed, **settings), limit=LIMIT)


def tested(form: str, key: int, *, regressed: bool, **settings: Any) -> tuple[Any, Any]:
    """p-values, and AIC of every form, of simulated data sets."""
    rng = np.random.default_rng((20, key))
    planted = plant_order(form, rng, sims=SIMS, **settings)
    graded = Graded(
        values=planted.values,
        level=planted.level,
        seed=planted.seed,
        difficulty=planted.difficulty,
        covariates=planted.length[..., None],
    )
    if not (settings.get("confounded", False) and regressed):
        graded = without_covariates(graded)
    return change_p(graded, PERMUTATIONS, rng), held_out_aic(graded)


def calls(p: np.ndarray, aic: np.ndarray, *, limit: float) -> np.ndarray:
    """Verdicts from p-values and AIC."""
    pairs = zip(p.tolist(), aic.tolist(), strict=True)
    return np.array([verdict(q, dict(zip(FORMS, a, strict=True)), limit=limit) for q, a in pairs])


def table(columns: tuple[str, ...], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [columns, ("---",) * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shares(verdicts: np.ndarray) -> list[str]:
    """Share of every verdict in percent."""
    count = Counter(verdicts.tolist())
    return [f"{100 * count[name] / verdicts.size:.1f}" for name in COLUMNS]


def constant_table() -> str:
    """Constant order parameters of every design and noise."""
    rows = []
    for levels, seeds in DESIGNS:
        for noise in NOISES:
            for confounded in (False, True):
                found = called(
                    "constant", len(rows), levels=levels, seeds=seeds, noise=noise,
                    confounded=confounded,
                )  # fmt: skip
                length = "regressed out" if confounded else "none"
                rows.append([f"{levels}", f"{seeds}", noise, length, *shares(found)])
    raw = called("constant", 900, levels=6, seeds=5, confounded=True, regressed=False)
    rows.append(["6", "5", "normal", "left in", *shares(raw)])
    return table(("levels", "seeds", "noise", "length", *COLUMNS), rows)


def confusion_table() -> str:
    """Planted forms of every size, over the noises, designs of 5 seeds, without and with length."""
    rows = []
    for levels in (4, 6, 8):
        for form in PLANTED_FORMS[1:]:
            for effect in EFFECTS:
                found = [
                    called(
                        form, 1000 + 100 * len(rows) + i, levels=levels, effect=effect, noise=noise,
                        confounded=confounded,
                    )
                    for i, (noise, confounded) in enumerate(
                        (n, c) for n in NOISES for c in (False, True)
                    )
                ]  # fmt: skip
                rows.append([f"{levels}", form, f"{effect:g}", *shares(np.concatenate(found))])
    return table(("levels", "planted", "size", *COLUMNS), rows)


def variant_table() -> str:
    """The price of a parameter and the limit, on both error rates that matter."""
    names = {0: "none", 2: "2 k"}
    found: dict[tuple[int, float], dict[tuple[str, float], list[tuple[float, float]]]] = {}
    for i, (levels, seeds) in enumerate(DESIGNS):
        parameters = np.array([1, 2, 3, 4, levels])
        for j, form in enumerate(PLANTED_FORMS[1:]):
            for effect in EFFECTS:
                key = 9000 + 100 * i + 10 * j + int(2 * effect)
                p, aic = tested(
                    form, key, regressed=True, levels=levels, seeds=seeds, effect=effect
                )
                for price in names:
                    for limit in (2.0, 4.0, 6.0):
                        said = calls(p, aic + (price - 2) * parameters, limit=limit)
                        share = (
                            float(np.isin(said, ABRUPT).mean()),
                            float((said == "linear").mean()),
                        )
                        cell = found.setdefault((price, limit), {})
                        cell.setdefault((form, effect), []).append(share)
    rows = []
    for (price, limit), cell in found.items():
        wrong = [share[0] for effect in EFFECTS for share in cell["linear", effect]]
        right = [np.mean([s[1] for s in cell["linear", effect]]) for effect in EFFECTS]
        abrupt = [
            np.mean([s[0] for s in cell[form, effect]])
            for form in ("sigmoid", "step")
            for effect in EFFECTS
        ]
        numbers = [np.mean(wrong), max(wrong), *right, *abrupt]
        rows.append([names[price], f"{limit:g}", *(f"{100 * n:.1f}" for n in numbers)])
    sizes = [f"{e:g}" for e in EFFECTS]
    columns = (
        "price", "limit", "line called abrupt, mean", "at most",
        *(f"line called linear, {s}" for s in sizes),
        *(f"{form} called abrupt, {s}" for form in ("sigmoid", "step") for s in sizes),
    )  # fmt: skip
    return table(columns, rows)


def main() -> None:
    """Simulate, and print the tables or put them into a document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path)
    made = {
        "difficulty constant": constant_table(),
        "difficulty confusion": confusion_table(),
        "difficulty variants": variant_table(),
    }
    show_tables(made, parser.parse_args().into)


if __name__ == "__main__":
    main()

"""What a comparison of models found, in words that follow from its numbers."""

from collections.abc import Sequence
from typing import Any, Final

import pandas as pd

from synatlas.report.verdict import Finding, number
from synatlas.study.compare import COMMON, FRESH, OWN
from synatlas.study.contrast import View, models
from synatlas.study.shapes import ABOVE_BASELINE

#: The score of the published curves, by which the headline counts.
LEAD: Final = "rank_of_difference"

_UNCORRECTED: Final = "95 % intervals, not corrected for the number of models"


def findings(
    numbers: pd.DataFrame, fresh: pd.DataFrame, pairs: pd.DataFrame
) -> tuple[Finding, ...]:
    """The findings of a comparison: shape, controls, agreement."""
    own = _on_common_tokens(numbers)
    return (
        _arch(own, LEAD, "Units of the middle third of depth rank above those of the ends"),
        _arch(
            own,
            "difference_of_ranks",
            "The same with the other published definition (difference of ranks)",
        ),
        _beyond_fresh(fresh, LEAD),
        _beyond_memory(own),
        _agreement(pairs, LEAD),
    )


def _on_common_tokens(numbers: pd.DataFrame) -> Any:
    """Of each model the rows on common tokens, of those that read none the rows on their own."""
    trained: Any = numbers[numbers["role"].isin((COMMON, OWN)) & (numbers["status"] == "complete")]
    fed = set(trained.loc[trained["role"] == COMMON, "model"])
    return trained[(trained["role"] == COMMON) | ~trained["model"].isin(fed)]


def headline(found: Sequence[Finding]) -> str:
    """One sentence for each of the two questions that decide."""
    arch, fresh = found[0], found[2]
    return (
        f"The middle of depth is above the ends by the published rank {arch.holds}; "
        f"more so than with fresh weights that read the same tokens {fresh.holds}."
    )


def warnings(found: Sequence[View], failed: Sequence[str]) -> tuple[str, ...]:
    """What makes a comparison doubtful."""
    told = [f"{name} could not be run and is left out." for name in failed]
    for view in found:
        if view.role == OWN and view.kept < view.prompts:
            told.append(
                f"{view.model}: {view.prompts - view.kept} of {view.prompts} replies are periodic "
                "and left out."
            )
        if view.shapes is None:
            told.append(f"{view.model}, {view.role}: no profile ({view.reason}).")
    if len({view.group for view in found}) > 1:
        told.append(
            "The models have different tokenizers: those with another one than the first read no "
            "tokens in common with it, and each pair of them is compared on replies of its own."
        )
    if not any(view.role == FRESH for view in found):
        told.append("No fresh weights were run: nothing here says what training has to do with it.")
    return tuple(told)


def _counted(claim: str, rows: Any, above: Any, names: Any, why: str) -> Finding:
    """A finding over several rows, each with a value and an interval."""
    holds, defined = int(above.sum()), int(rows["value"].notna().sum())
    tone = "open" if not defined or 0 < holds < defined else "yes" if holds else "no"
    told = f"in {holds} of {defined}" if defined else "not defined"
    values = tuple(
        (str(name), f"{number(value)} ({number([low, high])})")
        for name, value, low, high in zip(
            names, rows["value"], rows["low"], rows["high"], strict=True
        )
    )
    return Finding(claim=claim, holds=told, tone=tone, numbers=values, why=why)


def _valued(table: pd.DataFrame, score: str, column: str) -> Any:
    """Rows of a score, `column` and its bounds as ``value``, ``low`` and ``high``."""
    names = {column: "value", f"{column}_low": "low", f"{column}_high": "high"}
    return table.loc[table["score"] == score].rename(columns=names)


def _arch(own: pd.DataFrame, score: str, claim: str) -> Finding:
    rows = _valued(own, score, "mid_minus_ends")
    why = (
        "mean over the middle third minus the mean over the rest, profile scaled to 0..1; it holds "
        "where the interval lies above 0. On the first model's replies, which for the first are "
        "its own; periodic ones are left out. "
        f"{_UNCORRECTED}"
    )
    return _counted(claim, rows, rows["low"] > 0, rows["model"], why)


def _beyond_fresh(fresh: pd.DataFrame, score: str) -> Finding:
    claim = "…and by more than with fresh weights that read the same tokens"
    rows: Any = fresh.loc[fresh["score"] == score]
    by_model = rows.groupby("model", sort=False)
    mean = by_model[["difference"]].mean().rename(columns={"difference": "value"})
    # Above in every seed of fresh weights; the widest bounds of all seeds are shown.
    table = mean.assign(low=by_model["low"].min(), high=by_model["high"].max()).reset_index()
    why = (
        "middle minus ends of the model, less that of its architecture with fresh weights, mean "
        "over seeds; bounds are the widest of all seeds, and it holds where they lie above 0. "
        f"{_UNCORRECTED}"
    )
    return _counted(claim, table, table["low"] > 0, table["model"], why)


def _beyond_memory(own: pd.DataFrame) -> Finding:
    rows = _valued(own, ABOVE_BASELINE, "mid_minus_ends_raw")
    why = (
        "synergy less what independent series as self-predictable would have, middle minus ends, "
        "in nat; it holds where the interval lies above 0. Under MMI coupling can lower synergy, "
        f"so below 0 is no evidence of absence. {_UNCORRECTED}"
    )
    claim = "Synergy beyond each unit's own memory is greater in the middle"
    return _counted(claim, rows, rows["low"] > 0, rows["model"], why)


def _agreement(pairs: pd.DataFrame, score: str) -> Finding:
    # The pairs' own `low` and `high` are those of their difference.
    rows = _valued(pairs.drop(columns=["low", "high"]), score, "agreement")
    why = (
        "Spearman's correlation of the two profiles over common depths; it holds where the "
        "interval lies above 0. Layers are few and neighbours alike, so chance gives large values "
        f"too: describes, proves nothing. {_UNCORRECTED}"
    )
    names = rows["first"] + " and " + rows["second"]
    return _counted("Models rank their layers alike", rows, rows["low"] > 0, names, why)


def listed(found: Sequence[View]) -> str:
    """Names of the models in a line."""
    return ", ".join(models(found))

"""The study of difficulty in words, computed from its numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np

from synatlas.report.verdict import Finding, number
from synatlas.study.difficulty import ABOVE, BASELINE, DIFFERENCE
from synatlas.study.difficulty_changes import Change, Sides, find
from synatlas.study.forms import ABRUPT
from synatlas.study.sizes import Sizes

#: The view in which nothing but difficulty differs: every series has the same number of tokens.
CONTROLLED: Final = "packed"

#: Verdicts as a reader says them.
SAID: Final = {
    "constant": "no change shown",
    "linear": "a line",
    "sigmoid": "abrupt (sigmoid)",
    "step": "abrupt (step)",
    "step or sigmoid": "abrupt (step or sigmoid)",
    "another form": "in none of the forms",
    "cannot tell": "form not told",
    "no variation": "does not vary",
    "no number": "no number",
}

#: Verdicts that say that something changes.
CHANGED: Final = ("linear", *ABRUPT, "another form", "cannot tell")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The headline of a study, a finding for each category, and what makes them doubtful."""

    headline: str
    findings: tuple[Finding, ...]
    warnings: tuple[str, ...]


def judged(
    found: Sequence[Change],
    sides: Sequence[Sides],
    periodic: dict[str, tuple[float, float]],
    sizes: Sequence[Sizes],
) -> Words:
    """Say what changed with difficulty in the leading model.

    Parameters
    ----------
    found : of every model; the first one's is judged.
    sides : right and wrong answers apart.
    periodic : least and greatest share of periodic replies over the difficulties, by category.
    sizes : what models of several sizes show, by category; empty with one model.
    """
    model = found[0].model
    categories = list(dict.fromkeys(c.category for c in found))
    findings = tuple(_finding(found, sides, sizes, model, category) for category in categories)
    return Words(
        headline=_headline(found, sizes, model, categories),
        findings=findings,
        warnings=tuple(_warnings(found, periodic, model)),
    )


def _headline(
    found: Sequence[Change], sizes: Sequence[Sizes], model: str, categories: Sequence[str]
) -> str:
    told = {
        category: find(found, model=model, view=CONTROLLED, category=category)
        for category in categories
    }
    lists = {
        "is not shown to change": [c for c, t in told.items() if t.verdict == "constant"],
        "changes as a line would": [c for c, t in told.items() if t.verdict == "linear"],
        "changes abruptly": [c for c, t in told.items() if t.verdict in ABRUPT],
        "changes in a form that is not told": [
            c for c, t in told.items() if t.verdict in ("another form", "cannot tell")
        ],
        "has no number": [c for c, t in told.items() if t.verdict in ("no number", "no variation")],
    }
    parts = [
        f"{what} in {len(names)} of {len(told)} categories ({_listed(names)})"
        for what, names in lists.items()
        if names
    ]
    changed = [c for c, t in told.items() if t.verdict in CHANGED]
    also = [
        c
        for c in changed
        if find(found, model=model, view="fresh weights", category=c).verdict in CHANGED
    ]
    text = (
        "Over texts of equal length, the middle layers' synergy less redundancy, compared with "
        f"that of the other layers, {'; it '.join(parts)}."
    )
    if changed:
        text += (
            f" Networks of fresh weights that read the same texts change too in {len(also)} of "
            f"these {len(changed)}{': there tokens alone can do it' if also else ''}."
        )
    return f"{text} {_transition(sizes, lists['changes abruptly'])}"


def _transition(sizes: Sequence[Sizes], abrupt: Sequence[str]) -> str:
    sharper = [s.category for s in sizes if s.sharpens]
    if sharper:
        return (
            f"A transition by the criterion of this study in {_listed(sharper)}: abrupt in every "
            "model, and the narrower the larger the model."
        )
    if not abrupt:
        return "No transition is shown: nothing is more abrupt than a line there."
    if sizes:
        return "No transition is shown: no change is abrupt in every model and sharpens with size."
    return (
        f"An abrupt change in {_listed(abrupt)}, sizes not compared: this is not shown to be a "
        "transition."
    )


def _listed(names: Sequence[str]) -> str:
    spoken = [name.replace("_", " ") for name in names]
    return ", ".join(spoken[:-1]) + f" and {spoken[-1]}" if len(spoken) > 1 else "".join(spoken)


def told(change: Change) -> str:
    """What one change is said to be, with its p and its size."""
    if change.status:
        return f"no number: {change.status}"
    value, low, high = change.rise_sd
    return (
        f"{SAID[change.verdict]} (q {number(change.q)}; harder less easier half {value:+.2f} SD, "
        f"{low:+.2f} to {high:+.2f})"
    )


def _brief(change: Change) -> str:
    """The verdict and the size of a change."""
    if change.status:
        return "no number"
    value, low, high = change.rise_sd
    return f"{SAID[change.verdict]}, {value:+.2f} SD ({low:+.2f} to {high:+.2f})"


def _finding(
    found: Sequence[Change],
    sides: Sequence[Sides],
    sizes: Sequence[Sizes],
    model: str,
    category: str,
) -> Finding:
    main = find(found, model=model, view=CONTROLLED, category=category)
    shown = {
        "asked": ("asked", DIFFERENCE),
        "asked, lengths out": ("asked, lengths out", DIFFERENCE),
        "packed": (CONTROLLED, DIFFERENCE),
        "packed, baseline": (CONTROLLED, BASELINE),
        "packed, above baseline": (CONTROLLED, ABOVE),
        "fresh weights": ("fresh weights", DIFFERENCE),
    }
    numbers = [
        (name, _brief(find(found, model=model, view=view, category=category, score=score)))
        for name, (view, score) in shown.items()
    ]
    numbers += [
        ("right less wrong", _side(s))
        for s in sides
        if (s.model, s.category, s.score) == (model, category, DIFFERENCE)
    ]
    numbers += [("sizes", s.says) for s in sizes if s.category == category]
    tone = "no" if main.verdict == "constant" else "open"
    if main.verdict in CHANGED and not _doubts(found, model, category):
        tone = "yes"
    return Finding(
        claim=f"{_listed([category]).capitalize()}: the profile changes with difficulty",
        holds=SAID[main.verdict],
        tone=tone,
        numbers=tuple(numbers),
        why=" ".join(_why(found, model, category)),
    )


def _side(side: Sides) -> str:
    if side.status:
        return "no number"
    value, low, high = (1e3 * v for v in side.difference)
    return f"{value:+.2f} · 10⁻³ nat ({low:+.2f} to {high:+.2f})"


def _doubts(found: Sequence[Change], model: str, category: str) -> list[str]:
    """What could explain a change over packed texts away."""
    main = find(found, model=model, view=CONTROLLED, category=category)
    fresh = find(found, model=model, view="fresh weights", category=category)
    above = find(found, model=model, view=CONTROLLED, category=category, score=ABOVE)
    base = find(found, model=model, view=CONTROLLED, category=category, score=BASELINE)
    doubts = []
    if fresh.verdict in CHANGED:
        doubts.append(
            "Fresh weights that read the same texts change too, so that tokens alone can do it."
        )
    if main.rise.excludes_zero and above.rise.value * main.rise.value <= 0:
        doubts.append(
            "Its autocorrelation baseline changes as much or more, so that it can be one of "
            "memory alone."
        )
    elif base.verdict in CHANGED:
        doubts.append("Its autocorrelation baseline changes too: memory alone can do some of it.")
    elif not above.rise.excludes_zero and above.verdict not in CHANGED:
        doubts.append("What it exceeds its autocorrelation baseline by is not shown to change.")
    return doubts


def _why(found: Sequence[Change], model: str, category: str) -> list[str]:
    main = find(found, model=model, view=CONTROLLED, category=category)
    asked = find(found, model=model, view="asked", category=category)
    why = []
    if main.verdict in CHANGED:
        why += _doubts(found, model, category) or [
            "Neither fresh weights nor the autocorrelation baseline explain it."
        ]
        if main.verdict in ABRUPT:
            why.append(
                f"Half of the change is reached at difficulty {main.turn:.1f}, 10 to 90 % of it "
                f"over {main.width:.1f} difficulties."
            )
    elif main.verdict == "constant" and asked.verdict in CHANGED:
        why.append(
            "A change is shown where questions are asked and replies generated, and none where "
            "solved questions are read in texts of equal length: it goes with the replies."
        )
    elif main.verdict == "constant":
        why.append("No change is shown at this number of prompts.")
    return why


def _warnings(
    found: Sequence[Change], periodic: dict[str, tuple[float, float]], model: str
) -> list[str]:
    warnings = []
    looping = {c: shares for c, shares in periodic.items() if shares[1] > 0.5}
    if looping:
        uneven = [c for c, shares in looping.items() if shares[1] - shares[0] > 0.25]
        text = (
            f"Replies of fixed length are periodic in more than half of some difficulty's prompts "
            f"in {len(looping)} of {len(periodic)} categories: once the answer is given, the "
            "model repeats it, and the asked view measures the loop."
        )
        if uneven:
            text += (
                f" In {_listed(uneven)} their share changes with difficulty, which changes the "
                "order parameter by itself."
            )
        warnings.append(text)
    decided = [
        c.category
        for c in found
        if c.model == model and c.view == "asked, lengths out" and c.score == DIFFERENCE
        and c.status.startswith("not told apart")
    ]  # fmt: skip
    if decided:
        warnings.append(
            f"Difficulty decides the length of questions or answers in {_listed(decided)}: where "
            "they are asked, the two cannot be told apart, and no number is given."
        )
    warnings.append(
        "Packed texts are equally long; a harder question is itself longer in most categories, so "
        "that a text holds fewer of them. That is part of what difficulty means here."
    )
    return warnings


def accuracy_words(side: Sides) -> str:
    """Accuracy at every difficulty, in percent."""
    return ", ".join(f"{100 * share:.0f}" for share in np.asarray(side.accuracy).tolist())

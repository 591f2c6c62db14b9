"""Revisions of a model in the order of its training, from what they are called."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Final, Literal, final

import numpy as np

from synatlas.errors import ConfigError
from synatlas.models.identity import BUNDLED, resolve, snapshots

#: Names of checkpoints as they are written: Pythia's ``step1000`` (and ``step_1000``), OLMo's
#: ``step1000-tokens4B``, ``stage1-step1000-tokens4B`` and ``stage2-ingredient1-step1000-tokens3B``,
#: and the ``checkpoint-1000`` of the Hugging Face Trainer.
NAMES: Final = re.compile(
    r"(?:stage(?P<stage>\d+)-)?(?:ingredient(?P<ingredient>\d+)-)?"
    r"(?:step[_-]?|checkpoint-)(?P<step>\d+)(?:-tokens(?P<tokens>\d+)(?P<unit>[MBT]?))?"
)

#: What the letter after a number of tokens stands for.
_UNITS: Final = {"": 1, "M": 10**6, "B": 10**9, "T": 10**12}

#: Where the Trainer and a bundled model's card say how many steps the last model had.
_STEPS: Final = {"trainer_state.json": "global_step", "card.json": "steps"}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One state of a model in training.

    Parameters
    ----------
    name : branch, snapshot or subfolder; a full stop is the folder itself.
    step : steps since training began, those of earlier stages included.
    tokens : tokens seen since then; None where the name does not say.
    stage : stage of training as the name has it, such as ``stage1``; empty without.
    commit : of a branch of the Hub, else empty.
    """

    name: str
    step: int
    tokens: int | None = None
    stage: str = ""
    commit: str = ""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """Revisions of one model, first to last, and the names that are none of them.

    The last revision stands for the trained model. The default branch of a Hub model is not asked:
    its step is not known, and it may be an average of several lines of training.
    """

    model: str
    kind: Literal["bundled", "folder", "hub"]
    revisions: tuple[Revision, ...]
    left_out: tuple[str, ...]

    @property
    def final(self) -> Revision:
        """The last revision."""
        return self.revisions[-1]

    def settings(self, revision: Revision) -> dict[str, str | None]:
        """``model`` and ``revision`` of a run of a revision."""
        if self.kind == "folder":
            return {"model": str(Path(self.model) / revision.name), "revision": None}
        return {"model": self.model, "revision": revision.name}


def revisions(model: str, pattern: str = "") -> Training:
    """List the revisions of a model in the order of its training.

    Parameters
    ----------
    model : ``bundled:NAME``, whose snapshots are its revisions; a folder, whose subfolders with a
        ``config.json`` are, and the folder's own model where a ``trainer_state.json`` or card
        says after how many steps it was written; or a Hub id, whose branches are.
    pattern : regular expression that a name matches from its first to its last letter, with a
        group ``step``, and ``tokens`` where there is one; :data:`NAMES` where empty.

    Returns
    -------
    Training
        Of stages that follow each other the steps are counted through. Of ingredients that were
        trained side by side the first is taken, and where some names state a stage those without
        one are no revisions. What is left out is named.

    Raises
    ------
    ConfigError
        Fewer than two revisions; `pattern` is no regular expression, has no group ``step``, or
        gives two revisions one step.
    ModelError
        The model cannot be found, see :func:`synatlas.models.load.load`.
    """
    known = _compiled(pattern)
    kind, names = _names(model)
    read = {name: match for name in names if (match := known.fullmatch(name))}
    line = _line([_Named.of(name, match) for name, match in read.items()])
    found = [replace(revision, commit=names[revision.name]) for revision in line]
    if kind == "folder" and not pattern:
        found += _own(Path(model), found)
    _check_steps(model, pattern, found)
    kept = _once(found)
    if len(kept) < 2:
        raise _too_few(model, kind, pattern, names, len(kept))
    chosen = {revision.name for revision in kept}
    return Training(
        model=model,
        kind=kind,
        revisions=tuple(kept),
        left_out=tuple(name for name in names if name not in chosen),
    )


def spaced(revisions: Sequence[Revision], points: int) -> tuple[Revision, ...]:
    """Choose `points` revisions, the first and the last among them, evenly in the log of the step.

    Step 0 is one of them where it is there, and the others are spaced from the first after it.
    All revisions where there are no more.

    Raises
    ------
    ConfigError
        Fewer than two points.
    """
    if points < 2:
        raise ConfigError(
            given=f"--points {points}",
            expected="at least 2: the first revision and the last",
            remedy="pass --points 2 or more",
        )
    if points >= len(revisions):
        return tuple(revisions)
    zero = [r for r in revisions[:1] if r.step == 0]
    rest = list(revisions[len(zero) :])
    wanted = points - len(zero)
    if wanted == 1:
        return (*zero, rest[-1])
    logs = np.log([r.step for r in rest])
    chosen: list[int] = []
    for i, target in enumerate(np.linspace(logs[0], logs[-1], wanted)):
        nearest = int(np.abs(logs - target).argmin())
        # Room for those before and those to come, so that every point is another revision.
        first = chosen[-1] + 1 if chosen else 0
        chosen.append(min(max(nearest, first), len(rest) - wanted + i))
    return (*zero, *(rest[i] for i in chosen))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """What a name says."""

    name: str
    stage: int
    ingredient: int
    step: int
    tokens: int | None

    @classmethod
    def of(cls, name: str, match: re.Match[str]) -> "_Named":
        parts = match.groupdict()
        tokens = parts.get("tokens")
        return cls(
            name=name,
            stage=int(parts.get("stage") or 0),
            ingredient=int(parts.get("ingredient") or 0),
            step=int(parts["step"]),
            tokens=None if tokens is None else int(tokens) * _UNITS[parts.get("unit") or ""],
        )


def _compiled(pattern: str) -> re.Pattern[str]:
    if not pattern:
        return NAMES
    try:
        known = re.compile(pattern)
    except re.error as error:
        raise _no_pattern(pattern, str(error)) from error
    if "step" not in known.groupindex or set(known.groupindex) - {"step", "tokens"}:
        raise _no_pattern(pattern, f"its named groups are {', '.join(known.groupindex) or 'none'}")
    return known


def _no_pattern(pattern: str, cause: str) -> ConfigError:
    return ConfigError(
        given=f"--revisions {pattern}",
        expected="a regular expression with the named group step, and tokens where there is one",
        cause=cause,
        remedy=r"write it like step(?P<step>\d+)",
    )


def _names(model: str) -> tuple[Literal["bundled", "folder", "hub"], dict[str, str]]:
    """Kind of a model, and the names of what could be its revisions with their commits."""
    if model.startswith(BUNDLED):
        return "bundled", dict.fromkeys(snapshots(model), "")
    folder = Path(model).expanduser()
    if folder.is_dir():
        inside = sorted(path.parent.name for path in folder.glob("*/config.json"))
        return "folder", dict.fromkeys(inside, "")
    source = resolve(model)
    from synatlas.models.hub import branches

    return "hub", {branch.name: branch.commit for branch in branches(source.name)}


def _line(named: Iterable[_Named]) -> list[Revision]:
    """One line of training: stages in turn, each with its first ingredient."""
    stages = {n.stage for n in named}
    staged = [n for n in named if n.stage or stages == {0}]
    ordered = sorted(staged, key=lambda n: (n.stage, n.ingredient, n.step, n.name))
    found: list[Revision] = []
    before, tokens_before = 0, 0
    for stage, members in groupby(ordered, key=lambda n: n.stage):
        same = list(members)
        for one in same:
            if one.ingredient != same[0].ingredient:
                continue
            tokens = None if one.tokens is None else tokens_before + one.tokens
            found.append(
                Revision(
                    name=one.name,
                    step=before + one.step,
                    tokens=tokens,
                    stage=f"stage{stage}" if stage else "",
                )
            )
        before, tokens_before = found[-1].step, found[-1].tokens or 0
    return found


def _own(folder: Path, found: Sequence[Revision]) -> list[Revision]:
    """The model of the folder itself, where a file says its step and it is beyond the others'."""
    last = max((revision.step for revision in found), default=-1)
    for name, key in _STEPS.items():
        path = folder / name
        if path.is_file() and (folder / "config.json").is_file():
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            step = content.get(key)
            if isinstance(step, int) and step > last:
                return [Revision(name=".", step=step)]
    return []


def _once(found: Sequence[Revision]) -> list[Revision]:
    """The first revision of every step."""
    return [next(same) for _, same in groupby(found, key=lambda r: r.step)]


def _check_steps(model: str, pattern: str, found: Sequence[Revision]) -> None:
    """A pattern of the user's own is to tell the lines of training apart."""
    step, times = Counter(r.step for r in found).most_common(1)[0] if found else (0, 0)
    if pattern and times > 1:
        names = [r.name for r in found if r.step == step]
        raise ConfigError(
            given=f"--revisions {pattern} for {model}",
            expected="one revision of each step",
            cause=f"step {step} has {', '.join(names[:4])}",
            remedy="write an expression that matches one line of training",
        )


def _too_few(model: str, kind: str, pattern: str, names: Iterable[str], count: int) -> ConfigError:
    whose = {"bundled": "snapshots", "folder": "subfolders with config.json", "hub": "branches"}
    there = list(names)
    shown = ", ".join(there[:6]) + (", ..." if len(there) > 6 else "")
    return ConfigError(
        given=f"the model {model}",
        expected="at least two revisions of its training: snapshots of a bundled model, branches "
        "of a Hub model, or subfolders, named like step1000 or checkpoint-1000",
        cause=f"{count} of its {len(there)} {whose[kind]} "
        f"{'match ' + pattern if pattern else 'are named so'}{': ' + shown if shown else ''}",
        remedy="choose a model with revisions, such as bundled:dense, or name them with "
        r"--revisions and a regular expression such as step(?P<step>\d+)",
    )

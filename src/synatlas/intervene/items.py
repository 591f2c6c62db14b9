"""Questions with one right answer each, by which a damaged model is marked."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, final

import numpy as np

from synatlas.errors import ConfigError
from synatlas.intervene import mathematics
from synatlas.intervene.answers import gold_of, is_answer
from synatlas.tasks.graded import Question, Tasks, own_tasks
from synatlas.tasks.prompts import UNCATEGORISED
from synatlas.tasks.rows import Kind, check_unique, label_of, read_rows, refuse, shown, text_of

#: Whether a reply is right.
Right = Callable[[str], bool]

#: Difficulty of an item whose source states none.
NO_DIFFICULTY: Final = -1

#: Times that an easy level is asked for more questions, before it is said to have too few.
_ATTEMPTS: Final = 20

_KIND: Final = Kind(
    noun="question",
    column="question",
    others="a column 'answer', and 'id', 'category' and 'difficulty' where wanted",
)


class Marking(NamedTuple):
    """How replies are marked.

    Parameters
    ----------
    first_line : the first line that is not blank is the whole reply.
    exact : it must be the answer word for word, so that a reply that departs from it is wrong.
    tokens : longest reply, 0 where the answers say how long one can be.
    """

    first_line: bool
    exact: bool
    tokens: int


#: Ways of marking by name: ``words`` are the project's own tasks, ``package`` those of another
#: package; ``final`` looks for a final answer in a free reply, and ``math`` also asks math-verify
#: whether two expressions are equal.
MARKINGS: Final = MappingProxyType(
    {
        "words": Marking(first_line=True, exact=True, tokens=0),
        "package": Marking(first_line=True, exact=False, tokens=64),
        "final": Marking(first_line=False, exact=False, tokens=256),
        "math": Marking(first_line=False, exact=False, tokens=256),
    }
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """Questions, what is right, and where each belongs.

    Parameters
    ----------
    ids : unique names.
    questions : texts without the form in which a model is asked.
    answers : right answers.
    categories : one for each.
    difficulties : one for each, :data:`NO_DIFFICULTY` where none is stated.
    right : whether a reply to the item is right, one for each.
    marking : how replies are marked, a key of :data:`MARKINGS`.
    style : how models are asked, a key of :data:`synatlas.record.styles.STYLES`.

    Raises
    ------
    ConfigError
        There is no item, an id occurs twice, the lists differ in length, or an item's own answer
        is marked as wrong.
    """

    ids: tuple[str, ...]
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    categories: tuple[str, ...]
    difficulties: tuple[int, ...]
    right: tuple[Right, ...]
    marking: str
    style: str

    def __post_init__(self) -> None:
        columns = (self.questions, self.answers, self.categories, self.difficulties, self.right)
        if not self.ids or {len(column) for column in columns} != {len(self.ids)}:
            raise ConfigError(
                given=f"{len(self.ids)} ids with {', '.join(str(len(c)) for c in columns)} "
                "questions, answers, categories, difficulties and markers",
                expected="at least one item, and each column for every item",
                remedy="give columns of the same length",
            )
        if len(set(self.ids)) < len(self.ids):
            repeated = next(name for name in self.ids if self.ids.count(name) > 1)
            raise ConfigError(
                given=f"the id {repeated!r} more than once",
                expected="a different id for each item",
                remedy="make the ids unique",
            )
        if self.marking not in MARKINGS:
            raise ConfigError(
                given=f"marking {self.marking!r}",
                expected=f"one of {', '.join(MARKINGS)}",
                remedy="choose one of these names",
            )
        self._check_gold()

    def _check_gold(self) -> None:
        for name, answer, right in zip(self.ids, self.answers, self.right, strict=True):
            if not right(answer):
                raise ConfigError(
                    given=f"the item {name} with the answer {shown(answer)}",
                    expected="an answer that is right by the item's own marker",
                    cause="the marker does not take its own answer: no reply could be right",
                    remedy="mend the answer, or leave the item out",
                )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def digest(self) -> str:
        """SHA-256 of all that decides what is asked and what is right, in hexadecimal."""
        content = (self.ids, self.questions, self.answers, self.categories)
        text = json.dumps([*content, self.difficulties, self.marking, self.style])
        return hashlib.sha256(text.encode()).hexdigest()


def generated(
    per_level: int,
    *,
    seed: int,
    tasks: Tasks | None = None,
    levels: Mapping[str, Sequence[int]] | None = None,
) -> Items:
    """Different questions of every category and difficulty, in the form the bundled models know.

    The prompts of the project's own tasks are of the share that no bundled model was trained on.

    Parameters
    ----------
    per_level : questions of each category and difficulty.
    seed : of the draws; those of one level do not depend on the other levels.
    tasks : source of the questions, the project's own where None; see
        :func:`synatlas.tasks.graded.task_source` for others.
    levels : category -> difficulties; all of the source where None.

    Returns
    -------
    Items
        Named ``CATEGORY-DIFFICULTY-NUMBER``, in the order of categories and difficulties.

    Raises
    ------
    ConfigError
        `per_level` is below 1 or more than a level has, a category or difficulty is unknown, or
        an answer is wrong by its own checker.
    """
    if per_level < 1:
        raise ConfigError(
            given=f"{per_level} questions of each level",
            expected="at least 1",
            remedy="ask for more questions, or for no accuracy at all",
        )
    source = own_tasks() if tasks is None else tasks
    chosen = _levels(source, levels)
    drawn = [
        (category, level, question)
        for category, of_category in chosen.items()
        for level in of_category
        for question in _different(source, category, level, per_level, seed)
    ]
    numbers = list(range(per_level)) * sum(map(len, chosen.values()))
    return Items(
        ids=tuple(f"{c}-{d}-{n}" for (c, d, _), n in zip(drawn, numbers, strict=True)),
        questions=tuple(question.prompt for _, _, question in drawn),
        answers=tuple(question.answer for _, _, question in drawn),
        categories=tuple(category for category, _, _ in drawn),
        difficulties=tuple(level for _, level, _ in drawn),
        right=tuple(question.right for _, _, question in drawn),
        marking="words" if source.name == own_tasks().name else "package",
        style="question",
    )


def _levels(
    source: Tasks, levels: Mapping[str, Sequence[int]] | None
) -> Mapping[str, Sequence[int]]:
    for category, wanted in (levels or {}).items():
        known = source.levels.get(category, ())
        if not wanted or set(wanted) - set(known):
            raise ConfigError(
                given=f"difficulties {list(wanted)} of the category {category!r}",
                expected="; ".join(f"{c}: {list(of)}" for c, of in source.levels.items()),
                remedy="choose from these",
            )
    return source.levels if levels is None else levels


def _different(
    source: Tasks, category: str, level: int, count: int, seed: int
) -> tuple[Question, ...]:
    place = list(source.levels).index(category)
    rng = np.random.default_rng((seed, place, level))
    found: dict[str, Question] = {}
    for _ in range(_ATTEMPTS):
        for question in source.draw(category, level, count, rng):
            found.setdefault(question.prompt, question)
        if len(found) >= count:
            return tuple(found.values())[:count]
    raise ConfigError(
        given=f"{count} questions of {category}, difficulty {level}",
        expected=f"at most {len(found)}, as many as were found",
        cause="an easy level has few different questions",
        remedy="ask for fewer questions of each level",
    )


def read_items(path: str | Path, *, marking: str = "auto", style: str = "auto") -> Items:
    r"""Read questions and answers from a .jsonl, .csv or .parquet file.

    Parameters
    ----------
    path : file with columns ``question`` and ``answer``; of a reference solution with ``\boxed{}``
        or ``####`` the final answer is taken. ``id`` (default q000, q001, ...), ``category``
        (default "uncategorised") and ``difficulty`` (a whole number, also as in "Level 3") are
        optional, other columns are ignored.
    marking : ``final``, ``math``, or ``auto`` for ``math`` where math-verify is installed and
        ``final`` elsewhere; see :func:`synatlas.intervene.answers.is_answer`.
    style : how models are asked, a key of :data:`synatlas.record.styles.STYLES`.

    Returns
    -------
    Items
        In the order of the file.

    Raises
    ------
    PromptFileError
        The file is missing, of another kind, damaged or empty, a column is missing, a question or
        answer is blank, no text or not a number, or an id or a question occurs twice.
    ConfigError
        There is no such marking, math-verify is not installed, or an answer is wrong by its own
        checker.
    """
    name, checker = _checker(marking)
    path = Path(path)
    rows = list(enumerate(read_rows(path, _KIND), start=1))
    questions = [text_of(path, _KIND, row, "question", n) for n, row in rows]
    answers = [gold_of(_answer(path, row, n)) for n, row in rows]
    ids = [label_of(path, _KIND, row, "id", f"q{n - 1:03d}", n) for n, row in rows]
    remedy = "make the ids unique, or leave the column out to have them numbered"
    check_unique(path, _KIND, ids, "id", remedy)
    check_unique(path, _KIND, questions, "question", "leave one of the rows out")
    return Items(
        ids=tuple(ids),
        questions=tuple(questions),
        answers=tuple(answers),
        categories=tuple(
            label_of(path, _KIND, row, "category", UNCATEGORISED, n) for n, row in rows
        ),
        difficulties=tuple(_difficulty(path, row, n) for n, row in rows),
        right=tuple(partial(checker, answer) for answer in answers),
        marking=name,
        style=style,
    )


def _checker(marking: str) -> tuple[str, Callable[[str, str], bool]]:
    """Name and function of a way to mark free replies."""
    if marking == "auto":
        marking = "math" if mathematics.is_installed() else "final"
    if marking not in _FREE:
        raise ConfigError(
            given=f"marking {marking!r}",
            expected=f"one of auto, {', '.join(_FREE)}",
            remedy="choose one of these names",
        )
    if marking == "math" and not mathematics.is_installed():
        raise ConfigError(
            given="marking math",
            expected="the package math-verify in this environment",
            remedy="pip install 'synatlas[eval]', or choose marking final",
        )
    return marking, _FREE[marking]


#: Functions of the right answer and a reply, by marking.
_FREE: Final[Mapping[str, Callable[[str, str], bool]]] = MappingProxyType(
    {"final": is_answer, "math": mathematics.is_answer}
)


def _answer(path: Path, row: dict[str, Any], number: int) -> str:
    """The answer in a row; numbers are taken as they are written."""
    value = row.get("answer")
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    is_text = isinstance(value, str)
    if "answer" in row and (not is_text or (is_text and value.strip().casefold() in _MISSING)):
        refuse(
            path,
            _KIND,
            given=f"row {number}: the answer {shown(row['answer'])}",
            expected="text or a finite number",
            cause="a value is missing, or there are several answers",
            remedy="write one answer, as text, or remove the row",
        )
    if is_text and value.strip():
        return value
    return text_of(path, _KIND, row, "answer", number)


#: How tables write a number that is missing or no number.
_MISSING: Final = frozenset({"nan", "inf", "-inf", "none", "null"})


def _difficulty(path: Path, row: dict[str, Any], number: int) -> int:
    value = label_of(path, _KIND, row, "difficulty", str(NO_DIFFICULTY), number)
    match = re.fullmatch(r"(?:level\s{0,3})?(-1|\d{1,6})", value.strip(), re.IGNORECASE)
    if match is None:
        refuse(
            path,
            _KIND,
            given=f"row {number}: the difficulty {shown(value)}",
            expected="a whole number from 0, such as 3 or 'Level 3'",
            cause="difficulties are levels in order",
            remedy="number the levels, or leave the column out",
        )
    return int(match[1])

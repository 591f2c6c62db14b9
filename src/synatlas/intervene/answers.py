"""The final answer of a free reply, and whether it is the one asked for.

Replies are untrusted: nothing in them is evaluated, numbers are bounded before they are computed
with, and every pattern runs in time linear in the text.
"""

import re
import unicodedata
from fractions import Fraction
from typing import Final, NamedTuple

#: Characters at the end of a reply that are looked at.
LONGEST_REPLY: Final = 20_000
#: Longest answer that is compared as more than plain text, in characters.
LONGEST_ANSWER: Final = 300
#: Most digits of a number.
_DIGITS: Final = 60


class Found(NamedTuple):
    """An answer in a reply; `explicit` where the reply says that it is one."""

    text: str
    explicit: bool


def is_answer(gold: str, reply: str) -> bool:
    r"""Whether a reply's final answer is `gold`.

    Numbers are equal by value (``1,000.50`` and ``1000.5``, ``\frac12`` and ``0.5``), other
    answers by their words, letter case, markup and a last full stop aside. A unit counts where
    both name one. A last line that does not say that it is the answer counts where all of it,
    what is behind its last equals sign, or its only number is.
    """
    found = final_answer(reply)
    if found is None:
        return False
    if found.explicit:
        return any(same(gold, reading) for reading in _readings(found.text))
    behind = found.text.rpartition("=")[2]
    return same(gold, found.text) or same(gold, behind) or _only_number(gold, found.text)


def final_answer(reply: str) -> Found | None:
    r"""What a reply gives as its answer, or None where it gives none.

    In this order: its last ``\boxed{}`` (several in a row are a list), what stands behind the
    last ``####`` or "the answer is", its last line. A box that is not closed, an answer that is
    denied ("the answer is not 7") and reasoning that never ends give none.
    """
    text = reply[-LONGEST_REPLY:]
    text = text.rpartition("</think>")[2]
    if "<think>" in text:
        return None
    if _BOX.search(text):
        box = _boxed(text)
        return None if box is None else Found(box, explicit=True)
    named = _named(text)
    if named is not None:
        return None if _DENIED.match(named) else Found(named, explicit=True)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return Found(lines[-1], explicit=False) if lines else None


def gold_of(answer: str) -> str:
    r"""The final answer in a reference solution (``\boxed{}`` or ``####``), or all of it."""
    if _BOX.search(answer):
        return _boxed(answer) or answer.strip()
    return answer.rpartition("####")[2].strip() if "####" in answer else answer.strip()


def same(gold: str, answer: str) -> bool:
    """Whether two answers are the same number, or the same words."""
    if max(len(gold), len(answer)) > LONGEST_ANSWER:
        return gold.strip() == answer.strip()
    left, right = plain(gold), plain(answer)
    if not left or not right:
        return False
    left, right = _choice(left, right), _choice(right, left)
    if left == right:
        return True
    values = quantity(left), quantity(right)
    if values[0] is None or values[1] is None:
        return _unnamed(left) == _unnamed(right)
    units = {value.unit for value in values if value is not None and value.unit}
    return values[0].value == values[1].value and len(units) < 2


def plain(answer: str) -> str:
    """An answer without markup: TeX, emphasis, quotation marks, letter case, a last full stop."""
    text = _FOREIGN.sub(_ascii_digit, answer).translate(_SIGNS)
    text = _THIN.sub("", text)
    text = _FRACTION.sub(r"(\1)/(\2)", _SHORT_FRACTION.sub(r"(\1)/(\2)", text))
    for _ in range(3):  # Words in words: \text{\textbf{no}}.
        text = _WORDS.sub(r"\1", text)
    text = _MARKUP.sub(" ", text)
    text = " ".join(text.casefold().split()).strip(" \"'`*_").rstrip(".!").strip(" \"'`*_")
    return _BRACED.sub(r"\1", text)


class Quantity(NamedTuple):
    """An exact number, and the unit behind or before it, empty where there is none."""

    value: Fraction
    unit: str


def quantity(text: str) -> Quantity | None:
    """The number that all of `text` (as :func:`plain` gives it) is, with at most a unit."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        return None
    over, under = _decimal(match["over"]), _decimal(match["under"] or "1")
    if over is None or under is None or under == 0:
        return None
    sign = -1 if match["sign"] == "-" else 1
    unit = match["unit"] or match["currency"] or ""
    words = set(unit.split())
    letters = {word for word in words if len(word) == 1}
    if words & _NO_UNIT or letters - _SHORT_UNITS or len(words) > 3:
        return None
    return Quantity(sign * over / under, unit)


def _decimal(text: str) -> Fraction | None:
    """Digits with a decimal point and separated thousands as a number."""
    digits = text.strip("() ")
    if "," in digits:
        if not _THOUSANDS.fullmatch(digits):
            return None
        digits = digits.replace(",", "")
    if not 0 < len(digits) <= _DIGITS or not _NUMBER.fullmatch(digits):
        return None
    return Fraction(digits)


def _choice(text: str, other: str) -> str:
    """``b`` for ``(b)`` or ``b. the second``, where the other answer is a letter."""
    return _LETTER.sub(r"\1", text) if _ONE_LETTER.fullmatch(other) else text


def _unnamed(text: str) -> str:
    """What is behind the equals sign of ``x = 3``, without spaces around signs."""
    return _SPACE.sub("", _NAME.sub("", text))


def _readings(line: str) -> list[str]:
    """What an announced answer may be: all of its line, its sentence, all before a remark."""
    sentence = _SENTENCE.split(line, maxsplit=1)[0]
    readings = [line, sentence]
    remark = _REMARK.search(sentence)
    rest = sentence[remark.end() :] if remark else ""
    if remark and len(rest) <= LONGEST_ANSWER and not _DOUBT.search(plain(rest)):
        readings.append(sentence[: remark.start()])
    return readings + [reading.rpartition("=")[2] for reading in readings]


def _only_number(gold: str, line: str) -> bool:
    """Whether `gold` is a number and the only one in a line of words that denies nothing."""
    if len(line) > LONGEST_ANSWER:
        return False
    wanted, text = quantity(plain(gold)), plain(line)
    if wanted is None or _DOUBT.search(text):
        return False
    numbers = _IN_TEXT.findall(text)
    return len(numbers) == 1 and wanted.unit in text and same(gold, numbers[0])


def _boxed(text: str) -> str | None:
    """What the last boxes hold, those in a row joined by commas; None where one is not closed."""
    boxes: list[str] = []
    end = -1
    for match in _BOX.finditer(text):
        if match.start() < end:
            continue  # Inside the one before.
        closed = _closing(text, match.end())
        if closed is None:
            return None
        if boxes and not _BETWEEN.fullmatch(text[end : match.start()][:40]):
            boxes = []
        boxes.append(text[match.end() : closed].strip())
        end = closed + 1
    if not boxes:
        return None
    return boxes[0] if len(set(boxes)) == 1 else ", ".join(boxes)


def _closing(text: str, start: int) -> int | None:
    """Where the brace is closed that was opened just before `start`."""
    depth = 1
    for match in _BRACE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0:
            return match.start()
    return None


def _named(text: str) -> str | None:
    """What follows the last announcement of an answer in its line; questions announce none."""
    for match in reversed(list(_ANNOUNCED.finditer(text))):
        rest = text[match.end() : match.end() + 10 * LONGEST_ANSWER].lstrip(" \t\n*_:")
        line = rest.split("\n", maxsplit=1)[0].strip()
        heading = match[0].startswith("#") and _HEADING.match(line)
        if line and not heading and not _QUESTION.match(line):
            return line
    return None


def _ascii_digit(match: re.Match[str]) -> str:
    """A decimal digit of any script as ASCII; superscripts and fractions stay what they are."""
    return str(unicodedata.decimal(match[0]))


_SIGNS: Final = {
    ord(c): to
    for c, to in {
        **dict.fromkeys("\u2212\u2010\u2011\u2012\u2013\uff0d\ufe63", "-"),
        "\uff0e": ".",
        "\uff0c": ",",
        "\uff0b": "+",
        "\uff0f": "/",
        "\u2044": "/",
        "\u066b": ".",
        "\u066c": ",",
        "\u201c": '"',
        "\u201d": '"',
        "\u2018": "'",
        "\u2019": "'",
    }.items()
}

#: Decimal digits that are not ASCII.
_FOREIGN: Final = re.compile(r"[^\D0-9]")
_BOX: Final = re.compile(r"\\(?:boxed|fbox)\s{0,3}\{")
_BRACE: Final = re.compile(r"\\.|[{}]", re.DOTALL)
_BETWEEN: Final = re.compile(r"[\s,;$]*(?:and|or)?[\s,;$]*")
_ANNOUNCED: Final = re.compile(
    r"####|\banswer\b[^\n.:=#]{0,40}?(?:\b(?:is|be|equals)\b|:|=)|\banswer\*{1,2}:?",
    re.IGNORECASE,
)
_HEADING: Final = re.compile(r"(?:answer|final|step|solution|conclusion)\b", re.IGNORECASE)
_QUESTION: Final = re.compile(r"[^.!?]{0,300}\?(?:\s|$)")
_DENIED: Final = re.compile(r"\W*(?:not|never|no longer|neither|unknown|unclear)\b", re.IGNORECASE)
_SENTENCE: Final = re.compile(r"(?<=[^\s.])[.!](?=\s|$)")
_REMARK: Final = re.compile(
    r",? (?:because|since)\b|,? (?:and|but)? ?not\b| \(|, which\b", re.IGNORECASE
)
#: Words and signs of a line whose only number need not be its answer.
_DOUBT: Final = re.compile(
    r"\b(?:not|no|never|neither|nor|or|wrong|incorrect|false|except|unlike|unless)\b"
    r"|\b(?:[b-hj-z]|hundred|thousand|million|billion|dozen)\b"
    r"|n't\b|[\\^*+<>{}_|?]"
)

_THIN: Final = re.compile(
    r"\\[,;:! ](?=\d)|(?<=\d)\{,\}(?=\d)|(?<=\d)[\u00a0\u2009\u202f](?=\d{3})"
)
_FRACTION: Final = re.compile(r"\\[dt]?frac\s?\{([^{}]{1,80})\}\s?\{([^{}]{1,80})\}")
_SHORT_FRACTION: Final = re.compile(r"\\[dt]?frac\s?(\d)\s?(\d)")
_WORDS: Final = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox)\s?\{([^{}]{0,300})\}")
_MARKUP: Final = re.compile(
    r"\\(?:left|right|big|Big|displaystyle|quad|qquad)\b|\\[()\[\],;:! %$]|(?<!\\)[$%]"
    r"|\^\s?\{?\\circ\}?|\u00b0|(?<!\w)\*\*(?=\S)|(?<=\S)\*\*(?!\w)"
)
_BRACED: Final = re.compile(r"(?<=[\^_])\{(\w)\}")
_SPACE: Final = re.compile(r"(?<!\w) | (?!\w)")
_ONE_LETTER: Final = re.compile(r"\(?[a-j]\)?")
#: A choice of a list: ``(b)``, ``b)``, ``b. the second``.
_LETTER: Final = re.compile(r"^\(?([a-j])(?:\)|[.:)](?: .*)?)$")
_NAME: Final = re.compile(r"^[a-z] ?= ?(?=\S)")
_NUMBER: Final = re.compile(r"-?(?:\d+(?:\.\d*)?|\.\d+)")
_THOUSANDS: Final = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d*)?")
_PLAIN_DIGITS: Final = r"(?:\d[\d,]*(?:\.\d*)?|\.\d+)"
_QUANTITY: Final = re.compile(
    rf"(?P<sign>[-+])? ?(?P<currency>[\u20ac\u00a3\u00a5])? ?"
    rf"(?P<over>{_PLAIN_DIGITS}|\(-?{_PLAIN_DIGITS}\))"
    rf"(?: ?/ ?(?P<under>{_PLAIN_DIGITS}|\(-?{_PLAIN_DIGITS}\)))?"
    r" ?(?P<unit>[a-z\u00b5][a-z .]{0,40}(?:\^\d)?|[\u20ac\u00a3\u00a5])?"
)
_IN_TEXT: Final = re.compile(
    rf"(?<![\w.])-?{_PLAIN_DIGITS}(?<![.,])(?: ?/ ?{_PLAIN_DIGITS}(?<![.,]))?(?!\w)"
)
#: Units of one letter; others are names of variables.
_SHORT_UNITS: Final = frozenset("mgshl\u00b5\u20ac\u00a3\u00a5")
#: Words that make what follows a number more than its unit.
_NO_UNIT: Final = frozenset(
    {"or", "and", "not", "nor", "but", "is", "was", "either", "neither", "maybe", "perhaps"}
    | {"wrong", "if", "to", "then", "million", "billion", "thousand", "hundred", "dozen"}
)

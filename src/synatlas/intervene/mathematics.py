r"""Whether two expressions are equal, by math-verify in a process of its own.

A model's text can be an expression that takes forever (``9^{9^{9^9}}``): no signal ends such a
computation, so the process is killed and the answer is not taken. Only LaTeX is parsed, by a
grammar: what sympy reads as Python is never given to it.

Source: math-verify, https://github.com/huggingface/Math-Verify.
"""

import atexit
import json
import subprocess
import sys
import threading
from contextlib import suppress
from importlib.util import find_spec
from typing import Final

from synatlas.errors import ConfigError
from synatlas.intervene import answers
from synatlas.intervene.answers import LONGEST_ANSWER, final_answer

#: Seconds that a comparison may take, and the start of the process, which imports sympy.
SECONDS: Final = 5.0
_FIRST_SECONDS: Final = 60.0

#: Bytes that the process may have, where the system lets one say so.
_BYTES: Final = 4 * 2**30


def is_installed() -> bool:
    """Whether math-verify is in this environment."""
    return find_spec("math_verify") is not None


def is_answer(gold: str, reply: str) -> bool:
    """Whether a reply's final answer is `gold`, as text, as a number, or as an expression."""
    if answers.is_answer(gold, reply):
        return True
    found = final_answer(reply)
    if found is None or not (found.explicit or "\\" in found.text):
        return False
    candidate = found.text.rstrip(". ")
    if max(len(gold), len(candidate)) > LONGEST_ANSWER or _is_words(candidate):
        return False
    return _COMPARER.equal(gold, candidate)


def _is_words(text: str) -> bool:
    """Whether a text is a sentence, in which expressions would be found that it does not give."""
    return len([word for word in text.split() if word.isalpha() and len(word) > 1]) > 1


class _Comparer:
    """The process that compares, started at the first question and again after a kill."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def equal(self, gold: str, candidate: str) -> bool:
        """Whether two expressions are equal; not, where that cannot be found out in time."""
        with self._lock:
            if self._process is None:
                self._process = self._started()
            return self._told(self._process, json.dumps([gold, candidate]), SECONDS) == "equal"

    def stop(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            _end(process)

    def _started(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            # -P: a file of the working folder is no module.
            [sys.executable, "-P", "-c", _SCRIPT, str(_BYTES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        if self._told(process, "", _FIRST_SECONDS) != "ready":
            raise ConfigError(
                given="marking math",
                expected="a Python process that can import math-verify",
                cause=f"{sys.executable} ended without a word, or took too long",
                remedy="pip install 'synatlas[eval]', or choose marking final",
            )
        return process

    def _told(self, process: subprocess.Popen[str], line: str, seconds: float) -> str:
        """What the process says to a line; empty, and the process at an end, where it is late."""
        timer = threading.Timer(seconds, process.kill)
        timer.start()
        told = ""
        try:
            told = _answered(process, line)
        finally:
            timer.cancel()
            if not told:
                self._process = None
                _end(process)
        return told


def _answered(process: subprocess.Popen[str], line: str) -> str:
    if process.stdin is None or process.stdout is None:
        return ""
    with suppress(BrokenPipeError):
        process.stdin.write(line + "\n")
        process.stdin.flush()
    return process.stdout.readline().strip()


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()


_COMPARER: Final = _Comparer()
atexit.register(_COMPARER.stop)

#: What the process runs. math-verify's own timeouts use signals, and stay off.
_SCRIPT: Final = """
import json, sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
except (ImportError, OSError, ValueError):
    pass
import math_verify
latex = [math_verify.LatexExtractionConfig()]

def parsed(text):
    bare = text.strip().strip("$")
    return math_verify.parse(
        "$" + bare + "$", latex, fallback_mode="no_fallback", parsing_timeout=None
    )

sys.stdin.readline()
print("ready", flush=True)
for line in sys.stdin:
    equal = False
    try:
        gold, candidate = map(parsed, json.loads(line))
        if gold and candidate:
            equal = math_verify.verify(gold, candidate, timeout_seconds=None)
    except Exception:
        pass
    print("equal" if equal else "other", flush=True)
"""

"""Errors a user can meet: each says what was given, what was expected, why, and what to do."""


class SynatlasError(Exception):
    """Base of every error that synatlas raises on purpose."""


class InputError(SynatlasError):
    """The user can mend it: the command line prints the message alone and exits with code 2.

    Parameters
    ----------
    given : what was received, with its value.
    expected : what would have been accepted.
    cause : the likely reason for the difference; left out of the message where empty.
    remedy : what to do next.
    """

    def __init__(self, *, given: str, expected: str, remedy: str, cause: str = "") -> None:
        self.given = given
        self.expected = expected
        self.cause = cause
        self.remedy = remedy
        super().__init__(self._message())

    def _message(self) -> str:
        lines = [f"Given: {self.given}", f"Expected: {self.expected}"]
        if self.cause:
            lines.append(f"Likely cause: {self.cause}")
        lines.append(f"What to do: {self.remedy}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments are lost by the default protocol, which worker processes use.
        return (_rebuild, (type(self), self.given, self.expected, self.remedy, self.cause))


def first_line(error: BaseException | str) -> str:
    """The first line of an error's message, or the name of its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _rebuild(
    kind: type[InputError], given: str, expected: str, remedy: str, cause: str
) -> InputError:
    return kind(given=given, expected=expected, remedy=remedy, cause=cause)


class ModelError(InputError):
    """A model cannot be found, loaded, or is of an architecture that is not covered."""


class PromptFileError(InputError):
    """A file of prompts or of questions cannot be read as such."""


class ConfigError(InputError):
    """An option has a value outside its range, or options contradict each other or the data."""


class ArtifactError(InputError):
    """A stored or passed artifact is damaged, edited, or not what its schema says."""


class StudyError(InputError):
    """Some of the runs of a study could not be made; the others are there."""


class RunFolderError(InputError):
    """An output folder cannot be written, is in use, or holds another run."""

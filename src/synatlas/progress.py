"""How long work tells its caller how far it is."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Called by a stage as it advances; a stage never prints by itself."""

    def __call__(self, what: str, done: int, total: int) -> None:
        """Report that `done` of `total` parts of `what` are complete."""


def silent(what: str, done: int, total: int) -> None:
    """Progress of a caller who does not want any."""
    del what, done, total

"""Questions of other packages."""

from collections.abc import Callable, Mapping
from typing import Final

from synatlas.tasks.graded import Tasks

ADAPTERS: Final[Mapping[str, Callable[[str], Tasks]]] = {}

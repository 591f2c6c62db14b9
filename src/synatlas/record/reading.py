"""What is read of the units, and how prompts or given tokens are put through for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, final

from synatlas.errors import ConfigError
from synatlas.models.load import LanguageModel
from synatlas.models.reducers import REDUCERS, Reducers
from synatlas.progress import Progress
from synatlas.record.batches import (
    Job,
    Result,
    generate_batches,
    record_batches,
    replay_batches,
)
from synatlas.record.components import principal_directions, projecting
from synatlas.record.memory import rows_at_once
from synatlas.record.reductions import (
    REDUCTIONS,
    Directions,
    as_directions,
    check_reduction,
)

#: What can be a unit.
UNITS: Final = ("heads",)

#: Where a unit can be read: ``z``, its output before the output projection.
SITES: Final = ("z",)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is read, as the user chose it; every field changes values."""

    units: str
    site: str
    reduce: str
    directions: Directions | None

    def config(self) -> dict[str, object]:
        """Part of a fingerprint; a direction is there by its digest."""
        given = {} if self.directions is None else {"direction": self.directions.digest()}
        return {"units": self.units, "site": self.site, "reduce": self.reduce, **given}

    @property
    def signed(self) -> bool:
        """Whether activity can be negative."""
        return REDUCTIONS[self.reduce].signed

    def reducers(self) -> Reducers | None:
        """Functions of the vectors; None where a direction is to be fitted first."""
        if REDUCTIONS[self.reduce].direction == "fitted":
            return None
        return REDUCERS[self.reduce] if self.directions is None else projecting(self.directions)


def check_options(units: str, site: str, reduce: str, *, has_direction: bool) -> None:
    """Refuse what no model could make right."""
    for name, value, known in (("units", units, UNITS), ("site", site, SITES)):
        if value not in known:
            raise ConfigError(
                given=f"{name} {value!r}",
                expected=f"one of {', '.join(known)}",
                remedy="choose one of these names",
            )
    check_reduction(reduce, has_direction=has_direction)


def options_for(
    model: LanguageModel, *, units: str, site: str, reduce: str, direction: Any
) -> Options:
    """Options of this model's units, the direction checked against them."""
    check_options(units, site, reduce, has_direction=direction is not None)
    directions = None if direction is None else as_directions(direction, model.units)
    return Options(units=units, site=site, reduce=reduce, directions=directions)


class Read(NamedTuple):
    """Recorded series, the functions that gave them, and the directions that these hold."""

    result: Result
    reducers: Reducers
    directions: Directions | None


def read_prompts(job: Job, options: Options, progress: Progress) -> Read:
    """Generate replies and read the units; twice where a direction is to be fitted first."""
    if job.reduce is not None:
        return Read(record_batches(job, progress), job.reduce, options.directions)
    replies = generate_batches(job, progress)
    return _fitted(job.model, job.prompts, replies, job.rows, progress, steps=job.tokens)


def _fitted(
    model: LanguageModel,
    before: Sequence[Sequence[int]],
    after: Sequence[Sequence[int]],
    rows: int,
    progress: Progress,
    *,
    steps: int | None = None,
) -> Read:
    directions = principal_directions(model, before, after, rows=rows, progress=progress)
    reducers = projecting(directions)
    result = replay_batches(model, before, after, reducers, rows, progress, steps=steps)
    return Read(result, reducers, directions)


def read_rows(
    model: LanguageModel,
    before: Sequence[Sequence[int]],
    after: Sequence[Sequence[int]],
    options: Options,
    batch_size: int | None,
    progress: Progress,
) -> Read:
    """Read the units over given tokens, `before` and `after` the start of the series."""
    reducers = options.reducers()
    if reducers is not None:
        result = replay_batches(model, before, after, reducers, batch_size, progress)
        return Read(result, reducers, options.directions)
    lengths = [len(b) + len(a) for b, a in zip(before, after, strict=True)]
    return _fitted(model, before, after, batch_size or rows_at_once(model, lengths), progress)

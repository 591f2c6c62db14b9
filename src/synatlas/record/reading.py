"""What is read of the units, and how prompts or given tokens are put through for it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, final

from synatlas.errors import ConfigError
from synatlas.models.contributions import contributions
from synatlas.models.experts import check_experts
from synatlas.models.load import LanguageModel
from synatlas.models.reducers import REDUCERS, Reducers
from synatlas.models.units import UnitTable, check_names
from synatlas.progress import Progress
from synatlas.record.batches import (
    Job,
    Result,
    generate_batches,
    record_batches,
    replay_batches,
)
from synatlas.record.components import principal_directions, projecting
from synatlas.record.reductions import (
    REDUCTIONS,
    Directions,
    as_directions,
    check_reduction,
)
from synatlas.record.replay import Reading


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is read, as the user chose it; every field changes values.

    `made` are reducers that hold something of the model's own weights.
    """

    units: str
    site: str
    table: UnitTable
    reduce: str
    directions: Directions | None
    made: Reducers | None = None

    def config(self) -> dict[str, object]:
        """Part of a fingerprint; a direction is there by its digest."""
        given = {} if self.directions is None else {"direction": self.directions.digest()}
        given |= {} if self.policy is None else {"policy": self.policy}
        return {"units": self.units, "site": self.site, "reduce": self.reduce, **given}

    @property
    def policy(self) -> str | None:
        """What the activity of a routed expert is; None where no unit is an expert."""
        return self.table.policy if self.table.has_experts else None

    @property
    def signed(self) -> bool:
        """Whether activity can be negative."""
        return REDUCTIONS[self.reduce].signed

    def reducers(self) -> Reducers | None:
        """Functions of the vectors; None where a direction is to be fitted first."""
        if self.made is not None:
            return self.made
        if REDUCTIONS[self.reduce].direction == "fitted":
            return None
        return REDUCERS[self.reduce] if self.directions is None else projecting(self.directions)


def check_options(units: str, site: str, reduce: str, policy: str, *, has_direction: bool) -> None:
    """Refuse what no model could make right."""
    check_names(units, site, policy)
    check_reduction(reduce, has_direction=has_direction)
    if site == "resid" and reduce != "norm":
        raise ConfigError(
            given=f"reduce {reduce!r} at site 'resid'",
            expected="reduce 'norm'",
            cause="what a head adds is as wide as the model and is never built, only its norm",
            remedy="pass reduce norm, or site proj_in",
        )


def options_for(
    model: LanguageModel, *, units: str, site: str, reduce: str, direction: Any, policy: str
) -> Options:
    """Options of this model's units, the direction and the policy checked against them."""
    check_options(units, site, reduce, policy, has_direction=direction is not None)
    table = replace(model.found.select(units, site), policy=policy)
    check_experts(table, reduce=reduce)
    directions = None if direction is None else as_directions(direction, table)
    made = contributions(model.model, table) if site == "resid" else None
    return Options(
        units=units, site=site, table=table, reduce=reduce, directions=directions, made=made
    )


class Read(NamedTuple):
    """Recorded series, what was read for them, and the directions that this holds."""

    result: Result
    reading: Reading
    directions: Directions | None


def read_prompts(job: Job, options: Options, progress: Progress) -> Read:
    """Generate replies and read the units; twice where a direction is to be fitted first."""
    if job.reduce is not None:
        reading = Reading(job.units, job.reduce)
        return Read(record_batches(job, progress), reading, options.directions)
    replies = generate_batches(job, progress)
    return _fitted(job.model, options, job.prompts, replies, job.rows, progress, steps=job.tokens)


def _fitted(
    model: LanguageModel,
    options: Options,
    before: Sequence[Sequence[int]],
    after: Sequence[Sequence[int]],
    rows: int,
    progress: Progress,
    *,
    steps: int | None = None,
) -> Read:
    units = options.table
    directions = principal_directions(
        model, before, after, units=units, rows=rows, progress=progress
    )
    reading = Reading(units, projecting(directions))
    result = replay_batches(model, before, after, reading, rows, progress, steps=steps)
    return Read(result, reading, directions)


def read_rows(
    model: LanguageModel,
    before: Sequence[Sequence[int]],
    after: Sequence[Sequence[int]],
    options: Options,
    rows: int,
    progress: Progress,
) -> Read:
    """Read the units over given tokens, `before` and `after` the start; `rows` at once."""
    reducers = options.reducers()
    if reducers is not None:
        reading = Reading(options.table, reducers)
        result = replay_batches(model, before, after, reading, rows, progress)
        return Read(result, reading, options.directions)
    return _fitted(model, options, before, after, rows, progress)

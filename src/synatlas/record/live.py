"""Recurrent units that generating computes otherwise than a replay: refused before recording."""

from collections.abc import Sequence
from typing import Final

from synatlas.errors import ModelError
from synatlas.models.load import LanguageModel
from synatlas.models.reducers import norm
from synatlas.models.units import UnitTable
from synatlas.record.replay import SELF_TEST_TOKENS, Reading, live_against_replay

#: Tokens of the two prompts of the live-against-replayed comparison, at most.
PROMPT_TOKENS: Final = (12, 7)

#: Kinds of units whose cached step is other code than the pass over a whole sequence.
STEPPED: Final = frozenset({"recurrent"})

#: Greatest difference of such a unit's activity, relative to its root mean square.
GREATEST_ERROR: Final = 0.1


def check_stepped(model: LanguageModel, rows: Sequence[Sequence[int]], units: UnitTable) -> None:
    """Refuse recurrent units that generating computes otherwise than a replay.

    Raises
    ------
    ModelError
        Some such unit's norm differs by more than :data:`GREATEST_ERROR`.
    """
    if not STEPPED.intersection(units.kind):
        return
    reading = Reading(units, norm)
    agreement = live_against_replay(model, starts(model, rows), reading=reading, signed=True)
    errors = agreement.errors
    stepped = [i for i, kind in enumerate(units.kind) if kind in STEPPED]
    worst = max(stepped, key=lambda i: errors[i])
    if errors[worst] > GREATEST_ERROR:
        raise ModelError(
            given=f"recurrent units of the model {model.name}",
            expected=f"activities that differ by at most {GREATEST_ERROR:.0%} between generating "
            "and one pass over the same tokens",
            cause=f"{units.label[worst]} differs by {errors[worst]:.0%}: the cached step of this "
            "model is no rounding away from its pass over a sequence",
            remedy="load the model in float32, or record other units",
        )


def starts(model: LanguageModel, rows: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """The first tokens of the first and the last row, as many as leave room to generate."""
    most = model.context_length or SELF_TEST_TOKENS + max(PROMPT_TOKENS)
    room = most - SELF_TEST_TOKENS
    first, second = (max(1, min(n, room)) for n in PROMPT_TOKENS)
    return [rows[0][:first], rows[-1][:second]]

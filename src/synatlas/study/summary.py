"""What a study prints when it is done."""

from collections.abc import Iterator
from typing import Final

import pandas as pd

from synatlas.study.study import Done

#: Score that is printed; the table holds all.
SCORE: Final = "rank_of_difference"


def lines(done: Done, seconds: float) -> Iterator[str]:
    """The cells in a small table of plain text, and where the rest lies."""
    table = done.table
    if "score" in table:
        width = max(map(len, table["cell"])) + 2
        yield f"{'':<{width}}{'units':>6}{'periodic':>12}   mid minus ends of {SCORE}"
        chosen: pd.DataFrame = table.loc[table["score"] == SCORE]
        for _, row in chosen.iterrows():
            periodic = f"{row['periodic_replies']:.0f} of {row['prompts']:.0f}"
            yield (
                f"{row['cell']:<{width}}{row['units']:>6.0f}{periodic:>12}   "
                f"{row['mid_minus_ends']:+.2f} ({row['mid_minus_ends_low']:+.2f} to "
                f"{row['mid_minus_ends_high']:+.2f})"
            )
    complete = len(done.outcomes) - len(done.failed)
    yield f"{complete} of {len(done.outcomes)} maps complete, {seconds:.1f} s"
    yield f"table: {(done.folder / 'table.parquet').resolve()}"

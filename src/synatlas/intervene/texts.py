"""What a model reads while its units are ablated: a prompt and its own clean reply."""

from collections.abc import Sequence
from typing import NamedTuple

import xarray as xr


class Text(NamedTuple):
    """Token ids of a prompt and of the reply to it; without a prompt the reply is a document."""

    prompt: tuple[int, ...]
    reply: tuple[int, ...]

    @property
    def fed(self) -> list[int]:
        """What the model reads, as in the recording: all but the last token of a reply."""
        return [*self.prompt, *self.reply[:-1]] if self.prompt else [*self.reply]

    @property
    def first(self) -> int:
        """Position of the first sample, where the reply begins to be predicted."""
        return max(len(self.prompt) - 1, 0)

    @property
    def predicted(self) -> list[int]:
        """Tokens that the positions from `first` on predict; nothing precedes a document."""
        return [*self.reply] if self.prompt else [*self.reply[1:]]


def texts_of(recording: xr.Dataset, chosen: Sequence[int]) -> tuple[Text, ...]:
    """Texts of some prompts of a recording, by their places."""
    rows = recording.isel(prompt=list(chosen))
    prompts, tokens = rows["prompt_token"].to_numpy(), rows["token"].to_numpy()
    lengths = rows["n_steps"].to_numpy()
    return tuple(
        Text(tuple(p[p >= 0].tolist()), tuple(t[:n].tolist()))
        for p, t, n in zip(prompts, tokens, lengths, strict=True)
    )

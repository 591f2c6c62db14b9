"""Sub-layers as units: what attention (or another mixer), the MLP and the whole block give."""

from collections.abc import Sequence

from synatlas.models.layers import Part
from synatlas.models.units import Source


def sublayers(parts: Sequence[Part]) -> tuple[Source, ...]:
    """One unit for every part that writes to the residual stream, and one for every block.

    A part that mixes positions is of kind ``attention``, also where it is no attention; one that
    does not is of kind ``mlp``. Both are what the part itself gives, before a normalisation or
    a factor that the layer applies to it and without the stream where the part adds it. The unit
    of kind ``block`` is the update of the stream: the layer's output less its input; a layer that
    adds what one part gives, and nothing else, has none, because it would be that part again.
    """
    found: list[Source] = []
    for part in (p for p in parts if p.writes):
        kind = _kind(part)
        source = Source(
            module=part.module if part.whole else part.own,
            layer=part.layer,
            kind=kind,
            at="update" if part.whole else "output",
            first=sum(s.count for s in found if (s.layer, s.kind) == (part.layer, kind)),
            count=1,
            width=part.width,
        )
        found.append(source)
    return tuple(found)


def _kind(part: Part) -> str:
    if part.whole:
        return "block"
    return "attention" if part.mixes else "mlp"

"""Which number stands for a unit's output vector, the directions that some of them need, and when
it is read.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, final

import numpy as np
from jaxtyping import Float

from synatlas.errors import ConfigError
from synatlas.models.units import UnitTable


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Reduction:
    """One way to make a number of a vector.

    Parameters
    ----------
    meaning : in words.
    direction : where the direction it projects on comes from: ``none``, ``given`` or ``fitted``.
    signed : whether the number can be negative; an error is then relative to the series' size.
    """

    meaning: str
    direction: str = "none"
    signed: bool = True


#: Reductions by name. PCA after Jolliffe (2002), doi:10.1007/b98835.
REDUCTIONS: Final = MappingProxyType(
    {
        "norm": Reduction(meaning="L2 norm", signed=False),
        "mean": Reduction(meaning="mean over the features"),
        "pc1": Reduction(
            meaning="projection on the first principal component of the unit's own vectors",
            direction="fitted",
        ),
        "projection": Reduction(meaning="projection on a given direction", direction="given"),
    }
)


#: When the units of a reply are read, by name.
CAPTURES: Final = MappingProxyType(
    {
        "replay": "in one pass over prompt and reply together, after the reply is generated",
        "live": "while the reply is generated",
    }
)


class Directions(NamedTuple):
    """A direction of length 1 for every unit, 0 where its vectors do not vary.

    `share` is the part of each unit's variance that lies along it, for fitted directions.
    """

    per_source: tuple[Float[np.ndarray, "head feature"], ...]
    share: Float[np.ndarray, " unit"] | None = None

    def table(self) -> Float[np.ndarray, "unit feature"]:
        """All directions in the units' order, NaN beyond the width of narrower units."""
        widest = max(rows.shape[1] for rows in self.per_source)
        padded = [
            np.pad(rows, ((0, 0), (0, widest - rows.shape[1])), constant_values=np.nan)
            for rows in self.per_source
        ]
        return np.concatenate(padded).astype(np.float32)

    def digest(self) -> str:
        """Digest of the values as they are stored."""
        table = np.ascontiguousarray(self.table())
        return hashlib.sha256(f"{table.shape}".encode() + table.tobytes()).hexdigest()[:32]


def check_reduction(name: str, *, has_direction: bool) -> None:
    """Refuse an unknown reduction, and a direction that is missing or that nothing would read."""
    if name not in REDUCTIONS:
        raise ConfigError(
            given=f"reduce {name!r}",
            expected=f"one of {', '.join(REDUCTIONS)}",
            remedy="choose one of these names",
        )
    if has_direction != (REDUCTIONS[name].direction == "given"):
        raise ConfigError(
            given=f"reduce {name!r} with{'' if has_direction else 'out'} a direction",
            expected="a direction with reduce 'projection', and with no other",
            remedy="pass reduce projection and a direction (--direction FILE), or neither of them",
        )


def check_capture(name: str, *, reduce: str) -> None:
    """Refuse an unknown way, and one that cannot have the direction that `reduce` needs."""
    if name not in CAPTURES:
        raise ConfigError(
            given=f"capture {name!r}",
            expected=f"one of {', '.join(CAPTURES)}",
            remedy="choose one of these names",
        )
    if name == "live" and REDUCTIONS[reduce].direction == "fitted":
        raise ConfigError(
            given=f"capture {name!r} with reduce {reduce!r}",
            expected="capture 'replay'",
            cause="the direction is fitted to all replies, and is not known while they are "
            "generated",
            remedy="pass capture replay, or reduce projection and directions that were fitted "
            "before",
        )


def as_directions(direction: Any, units: UnitTable) -> Directions:
    """Checked directions, one for each unit, brought to length 1.

    Parameters
    ----------
    direction : (unit, width) in the units' order, or (width,) for all units alike.
    units : the units.

    Raises
    ------
    ConfigError
        It is of another shape, not finite, or 0 for some unit.
    """
    widths = sorted({s.width for s in units.sources})
    expected = f"numbers of shape ({len(units)}, {widths[0]}) or ({widths[0]},)"
    if len(widths) > 1:
        expected = f"units of one width, not of {', '.join(map(str, widths))}"
    given = _array(direction)
    if given is None or given.dtype.kind not in "fiu":
        raise _no_direction("values that are not real numbers", expected)
    if len(widths) > 1 or given.shape not in {(len(units), widths[0]), (widths[0],)}:
        raise _no_direction(f"an array of shape {given.shape}", expected)
    rows = np.broadcast_to(given.astype(np.float64), (len(units), widths[0]))
    # The largest first: squares of large or small numbers leave the range.
    largest = np.abs(rows).max(axis=1, keepdims=True)
    if not np.isfinite(largest).all() or not (largest > 0).all():
        raise _no_direction("a direction that is 0 or not finite", expected)
    rows = rows / largest
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return Directions(tuple(rows[columns] for columns in units.columns()))


def _array(direction: Any) -> np.ndarray | None:
    if "torch" in type(direction).__module__.split("."):
        return direction.detach().cpu().double().numpy()
    try:
        return np.asarray(direction)
    except ValueError:
        return None


def _no_direction(given: str, expected: str) -> ConfigError:
    return ConfigError(
        given=f"direction: {given}",
        expected=expected,
        cause="the direction was made for another model, or for another site",
        remedy="pass a row for every unit, in the order of the recording, or one row for all",
    )


def read_direction(path: str | Path) -> np.ndarray:
    """Array of a .npy file, or the one tensor of a .safetensors file; nothing is unpickled."""
    source = Path(path)
    if source.suffix not in {".npy", ".safetensors"}:
        raise _unreadable(source, "its name has another ending")
    if not source.is_file():
        raise _unreadable(source, "there is no such file")
    if source.suffix == ".npy":
        try:
            return np.load(source, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise _unreadable(source, "it is damaged, or holds Python objects") from error
    return _only_tensor(source)


def _only_tensor(source: Path) -> np.ndarray:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(source)
    except (OSError, SafetensorError, TypeError, KeyError, AttributeError) as error:
        raise _unreadable(source, "it is damaged, or of a type that NumPy lacks") from error
    if len(tensors) != 1:
        raise _unreadable(source, f"it holds {len(tensors)} tensors")
    return next(iter(tensors.values()))


def _unreadable(source: Path, cause: str) -> ConfigError:
    return ConfigError(
        given=f"the direction file {source}",
        expected="a .npy file of numbers, or a .safetensors file with one tensor",
        cause=cause,
        remedy="save the directions with numpy.save, or safetensors.numpy.save_file",
    )

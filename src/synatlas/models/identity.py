"""What a model's name means, and the digest of its files. Imports nothing heavy."""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, final

from synatlas.errors import ModelError

#: Prefix of the names of the models that come with the package.
BUNDLED: Final = "bundled:"

#: Where those of the package lie.
BUNDLED_FOLDER: Final = Path(__file__).parent / "bundled"

#: Models that the repository holds and the package does not: small ones trained on the same data.
FAMILY: Final = ("dense", "dense-seed1", "dense-seed2", "small", "moe", "recurrent")

#: The root of a source checkout, if this is one, and where its models lie.
_CHECKOUT: Final = BUNDLED_FOLDER.parents[3]
FAMILY_FOLDER: Final = _CHECKOUT / "models"

#: Names of the snapshots of a model's training; step 0 is made again from its seed.
_SNAPSHOT: Final = re.compile(r"step(\d+)")

#: Files of a folder that decide what a model computes and how text becomes tokens.
CONTENT: Final = (
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "*.bin",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a model comes from.

    Parameters
    ----------
    kind : ``bundled``, ``folder`` or ``hub``.
    name : the name that artifacts carry; never a path.
    location : folder, or Hub id.
    untrained : whether its weights are those before the first step, drawn from its seed.
    """

    kind: Literal["bundled", "folder", "hub"]
    name: str
    location: str
    untrained: bool = False

    @property
    def folder(self) -> Path | None:
        """The folder of a model whose files are at hand; None for a Hub id."""
        return None if self.kind == "hub" else Path(self.location)


def bundled_models() -> tuple[str, ...]:
    """Names of the bundled models at hand, such as ``bundled:reference``.

    Those of the package, and in a source checkout those of its folder ``models``.
    """
    found = sorted(path.parent.name for path in BUNDLED_FOLDER.glob("*/config.json"))
    found += [name for name in FAMILY if (FAMILY_FOLDER / name / "config.json").is_file()]
    return tuple(f"{BUNDLED}{name}" for name in found)


def snapshots(name: str) -> tuple[str, ...]:
    """Revisions of a bundled model, in the order of its training: ``step0`` to the last.

    Step 0 is made again from the seed on its card, and the last is the model itself; those between
    are there where their weights were kept.

    Raises
    ------
    ModelError
        No bundled model at hand has this name.
    """
    folder = _bundled_folder(name)
    card = _card(folder)
    matches = [_SNAPSHOT.fullmatch(path.parent.name) for path in folder.glob("*/config.json")]
    steps = {int(match[1]) for match in matches if match}
    steps |= {0} if "init_seed" in card else set()
    steps |= {card["steps"]} if "steps" in card else set()
    return tuple(f"step{step}" for step in sorted(steps))


def resolve(name: str, revision: str | None = None) -> Source:
    """What `name` stands for: a bundled model, an existing folder, else a Hub id.

    Parameters
    ----------
    name : ``bundled:NAME``, a local folder, or a Hub id.
    revision : of a bundled model one of its :func:`snapshots`, the last where None; of a Hub model
        what the Hub makes of it.

    Raises
    ------
    ModelError
        An unknown bundled name or snapshot, a path that does not exist, a folder without
        ``config.json``, or a revision of a folder.
    """
    if name.startswith(BUNDLED):
        return _bundled(name, revision)
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            adapter = (path / "adapter_config.json").is_file()
            raise ModelError(
                given=f"the folder {name}",
                expected="a folder with config.json, *.safetensors and tokenizer files",
                cause="it holds an adapter alone" if adapter else "it has no config.json",
                remedy="load the model and its adapter with peft, and give it to synatlas.adopt"
                if adapter
                else "pass the folder that save_pretrained wrote",
            )
        if revision is not None:
            raise ModelError(
                given=f"revision {revision} of {path.resolve().name}",
                expected="no revision: the files of a folder are what they are",
                remedy="leave the revision out",
            )
        return Source(kind="folder", name=path.resolve().name, location=str(path))
    if not name or path.exists() or path.is_absolute() or name.startswith((".", "~")):
        raise ModelError(
            given=f"the model {name!r}",
            expected="bundled:NAME, a folder that exists, or a Hub id such as org/model",
            cause="it reads as a path, and there is no such folder",
            remedy="check the path",
        )
    return Source(kind="hub", name=name, location=name)


def _bundled(name: str, revision: str | None) -> Source:
    folder = _bundled_folder(name)
    known = snapshots(name)
    if revision in {None, known[-1] if known else None}:
        return Source(kind="bundled", name=name, location=str(folder))
    if revision not in known:
        raise ModelError(
            given=f"revision {revision} of {name}",
            expected=f"one of {', '.join(known)}",
            cause="no snapshot of its training has this name",
            remedy="choose one of these, or leave the revision out for the last",
        )
    if revision == "step0":
        return Source(kind="bundled", name=name, location=str(folder), untrained=True)
    return Source(kind="bundled", name=name, location=str(folder / revision))


def _bundled_folder(name: str) -> Path:
    short = name.removeprefix(BUNDLED)
    if name in bundled_models():
        return (FAMILY_FOLDER if short in FAMILY else BUNDLED_FOLDER) / short
    known = ", ".join(bundled_models()) or "no bundled model"
    if short in FAMILY:
        raise ModelError(
            given=f"the model {name}",
            expected=f"one of {known}, which are at hand",
            cause="it lies in the folder models of the source repository, not in the package",
            remedy="install synatlas from a clone of the repository, or pass the folder "
            f"models/{short} of one",
        )
    raise ModelError(
        given=f"the model {name}",
        expected=f"one of {known}",
        cause="no bundled model has this name",
        remedy="choose a bundled model, a Hub id or a folder",
    )


def content_revision(name: str, revision: str | None = None) -> str | None:
    """Digest of a model's files where they are at hand, None for a Hub id.

    SHA-256 over the names and bytes of the files in :data:`CONTENT`, so that the same files give
    the same revision in any folder.

    Raises
    ------
    ModelError
        As :func:`resolve`.
    """
    source = resolve(name, revision)
    if source.folder is None:
        return None
    return folder_digest(source.folder)


def folder_digest(folder: Path) -> str:
    """Digest of the files of `folder` that decide what its model computes."""
    files = sorted({path for pattern in CONTENT for path in folder.glob(pattern)})
    stamps = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return _digest(tuple(stamps))


@lru_cache(maxsize=16)
def _digest(stamps: tuple[tuple[str, int, int], ...]) -> str:
    # Size and time are the cache's key only: large weights are then read once per process.
    digest = hashlib.sha256()
    for path, size, _ in stamps:
        digest.update(f"{os.path.basename(path)}\0{size}\0".encode())  # noqa: PTH119
        with open(path, "rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()[:40]


def card_seed(folder: Path) -> int | None:
    """Seed of a bundled model's initial weights, from its card; None where it has none.

    Of a snapshot, from the card of its model, which is one folder up.
    """
    at = folder.parent if _SNAPSHOT.fullmatch(folder.name) else folder
    return _card(at).get("init_seed")


def _card(folder: Path) -> dict[str, Any]:
    card = folder / "card.json"
    return json.loads(card.read_text(encoding="utf-8")) if card.is_file() else {}

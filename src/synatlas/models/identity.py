"""What a model's name means, and the digest of its files. Imports nothing heavy."""

import hashlib
import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal, final

from synatlas.errors import ModelError

#: Prefix of the names of the models that come with the package.
BUNDLED: Final = "bundled:"

#: Where they lie.
BUNDLED_FOLDER: Final = Path(__file__).parent / "bundled"

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
    """

    kind: Literal["bundled", "folder", "hub"]
    name: str
    location: str

    @property
    def folder(self) -> Path | None:
        """The folder of a model whose files are at hand; None for a Hub id."""
        return None if self.kind == "hub" else Path(self.location)


def bundled_models() -> tuple[str, ...]:
    """Names of the models that come with the package, such as ``bundled:reference``."""
    found = sorted(path.parent.name for path in BUNDLED_FOLDER.glob("*/config.json"))
    return tuple(f"{BUNDLED}{name}" for name in found)


def resolve(name: str) -> Source:
    """What `name` stands for: a bundled model, an existing folder, else a Hub id.

    Raises
    ------
    ModelError
        An unknown bundled name, a path that does not exist, or a folder without ``config.json``.
    """
    if name.startswith(BUNDLED):
        if name not in bundled_models():
            raise ModelError(
                given=f"the model {name}",
                expected=f"one of {', '.join(bundled_models()) or 'no bundled model'}",
                cause="no bundled model has this name",
                remedy="choose a bundled model, a Hub id or a folder",
            )
        folder = BUNDLED_FOLDER / name.removeprefix(BUNDLED)
        return Source(kind="bundled", name=name, location=str(folder))
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
        return Source(kind="folder", name=path.resolve().name, location=str(path))
    if not name or path.exists() or path.is_absolute() or name.startswith((".", "~")):
        raise ModelError(
            given=f"the model {name!r}",
            expected="bundled:NAME, a folder that exists, or a Hub id such as org/model",
            cause="it reads as a path, and there is no such folder",
            remedy="check the path",
        )
    return Source(kind="hub", name=name, location=name)


def content_revision(name: str) -> str | None:
    """Digest of a model's files where they are at hand, None for a Hub id.

    SHA-256 over the names and bytes of the files in :data:`CONTENT`, so that the same files give
    the same revision in any folder.

    Raises
    ------
    ModelError
        As :func:`resolve`.
    """
    folder = resolve(name).folder
    return None if folder is None else folder_digest(folder)


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
    """Seed of a bundled model's initial weights, from its card; None where it has none."""
    card = folder / "card.json"
    if not card.is_file():
        return None
    return json.loads(card.read_text(encoding="utf-8")).get("init_seed")

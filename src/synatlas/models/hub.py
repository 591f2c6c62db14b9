"""What the Hub says of a model, and one message for each way in which it says nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final, final

from huggingface_hub import CachedRepoInfo, HfApi, constants, hf_hub_download, scan_cache_dir
from huggingface_hub.errors import (
    CacheNotFound,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from synatlas.errors import ModelError

#: Seconds to wait for the Hub before saying that it cannot be reached.
HUB_TIMEOUT_S: Final = 10

#: A connection that fails: the Hub client's HTTP error derives from its transport's own base.
CONNECTION_ERRORS: tuple[type[Exception], ...] = (OSError, *HfHubHTTPError.__bases__)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A commit of a Hub model, and whether the Hub could not be asked for it."""

    commit: str
    offline: bool


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A branch of a Hub model, and the commit at its tip."""

    name: str
    commit: str


def pin(name: str, revision: str | None) -> Pin:
    """Resolve a Hub id to a commit: by asking once, else by what the cache holds.

    Raises
    ------
    ModelError
        The Hub has no such model or revision, does not grant it, or cannot be reached and the
        cache lacks it.
    """
    try:
        with _refusals(name, revision):
            commit = HfApi().model_info(name, revision=revision, timeout=HUB_TIMEOUT_S).sha
            _remember(name, revision)
    except CONNECTION_ERRORS as error:
        return Pin(commit=_cached_commit(name, revision, error), offline=True)
    return Pin(commit=str(commit), offline=False)


def _remember(name: str, revision: str | None) -> None:
    """Let the cache know the branch by which it is asked where there is no connection."""
    try:
        hf_hub_download(name, "config.json", revision=revision)
    except EntryNotFoundError:
        # What the model lacks is said by what reads it.
        return


def branches(name: str) -> tuple[Branch, ...]:
    """Branches of a Hub model; where the Hub cannot be reached, those that the cache knows.

    Raises
    ------
    ModelError
        As :func:`pin`.
    """
    try:
        with _refusals(name):
            found = HfApi().list_repo_refs(name).branches
    except CONNECTION_ERRORS as error:
        return _cached_branches(name, error)
    return tuple(Branch(name=b.name, commit=b.target_commit) for b in found)


@contextmanager
def _refusals(name: str, revision: str | None = None) -> Iterator[None]:
    """Each refusal of the Hub as one message; a connection that fails is the caller's to mend."""
    try:
        yield
    except HFValidationError as error:
        raise not_found(name, "it is neither a Hub id nor a folder that exists") from error
    except GatedRepoError as error:
        raise not_found(name, "access to it must be granted on the Hub first") from error
    except RevisionNotFoundError as error:
        raise not_found(name, f"it has no revision {revision}") from error
    except RepositoryNotFoundError as error:
        raise not_found(name, "the Hub has no such model, or it is private") from error


def _cached_commit(name: str, revision: str | None, error: Exception) -> str:
    try:
        path = hf_hub_download(name, "config.json", revision=revision, local_files_only=True)
    except LocalEntryNotFoundError:
        raise _unreachable(name) from error
    return path.replace("\\", "/").split("/snapshots/")[-1].split("/")[0]


def _cached_branches(name: str, error: Exception) -> tuple[Branch, ...]:
    repo = _cached(name)
    if repo is None or not repo.refs:
        raise _unreachable(name) from error
    return tuple(Branch(name=ref, commit=at.commit_hash) for ref, at in sorted(repo.refs.items()))


def cached_commits(name: str) -> frozenset[str]:
    """Commits of a Hub model of which the cache holds any file."""
    repo = _cached(name)
    return frozenset() if repo is None else frozenset(r.commit_hash for r in repo.revisions)


def delete_cached(name: str, commit: str) -> int:
    """Delete a commit of a Hub model from the cache; bytes that are free then.

    Files that other commits in the cache share with it stay, and so does the same commit under
    another name.
    """
    repo = _cached(name)
    if repo is None or commit not in {r.commit_hash for r in repo.revisions}:
        return 0
    alone = replace(scan_cache_dir(constants.HF_HUB_CACHE), repos=frozenset({repo}))
    deletion = alone.delete_revisions(commit)
    deletion.execute()
    return deletion.expected_freed_size


def _cached(name: str) -> CachedRepoInfo | None:
    try:
        repos = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return None
    return next((r for r in repos if r.repo_id == name and r.repo_type == "model"), None)


def _unreachable(name: str) -> ModelError:
    reason = "HF_HUB_OFFLINE is set" if constants.is_offline_mode() else "no connection"
    return not_found(
        name, f"the Hub cannot be reached ({reason}), and the model is not in the local cache"
    )


def not_found(name: str, cause: str) -> ModelError:
    """The error of a model that cannot be had for this `cause`."""
    return ModelError(
        given=f"the model {name}",
        expected="bundled:NAME, a local folder, or a Hub id such as org/model",
        cause=cause,
        remedy="check the name, or pass a bundled model or a local folder, which need no network",
    )

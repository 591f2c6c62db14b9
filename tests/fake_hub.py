"""A Hub of one model on this machine, so that the cache is laid out by the Hub's own client."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from huggingface_hub import constants, hf_api
from transformers.utils import hub as hub_of_transformers

NAME = "org/tiny"


class FakeHub:
    """Branches of one model: name -> folder with its files; `asked` are the paths requested."""

    def __init__(self, branches: dict[str, Path]) -> None:
        self.branches = branches
        self.commits = {
            branch: hashlib.sha1(branch.encode(), usedforsecurity=False).hexdigest()
            for branch in branches
        }
        self.asked: list[str] = []

    def folder_of(self, revision: str) -> Path | None:
        """Files of a branch or commit."""
        named = {commit: self.branches[branch] for branch, commit in self.commits.items()}
        return self.branches.get(revision) or named.get(revision)

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and content of a request."""
        path = path.partition("?")[0]
        self.asked.append(path)
        api = f"/api/models/{NAME}"
        if path == f"{api}/refs":
            refs = [
                {"name": b, "ref": f"refs/heads/{b}", "targetCommit": c}
                for b, c in self.commits.items()
            ]
            return 200, {}, json.dumps({"branches": refs, "converts": [], "tags": []}).encode()
        if path == api or path.startswith(f"{api}/revision/"):
            return self._info(path.partition("/revision/")[2] or "main")
        if path.startswith(f"{api}/tree/"):
            # No repository here has folders.
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        if path.startswith(f"/{NAME}/resolve/"):
            revision, _, name = path.removeprefix(f"/{NAME}/resolve/").partition("/")
            return self._file(revision, name)
        return 404, {"X-Error-Code": "RepoNotFound"}, b""

    def _info(self, revision: str) -> tuple[int, dict[str, str], bytes]:
        if self.folder_of(revision) is None:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        sha = self.commits.get(revision, revision)
        return 200, {}, json.dumps({"id": NAME, "sha": sha, "tags": [], "siblings": []}).encode()

    def _file(self, revision: str, name: str) -> tuple[int, dict[str, str], bytes]:
        folder = self.folder_of(revision)
        commit = {"X-Repo-Commit": self.commits.get(revision, revision)}
        if folder is None or not (folder / name).is_file():
            return 404, {"X-Error-Code": "EntryNotFound", **commit}, b""
        content = (folder / name).read_bytes()
        etag = hashlib.sha256(content).hexdigest()
        return 200, {"ETag": f'"{etag}"', **commit}, content


@contextmanager
def served(hub: FakeHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """Answer for the Hub, with an empty cache at `cache`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, headers, content = hub.answer(self.path)
            self.send_response(status)
            headers = {"Content-Type": "application/json", **headers}
            for key, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815 - the name is http.server's

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    # The one client behind the functions of the module took its address when it was made.
    monkeypatch.setattr(hf_api.api, "endpoint", address)
    # Likewise that of transformers, which is made anew where there is none.
    monkeypatch.setattr(hub_of_transformers, "_hf_api", None)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()

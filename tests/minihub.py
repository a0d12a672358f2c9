"""A fake Hugging Face Hub on the loopback interface: the part of the real HTTP protocol that reading and writing take.

It serves repositories of data sets and models with commits, branches and tags to the real `huggingface_hub` and
`datasets`. They are filled from Python or by the client; private and gated ones answer as the real Hub does without a
good token. What is written goes as to the real one: large files first, each by its hash, then a commit. `minihub_write`
has that half.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import minihub_write

DATE = "2026-01-02T03:04:05.000Z"
TOKEN = "hf_loopbackToken"


@dataclass
class Repo:
    """Commits by their sha, each a mapping of paths to bytes; `heads` and `tags` point at them."""

    name: str
    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    heads: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    large: set[str] = field(default_factory=set)

    def commit(self, files: dict[str, bytes], *, branch: str = "main", tag: str | None = None) -> str:
        """A new commit with exactly these files; its sha."""
        parts = [self.name, self.heads.get(branch), *(f"{path}{_oid(body)}" for path, body in sorted(files.items()))]
        sha = hashlib.sha1(json.dumps(parts).encode()).hexdigest()
        self.commits[sha] = dict(files)
        self.heads[branch] = sha
        if tag:
            self.tags[tag] = sha
        return sha

    def resolve(self, revision: str) -> str | None:
        """The commit that a branch, a tag or a sha stands for."""
        name = unquote(revision)
        return self.heads.get(name) or self.tags.get(name) or (name if name in self.commits else None)


@dataclass
class Hub:
    """The server's address, its repositories, and what it was asked for."""

    port: int = 0
    repos: dict[str, Repo] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    # Tokens by the account they are of, those of them that may not write, and what large files were sent.
    accounts: dict[str, str] = field(default_factory=lambda: {TOKEN: "anna"})
    read_only: set[str] = field(default_factory=set)
    blobs: dict[str, bytes] = field(default_factory=dict)
    # Bytes there is room for, and how often a connection is still cut: in the middle of a file, or before an answer.
    room: int | None = None
    cut_files: int = 0
    cut_answers: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def repo(self, name: str, **kind: bool) -> Repo:
        """A new, empty repository."""
        return self.repos.setdefault(name, Repo(name, **kind))


@contextmanager
def running() -> Iterator[Hub]:
    """The hub on a free port."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


def _oid(body: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()


def _entry(path: str, body: bytes, large: Collection[str] = ()) -> dict[str, Any]:
    known = {"type": "file", "path": path, "size": len(body), "oid": _oid(body)}
    sha256 = hashlib.sha256(body).hexdigest()
    lfs = {"oid": sha256, "size": len(body), "pointerSize": 130}
    return {**known, "lfs": lfs} if sha256 in large else known


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_arguments: Any) -> None:
        pass

    def _answer(self) -> None:
        split = urlsplit(self.path)
        self.hub.asked.append(f"{self.command} {split.path}")
        if minihub_write.received(self, split.path):
            return
        body = minihub_write.body(self)
        if minihub_write.answered(self, split.path, body):
            return
        api = re.fullmatch(r"/api/(?:datasets|models)/([^/]+/[^/]+)(?:/([^/]+)(?:/(.*))?)?", split.path)
        file = re.fullmatch(r"(?:/datasets)?/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", split.path)
        found = api or file
        repo = self.hub.repos.get(found[1]) if found else None
        if repo is None or (repo.private and not self._known()):
            self.refuse(404 if self._known() else 401, "RepoNotFound", "Repository not found")
        elif file:
            self._file(repo, file[2], unquote(file[3]))
        else:
            assert api
            self._api(repo, api[2] or "", api[3] or "", parse_qs(split.query), body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _answer

    @property
    def account(self) -> str | None:
        """Who asks."""
        return self.hub.accounts.get(self.headers.get("Authorization", "").removeprefix("Bearer "))

    def _known(self) -> bool:
        return self.account is not None

    def _api(self, repo: Repo, verb: str, rest: str, query: dict[str, list[str]], body: bytes) -> None:
        if verb == "refs":
            refs = {"branches": ("heads", repo.heads), "tags": ("tags", repo.tags)}
            made = {
                key: [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": sha} for name, sha in names.items()]
                for key, (kind, names) in refs.items()
            }
            self.json({**made, "converts": []})
            return
        revision, _slash, path = rest.partition("/")
        sha = repo.resolve(revision or "main")
        if sha is None:
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return
        files = repo.commits[sha]
        if verb in ("", "revision"):
            self.json(_info(repo, sha))
        elif verb == "tree":
            self.json(
                _tree(
                    files,
                    unquote(path),
                    large=repo.large,
                    recursive=query.get("recursive", ["false"])[0].lower() == "true",
                )
            )
        elif verb == "paths-info":
            wanted = json.loads(body)["paths"] if body[:1] == b"{" else parse_qs(body.decode()).get("paths", [])
            entries = [_entry(name, files[name], repo.large) for name in wanted if name in files]
            folders = [name for name in wanted if any(path.startswith(f"{name}/") for path in files)]
            self.json(entries + [{"type": "directory", "path": name, "oid": "0" * 40, "size": 0} for name in folders])
        else:
            self.refuse(404, "", f"no such thing here: {verb}")

    def _file(self, repo: Repo, revision: str, path: str) -> None:
        sha = repo.resolve(revision)
        if repo.gated and not self._known():
            self.refuse(401, "GatedRepo", f"Access to {repo.name} is restricted. Please log in.")
        elif sha is None:
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        elif path not in repo.commits[sha]:
            self.refuse(404, "EntryNotFound", "Entry not found")
        else:
            self._bytes(repo.commits[sha][path], sha)

    def _bytes(self, whole: bytes, sha: str) -> None:
        headers = {"X-Repo-Commit": sha, "ETag": f'"{_oid(whole)}"', "Accept-Ranges": "bytes"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not wanted:
            self._send(200, whole, headers)
            return
        start, end = int(wanted[1]), min(int(wanted[2] or len(whole) - 1), len(whole) - 1)
        self._send(206, whole[start : end + 1], {**headers, "Content-Range": f"bytes {start}-{end}/{len(whole)}"})

    def json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def refuse(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message, "Content-Type": "application/json"}
        self._send(status, json.dumps({"error": message}).encode(), headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _info(repo: Repo, sha: str) -> dict[str, Any]:
    files = repo.commits[sha]
    return {
        "_id": "0" * 24,
        "id": repo.name,
        "sha": sha,
        "private": repo.private,
        "gated": "auto" if repo.gated else False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "createdAt": DATE,
        "lastModified": DATE,
        "siblings": [{"rfilename": path} for path in sorted(files)],
    }


def _tree(files: dict[str, bytes], folder: str, *, large: Collection[str], recursive: bool) -> list[dict[str, Any]]:
    prefix = f"{folder}/" if folder else ""
    below = {path: body for path, body in files.items() if path.startswith(prefix)}
    names = {path[len(prefix) :].partition("/")[0] for path in below if "/" in path[len(prefix) :]}
    folders = [{"type": "directory", "path": prefix + name, "oid": "0" * 40, "size": 0} for name in sorted(names)]
    shown = {path: body for path, body in below.items() if recursive or "/" not in path[len(prefix) :]}
    return folders + [_entry(path, body, large) for path, body in sorted(shown.items())]

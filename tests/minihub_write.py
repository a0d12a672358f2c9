"""The half of the fake Hub that writes: whoami, repositories, large files by their hash, commits, branches and tags."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any
from urllib.parse import unquote

# Files of these names are large, whatever their size, as the real Hub's own .gitattributes have it.
_LARGE = (".safetensors", ".gguf")


def received(handler: Any, path: str) -> bool:
    """Take a large file; cut the connection in its middle where that was asked for."""
    if handler.command != "PUT" or not path.startswith("/lfs/"):
        return False
    length, hub = int(handler.headers["Content-Length"]), handler.hub
    if hub.cut_files:
        hub.cut_files -= 1
        handler.rfile.read(length // 2)
        hang_up(handler)
        return True
    content = handler.rfile.read(length)
    digest = hashlib.sha256(content).hexdigest()
    assert path == f"/lfs/{digest}", "the bytes are not those that were announced"
    hub.blobs[digest] = content
    handler.json({})
    return True


def body(handler: Any) -> bytes:
    """What was sent with a request."""
    if handler.headers.get("Transfer-Encoding") != "chunked":
        length = int(handler.headers.get("Content-Length") or 0)
        return bytes(handler.rfile.read(length)) if length else b""
    whole = b""
    while size := int(handler.rfile.readline(), 16):
        whole += handler.rfile.read(size)
        handler.rfile.readline()
    handler.rfile.readline()
    return whole


def hang_up(handler: Any) -> None:
    """Nothing more comes over this connection."""
    handler.close_connection = True
    handler.connection.close()


def answered(handler: Any, path: str, sent: bytes) -> bool:
    """Answer what is about an account or about writing."""
    if path == "/api/whoami-v2":
        _whoami(handler)
    elif path == "/api/validate-yaml":
        handler.json({"errors": [], "warnings": []})
    elif path == "/api/repos/create":
        _create(handler, json.loads(sent))
    elif found := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
        _in_repo(handler, found[1], lambda repo: _batch(handler, json.loads(sent)))
    elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit|branch|tag)/(.+)", path):
        _in_repo(handler, found[1], lambda repo: _write(handler, repo, found[2], unquote(found[3]), sent))
    else:
        return False
    return True


def _whoami(handler: Any) -> None:
    if handler.account is None:
        handler.refuse(401, "", "Invalid credentials in Authorization header")
    else:
        handler.json({"type": "user", "name": handler.account, "orgs": []})


def _create(handler: Any, asked: dict[str, Any]) -> None:
    owner = asked.get("organization") or handler.account
    name = f"{owner}/{asked['name']}"
    if handler.account is None:
        handler.refuse(401, "", "Invalid credentials in Authorization header")
    elif owner != handler.account or handler.account in handler.hub.read_only:
        handler.refuse(403, "", f"You don't have the rights to create a model under the namespace {owner}")
    elif name in handler.hub.repos:
        handler.refuse(409, "", "You already created this model repo")
    else:
        repo = handler.hub.repo(name, private=bool(asked.get("private") or asked.get("visibility") == "private"))
        repo.commit({".gitattributes": b"*.safetensors filter=lfs\n"})
        handler.json({"url": f"{handler.hub.url}/{name}", "name": name, "id": name})


def _in_repo(handler: Any, name: str, then: Any) -> None:
    repo = handler.hub.repos.get(name)
    if repo is None:
        handler.refuse(404 if handler.account else 401, "RepoNotFound", "Repository not found")
    elif handler.account != name.partition("/")[0] or handler.account in handler.hub.read_only:
        handler.refuse(403, "", "Authorization error: you have read access, and no write access to this repo")
    else:
        then(repo)


def _batch(handler: Any, asked: dict[str, Any]) -> None:
    hub, wanted = handler.hub, asked["objects"]
    if hub.room is not None and sum(one["size"] for one in wanted) > hub.room:
        handler.refuse(403, "", "Private repository storage limit reached, please upgrade your plan")
        return
    answers = [{"oid": one["oid"], "size": one["size"]} for one in wanted]
    for answer in answers:
        if answer["oid"] not in hub.blobs:
            answer["actions"] = {"upload": {"href": f"{hub.url}/lfs/{answer['oid']}"}}
    handler.json({"transfer": "basic", "objects": answers})


def _write(handler: Any, repo: Any, what: str, name: str, sent: bytes) -> None:
    if what == "preupload":
        _preupload(handler, repo, name, json.loads(sent))
    elif what == "commit":
        _commit(handler, repo, name, [json.loads(line) for line in sent.splitlines()])
    elif handler.command == "DELETE":
        (repo.tags if what == "tag" else repo.heads).pop(name)
        handler.json({})
    elif what == "branch":
        repo.heads[name] = repo.heads["main"]
        handler.json({})
    else:
        _tag(handler, repo, name, json.loads(sent)["tag"])


def _tag(handler: Any, repo: Any, revision: str, tag: str) -> None:
    if tag in repo.tags:
        handler.refuse(409, "", f"Tag reference exists already: {tag}")
        return
    commit = repo.resolve(revision)
    assert commit, revision
    repo.tags[tag] = commit
    handler.json({})


def _preupload(handler: Any, repo: Any, revision: str, asked: dict[str, Any]) -> None:
    commit = repo.resolve(revision)
    if commit is None:
        handler.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return
    held = repo.commits[commit]
    files = []
    for one in asked["files"]:
        large = one["path"].endswith(_LARGE)
        known = {"path": one["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
        files.append({**known, "oid": _oid(held[one["path"]], large=large)} if one["path"] in held else known)
    handler.json({"files": files})


def _oid(content: bytes, *, large: bool) -> str:
    if large:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _commit(handler: Any, repo: Any, branch: str, lines: list[dict[str, Any]]) -> None:
    head = repo.heads[branch]
    header = next(line["value"] for line in lines if line["key"] == "header")
    if header.get("parentCommit") not in (None, head):
        handler.refuse(412, "", "A commit has happened since. Please refresh and try again.")
        return
    files = dict(repo.commits[head])
    for line in lines:
        value = line["value"]
        if line["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif line["key"] == "lfsFile":
            files[value["path"]] = handler.hub.blobs[value["oid"]]
            repo.large.add(value["oid"])
        elif line["key"] == "deletedFile":
            files.pop(value["path"])
    sha = repo.commit(files, branch=branch)
    if handler.hub.cut_answers:
        handler.hub.cut_answers -= 1
        hang_up(handler)
        return
    url = f"{handler.hub.url}/{repo.name}/commit/{sha}"
    handler.json({"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""})

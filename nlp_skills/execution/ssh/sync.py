"""Sending up: the mirror of a task holds what a step needs, file by file and by hash.

Only bytes that are not there travel. They are staged there, read back by the agent, and moved into place whole, one
by one, task.yaml last; a send that was cut off goes on with what has arrived.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.errors import Problem, Unavailable
from nlp_skills.execution.ssh import contents, transport
from nlp_skills.execution.ssh.connection import Unreachable
from nlp_skills.execution.ssh.contents import Item
from nlp_skills.execution.ssh.server import Server
from nlp_skills.i18n import _
from nlp_skills.progress import Tell
from nlp_skills.schema.remote_job import Step
from nlp_skills.workspace import mirror
from nlp_skills.workspace.folder import TaskFolder

# What is smaller goes many at a time, as one answer of the agent.
SMALL_BYTES = 1 << 16
BATCH_BYTES = 1 << 22
ATTEMPTS = 3
# A file takes whole blocks of a disk.
_BLOCK = 4096
_LOCK_SECONDS = 3600.0


@dataclass(frozen=True)
class Sent:
    """What a send took: files put in place there, bytes that went over the link, and where base models are there."""

    files: int
    bytes: int
    seconds: float
    models: dict[str, str]


def send(folder: TaskFolder, server: Server, there: str, *, version: str, step: Step, tell: Tell) -> Sent:
    """Make the mirror `there` hold what `step` of `version` needs; base models go beside it, once for all tasks.

    Raises:
        Unreachable: the link broke; the next send goes on from what has arrived.
        Unavailable: no room there, no permission, or a file here that cannot be read or keeps changing.
        Usage: a link in the task leads out of it.
    """
    began = time.monotonic()
    with alone(folder):
        models, total = {}, _Count()
        for name, model in contents.models(folder, version, step).items():
            models[name] = _send_model(folder, server, model, total)
        _bring(server, there, lambda: _mirrored(folder, version, step, models), folder.root, total)
    if total.files:
        tell(
            _("sent to {host}: {files} files, {size:.1f} MB", host=server.link.host, files=total.files,
              size=total.bytes / 1e6)
        )  # fmt: skip
    return Sent(total.files, total.bytes, time.monotonic() - began, models)


@contextlib.contextmanager
def alone(folder: TaskFolder) -> Iterator[None]:
    """Within it, no other process here sends or fetches for this task.

    Raises:
        Unavailable: another one does so for an hour, or the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    path = folder.state / "sync.lock"
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=_LOCK_SECONDS)
    except Timeout as error:
        raise Unavailable(
            _("another command is exchanging this task's files"),
            file=folder.root,
            mend=_("wait until it ends, then run this command again"),
        ) from error
    except OSError as error:
        raise files.storage_problem(error, path) from error
    try:
        yield
    finally:
        lock.release()


@dataclass
class _Count:
    files: int = 0
    bytes: int = 0


def _mirrored(folder: TaskFolder, version: str, step: Step, models: dict[str, str]) -> list[Item]:
    """What the mirror is to hold, in the order in which it takes its place."""
    note = json.dumps({"of": mirror.origin(folder), "models": models}, ensure_ascii=False, indent=2) + "\n"
    mark = contents.written(f".nlp-skills/{mirror.NAME}", note.encode())
    found = contents.hashed(folder, contents.of(folder, version, step))
    return [mark, *sorted(found, key=lambda item: (item.path == "task.yaml", item.path))]


def _send_model(folder: TaskFolder, server: Server, model: Path, total: _Count) -> str:
    """Where a base model is there: a folder of our own, named by the hash of all of it."""
    items = contents.hashed(folder, contents.model_files(model))
    told = json.dumps([[item.path, item.hash] for item in items]).encode()
    there = f"{server.workdir}/models/{hashlib.sha256(told).hexdigest()[:32]}"
    _bring(server, there, lambda: items, None, total)
    return there


def _bring(server: Server, there: str, wanted: Any, home: Path | None, total: _Count) -> None:
    """Make a folder there hold what `wanted()` lists, and none of what was sent earlier and is gone from `home`."""
    trouble: Problem | None = None
    for _attempt in range(ATTEMPTS):
        items: list[Item] = wanted()
        found = _listing(server, there, items)
        needed = [item for item in items if found["files"].get(item.path, [0, None])[1] != item.hash]
        gone = _gone(found["sent"], items, home)
        if not needed and not gone and set(found["sent"]) >= {item.path for item in items}:
            return
        _refuse_no_room(server, there, needed, found)
        try:
            total.bytes += _carry(server, there, needed, found)
            missing = _install(server, there, needed, gone, items, found)
        except Unreachable:
            raise
        except (Unavailable, transport.Stopped) as error:
            # Looked at again, a disk that is full says how much is needed.
            trouble = error if isinstance(error, Problem) else _stopped(server, there, str(error))
            continue
        if not missing:
            total.files += len(needed)
            return
        trouble = _restless([item for item in needed if item.hash in missing])
    assert trouble is not None
    raise trouble


def _listing(server: Server, there: str, items: Sequence[Item]) -> dict[str, Any]:
    return server.ask("listing", root=there, paths=[item.path for item in items])


def _gone(sent: Sequence[str], items: Sequence[Item], home: Path | None) -> list[str]:
    """Files that were sent earlier and are no longer here."""
    kept = {item.path for item in items}
    return [path for path in sent if home is not None and path not in kept and not os.path.lexists(home / path)]


def _refuse_no_room(server: Server, there: str, needed: Sequence[Item], found: dict[str, Any]) -> None:
    staged: dict[str, int] = found["staged"]
    wanted = sum(-(-item.size // _BLOCK) * _BLOCK for item in needed)
    arrived = sum(staged.get(item.hash, staged.get(f"{item.hash}.part", 0)) for item in needed)
    if wanted - arrived > found["free"]:
        raise Unavailable(
            _("there is no room on {host}", host=server.link.host),
            file=f"{server.link.host}:{there}",
            cause=_("needed: {needed:.1f} MB; free: {free:.1f} MB", needed=(wanted - arrived) / 1e6,
                    free=found["free"] / 1e6),
            mend=_("free some space there and run the command again, or set execution.workdir to another disk"),
        )  # fmt: skip


def _carry(server: Server, there: str, needed: Sequence[Item], found: dict[str, Any]) -> int:
    """Stage the bytes that are nowhere in the folder there; how many went over the link."""
    present = {digest for _size, digest in found["files"].values()} | set(found["staged"])
    travelling = {item.hash: item for item in needed if item.hash not in present}
    small = [item for item in travelling.values() if item.size < SMALL_BYTES]
    large = [item for item in travelling.values() if item.size >= SMALL_BYTES]
    total = sum(item.size for item in travelling.values())
    with transport.shown(_("sending to {host} (MB)", host=server.link.host), total) as advance:
        for batch in _batches(small):
            _put(server, there, batch)
            advance(sum(item.size for item in batch))
        if large:
            if not small:
                _put(server, there, [])  # makes the folder
            loads = [transport.Load(item.hash, item.size, item.source) for item in large
                     if isinstance(item.source, Path)]  # fmt: skip
            way = transport.choose(server, found["rsync"], sum(item.size for item in large))
            way.push(loads, f"{there}/.nlp-skills/incoming", found["staged"], advance)
    begun: int = sum(found["staged"].get(f"{item.hash}.part", 0) for item in large)
    return total - begun


def _put(server: Server, there: str, batch: Sequence[Item]) -> None:
    """One that has changed since it was hashed is left out there, and missed afterwards."""
    blobs = {}
    for item in batch:
        with contextlib.suppress(OSError):
            blobs[item.hash] = base64.b64encode(item.read()).decode()
    server.ask("put", root=there, blobs=blobs)


def _batches(items: Sequence[Item]) -> Iterator[list[Item]]:
    batch: list[Item] = []
    size = 0
    for item in items:
        if batch and size + item.size > BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += item.size
    if batch:
        yield batch


def _install(
    server: Server,
    there: str,
    needed: Sequence[Item],
    gone: Sequence[str],
    items: Sequence[Item],
    found: dict[str, Any],
) -> set[str]:
    """Put in place what has arrived; the hashes of what has not, or not as it should."""
    wanted = {item.hash for item in needed}
    copies = {digest: path for path, (_size, digest) in found["files"].items() if digest in wanted}
    answer = server.ask(
        "install",
        root=there,
        files=[[item.path, item.hash, item.executable] for item in needed],
        copies=copies,
        remove=list(gone),
        sent=sorted({item.path for item in items} | (set(found["sent"]) - set(gone))),
    )
    return set(answer["missing"])


def _restless(items: Sequence[Item]) -> Unavailable:
    first = next((item for item in items if isinstance(item.source, Path)), None)
    return Unavailable(
        _("the file did not arrive as it was read"),
        file=first.source if first is not None and isinstance(first.source, Path) else None,
        cause=_("it changes while it is sent; files: {count}", count=len(items)),
        mend=_("wait until nothing writes to it, then run the command again"),
    )


def _stopped(server: Server, there: str, said: str) -> Unavailable:
    return Unavailable(
        _("{host} takes no more files", host=server.link.host),
        file=f"{server.link.host}:{there}",
        cause=said,
        mend=_("see what is there: nlp-skills remote check"),
    )

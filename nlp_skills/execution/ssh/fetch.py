"""Fetching down: what a step has made on a server, verified by hash before it takes its place.

What the server says is not trusted: a path that leaves the task, or that nobody asked for, ends the fetch before
anything is written, and no file becomes larger than it was listed.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.errors import Unavailable
from nlp_skills.execution.agent import contents as far_contents
from nlp_skills.execution.ssh import contents, sync, transport
from nlp_skills.execution.ssh.server import Server
from nlp_skills.i18n import _
from nlp_skills.progress import Tell
from nlp_skills.workspace import digests
from nlp_skills.workspace.folder import TaskFolder

# Folders that are one thing: a model is the earlier one or the new one, and no mixture.
_WHOLE = ("models/adapter", "models/merged")


@dataclass(frozen=True)
class Fetched:
    """What a fetch took: files put in place here, and bytes that came over the link."""

    files: int
    bytes: int
    seconds: float


@dataclass(frozen=True)
class _Listed:
    """A file there, as the server lists it."""

    path: str
    hash: str
    size: int


@dataclass(frozen=True)
class _Plan:
    """What is to be put in place: files one by one, and models' folders, each with all of its files.

    `needed` are the files among them whose bytes are not here.
    """

    singles: list[_Listed]
    folders: dict[str, list[_Listed]]
    needed: list[_Listed]


def fetch(folder: TaskFolder, server: Server, there: str, patterns: Sequence[str], *, tell: Tell) -> Fetched:
    """Bring the files of the mirror `there` that match `patterns`: `*` within a folder, `**` across them.

    They are files that change no more, or that are replaced whole. Nothing here is removed, but in a model's folder
    that is fetched as a whole.

    Raises:
        Unreachable: the link broke; the next fetch goes on from what has arrived.
        Unavailable: no room here, no permission, files that keep changing there, or a server not to be trusted.
    """
    began, passed = time.monotonic(), 0
    incoming = folder.state / "incoming"
    with sync.alone(folder):
        for _attempt in range(sync.ATTEMPTS):
            plan = _plan(folder, _checked(folder, server, there, patterns), patterns)
            came, trouble = _carry(server, there, plan.needed, incoming) if plan.needed else (0, None)
            passed += came
            missing = [one for one in plan.needed if not _arrived(incoming, one)]
            if not missing:
                count = _place(folder, plan, incoming)
                break
        else:
            raise _restless(server, there, missing[0].path, trouble)
    if count:
        size = passed / 1e6
        tell(_("fetched from {host}: {files} files, {size:.1f} MB", host=server.link.host, files=count, size=size))
    return Fetched(count, passed, time.monotonic() - began)


def _checked(folder: TaskFolder, server: Server, there: str, patterns: Sequence[str]) -> list[_Listed]:
    """What matches there, every path of it one that was asked for and that stays in the task."""
    found = server.ask("listing", root=there, patterns=list(patterns)).get("files")
    wanted = [far_contents.expression(pattern) for pattern in patterns]
    listed = []
    for path, entry in found.items() if isinstance(found, dict) else ():
        if not any(one.match(path) for one in wanted) or not _stays(folder.root, path) or not _sound(entry):
            raise Unavailable(
                _("{host} offers a file that nobody asked for; nothing was fetched", host=server.link.host),
                file=f"{server.link.host}:{there}",
                cause=ascii(path)[:200],
                mend=_("look at the server: what it says of the task's folder is not to be trusted"),
            )
        listed.append(_Listed(path, entry[1], entry[0]))
    return listed


def _stays(root: Path, path: str) -> bool:
    parts = path.split("/")
    if "\0" in path or os.sep != "/" or {"", ".", ".."} & set(parts):
        return False
    place = root / path
    return place.parent.resolve().is_relative_to(contents.home_of(root, place)) and not place.is_dir()


def _sound(entry: Any) -> bool:
    return (
        isinstance(entry, list)
        and [type(part) for part in entry] == [int, str]
        and entry[0] >= 0
        and len(entry[1]) == 64
        and set(entry[1]) <= set("0123456789abcdef")
    )


def _plan(folder: TaskFolder, listed: Sequence[_Listed], patterns: Sequence[str]) -> _Plan:
    try:
        known = digests.of(folder, [folder.root / one.path for one in listed])
    except OSError as error:
        raise files.storage_problem(error, Path(error.filename)) from error
    differing = [one for one in listed if known.get(folder.root / one.path) != f"sha256:{one.hash}"]
    folders: dict[str, list[_Listed]] = {}
    for one in listed:
        if place := _whole(one.path, patterns):
            folders.setdefault(place, []).append(one)
    changed = {place: members for place, members in folders.items() if _changed(folder.root / place, members, known)}
    singles = [one for one in differing if not _whole(one.path, patterns)]
    return _Plan(singles, changed, differing)


def _whole(path: str, patterns: Sequence[str]) -> str | None:
    """The model's folder that a path is in, where all of that folder is asked for."""
    parts = path.split("/")
    kind, place = "/".join(parts[:2]), "/".join(parts[:3])
    if kind not in _WHOLE or len(parts) < 4:
        return None
    return place if {f"{place}/**", f"{kind}/**", f"{kind}/*/**", "models/**"} & set(patterns) else None


def _changed(place: Path, members: Sequence[_Listed], known: Mapping[Path, str]) -> bool:
    """Whether a model's folder here is not what it is there: another file, one more, or one less."""
    root = place.parents[2]
    here = {path for path in place.rglob("*") if path.is_file()}
    return here != {root / one.path for one in members} or any(
        known.get(root / one.path) != f"sha256:{one.hash}" for one in members
    )


def _carry(server: Server, there: str, needed: Sequence[_Listed], incoming: Path) -> tuple[int, str | None]:
    """Bring what is not here into `incoming`; how many bytes came, and what stopped it that is not the link."""
    try:
        incoming.mkdir(parents=True, exist_ok=True)
        wanted = {one.hash: one for one in needed if not (incoming / one.hash).is_file()}
        begun = {name: _size(incoming / f"{name}.part") for name in wanted}
        total = sum(one.size for one in wanted.values())
        _refuse_no_room(incoming, total - sum(begun.values()))
        with transport.shown(_("fetching from {host} (MB)", host=server.link.host), total) as advance:
            small = [one for one in wanted.values() if one.size < sync.SMALL_BYTES]
            for batch in _batches(small):
                _get(server, there, batch, incoming)
                advance(sum(one.size for one in batch))
            if large := {one.hash: one for one in wanted.values() if one.size >= sync.SMALL_BYTES}:
                _pull(server, there, large, incoming, advance)
    except transport.Stopped as error:
        return 0, str(error)
    except OSError as error:
        raise files.storage_problem(error, incoming) from error
    return total - sum(begun.values()), None


def _pull(server: Server, there: str, large: Mapping[str, _Listed], incoming: Path, advance: transport.Advance) -> None:
    """They are held there under another name meanwhile, so that one which is replaced is still the one listed."""
    held = server.ask("offer", root=there, files={name: one.path for name, one in large.items()})
    sizes = {name: one.size for name, one in large.items()}
    way = transport.choose(server, held.get("rsync"), sum(sizes.values()))
    way.pull(sizes, f"{there}/.nlp-skills/outgoing", incoming, advance)
    server.ask("offer", root=there, files={})


def _get(server: Server, there: str, batch: Sequence[_Listed], incoming: Path) -> None:
    answer = server.ask("get", root=there, paths=[one.path for one in batch], limit=sync.SMALL_BYTES)
    for one in batch:
        with contextlib.suppress(binascii.Error, KeyError, TypeError, ValueError):
            content = base64.b64decode(answer["files"][one.path])
            if hashlib.sha256(content).hexdigest() == one.hash:
                files.write_bytes(incoming / one.hash, content)


def _batches(items: Sequence[_Listed]) -> Iterator[list[_Listed]]:
    batch: list[_Listed] = []
    for item in items:
        if batch and sum(one.size for one in batch) + item.size > sync.BATCH_BYTES:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0


def _refuse_no_room(incoming: Path, needed: int) -> None:
    free = shutil.disk_usage(incoming).free
    if needed > free:
        raise Unavailable(
            _("there is no room here for what is fetched"),
            file=incoming,
            cause=_("needed: {needed:.1f} MB; free: {free:.1f} MB", needed=needed / 1e6, free=free / 1e6),
            mend=_("free some space and run the command again; it goes on where it stopped"),
        )


def _arrived(incoming: Path, one: _Listed) -> bool:
    """Whether a file is here and read back; one whose bytes are others is removed."""
    place, part = incoming / one.hash, incoming / f"{one.hash}.part"
    if place.is_file():
        return True
    if part.is_symlink() or not part.is_file():
        return False
    if part.stat().st_size < one.size:
        return False
    if files.sha256_file(part) != f"sha256:{one.hash}":
        part.unlink()
        return False
    with open(part, "rb+") as stream:
        os.fsync(stream.fileno())
    part.replace(place)
    return True


def _place(folder: TaskFolder, plan: _Plan, incoming: Path) -> int:
    """Move what has arrived to its places, models first: documents tell of them. How many files changed."""
    uses = Counter(one.hash for one in plan.needed)
    came = {one.path: incoming / one.hash for one in plan.needed}
    try:
        for place, members in plan.folders.items():
            _swap(folder.root / place, members, came, uses)
        for one in plan.singles:
            _move(incoming / one.hash, folder.root / one.path, uses)
        shutil.rmtree(incoming, ignore_errors=True)
    except OSError as error:
        raise files.storage_problem(error, Path(error.filename or folder.root)) from error
    return len(plan.singles) + sum(len(members) for members in plan.folders.values())


def _move(arrived: Path, target: Path, uses: Counter[str]) -> None:
    """Put a file in place in one step. A copy where its bytes are wanted again, or the place is on another disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    uses[arrived.name] -= 1
    if not uses[arrived.name]:
        with contextlib.suppress(OSError):
            arrived.replace(target)
            return
    with open(arrived, "rb") as source, files.atomic_writer(target) as stream:
        shutil.copyfileobj(source, stream, 1 << 20)


def _swap(target: Path, members: Sequence[_Listed], came: Mapping[str, Path], uses: Counter[str]) -> None:
    """Make a model's folder beside its place, of what has arrived and of what is the same, and move it there whole."""
    root = target.parents[2]
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f".{target.name}.*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as temporary:
        made = Path(temporary) / "new"
        for one in members:
            place = made / (root / one.path).relative_to(target)
            if one.path in came:
                _move(came[one.path], place, uses)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(root / one.path, place)
        if target.exists():
            target.rename(Path(temporary) / "old")
        made.rename(target)


def _restless(server: Server, there: str, path: str, trouble: str | None) -> Unavailable:
    return Unavailable(
        _("the file did not arrive as it was listed; nothing was changed here"),
        file=f"{server.link.host}:{there}/{path}",
        cause=trouble or _("something writes to it there"),
        mend=_("wait until nothing writes to it, then run the command again"),
    )

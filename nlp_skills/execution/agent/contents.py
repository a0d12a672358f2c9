"""What is in a folder here, by hash, and putting in place what was sent: whole files, one by one.

A folder has .nlp-skills/incoming/: `HASH.part` is on its way, `HASH` has arrived and was read back. What is in place
is replaced only by the latter, in one step each. .nlp-skills/sent.json names the files that came from elsewhere: only
those are ever removed. .nlp-skills/outgoing/ holds what is being fetched, so that it stays as it was listed.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from typing import Any, Dict, Iterator, List, Optional, Pattern, Sequence, Set, Tuple

Answer = Dict[str, Any]

STATE = ".nlp-skills"
# Two changes within a file system's tick leave the same time behind: what is younger is hashed again.
SETTLED_NS = 2000000000
BEAT_SECONDS = 5.0
_CHUNK = 1 << 20
_HASH = re.compile(r"[0-9a-f]{64}\Z")


def listing(root: str, paths: Optional[List[str]] = None, patterns: Sequence[str] = ()) -> Answer:
    """The files of `root` that `paths` name, were sent, or match `patterns`: {path: [size, sha256]}.

    Also what has arrived (`staged`: {name: bytes}), the bytes that are `free`, and the `rsync` that is here.
    """
    root = _home(root)
    wanted = set(paths or ()) | set(_sent(root) if paths is not None else ())
    found = sorted(path for path in wanted if _plain(root, path))
    found += sorted(path for path in matching(root, patterns) if path not in wanted)
    return {
        "files": _hashed(root, found),
        "sent": sorted(_sent(root)),
        "staged": _staged(root),
        "free": _free(root),
        "rsync": _rsync(),
    }


def put(root: str, blobs: Dict[str, str]) -> Answer:
    """Take in small files: {sha256: base64}; answers those whose bytes are others (`wrong`)."""
    incoming = _made(os.path.join(_home(root), STATE, "incoming"))
    wrong = []
    for name, text in blobs.items():
        content = base64.b64decode(text)
        if _name(name) != hashlib.sha256(content).hexdigest():
            wrong.append(name)
            continue
        place = os.path.join(incoming, name)
        with open(place + ".new", "wb") as stream:
            stream.write(content)
        os.replace(place + ".new", place)
    return {"wrong": wrong}


def install(
    root: str, files: List[Tuple[str, str, bool]], copies: Dict[str, str], remove: List[str], sent: List[str]
) -> Answer:
    """Put `files` ([path, sha256, executable]) in place, in this order, after removing those of `remove`.

    Their bytes have arrived, or are those of a file here (`copies`: {sha256: path}). Where some are missing or
    others than their name says, nothing is touched; `missing` says which.
    """
    root = _home(root)
    for path in [path for path, _hash, _flag in files] + remove:
        _inside(root, path)
    wanted = {name for _path, name, _flag in files}
    _made(os.path.join(root, STATE, "incoming"))
    missing = [name for name in sorted(wanted) if not _arrived(root, name, copies.get(name))]
    if missing:
        return {"missing": missing}
    before = _sent(root)
    _note(root, sorted(set(before) | set(sent)))
    for path in remove:
        if path in before:
            _drop(root, path)
    _place(root, files)
    _note(root, sorted(sent))
    shutil.rmtree(os.path.join(root, STATE, "incoming"), ignore_errors=True)
    return {"missing": []}


def remove(root: str, paths: List[str]) -> Answer:
    """Remove files of `root`, and folders that are empty then; answers how many there were."""
    root = _home(root)
    return {"removed": sum(_drop(root, path) for path in paths)}


def get(root: str, paths: List[str], limit: int) -> Answer:
    """Small files as they are: {path: base64}; one that is gone, or has become larger than `limit`, is left out."""
    root = _home(root)
    found = {}
    for path in paths:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if _plain(root, path):
                with open(os.path.join(root, path), "rb") as stream:
                    content = stream.read(limit + 1)
                if len(content) <= limit:
                    found[path] = base64.b64encode(content).decode("ascii")
    return {"files": found}


def offer(root: str, files: Dict[str, str]) -> Answer:
    """Hold files to be fetched as outgoing/HASH.part ({sha256: path}), and let go of all others; the `rsync` here."""
    root = _home(root)
    outgoing = os.path.join(root, STATE, "outgoing")
    if not files:
        shutil.rmtree(outgoing, ignore_errors=True)
        return {"rsync": None}
    _made(outgoing)
    for name in os.listdir(outgoing):
        if name[: -len(".part")] not in files:
            os.unlink(os.path.join(outgoing, name))
    for name, path in files.items():
        source, place = _inside(root, path), os.path.join(outgoing, _name(name) + ".part")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(place)
        with contextlib.suppress(FileNotFoundError):
            _hold(source, place)
    return {"rsync": _rsync()}


def _hold(source: str, place: str) -> None:
    """A second name for a file, under which it stays when the first is replaced; else a way to it."""
    try:
        os.link(source, place, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except OSError:
        os.symlink(source, place)


def matching(root: str, patterns: Sequence[str]) -> Iterator[str]:
    """Files of `root` whose path matches one of these; links are neither followed nor named."""
    for start in sorted({_literal(pattern) for pattern in patterns}):
        expressions = [expression(pattern) for pattern in patterns if _literal(pattern) == start]
        top = os.path.join(root, start)
        if _plain(root, start):
            if any(one.match(start) for one in expressions):
                yield start
            continue
        if os.path.islink(top):
            continue
        for folder, _folders, names in os.walk(top):
            inner = os.path.relpath(folder, root)
            for name in names:
                path = name if inner == "." else inner.replace(os.sep, "/") + "/" + name
                if any(one.match(path) for one in expressions) and _plain(root, path):
                    yield path


def _literal(pattern: str) -> str:
    """The part of a pattern before its first wildcard, whole folders only."""
    parts = pattern.split("/")
    for index, part in enumerate(parts):
        if any(sign in part for sign in "*?"):
            return "/".join(parts[:index])
    return pattern


def expression(pattern: str) -> Pattern[str]:
    """A pattern's regular expression: `*` stays in a folder, `**` does not; neither means names with a dot first."""
    parts = []
    for part in pattern.split("/"):
        if part == "**":
            parts.append(r"(?:(?!\.)[^/]+/)*")
            continue
        hidden = "" if part.startswith(".") else r"(?!\.)"
        signs = "".join({"*": "[^/]*", "?": "[^/]"}.get(sign, re.escape(sign)) for sign in part)
        parts.append(hidden + signs + "/")
    text = "".join(parts)
    if pattern.endswith("**"):
        return re.compile(text + r"(?!\.)[^/]+\Z")
    return re.compile(text[:-1] + r"\Z")


def _hashed(root: str, paths: Sequence[str]) -> Dict[str, List[Any]]:
    memory = os.path.join(root, STATE, "agent-digests.json")
    known = _read(memory, {})
    found, learnt = {}, False
    for path in paths:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            full = os.path.join(root, path)
            mark = _mark(full)
            entry = known.get(path)
            if not (isinstance(entry, list) and entry[:-1] == mark):
                entry = [*mark, sha256(full)]
                if _mark(full) == mark and time.time_ns() - mark[1] > SETTLED_NS:
                    known[path], learnt = entry, True
            found[path] = [mark[0], entry[-1]]
    if learnt:
        with contextlib.suppress(OSError):
            _write(memory, {path: entry for path, entry in known.items() if os.path.exists(os.path.join(root, path))})
    return found


def _mark(path: str) -> List[Any]:
    stat = os.stat(path)
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def sha256(path: str) -> str:
    """A file's hash, in constant memory; whoever waits for the answer hears that it goes on."""
    total, told = hashlib.sha256(), time.monotonic()
    with open(path, "rb") as stream:
        for chunk in iter(lambda: stream.read(_CHUNK), b""):
            total.update(chunk)
            if time.monotonic() - told > BEAT_SECONDS:
                told = time.monotonic()
                sys.stdout.write(" ")  # before a JSON object, it means nothing
                sys.stdout.flush()
    return total.hexdigest()


def _staged(root: str) -> Dict[str, int]:
    found = {}
    with contextlib.suppress(FileNotFoundError), os.scandir(os.path.join(root, STATE, "incoming")) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                found[entry.name] = entry.stat().st_size
    return found


def _arrived(root: str, name: str, elsewhere: Optional[str]) -> bool:
    """Whether these bytes are staged and read back; those of a file that is here are copied first."""
    place = os.path.join(root, STATE, "incoming", _name(name))
    part = place + ".part"
    if os.path.isfile(place):
        return True
    if elsewhere is not None and not os.path.exists(part) and _plain(root, elsewhere):
        shutil.copyfile(os.path.join(root, elsewhere), part)
    if not os.path.isfile(part):
        return False
    if sha256(part) != name:
        os.unlink(part)
        return False
    with open(part, "rb+") as stream:
        os.fsync(stream.fileno())
    os.replace(part, place)
    return True


def _place(root: str, files: List[Tuple[str, str, bool]]) -> None:
    made: Set[str] = set()
    uses: Dict[str, int] = {}
    for _path, name, _flag in files:
        uses[name] = uses.get(name, 0) + 1
    for path, name, executable in files:
        source, target = os.path.join(root, STATE, "incoming", name), _inside(root, path)
        if os.path.dirname(target) not in made:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            made.add(os.path.dirname(target))
        uses[name] -= 1
        if uses[name]:
            shutil.copyfile(source, source + ".copy")
            source += ".copy"
        os.chmod(source, 0o755 if executable else 0o644)
        os.replace(source, target)


def _drop(root: str, path: str) -> bool:
    target = _inside(root, path)
    try:
        os.unlink(target)
    except (FileNotFoundError, NotADirectoryError):
        return False
    folder = os.path.dirname(target)
    while folder != root:
        try:
            os.rmdir(folder)
        except OSError:
            break
        folder = os.path.dirname(folder)
    return True


def _home(root: str) -> str:
    """The folder, with links on the way to it resolved: those are its owner's."""
    return os.path.realpath(os.path.expanduser(root))


def _inside(root: str, path: str) -> str:
    """A path in `root`; no link leads its folder out of it."""
    parts = path.split("/")
    full = os.path.join(root, path)
    if "" in parts or "." in parts or ".." in parts or "\0" in path:
        raise OSError(errno.EINVAL, "leaves the folder", path)
    folder = _real(os.path.dirname(full))
    if folder != root and not folder.startswith(root + os.sep):
        raise OSError(errno.EINVAL, "leaves the folder", path)
    return full


@functools.lru_cache(maxsize=None)
def _real(folder: str) -> str:
    return os.path.realpath(folder)


def _plain(root: str, path: str) -> bool:
    """Whether it is a file in `root`, and no link."""
    full = os.path.join(root, path)
    if os.path.islink(full) or not os.path.isfile(full):
        return False
    with contextlib.suppress(OSError):
        return bool(_inside(root, path))
    return False


def _name(name: str) -> str:
    if not _HASH.match(name):
        raise OSError(errno.EINVAL, "not a hash", name)
    return name


def _made(folder: str) -> str:
    os.makedirs(folder, mode=0o700, exist_ok=True)
    return folder


def _free(folder: str) -> int:
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_frsize


def _rsync() -> Optional[str]:
    """The first line of `rsync --version`; None where there is none."""
    try:
        ran = subprocess.run(["rsync", "--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return (ran.stdout.decode("utf-8", "replace").splitlines() or [""])[0]


def _sent(root: str) -> List[str]:
    found = _read(os.path.join(root, STATE, "sent.json"), [])
    return found if isinstance(found, list) else []


def _note(root: str, paths: List[str]) -> None:
    _write(os.path.join(_made(os.path.join(root, STATE)), "sent.json"), paths)


def _read(path: str, otherwise: Any) -> Any:
    try:
        with open(path, encoding="utf-8") as stream:
            found = json.load(stream)
    except (OSError, ValueError):
        return otherwise
    return found if isinstance(found, type(otherwise)) else otherwise


def _write(path: str, content: Any) -> None:
    fresh = "%s.%d.tmp" % (path, os.getpid())
    with open(fresh, "w", encoding="utf-8") as stream:
        json.dump(content, stream)
    os.replace(fresh, path)

"""What of ours is in a working folder, and removing it. Nothing that is not known for ours is ever touched."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
from importlib import import_module
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

Answer = Dict[str, Any]

# Written when the folder was made, or found empty.
MARK = ".nlp-skills-workdir"
# What is looked into; `cache`, `agent` and `uv` are ours as wholes.
_KEPT = ("agent", "uv", MARK)
_GONE = ".gone-"


def survey(workdir: str, everything: bool = False) -> Answer:
    """What would go: [{path, bytes, kind, used, about}], and what is in the folder that is not ours.

    `bytes` counts blocks that several names share once. Without our mark nothing goes but what bears a mark itself.
    """
    home = _home(workdir)
    marked = _marked(home)
    seen: Set[Tuple[int, int]] = set()
    items = []
    for kind, path in [*_things(home, marked), *(_tools(home) if everything and marked else ())]:
        items.append({"path": path, "bytes": _size(path, seen), "kind": kind, **_about(kind, path)})
    return {
        "marked": marked,
        "exists": os.path.isdir(home),
        "items": items,
        "left": _foreign(home),
    }


def discard(workdir: str, paths: List[str], everything: bool = False) -> Answer:
    """Remove what `survey` named, unless something runs. Each is out of use at once, however long its end takes."""
    home = _home(workdir)
    going = _running(home)
    if going:
        return {"running": going}
    marked = _marked(home)
    ours = {path for _kind, path in [*_things(home, marked), *(_tools(home) if everything and marked else ())]}
    removed = [path for path in paths if path in ours and _remove(home, path)]
    kept = [path for path in paths if path in ours and path not in removed]
    for name in ("envs", "code", "tasks", "models", "jobs"):
        with contextlib.suppress(OSError):
            os.rmdir(os.path.join(home, name))
    if everything and marked:
        _last(home)
    return {"running": [], "removed": removed, "kept": kept, "left": _foreign(home), "exists": os.path.isdir(home)}


def _remove(home: str, path: str) -> bool:
    if os.path.isfile(path):
        os.unlink(path)
        return True
    aside = os.path.join(home, _GONE + str(os.getpid()) + "-" + os.path.basename(path))
    with contextlib.suppress(OSError):
        os.rename(path, aside)
        path = aside
    shutil.rmtree(path, ignore_errors=True)
    if os.path.lexists(path):
        # A folder's own rights may have been in the way.
        for folder, _folders, _names in os.walk(path):
            with contextlib.suppress(OSError):
                os.chmod(folder, stat.S_IRWXU)
        shutil.rmtree(path, ignore_errors=True)
    return not os.path.lexists(path)


def _last(home: str) -> None:
    """The folder itself, with the mark as the last thing in it; it stays where something else is in it."""
    if [name for name in os.listdir(home) if name != MARK]:
        return
    with contextlib.suppress(OSError):
        os.unlink(os.path.join(home, MARK))
        os.rmdir(home)


def _marked(home: str) -> bool:
    whole = os.path.realpath(home) in ("/", os.path.realpath(os.path.expanduser("~")))
    return not whole and os.path.isfile(os.path.join(home, MARK))


def _things(home: str, marked: bool) -> Iterator[Tuple[str, str]]:
    """(kind, path) of what runs have left, known by what is in it."""
    signs = {
        "tasks": ("mirror", os.path.join(".nlp-skills", "mirror.json")),
        "envs": ("environment", "recipe.json"),
        "code": ("code", "pyvenv.cfg"),
        "jobs": ("job", "job.json"),
    }
    for folder, (kind, sign) in signs.items():
        for path in _within(os.path.join(home, folder)):
            if marked or os.path.isfile(os.path.join(path, sign)):
                yield kind, path
    if marked:
        for path in _within(os.path.join(home, "models")):
            yield "model", path
        for path in _within(home):
            if os.path.basename(path) == "cache":
                yield "cache", path
            elif os.path.basename(path).startswith(_GONE):
                yield "leftover", path


def _tools(home: str) -> Iterator[Tuple[str, str]]:
    for name in ("uv", "agent"):
        path = os.path.join(home, name)
        if os.path.isdir(path):
            yield "program", path


def _within(folder: str) -> List[str]:
    """The folders in it; links lead elsewhere and are not ours to follow."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
    return []


def _foreign(home: str) -> List[str]:
    ours = (*_KEPT, "cache", "code", "envs", "jobs", "models", "tasks")
    with contextlib.suppress(OSError):
        return sorted(name for name in os.listdir(home) if name not in ours and not name.startswith(_GONE))
    return []


def _running(home: str) -> List[str]:
    found = import_module("jobs").jobs(home)["jobs"]
    return [job["id"] for job in found if job["state"] in ("running", "starting")]


def _size(path: str, seen: Set[Tuple[int, int]]) -> int:
    total = 0
    for folder, _folders, names in os.walk(path):
        for name in [".", *names]:
            with contextlib.suppress(OSError):
                found = os.lstat(os.path.join(folder, name))
                if (found.st_dev, found.st_ino) not in seen:
                    seen.add((found.st_dev, found.st_ino))
                    total += found.st_blocks * 512
    return total


def _about(kind: str, path: str) -> Answer:
    """`used`: when it was used last, seconds since 1970; `about`: what is known of it."""
    used = {"environment": "used", "code": "used", "mirror": ".nlp-skills", "job": "out.log"}.get(kind, ".")
    about: Optional[str] = None
    if kind == "mirror":
        about = _told(os.path.join(path, ".nlp-skills", "mirror.json"), "of")
    elif kind == "environment":
        about = _versions(os.path.join(path, "ready.json"))
    when: Optional[float] = None
    for name in (used, "."):
        with contextlib.suppress(OSError):
            when = when or os.stat(os.path.join(path, name)).st_mtime
    return {"used": when, "about": about}


def _told(path: str, key: str) -> Optional[str]:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError), open(path, encoding="utf-8") as stream:
        return str(json.load(stream)[key])[:300]
    return None


def _versions(path: str) -> Optional[str]:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError), open(path, encoding="utf-8") as stream:
        stamp = json.load(stream)
        torch = stamp["packages"].get("torch")
        return "Python {}".format(stamp["python"]) + (f", torch {torch}" if torch else "")
    return None


def _home(workdir: str) -> str:
    return os.path.abspath(os.path.expanduser(workdir))

"""What a task takes on the disk, by kind and by version.

A file with several hard links in the task is counted once: as a model's before as data, as data before as the
store's. Symbolic links are counted as themselves and not followed, except where models/ is one to another disk.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from nlp_skills.errors import Problem
from nlp_skills.schema.task import Task
from nlp_skills.workspace import artefacts, naming
from nlp_skills.workspace.folder import TaskFolder

Kind = Literal[
    "checkpoints", "merged", "gguf", "adapter", "records", "data", "store", "trash", "scratch", "environment", "other"
]

KINDS: tuple[Kind, ...] = (
    *artefacts.KINDS,
    "records",
    "data",
    "store",
    "trash",
    "scratch",
    "environment",
    "other",
)
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
# Where a kind begins, by the path in the task folder; what is below is of the same kind.
_PLACES: dict[tuple[str, ...], Kind] = {
    **{("models", kind): kind for kind in artefacts.KINDS},
    **{("models", kind, ".trash"): "trash" for kind in artefacts.KINDS},
    ("models", ".trash"): "trash",
    ("versions",): "records",
    ("versions", ".trash"): "trash",
    ("data",): "data",
    (".nlp-skills", "store"): "store",
    (".nlp-skills", "store", ".trash"): "trash",
    (".nlp-skills", "trash"): "trash",
    (".nlp-skills", "reproduce"): "scratch",
    (".venv",): "environment",
}
_ORDER = ("models", "versions", "data", ".nlp-skills")
_OF_VERSIONS = (*artefacts.KINDS, "records")


@dataclass
class Usage:
    """One task on the disk. `bytes` are the sizes of files, `allocated` the blocks they take; both in bytes.

    `versions` has each version's share of the model kinds and of the records. `unread` could not be looked into.
    """

    folder: TaskFolder
    bytes: dict[Kind, int] = field(default_factory=dict)
    versions: dict[str, dict[Kind, int]] = field(default_factory=dict)
    allocated: int = 0
    files: int = 0
    unread: list[Path] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(self.bytes.values())


def of(folder: TaskFolder) -> Usage:
    """Look at every file of a task; one that vanishes meanwhile is not counted."""
    usage = Usage(folder, versions={name: {} for name in folder.version_names()})
    seen: set[tuple[int, int]] = set()
    gguf = _gguf_versions(folder, list(usage.versions))
    for stat, kind, version in _files(usage, gguf):
        if stat.st_nlink > 1:
            if (stat.st_dev, stat.st_ino) in seen:
                continue
            seen.add((stat.st_dev, stat.st_ino))
        usage.files += 1
        usage.allocated += stat.st_blocks * 512
        usage.bytes[kind] = usage.bytes.get(kind, 0) + stat.st_size
        if version in usage.versions and kind in _OF_VERSIONS:
            share = usage.versions[version]
            share[kind] = share.get(kind, 0) + stat.st_size
    return usage


def human(count: int) -> str:
    """Bytes as people read them: 999 B, 1.2 kB, 34 MB. A kB is 1,000 bytes."""
    value, unit = float(count), 0
    while unit < len(_UNITS) - 1 and value >= (999.5 if unit else 1000):
        value, unit = value / 1000, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit and value < 9.95 else f"{value:.0f} {_UNITS[unit]}"


def _gguf_versions(folder: TaskFolder, versions: list[str]) -> dict[str, str]:
    """Which version each file in models/gguf is of; none where task.yaml cannot be read."""
    try:
        task: Task = folder.task()
        names = [entry.name for entry in os.scandir(folder.root / "models" / "gguf")]
    except (Problem, OSError):
        return {}
    return {name: version for name in names for version in versions if artefacts.is_gguf_of(task, version, name)}


_Found = tuple[os.stat_result, Kind, str | None]


def _files(usage: Usage, gguf: dict[str, str]) -> Iterator[_Found]:
    """Every file with its kind and version; folders are walked without recursion, whatever their depth."""
    root = str(usage.folder.root)
    waiting: list[tuple[str, tuple[str, ...] | None, Kind, str | None]] = [(root, (), "other", None)]
    while waiting:
        place, parts, kind, version = waiting.pop()
        inner = []
        for entry in _entries(usage, place, top=parts == ()):
            at = None if parts is None else (*parts, entry.name)
            its_kind = kind if at is None else _PLACES.get(at, kind)
            its_version = version if at is None else _version(at, version, gguf)
            if _is_folder(usage.folder, entry, at):
                inner.append((entry.path, at if at and len(at) < 3 else None, its_kind, its_version))
            else:
                try:
                    yield entry.stat(follow_symlinks=False), its_kind, its_version
                except OSError:
                    continue
        waiting += reversed(inner)


def _entries(usage: Usage, place: str, *, top: bool) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(place) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []
    except OSError:
        usage.unread.append(Path(place))
        return []
    return sorted(entries, key=lambda e: _ORDER.index(e.name) if e.name in _ORDER else len(_ORDER)) if top else entries


def _is_folder(folder: TaskFolder, entry: os.DirEntry[str], at: tuple[str, ...] | None) -> bool:
    try:
        if at == ("models",):
            return entry.is_dir() and not artefacts.beyond(folder, folder.root / "models")
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _version(at: tuple[str, ...], above: str | None, gguf: dict[str, str]) -> str | None:
    if at[:2] == ("models", "gguf") and len(at) == 3:
        return gguf.get(at[2])
    if (at[0] == "versions" and len(at) == 2) or (at[0] == "models" and len(at) == 3):
        return at[-1] if naming.is_version(at[-1]) else None
    return above

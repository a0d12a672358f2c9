"""Hashes of files, computed once: a file whose size, times and inode stayed keeps its hash."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.errors import Problem
from nlp_skills.workspace.folder import TaskFolder

# Two changes within a file system's tick leave the same time behind: what is younger is hashed again.
_SETTLED_NS = 2_000_000_000


def of(folder: TaskFolder, paths: Iterable[Path]) -> dict[Path, str]:
    """`sha256:…` of each of these files that is there.

    Raises:
        OSError: a file cannot be read.
    """
    memory = folder.state / "digests.json"
    known = _known(memory)
    found, learnt = {}, False
    for path in paths:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            mark = _mark(path)
            entry = known.get(str(path))
            if entry and entry[:-1] == mark:
                found[path] = entry[-1]
                continue
            found[path] = files.sha256_file(path)
            if _mark(path) == mark and time.time_ns() - mark[1] > _SETTLED_NS:
                known[str(path)] = [*mark, found[path]]
                learnt = True
    if learnt:
        _remember(memory, known)
    return found


def _mark(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _known(memory: Path) -> dict[str, Any]:
    with contextlib.suppress(Problem):
        found = files.read_json(memory)
        if isinstance(found, dict):
            return found
    return {}


def _remember(memory: Path, known: dict[str, Any]) -> None:
    """A memory that cannot be kept costs time and nothing else."""
    with contextlib.suppress(Problem, OSError, UnicodeError):
        files.write_json(memory, {path: entry for path, entry in known.items() if Path(path).exists()})

"""Putting several files of data/ in place so that nobody takes a mixture of old and new for a whole.

A marker stands in `.nlp-skills/` while they do not belong together; whoever reads them asks `interrupted`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from nlp_skills import files
from nlp_skills.workspace import digests
from nlp_skills.workspace.folder import TaskFolder

_YOUNG_SECONDS = 2


def interrupted(folder: TaskFolder) -> bool:
    """Whether a regeneration or a restore stopped between putting the first and the last file in place."""
    return _marker(folder).exists()


def begin(folder: TaskFolder, paths: list[Path]) -> None:
    """From now on these files may not belong together."""
    files.write_json(_marker(folder), {"files": [str(path.relative_to(folder.root)) for path in paths]})


def end(folder: TaskFolder) -> None:
    """They belong together again."""
    with contextlib.suppress(FileNotFoundError):
        _marker(folder).unlink()


def replace(folder: TaskFolder, made: Mapping[Path, Path]) -> list[Path]:
    """Move finished files to their places where they differ from what is there; the places that changed.

    All are on the disk beside their places before the first takes its own, so a full disk changes none of them.
    The marker stands from the first replacement on, until `end`.

    Raises:
        Unavailable: the disk is full or the folder cannot be written.
    """
    known = digests.of(folder, made)
    changed = {place: path for place, path in made.items() if known.get(place) != files.sha256_file(path)}
    staged: dict[Path, Path] = {}
    try:
        for place, path in changed.items():
            staged[place] = place.with_name(f".{place.name}.new.tmp")
            _stage(path, staged[place])
        if changed:
            begin(folder, list(changed))
        for place, path in staged.items():
            path.replace(place)
    except OSError as error:
        raise files.storage_problem(error, folder.raw.parent) from error
    finally:
        for path in staged.values():
            with contextlib.suppress(OSError):
                path.unlink()
    return list(changed)


def sweep(folder: TaskFolder) -> None:
    """Remove what a killed command left half written. In data/ and above all is written under the lock only;
    notes in `.nlp-skills/` are not, so there what is young is left alone.
    """
    for parent, pattern in ((folder.raw, ".*.tmp"), (folder.raw.parent, ".*.tmp"), (folder.root, ".*.yaml.*.tmp")):
        for path in parent.glob(pattern):
            path.unlink(missing_ok=True)
    for path in folder.state.glob(".*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _YOUNG_SECONDS:
                path.unlink()
    shutil.rmtree(work(folder), ignore_errors=True)


def work(folder: TaskFolder) -> Path:
    """Where files are made before they are installed."""
    return folder.state / "work"


def _marker(folder: TaskFolder) -> Path:
    return folder.state / "regenerating.json"


def _stage(path: Path, beside: Path) -> None:
    """`data/` may be a link to another disk."""
    beside.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.replace(beside)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copyfile(path, beside)
    with open(beside, "rb") as stream:
        os.fsync(stream.fileno())

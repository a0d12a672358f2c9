"""Bytes that versions were made with, under their sha256: `.nlp-skills/store/sha256/ab/abcdef…`.

A blob is never changed. What is restored is a hard link to it and read-only; every writer of ours replaces a
file and writes into none, so a restored file that is made anew leaves the blob as it was.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import IO

from nlp_skills import files
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.workspace import digests
from nlp_skills.workspace.folder import TaskFolder

_READ_ONLY = 0o444
_ABANDONED_SECONDS = 3600
_FICLONE = 0x40049409  # linux/fs.h
_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS, errno.EACCES)


def blob(folder: TaskFolder, digest: str) -> Path:
    """Where the bytes of this `sha256:…` are, or would be."""
    name = digest.removeprefix("sha256:")
    return _root(folder) / "sha256" / name[:2] / name


def keep(folder: TaskFolder, path: Path) -> str:
    """Put a copy of a file into the store, unless a sound one is there; its `sha256:…`.

    Raises:
        Unavailable: the disk is full or the store cannot be written.
        OSError: the file cannot be read.
    """
    digest = digests.of(folder, [path]).get(path) or files.sha256_file(path)
    kept = blob(folder, digest)
    if digests.of(folder, [kept]).get(kept) == digest:
        return digest
    try:
        return _take_in(folder, path)
    except OSError as error:
        raise files.storage_problem(error, kept) from error


def check(folder: TaskFolder, digest: str) -> Path:
    """The blob, after reading all of it.

    Raises:
        Invalid: it is not there, or its bytes are no longer those of its name.
    """
    kept = blob(folder, digest)
    if not kept.is_file():
        raise Invalid(
            _("the store does not have it"), file=kept, mend=_("make the data anew: nlp-skills regenerate --all")
        )
    if files.sha256_file(kept) != digest:
        raise Invalid(
            _("the kept copy is damaged"),
            file=kept,
            cause=_("its bytes are not those of its name"),
            mend=_("remove this file, and make the data anew: nlp-skills regenerate --all"),
        )
    return kept


def restore(folder: TaskFolder, digest: str, path: Path) -> None:
    """Put a blob's bytes at `path`, replacing what is there in one step.

    Raises:
        Invalid: as `check`; `path` is left as it is.
        Unavailable: the folder cannot be written.
    """
    kept = check(folder, digest)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        _link(kept, temporary)
        temporary.replace(path)
    except OSError as error:
        raise files.storage_problem(error, path) from error
    finally:
        # Two links to one file are not replaced but left side by side.
        with contextlib.suppress(OSError):
            temporary.unlink()


def _root(folder: TaskFolder) -> Path:
    return folder.state / "store"


def _take_in(folder: TaskFolder, path: Path) -> str:
    partial = _root(folder) / "partial"
    partial.mkdir(parents=True, exist_ok=True)
    _sweep(partial)
    descriptor, name = tempfile.mkstemp(dir=partial)
    try:
        with os.fdopen(descriptor, "wb") as target, open(path, "rb") as source:
            _copy(source, target)
            os.fsync(target.fileno())
        # The copy is named by what it holds: the file may have changed meanwhile.
        digest = files.sha256_file(Path(name))
        place = blob(folder, digest)
        place.parent.mkdir(parents=True, exist_ok=True)
        # Whoever could not read the file cannot read its copy.
        Path(name).chmod(path.stat().st_mode & _READ_ONLY)
        Path(name).replace(place)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name)
    return digest


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    """A copy that shares its blocks where the file system can (btrfs, XFS), else a plain one."""
    with contextlib.suppress(ImportError, OSError):
        import fcntl

        fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
        return
    shutil.copyfileobj(source, target, 1 << 20)
    target.flush()


def _link(kept: Path, place: Path) -> None:
    try:
        place.hardlink_to(kept)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with open(kept, "rb") as source, open(place, "xb") as target:
            _copy(source, target)
            os.fsync(target.fileno())
        place.chmod(kept.stat().st_mode & _READ_ONLY)


def _sweep(partial: Path) -> None:
    """What a kill left; another process may be at work on what is young."""
    for path in partial.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                path.unlink()

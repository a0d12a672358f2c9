"""Files that are whole or absent: atomic writes, hashes, containment and time stamps.

Nothing here knows what a task is. A reader never sees half a file; a full disk or a Ctrl-C leaves
the earlier file as it was.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from nlp_skills.errors import Invalid, Unavailable, Usage
from nlp_skills.i18n import _


@contextlib.contextmanager
def atomic_writer(path: Path) -> Iterator[IO[bytes]]:
    """Open a binary file that takes `path`'s place when the block ends well, and vanishes otherwise.

    Raises:
        Unavailable: the disk is full or the folder cannot be written.
    """
    path = Path(path)
    # Named before it is made: a Ctrl-C right after that finds the name, and leaves nothing behind.
    temporary = path.parent / f".{path.name}.{os.urandom(4).hex()}.tmp"
    try:
        with _created(temporary, path) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, _mode(path))
        os.replace(temporary, path)
    except OSError as error:
        # An OSError of the caller's own (a source that cannot be read) must keep its name.
        raise storage_problem(error, path) if error.errno in DISK_FULL else error from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _created(temporary: Path, path: Path) -> IO[bytes]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.fdopen(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    except OSError as error:
        raise storage_problem(error, path) from error


def _mode(path: Path) -> int:
    try:
        # A file that is replaced here stays ours to write, also after one that a restore had made read-only.
        return path.stat().st_mode & 0o777 | 0o200
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask


def storage_problem(error: OSError, path: Path) -> Unavailable:
    """An OSError on writing `path`, in words, with the mend."""
    if error.errno in DISK_FULL:
        cause, mend = _("no space left on the device"), _("free some space and run the command again; nothing was lost")
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        cause, mend = _("no permission to write here"), _("make the folder writable, or work in another one")
    else:
        cause, mend = error.strerror or str(error), _("look at the path, then run the command again")
    return Unavailable(_("cannot write the file"), file=path, cause=cause, mend=mend)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` atomically."""
    with atomic_writer(path) as stream:
        stream.write(content)


def write_text(path: Path, content: str) -> None:
    """Replace `path` atomically, UTF-8."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Replace `path` atomically with indented JSON; non-ASCII stays readable, NaN is refused."""
    write_text(path, json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file of ours.

    Raises:
        Invalid: the file is missing or is not JSON (with the line).
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise Invalid(_("file not found"), file=path) from error
    except UnicodeDecodeError as error:
        raise Invalid(_("not UTF-8 text"), file=path, cause=str(error)) from error
    except json.JSONDecodeError as error:
        raise Invalid(_("not valid JSON"), file=path, line=error.lineno, cause=error.msg) from error


def sha256_bytes(content: bytes) -> str:
    """`sha256:<hex>` of some bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def sha256_file(path: Path) -> str:
    """`sha256:<hex>` of a file, in constant memory."""
    with open(path, "rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"


def inside(root: Path, path: str | Path) -> Path:
    """`path` (taken relative to `root`), resolved, refusing one that leaves `root`, links included.

    Raises:
        Usage: the path is outside.
    """
    resolved = (root / path).resolve()
    if not resolved.is_relative_to(root.resolve()):
        raise Usage(
            _("the path {path} leaves the task folder", path=str(path)),
            mend=_("use a path inside {root}", root=str(root)),
        )
    return resolved


def now() -> dt.datetime:
    """The local time with its offset, to the second."""
    return dt.datetime.now().astimezone().replace(microsecond=0)


def of_user(name: str) -> Path:
    """A file of settings of the user's own: `$XDG_CONFIG_HOME/nlp-skills/NAME`, by default in ~/.config."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "nlp-skills" / name

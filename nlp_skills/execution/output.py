"""What a run has written, from its end, and as it is written.

`output.log` is what a detached run says where others have a terminal: every stretch of it, each under a line with its
time. `train.log` is what the libraries said. A run that was started in a terminal has only the latter.
"""

from __future__ import annotations

import codecs
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from nlp_skills.workspace.folder import VersionFolder

_CHUNK = 1 << 16
_LOOK_SECONDS = 0.25
_CUT = 2000


def of(version: VersionFolder, *, libraries: bool = False) -> Path | None:
    """The file to show of a version's run: its own words, else (or where wanted) what the libraries said."""
    log = version.run / "train.log"
    paths = [log] if libraries else [version.output_path, log]
    return next((path for path in paths if path.is_file()), None)


def shown(line: str) -> str:
    """A line as it may go to a terminal: nothing that a terminal obeys, and not without end."""
    safe = "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in line[:_CUT])
    return f"{safe}…" if len(line) > _CUT else safe


def since(path: Path, offset: int) -> list[str]:
    """The lines from a byte on."""
    with open(path, "rb") as stream:
        stream.seek(offset)
        return [shown(line) for line in stream.read().decode("utf-8", "replace").splitlines()]


def tail(path: Path, lines: int) -> tuple[list[str], int]:
    """The last lines of a file, read from its end, and the byte after them. A last line without its end counts."""
    with open(path, "rb") as stream:
        end = at = stream.seek(0, 2)
        found = b""
        while at > 0 and found.count(b"\n") <= lines:
            size = min(_CHUNK, at)
            at -= size
            stream.seek(at)
            found = stream.read(size) + found
    whole = found.decode("utf-8", "replace").splitlines()
    return [shown(line) for line in whole[max(0, len(whole) - lines) :]], end


def follow(path: Path, offset: int, going: Callable[[], bool]) -> Iterator[str]:
    """Lines as they are written, until nothing goes on and all is read. A file that is begun anew is read anew."""
    stream = open(path, "rb")  # noqa: SIM115 -- replaced when the file is
    try:
        stream.seek(offset)
        rest, decoder = "", codecs.getincrementaldecoder("utf-8")("replace")
        while True:
            last = not going()
            if _begun_anew(path, stream.fileno(), stream.tell()):
                stream.close()
                stream = open(path, "rb")  # noqa: SIM115
                rest, decoder = "", codecs.getincrementaldecoder("utf-8")("replace")
            *whole, rest = (rest + decoder.decode(stream.read())).split("\n")
            yield from map(shown, whole)
            if last:
                break
            time.sleep(_LOOK_SECONDS)
        if rest:
            yield shown(rest)
    finally:
        stream.close()


def _begun_anew(path: Path, descriptor: int, position: int) -> bool:
    try:
        there = path.stat()
    except OSError:
        return False
    return there.st_ino != os.fstat(descriptor).st_ino or there.st_size < position

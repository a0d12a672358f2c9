"""Large files over the link, by rsync where both ends have it, else by SFTP.

Files are named by the hash of their bytes, and one that was cut off goes on where it stopped: the bytes before are
those of the same file, and whoever put it in place reads all of it back first.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from nlp_skills import files, progress
from nlp_skills.errors import Unavailable
from nlp_skills.execution.ssh.connection import ANSWER_SECONDS, Unreachable
from nlp_skills.execution.ssh.server import Server
from nlp_skills.i18n import _

if TYPE_CHECKING:
    import paramiko

# For tests and comparison: rsync or sftp, where both ends have it.
WANTED = "NLP_SKILLS_TRANSPORT"
Advance = Callable[[int], None]

_MB = 1_000_000
_CHUNK = 1 << 20
_WINDOW = 16 << 20
_SHOWN_BYTES = 16 * _MB
_WORTH_A_LINK = 8 * _MB
_RSYNC = re.compile(r"rsync\s+version\s+(\d+)\.(\d+)")
_RSYNC_SINCE = (3, 1)
# rsync's: 12 protocol stream, 10 socket, 30 and 35 time-outs, 20 signal, 255 ssh itself.
_LINK_CODES = (10, 12, 20, 30, 35, 255)


@dataclass(frozen=True)
class Load:
    """A file to send: its hash, how many bytes it has and where they are."""

    hash: str
    size: int
    source: Path


class Stopped(Exception):
    """A transfer ended early for a reason that is not the link's: what has arrived is looked at next."""


class Transport(Protocol):
    """How large files go. `folder` there and `into` here hold HASH.part.

    Raises, in both:
        Unreachable: the link broke; what has arrived stays.
        Stopped: the other side, or the disk here, takes no more.
    """

    def push(self, loads: Sequence[Load], folder: str, staged: dict[str, int], advance: Advance) -> None:
        """Send files; `staged` has the bytes of each HASH.part that are there."""

    def pull(self, sizes: dict[str, int], folder: str, into: Path, advance: Advance) -> None:
        """Fetch HASH.part for each of these hashes, of as many bytes and no more."""


def choose(server: Server, theirs: str | None, total: int) -> Transport:
    """The quicker way for `total` bytes that both ends have; `theirs` is what rsync there says of itself.

    rsync makes a connection of its own, which takes longer than a few megabytes by SFTP.
    """
    wanted = os.environ.get(WANTED)
    if wanted != "sftp" and (wanted == "rsync" or total >= _WORTH_A_LINK) and _speaks(theirs) and _speaks(_ours()):
        return Rsync(server)
    return Sftp(server)


def _ours() -> str | None:
    program = shutil.which("rsync")
    if program is None:
        return None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10).stdout
    return None


def _speaks(version: str | None) -> bool:
    """Whether this is an rsync with the options below; macOS has another program of that name."""
    found = _RSYNC.match(version or "")
    return found is not None and (int(found[1]), int(found[2])) >= _RSYNC_SINCE


@contextlib.contextmanager
def shown(label: str, total: int) -> Iterator[Advance]:
    """A bar in megabytes for a transfer that takes a while; nothing for a short one."""
    if total < _SHOWN_BYTES:
        yield lambda count: None
        return
    passed = 0
    with progress.bar(label, round(total / _MB)) as bar:

        def advance(count: int) -> None:
            nonlocal passed
            passed += count
            steps = min(round(passed / _MB), bar.total) - bar.done
            if steps > 0:
                bar.advance(steps)

        yield advance


@dataclass(frozen=True)
class Sftp:
    """OpenSSH's own file transfer, many requests under way at a time."""

    server: Server

    def push(self, loads: Sequence[Load], folder: str, staged: dict[str, int], advance: Advance) -> None:
        with self._session() as session:
            for load in loads:
                name = f"{load.hash}.part"
                begun = staged.get(name, 0) if staged.get(name, 0) <= load.size else 0
                with (
                    _readable(load.source) as source,
                    session.open(f"{folder}/{name}", "r+b" if begun else "wb") as target,
                ):
                    target.set_pipelined(True)
                    source.seek(begun)
                    target.seek(begun)
                    advance(begun)
                    for chunk in iter(lambda: source.read(_CHUNK), b""):
                        target.write(chunk)
                        advance(len(chunk))

    def pull(self, sizes: dict[str, int], folder: str, into: Path, advance: Advance) -> None:
        with self._session() as session:
            for name, size in sizes.items():
                path = into / f"{name}.part"
                begun = path.stat().st_size if path.is_file() else 0
                begun = begun if begun <= size else 0
                with _saving(path, begun) as target, session.open(f"{folder}/{name}.part", "rb") as source:
                    advance(begun)
                    for chunk in _ahead(source, begun, size):
                        target.write(chunk)
                        advance(len(chunk))

    @contextlib.contextmanager
    def _session(self) -> Iterator[paramiko.SFTPClient]:
        """An SFTP session whose refusals are told from trouble with the link."""
        session = self.server.link.sftp()
        with self.server.link.named():
            try:
                yield session
            except OSError as error:
                channel = session.get_channel()
                if isinstance(error, TimeoutError) or channel is None or channel.closed or error.args == ():
                    raise
                raise Stopped(str(error)) from error
            finally:
                with contextlib.suppress(Exception):
                    session.close()


def _ahead(source: Any, begun: int, size: int) -> Iterator[bytes]:
    """The bytes from one to another, asked for well before they are read."""
    asking = source._prefetch_thread

    def ask(*arguments: object) -> None:
        # In a thread of paramiko's own: a link that breaks is noticed by whoever reads, and need not be printed.
        with contextlib.suppress(Exception):
            asking(*arguments)

    source._prefetch_thread = ask
    source.seek(begun)
    for window in range(begun, size, _WINDOW):
        end = min(window + _WINDOW, size)
        # Its own limit to what is under way would hold up the answers too.
        source.prefetch(end)
        while window < end:
            chunk = source.read(min(_CHUNK, end - window))
            if not chunk:
                return
            window += len(chunk)
            yield chunk


def _readable(path: Path) -> IO[bytes]:
    try:
        return open(path, "rb")
    except OSError as error:
        raise Stopped(str(error)) from error


@contextlib.contextmanager
def _saving(path: Path, begun: int) -> Iterator[IO[bytes]]:
    """The file, to be written from a byte on; what this disk refuses is not the link's fault."""
    try:
        with open(path, "r+b" if begun else "wb") as target:
            target.seek(begun)
            target.truncate()
            yield target
    except OSError as error:
        if error.errno in files.DISK_FULL:
            raise files.storage_problem(error, path) from error
        raise


@dataclass(frozen=True)
class Rsync:
    """The program of that name at both ends, over the system's ssh."""

    server: Server

    def push(self, loads: Sequence[Load], folder: str, staged: dict[str, int], advance: Advance) -> None:
        with tempfile.TemporaryDirectory(prefix="nlp-skills-") as links:
            for load in loads:
                (Path(links) / f"{load.hash}.part").symlink_to(load.source.absolute())
            self._run([load.hash for load in loads], [f"{links}/", self._there(folder)], advance)

    def pull(self, sizes: dict[str, int], folder: str, into: Path, advance: Advance) -> None:
        most = f"--max-size={max(sizes.values())}"
        self._run(list(sizes), [most, self._there(folder), f"{into}/"], advance)

    def _there(self, folder: str) -> str:
        name = str(self.server.link.options["name"])
        return f"[{name}]:{folder}/" if ":" in name else f"{name}:{folder}/"

    def _run(self, hashes: Sequence[str], arguments: Sequence[str], advance: Advance) -> None:
        """`--append` is right as a name stands for its bytes: what is there is how the file begins."""
        with tempfile.NamedTemporaryFile() as names, tempfile.TemporaryFile() as errors:
            names.write("".join(f"{name}.part\0" for name in hashes).encode())
            names.flush()
            command = [
                "rsync", "--append", "--copy-links", "--times", "--protect-args", "--from0",
                f"--files-from={names.name}", "--info=progress2", "--no-human-readable",
                f"--timeout={ANSWER_SECONDS:.0f}", f"--rsh={shlex.join(self.server.link.ssh_command())}", *arguments,
            ]  # fmt: skip
            running = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
                env={**os.environ, "LC_ALL": "C"},
            )  # fmt: skip
            try:
                assert running.stdout is not None
                _count(running.stdout, advance)
                code = running.wait()
            finally:
                running.kill()
                running.communicate()
            errors.seek(0)
            self._judge(code, errors.read().decode("utf-8", "replace").strip())

    def _judge(self, code: int, said: str) -> None:
        if not code:
            return
        last = said.splitlines()[-1][:300] if said else str(code)
        if code in _LINK_CODES and "No space left" not in said:
            raise Unreachable(
                _("the transfer to {host} was cut off", host=self.server.link.host),
                cause=last,
                mend=_("run the command again: it goes on where it stopped"),
            )
        if code in (1, 2, 4):
            raise Unavailable(
                _("rsync does not work with {host}", host=self.server.link.host),
                cause=last,
                mend=_("use SFTP instead: set NLP_SKILLS_TRANSPORT=sftp in the environment"),
            )
        raise Stopped(last)


def _count(stream: IO[bytes], advance: Advance) -> None:
    """Bytes that have passed, as rsync's line of progress says."""
    passed, rest = 0, b""
    while chunk := os.read(stream.fileno(), 1 << 12):
        *lines, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            words = line.split()
            if words and words[0].isdigit() and int(words[0]) > passed:
                advance(int(words[0]) - passed)
                passed = int(words[0])

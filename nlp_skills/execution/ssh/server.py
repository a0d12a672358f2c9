"""A server and our folder on it: the agent's commands, in words where they fail.

`workdir` there has agent/ (the program sent ahead), tasks/ (mirrors), models/, envs/, jobs/ and cache/; nothing of
ours is anywhere else, so that removing it removes everything.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

from nlp_skills.errors import Problem, Unavailable
from nlp_skills.execution import agent
from nlp_skills.execution.ssh import connection
from nlp_skills.execution.ssh.connection import ANSWER_SECONDS, Connection
from nlp_skills.i18n import _

WORKDIR = "~/nlp-skills"
# In this order; the first that is 3.8 or later carries the agent.
_PYTHONS = ("python3", "python")
_LOOK = "import sys; sys.exit(sys.version_info < (3, 8))"


class Server:
    """A connected server. Paths are absolute there: `workdir` is resolved when the link is made.

    Raises, in every method: as `Connection`, and
        Unavailable: there is no Python there, or our folder cannot be written.
    """

    def __init__(self, link: Connection, workdir: str | None = None) -> None:
        self.link = link
        self._wanted = workdir or WORKDIR

    @functools.cached_property
    def home(self) -> str:
        """The user's home folder there."""
        ran = self.link.run(["sh", "-c", 'printf %s "$HOME"'])
        if ran.code or not ran.out.startswith("/"):
            raise Unavailable(
                _("{host} gives no shell and no home folder", host=self.link.host),
                cause=ran.err.strip() or None,
                mend=_("the user there needs a login shell and a home folder"),
            )
        return ran.out

    @functools.cached_property
    def workdir(self) -> str:
        """Our folder there."""
        if self._wanted == "~" or self._wanted.startswith("~/"):
            return f"{self.home}{self._wanted[1:]}".rstrip("/")
        return self._wanted.rstrip("/") if self._wanted.startswith("/") else f"{self.home}/{self._wanted}"

    @functools.cached_property
    def python(self) -> str:
        """The Python that carries the agent; ours brings its own."""
        for name in _PYTHONS:
            if self.link.run([name, "-I", "-c", _LOOK]).code == 0:
                return name
        raise Unavailable(
            _("{host} has no Python 3.8 or later", host=self.link.host),
            cause=_("looked for: {names}", names=", ".join(_PYTHONS)),
            mend=_("install it there, such as with: sudo apt install python3"),
        )

    @functools.cached_property
    def agent(self) -> str:
        """The agent's path there; sent, once for each of its versions, when it is first needed."""
        packed = archive()
        path = f"{self.workdir}/agent/{hashlib.sha256(packed).hexdigest()[:16]}.pyz"
        if self.link.run(["test", "-s", path]).code:
            self._send(packed, path)
        return path

    def _send(self, packed: bytes, path: str) -> None:
        keep = (
            "import os, sys; path = sys.argv[1]; os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True); "
            "fresh = path + '.' + str(os.getpid()); stream = open(fresh, 'wb'); "
            "stream.write(sys.stdin.buffer.read()); stream.close(); os.replace(fresh, path)"
        )
        ran = self.link.run([self.python, "-I", "-c", keep, path], given=packed)
        if ran.code:
            said = ran.err.strip().splitlines()
            raise Unavailable(
                _("our folder on {host} cannot be written", host=self.link.host),
                file=self.workdir,
                cause=said[-1] if said else None,
                mend=_("free some space there, or set execution.workdir to a folder that {user} can write",
                       user=str(self.link.options["user"])),
            )  # fmt: skip

    def ask(self, command: str, *, timeout: float = ANSWER_SECONDS, **given: Any) -> dict[str, Any]:
        """What the agent answers to a command, its `ok` true.

        Raises:
            Unavailable: it says that it cannot, with the file and the cause.
        """
        argv = [self.python, "-I", self.agent, command]
        ran = self.link.run(argv, given=json.dumps(given).encode(), timeout=timeout)
        found = connection.answer(ran, self.link.host)
        if not found.pop("ok", False):
            raise refused(self.link.host, found)
        return found


def refused(host: str, found: dict[str, Any]) -> Problem:
    """What the agent could not do, in words; `found` is its answer."""
    error, path = found.get("error"), found.get("path")
    causes = {
        "ENOSPC": (_("no space left on the device"), _("free some space there and run the command again")),
        "EDQUOT": (_("the user's quota is used up"), _("free some space there and run the command again")),
        "EACCES": (_("no permission"), _("set execution.workdir to a folder that can be written there")),
        "EROFS": (_("the disk can only be read"), _("set execution.workdir to a folder that can be written there")),
    }
    cause, mend = causes.get(str(error), (str(found.get("detail") or error), _("see: nlp-skills remote check")))
    where = f"{host}:{path}" if path else None
    return Unavailable(_("{host} could not do its part", host=host), file=where, cause=cause, mend=mend)


def archive() -> bytes:
    """The agent as one file that Python runs, the same bytes for the same code."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as content:
        for path in sorted(Path(agent.__file__).parent.glob("*.py")):
            if path.name != "__init__.py":
                content.writestr(zipfile.ZipInfo(path.name, (2020, 1, 1, 0, 0, 0)), path.read_bytes())
    return packed.getvalue()

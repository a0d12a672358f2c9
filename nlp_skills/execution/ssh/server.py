"""A server and our folder on it: the agent's commands, in words where they fail.

`workdir` there has agent/ (the program sent ahead), tasks/ (mirrors), models/, envs/, jobs/ and cache/; nothing of
ours is anywhere else, so that removing it removes everything.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

from nlp_skills.errors import Problem, Unavailable
from nlp_skills.execution import agent
from nlp_skills.execution.ssh import connection, refusals
from nlp_skills.execution.ssh.connection import Connection
from nlp_skills.i18n import _

WORKDIR = "~/nlp-skills"
# In this order; the first that is 3.8 or later carries the agent.
_PYTHONS = ("python3", "python")

# What is asked first of all, of any Python: which one it is, where things are, and whether the agent is there, whole.
_ARRIVAL = """
import hashlib, json, os, sys
home = os.path.expanduser("~")
workdir = os.path.normpath(os.path.join(home, os.path.expanduser({workdir!r})))
agent = os.path.join(workdir, "agent", {name!r} + ".pyz")
try:
    with open(agent, "rb") as stream:
        there = hashlib.sha256(stream.read()).hexdigest().startswith({name!r})
except (IOError, OSError):
    there = False
sys.stdout.write(json.dumps({{"version": list(sys.version_info[:3]), "home": home, "at_home": os.path.isdir(home),
                              "workdir": workdir, "agent": agent, "there": there, "python": sys.executable}}))
"""

_INSTALL = """
import base64, errno, json, os
path, fresh = {path!r}, {path!r} + "." + str(os.getpid())
try:
    root = os.path.dirname(os.path.dirname(path))
    ours = not os.path.isdir(root) or not set(os.listdir(root)) - {{"lost+found"}}
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    if ours:  # what we made, or found empty, is ours to remove, see agent/cleaning.py
        open(os.path.join(root, ".nlp-skills-workdir"), "w").close()
    try:
        with open(fresh, "wb") as stream:
            stream.write(base64.b64decode({packed!r}))
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(fresh, path)
    except OSError:
        if os.path.exists(fresh):
            os.unlink(fresh)
        raise
    print(json.dumps({{"ok": True}}))
except OSError as error:
    print(json.dumps({{"ok": False, "error": errno.errorcode.get(error.errno, "EIO"), "path": error.filename,
                       "detail": error.strerror}}))
"""

_GLANCE = """
import json, os, sys
source, given = {source!r}, json.loads({given!r})
found = {{"__name__": "glance"}}
exec(compile(source, {name!r}, "exec"), found)
print(json.dumps(found[{command!r}](**given)))
"""


class Server:
    """A connected server. Paths are absolute there: `workdir` is resolved when the link is made.

    `python`: one there that may be no `python3` of the login shell's PATH.

    Raises, in every method: as `Connection`, and
        Unavailable: there is no Python there, or our folder cannot be written.
    """

    def __init__(self, link: Connection, workdir: str | None = None, *, python: str | None = None) -> None:
        self.link = link
        self._wanted = workdir or WORKDIR
        self._pythons = (python, *_PYTHONS) if python else _PYTHONS

    @property
    def home(self) -> str:
        """The user's home folder there."""
        return str(self._arrival[1]["home"])

    @property
    def workdir(self) -> str:
        """Our folder there."""
        return str(self._arrival[1]["workdir"])

    @property
    def python(self) -> str:
        """The Python that carries the agent, by its path; ours brings its own."""
        return self._arrival[0]

    @functools.cached_property
    def _arrival(self) -> tuple[str, dict[str, Any]]:
        program = _ARRIVAL.format(workdir=self._wanted, name=_packed()[0]).encode()
        said = []
        for name in self._pythons:
            ran = self.link.run([*beginning(name), "-I", "-"], given=program)
            try:
                found = json.loads(ran.out)
            except ValueError:
                found = None
            if not isinstance(found, dict):
                said.append(_("{name}: {cause}", name=name, cause=refusals.last_line(ran.err) or str(ran.code)))
                continue
            if tuple(found["version"]) >= (3, 8):
                return str(found["python"] or name), found
            said.append(_("{name} is {version}", name=name, version=".".join(map(str, found["version"]))))
        raise Unavailable(
            _("{host} has no Python 3.8 or later", host=self.link.host),
            cause="; ".join(said),
            mend=_("install it there (such as with: sudo apt install python3), or name one that is there: "
                   "execution.python in task.yaml"),
        )  # fmt: skip

    @functools.cached_property
    def agent(self) -> str:
        """The agent's path there; sent, once for each of its versions, when it is first needed."""
        arrival = self._arrival[1]
        path = str(arrival["agent"])
        if not arrival["there"]:
            self._refuse_without_home(arrival)
            packed = base64.b64encode(_packed()[1]).decode()
            ran = self._run("-", given=_INSTALL.format(path=path, packed=packed).encode())
            found = connection.answer(ran, self.link.host)
            if not found["ok"]:
                raise refused(self.link.host, found)
        return path

    def forget_agent(self) -> None:
        """Its file there was removed: whoever asks next sends it again."""
        for name in ("agent", "_arrival"):
            self.__dict__.pop(name, None)

    def _refuse_without_home(self, arrival: dict[str, Any]) -> None:
        if not arrival["at_home"] and f"{arrival['workdir']}/".startswith(f"{arrival['home']}/"):
            raise Unavailable(
                _("the home folder on {host} is not there", host=self.link.host),
                file=f"{self.link.host}:{arrival['home']}",
                mend=_("ask whoever runs it; or set execution.workdir to a folder that can be written there"),
            )

    def ask(self, command: str, *, timeout: float | None = None, **given: Any) -> dict[str, Any]:
        """What the agent answers to a command, its `ok` true. `timeout`: seconds that it may be silent.

        Raises:
            Unavailable: it says that it cannot, with the file and the cause.
        """
        ran = self._run(self.agent, command, given=json.dumps(given).encode(), timeout=timeout)
        found = connection.answer(ran, self.link.host)
        if not found.pop("ok", False):
            raise refused(self.link.host, found)
        return found

    def glance(self, module: str, command: str, **given: Any) -> dict[str, Any]:
        """What one module of the agent answers without being brought there first: nothing is written."""
        source = (Path(agent.__file__).parent / f"{module}.py").read_text(encoding="utf-8")
        program = _GLANCE.format(source=source, given=json.dumps(given), name=f"{module}.py", command=command)
        return connection.answer(self._run("-", given=program.encode()), self.link.host)

    def _run(self, *words: str, given: bytes, timeout: float | None = None) -> connection.Ran:
        return self.link.run([self.python, "-I", *words], given=given, timeout=timeout)


def beginning(python: str) -> list[str]:
    """The words that run a Python there; no shell writes out the `~` of a word that is quoted."""
    return ["sh", "-c", 'exec "$HOME/$0" "$@"', python[2:]] if python.startswith("~/") else [python]


def refused(host: str, found: dict[str, Any]) -> Problem:
    """What the agent could not do, in words; `found` is its answer."""
    error, path = found.get("error"), found.get("path")
    elsewhere = _("set execution.workdir to a folder that can be written there")
    causes = {
        "ENOSPC": (_("no space left on the device"), _("free some space there and run the command again")),
        "EDQUOT": (_("the user's quota is used up"), _("free some space there and run the command again")),
        "EACCES": (_("no permission"), elsewhere),
        "EPERM": (_("no permission"), elsewhere),
        "EROFS": (_("the disk can only be read"), elsewhere),
        "ENOTDIR": (_("there is a file where our folder should be"), elsewhere),
        "EEXIST": (_("there is a file where our folder should be"), elsewhere),
    }
    cause, mend = causes.get(str(error), (str(found.get("detail") or error), _("see: nlp-skills remote check")))
    where = f"{host}:{path}" if path else None
    return Unavailable(_("{host} could not do its part", host=host), file=where, cause=cause, mend=mend)


@functools.cache
def _packed() -> tuple[str, bytes]:
    packed = archive()
    return hashlib.sha256(packed).hexdigest()[:16], packed


def archive() -> bytes:
    """The agent as one file that Python runs, the same bytes for the same code."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as content:
        for path in sorted(Path(agent.__file__).parent.glob("*.py")):
            if path.name != "__init__.py":
                content.writestr(zipfile.ZipInfo(path.name, (2020, 1, 1, 0, 0, 0)), path.read_bytes())
    return packed.getvalue()

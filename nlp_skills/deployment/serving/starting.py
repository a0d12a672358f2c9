"""Starting the gateway as a process of its own, which outlives whoever started it; and ending it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nlp_skills
from nlp_skills import files, i18n
from nlp_skills.data.rows import cut
from nlp_skills.deployment.serving import keys, program
from nlp_skills.deployment.serving.settings import Settings
from nlp_skills.errors import Invalid, Problem, Unavailable, Usage
from nlp_skills.i18n import _
from nlp_skills.schema.deployment import Deployment
from nlp_skills.workspace.folder import TaskFolder

_LOOK_SECONDS = 0.1
_ASKED_SECONDS = 5.0
_SHOWN_LINES = 6
# A key that is known for as long as a command of ours asks its own gateway.
_passing: ContextVar[str] = ContextVar("_passing", default="")
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Started:
    """A gateway that answers."""

    address: str
    version: str
    pid: int
    log: Path


def start(folder: TaskFolder, settings: Settings) -> Started:
    """Start `nlp-skills serve` in a session of its own, and return when it answers.

    Raises:
        Problem: it ended before, with what it said.
        Unavailable: the port is taken, or its log cannot be written.
    """
    # Said here, where somebody reads it; and a port that is free is chosen once.
    with contextlib.closing(program.listening(settings)) as listener:
        port = listener.getsockname()[1]
    told = arguments(str(folder.root), replace(settings, port=port))
    log = folder.state / "serve" / f"{port}.log"
    address = Settings(host=settings.host, port=port).address
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as stream:
            begins = stream.tell()
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "nlp_skills.cli.main", *told],
                cwd=folder.root,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
    except OSError as error:
        raise files.storage_problem(error, log) from error
    try:
        while process.poll() is None:
            with contextlib.suppress(Problem):
                told = get(address, "/readyz")
                return Started(address, str(told["version"]), process.pid, log)
            time.sleep(_LOOK_SECONDS)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    said = log.read_bytes()[begins:].decode("utf-8", "replace").strip().splitlines()[-_SHOWN_LINES:]
    kind = {2: Usage, 3: Unavailable}.get(process.returncode, Invalid)
    raise kind(
        _("the API ended before it answered, with exit code {code}", code=process.returncode),
        file=log,
        cause="\n".join(cut(line, 300) for line in said) or None,
        mend=_("mend what it says, then run this command again"),
    )


def stop(entry: Deployment, seconds: float = 60.0) -> None:
    """Tell a gateway to end, and wait until it has; fine where it is gone, or where its number is another process's.

    Raises:
        Invalid: it is on another computer.
        Unavailable: it does not end.
    """
    if entry.host not in (None, socket.gethostname()):
        raise Invalid(
            _("{name} is served by another computer", name=entry.name),
            cause=entry.host,
            mend=_("end it there, with the same command"),
        )
    if entry.pid is None or not ours(entry.pid):
        return
    until = time.monotonic() + seconds
    with contextlib.suppress(ProcessLookupError):
        os.kill(entry.pid, signal.SIGTERM)
    while time.monotonic() < until:
        if not ours(entry.pid):
            return
        time.sleep(_LOOK_SECONDS)
    raise Unavailable(
        _("the API at {name} does not end", name=entry.name),
        cause=_("process {pid}", pid=entry.pid),
        mend=f"kill -9 {entry.pid}",
    )


def ours(pid: int) -> bool:
    """Whether a process is there and serves a task."""
    with contextlib.suppress(ChildProcessError):
        # One that we started ourselves stays a zombie until somebody asks for it.
        os.waitpid(pid, os.WNOHANG)
    try:
        told = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except FileNotFoundError:
        return not Path("/proc/self").exists() and _exists(pid)
    except OSError:
        return False
    # Its number may be another process's by now, and other programs serve things too.
    program = any(b"nlp_skills" in part or part.endswith(b"/nlp-skills") for part in told)
    return program and (b"serve" in told or b"deploy" in told)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def introduced(folder: TaskFolder) -> Iterator[None]:
    """Within the block, our own questions carry a key, where the task's gateway asks for one.

    Raises:
        Invalid: the file of keys cannot be read.
        Unavailable: it cannot be written.
    """
    place, name = keys.place(folder), f"command-{os.getpid()}"
    if not keys.listed(place):
        yield
        return
    with contextlib.suppress(Usage):
        # Of a command that was killed, whose number comes round again.
        keys.remove(place, name)
    token = _passing.set(keys.add(place, name))
    try:
        yield
    finally:
        _passing.reset(token)
        keys.remove(place, name)


def get(address: str, path: str) -> Any:
    """What a gateway says to everybody: no key goes along, since the address may be a file's.

    Raises:
        Unavailable: it is gone, or not ready.
        Invalid: it says no.
    """
    return _asked(urllib.request.Request(address + path))  # noqa: S310


def post(address: str, path: str, body: Any = None, *, seconds: float = 600.0) -> Any:
    """What our own gateway answers, asked with a key where there is one.

    Raises:
        Invalid, Unavailable: as `get`.
    """
    content = b"" if body is None else json.dumps(body, ensure_ascii=False).encode()
    request = urllib.request.Request(address + path, content, {"content-type": "application/json"})  # noqa: S310
    told = os.environ.get(keys.ADMIN_VARIABLE) or os.environ.get(keys.VARIABLE) or ""
    if key := _passing.get() or told.partition(",")[0].strip():
        request.add_unredirected_header("authorization", f"Bearer {key}")
    return _asked(request, seconds)


def _asked(request: urllib.request.Request, seconds: float = _ASKED_SECONDS) -> Any:
    try:
        with _opener.open(request, timeout=seconds) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        told = _message(error)
        kind = Unavailable if error.code >= 500 else Invalid
        raise kind(_("the API says no"), cause=told) from error
    except (OSError, ValueError) as error:
        raise Unavailable(_("the API does not answer"), cause=str(error)) from error


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return cut(str(json.loads(error.read())["error"]["message"]), 300)
    except (ValueError, KeyError, TypeError, OSError):
        return str(error)


def arguments(task: str, settings: Settings) -> list[str]:
    """What `nlp-skills` is told so that it serves a task, named or by its path, with these settings."""
    found = ["serve", task, "--port", str(settings.port), "--host", settings.host, "--engine", settings.engine]
    found += ["--keep", str(settings.keep), "--grace", str(settings.grace_s)]
    for name, value in (
        ("--version", settings.version),
        ("--quantization", settings.quantization),
        ("--keys", settings.keys_file and str(settings.keys_file.resolve())),
        *(("--cors", origin) for origin in settings.cors_origins),
    ):
        found += [name, value] if value else []
    found += ["--admin-anywhere"] if settings.admin_anywhere else []
    return [*found, *(["--log-texts"] if settings.log_texts else [])]


def _environment() -> dict[str, str]:
    package = Path(nlp_skills.__file__).parents[1]
    found = {**os.environ, "NLP_SKILLS_LANG": i18n.language(), "PYTHONUNBUFFERED": "1"}
    if package.name not in ("site-packages", "dist-packages"):
        found["PYTHONPATH"] = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH")]))
    return found

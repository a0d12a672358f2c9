"""Starting a run that outlives whoever started it: the terminal, the conversation, the shell's process group.

The run is a program in a session of its own, under a keeper (see `keeper`). It reads nothing, writes to
run/output.log, has this process's environment and nothing else of it. It is started with no more than the task's
path and the version's name on its command line, so there are no secrets to be seen there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import nlp_skills
from nlp_skills import files, i18n
from nlp_skills.errors import Invalid, Problem, Unavailable, Usage
from nlp_skills.execution import output
from nlp_skills.i18n import _
from nlp_skills.schema.version import RunStatus
from nlp_skills.workspace import runs
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

_LOOK_SECONDS = 0.1
_SHOWN_LINES = 12


@dataclass(frozen=True)
class Started:
    """A run of its own: as it is recorded, and the file it writes to."""

    status: RunStatus
    output: Path


def start(folder: TaskFolder, version: VersionFolder, arguments: Sequence[str]) -> Started:
    """Start `nlp-skills ARGUMENTS…` as a run of its own, and return when it is recorded as running.

    One that is over by then, having had little to do, is returned as it ended.

    Raises:
        Problem: it ended before it began, with what it said and of the kind its exit code stands for.
        Unavailable: run/output.log cannot be written.
        KeyboardInterrupt: we were interrupted while it was starting; it goes on.
    """
    before = _seen(version)
    begins_at = _header(version, arguments)
    keeper = _keeper(folder, version, arguments)
    while True:
        code = keeper.poll()
        status = _seen(version)
        if status is not None and (before is None or _mark(status) != _mark(before)):
            return Started(status, version.output_path)
        if code is not None:
            raise _ended_early(version, code, begins_at)
        time.sleep(_LOOK_SECONDS)


def _seen(version: VersionFolder) -> RunStatus | None:
    with contextlib.suppress(Problem):
        return version.status()
    return None


def _mark(status: RunStatus) -> tuple[object, ...]:
    return status.pid, status.updated, status.state


def _header(version: VersionFolder, arguments: Sequence[str]) -> int:
    """Note in output.log what is started; returns where its own words begin."""
    path = version.output_path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8") as stream:
            verb = arguments[0]
            stream.write(f"--- {files.now().isoformat()} nlp-skills {verb} {version.task_root.name} {version.name}\n")
            return stream.tell()
    except OSError as error:
        raise files.storage_problem(error, path) from error


def _keeper(folder: TaskFolder, version: VersionFolder, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    python = [sys.executable, "-P", "-m"]
    program = [*python, "nlp_skills.cli.main", *arguments]
    with open(version.output_path, "ab") as stream, _no_hangup():
        return subprocess.Popen(
            [*python, "nlp_skills.execution.keeper", str(folder.root), version.name, runs.GROUP, *program],
            cwd=_home(folder, version),
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )


@contextlib.contextmanager
def _no_hangup() -> Iterator[None]:
    """Programs started within ignore SIGHUP from their first moment: what is ignored is inherited."""
    try:
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    except ValueError:  # not in the main thread; a session of its own is never hung up by a terminal
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def _home(folder: TaskFolder, version: VersionFolder) -> Path:
    """The task's folder, which stays; a base model that is named from the working directory is looked for there."""
    here, model = Path.cwd(), version.config().base_model
    return here if (here / model).is_dir() and not (folder.root / model).is_dir() else folder.root


def _environment() -> dict[str, str]:
    package = Path(nlp_skills.__file__).parents[1]
    found = {**os.environ, "NLP_SKILLS_LANG": i18n.language(), "PYTHONUNBUFFERED": "1"}
    if package.name not in ("site-packages", "dist-packages"):
        found["PYTHONPATH"] = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH")]))
    return found


def _ended_early(version: VersionFolder, code: int, begins_at: int) -> Problem:
    said = output.since(version.output_path, begins_at)[-_SHOWN_LINES:]
    kind = {2: Usage, 3: Unavailable}.get(code, Invalid)
    return kind(
        _("the run of {version} ended before its first step, with exit code {code}", version=version.name, code=code),
        file=version.output_path,
        cause="\n".join(said) or None,
        mend=_("mend what it says, then run this command again"),
    )

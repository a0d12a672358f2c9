"""One writer a task: a second command waits a moment, then says who holds the task."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from nlp_skills import files, progress
from nlp_skills.errors import Invalid, Problem
from nlp_skills.i18n import _
from nlp_skills.workspace import active, trash
from nlp_skills.workspace.folder import TaskFolder


@contextlib.contextmanager
def writing(
    folder: TaskFolder, *, wait_seconds: float = 10, tell: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Hold the task's lock; the system frees it when the process dies, however it dies.

    A switch of versions or a cleanup that a kill cut off is settled first. `tell` hears at once that another command
    has the task and that this one waits; left out, a line on standard error says so.

    Raises:
        Invalid: another process held it for longer than `wait_seconds`; with its number and command.
    """
    from filelock import FileLock, Timeout

    path = folder.state / "lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say = tell or progress.notice
            say(_("another command is changing this task; waiting up to {seconds:g} s", seconds=wait_seconds))
            lock.acquire(timeout=wait_seconds)
    except Timeout as error:
        raise _held(folder) from error
    except OSError as error:
        raise files.storage_problem(error, path) from error
    try:
        _sign(folder)
        active.recover(folder)
        trash.settle(folder)
        yield
    finally:
        with contextlib.suppress(OSError):
            _holder(folder).unlink()
        lock.release()


def _holder(folder: TaskFolder) -> Path:
    return folder.state / "lock.json"


def _sign(folder: TaskFolder) -> None:
    """Note who holds the lock, for whoever waits; without it they only know less."""
    with contextlib.suppress(Problem):
        note = {"pid": os.getpid(), "command": _command(), "since": files.now().isoformat()}
        files.write_json(_holder(folder), note)


def _command() -> str:
    """What was started, without its options: they may hold what is nobody's business."""
    words = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    return " ".join([Path(sys.argv[0]).name, *words[:2]])


def _held(folder: TaskFolder) -> Invalid:
    try:
        note = files.read_json(_holder(folder))
        cause = _(
            "process {pid}, since {since}: {command}", pid=note["pid"], since=note["since"], command=note["command"]
        )
    except (Invalid, KeyError, TypeError):
        cause = None
    return Invalid(
        _("another command is changing this task"),
        file=folder.root,
        cause=cause,
        mend=_("wait until it ends, or stop it, then run this command again"),
    )

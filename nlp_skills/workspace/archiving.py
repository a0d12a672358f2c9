"""Putting a task away and taking it up again: by hand, with a reason, and never under a run."""

from __future__ import annotations

import contextlib

from nlp_skills.errors import Problem
from nlp_skills.schema.task import Status
from nlp_skills.workspace import digest, lifecycle, lock, runs
from nlp_skills.workspace.folder import TaskFolder


def archive(folder: TaskFolder, reason: str | None = None) -> Status:
    """Archive the task; returns the state it had, which is `archived` where there was nothing to do.

    Raises:
        Invalid: one of its versions is being trained or evaluated.
    """
    # Before the lock, which that run holds, and with it: one may have begun meanwhile.
    _refuse_running(folder)
    with lock.writing(folder):
        before = folder.task().status
        if before != "archived":
            _refuse_running(folder)
            lifecycle.move(folder, "archived", reason or "archived by hand")
        digest.write(folder)
    return before


def unarchive(folder: TaskFolder, reason: str | None = None) -> Status:
    """Bring an archived task back to `configuring`; returns the state it had."""
    with lock.writing(folder):
        before = folder.task().status
        if before == "archived":
            lifecycle.reopen(folder, reason or "unarchived by hand")
        digest.write(folder)
    return before


def _refuse_running(folder: TaskFolder) -> None:
    for name in folder.version_names():
        with contextlib.suppress(Problem):  # a status that cannot be read is no run; a live one also holds the lock
            status = folder.version(name).status()
            if runs.alive(status) and status is not None:
                break
    else:
        return
    raise runs.busy(folder.version(name), status)

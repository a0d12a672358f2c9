"""One writer a task: a second command waits a moment, then says who holds the task."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from nlp_skills.errors import Invalid
from nlp_skills.files import storage_problem
from nlp_skills.i18n import _
from nlp_skills.workspace.folder import TaskFolder


@contextlib.contextmanager
def writing(folder: TaskFolder, *, wait_seconds: float = 10) -> Iterator[None]:
    """Hold the task's lock; the system frees it when the process dies, however it dies.

    Raises:
        Invalid: another process held it for longer than `wait_seconds`.
    """
    from filelock import FileLock, Timeout

    path = folder.state / "lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=wait_seconds)
        lock.acquire()
    except Timeout as error:
        raise Invalid(
            _("another command is changing this task"),
            file=folder.root,
            mend=_("wait until it ends, or stop it, then run this command again"),
        ) from error
    except OSError as error:
        raise storage_problem(error, path) from error
    try:
        yield
    finally:
        lock.release()

"""Ending a run from outside: asked, it saves a checkpoint after its step; killed, it has the last periodic one."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable

from nlp_skills.errors import Invalid, Unavailable
from nlp_skills.execution import ending
from nlp_skills.i18n import _
from nlp_skills.schema.version import RunStatus
from nlp_skills.workspace import runs
from nlp_skills.workspace.runs import Run

_LOOK_SECONDS = 0.1
_KILLED_SECONDS = 10.0


def stop(run: Run, *, now: bool = False, timeout: float, tell: Callable[[str], None]) -> Run:
    """End a run and wait until it has ended; `now` does not let it finish its step.

    Raises:
        Invalid: it does not go on, or has not ended after `timeout` seconds.
        Unavailable: it is on another computer, or another user's.
    """
    _refuse(run)
    _signal(run.status, now)
    if not now:
        tell(_("process {pid} was asked to save a checkpoint after its step and to end; waiting", pid=run.status.pid))
    ended = _wait(run, _KILLED_SECONDS if now else timeout)
    if ended.status.state == "running":
        words = f"stopped at once after step {runs.reached(run.version, ended.status)}"
        ending.record(run.folder, run.version, "interrupted", words, exit_code=128 + signal.SIGKILL)
    return _again(run)


def _refuse(run: Run) -> None:
    task, name, status = run.folder.root.name, run.version.name, run.status
    if run.state == "unknown":
        raise Unavailable(
            _("version {name} runs on {host}, as process {pid}", name=name, host=status.host, pid=status.pid),
            file=run.version.status_path,
            cause=_("last heard of {seconds:.0f} s ago", seconds=runs.age(status)),
            mend=_("stop it there: nlp-skills stop {task} --version {name}", task=task, name=name),
        )
    if run.state != "running":
        raise nothing_runs(task, name)


def nothing_runs(task: str, version: str) -> Invalid:
    """The answer where there is nothing to stop."""
    return Invalid(
        _("no run of {task} {version} goes on", task=task, version=version),
        mend=_("see what does: nlp-skills runs"),
    )


def _signal(status: RunStatus, now: bool) -> None:
    try:
        if now:
            if status.group is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(status.group, signal.SIGKILL)
            os.kill(status.pid, signal.SIGKILL)
        else:
            os.kill(status.pid, signal.SIGTERM)
    except ProcessLookupError:
        pass  # it has just ended
    except PermissionError as error:
        raise Unavailable(
            _("process {pid} is another user's", pid=status.pid),
            mend=_("ask them to stop it"),
        ) from error


def _wait(run: Run, seconds: float) -> Run:
    until = time.monotonic() + seconds
    while not runs.over((seen := _again(run)).status):
        if time.monotonic() > until:
            raise Invalid(
                _("the run has not ended after {seconds:.0f} s", seconds=seconds),
                file=run.version.status_path,
                mend=_("wait for its step, or end it at once: nlp-skills stop {task} --version {name} --now",
                       task=run.folder.root.name, name=run.version.name),
            )  # fmt: skip
        time.sleep(_LOOK_SECONDS)
    return seen


def _again(run: Run) -> Run:
    return runs.of(run.folder, run.version.name) or run

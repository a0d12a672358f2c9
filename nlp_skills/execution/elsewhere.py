"""A step on another machine, seen from the computer that sends it there: the same run, in the same files.

The job is kept before anything is sent, and every look at it goes on from what the files here say. So whoever looks
next, this process or another one days later, goes on where the last one was cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nlp_skills.schema.remote_job import RemoteJob, Step
from nlp_skills.workspace.folder import TaskFolder

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """A job as it stands when we are done with it: `out` is what its command printed; both are None while it goes on.
    """

    job: RemoteJob
    exit_code: int | None = None
    out: str | None = None


def carry_out(
    folder: TaskFolder,
    version_name: str,
    step: Step,
    arguments: Sequence[str],
    *,
    detach: bool,
    tell: Tell,
    show: Tell,
) -> Outcome:
    """Run `nlp-skills STEP … ARGUMENTS` where the task's execution says, or go on with one that runs there."""
    raise NotImplementedError


def refresh(folder: TaskFolder, *, seconds: float) -> list[RemoteJob]:
    """Look at the task's open jobs and take in what is new; trouble with a link is noted, never raised."""
    raise NotImplementedError


def stop(folder: TaskFolder, job: RemoteJob, now: bool, timeout: float, tell: Tell) -> RemoteJob:
    """End a job over there and wait for its end."""
    raise NotImplementedError

"""Sending up: the mirror of a task holds what a step needs, file by file and by hash."""

from __future__ import annotations

from dataclasses import dataclass

from nlp_skills.execution.machine import Tell
from nlp_skills.execution.ssh.server import Server
from nlp_skills.schema.remote_job import Step
from nlp_skills.workspace.folder import TaskFolder


@dataclass(frozen=True)
class Sent:
    """What a send took: files put in place there, bytes that went over the link, and where base models are there."""

    files: int
    bytes: int
    seconds: float
    models: dict[str, str]


def send(folder: TaskFolder, server: Server, there: str, *, version: str, step: Step, tell: Tell) -> Sent:
    """Make the mirror `there` hold what `step` of `version` needs."""
    raise NotImplementedError

"""Fetching down: what a step has made on a server, verified by hash before it takes its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nlp_skills.execution.machine import Tell
from nlp_skills.execution.ssh.server import Server
from nlp_skills.workspace.folder import TaskFolder


@dataclass(frozen=True)
class Fetched:
    """What a fetch took: files put in place here, and bytes that came over the link."""

    files: int
    bytes: int
    seconds: float


def fetch(folder: TaskFolder, server: Server, there: str, patterns: Sequence[str], *, tell: Tell) -> Fetched:
    """Bring the files of the mirror `there` that match `patterns`."""
    raise NotImplementedError

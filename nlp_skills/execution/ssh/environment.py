"""What a step runs in on a server: the pinned packages, made there once, and this very nlp-skills beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nlp_skills.execution.ssh.server import Server
from nlp_skills.workspace.folder import TaskFolder

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What the environment will be: `ready` where it is there already; `extras` and `pins` say what goes in."""

    ready: bool
    origin: str
    extras: list[str]
    pins: int
    python: str | None
    tool: str | None
    torch: str | None


def ready(folder: TaskFolder, server: Server, there: str, *, python: str | None, tell: Tell) -> list[str]:
    """Make the environment of a task, unless it is there; the command there that nlp-skills' arguments follow."""
    raise NotImplementedError


def plan(folder: TaskFolder, server: Server, python: str | None) -> Plan:
    """What `ready` would do; nothing is changed there."""
    raise NotImplementedError

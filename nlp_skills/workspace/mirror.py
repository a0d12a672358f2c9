"""Whether a task's steps run on this machine, and whether its folder is the mirror of one on another computer."""

from __future__ import annotations

import getpass
import hashlib
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.errors import Problem
from nlp_skills.workspace.folder import TaskFolder

NAME = "mirror.json"


@dataclass(frozen=True)
class Mirror:
    """The mark in a task's folder on a server: who sent it (user@host:path), and where the models are there that the
    task names by paths of the computer it is at home on.
    """

    of: str
    models: dict[str, str] = field(default_factory=dict)


def at(root: Path) -> Mirror | None:
    """What the mark of the task in `root` says; None where the task is at home here."""
    path = root / ".nlp-skills" / NAME
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = files.read_json(path)
        return Mirror(str(content["of"]), {str(name): str(there) for name, there in content["models"].items()})
    except (Problem, KeyError, TypeError, AttributeError):
        return Mirror("?")


def runs_here(folder: TaskFolder) -> bool:
    """Whether the task's steps run on this machine: task.yaml says so, or this is the machine they were sent to."""
    return folder.task().execution.type == "local" or at(folder.root) is not None


def origin(folder: TaskFolder) -> str:
    """Who sends a task from here: user@host:path."""
    return f"{getpass.getuser()}@{socket.gethostname()}:{folder.root}"


def name(folder: TaskFolder) -> str:
    """What a task's mirror is called on a server: two tasks of one name from two places stay two."""
    return f"{folder.root.name}-{hashlib.sha256(origin(folder).encode()).hexdigest()[:8]}"

"""What is deployed, and whether it is still there: links are looked at, servers of this machine are asked."""

from __future__ import annotations

import os
import socket
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Literal

from nlp_skills.schema.deployment import Deployment
from nlp_skills.workspace import deployments
from nlp_skills.workspace.folder import TaskFolder

# `unknown`: somebody else's server, which is not asked for nothing.
State = Literal["up", "down", "gone", "unknown"]
_SECONDS = 2.0


@dataclass(frozen=True)
class Stands:
    """A deployment; `behind`: it follows the active version, and answers with another."""

    entry: Deployment
    state: State
    behind: bool


def of(folder: TaskFolder) -> list[Stands]:
    """Every deployment of the task, as it is now.

    Raises:
        Invalid: versions/deployments.json or task.yaml cannot be read.
    """
    active = folder.task().version
    return [
        Stands(entry, _state(folder, entry), entry.follows and entry.version != active)
        for entry in deployments.load(folder)
    ]


def _state(folder: TaskFolder, entry: Deployment) -> State:
    if entry.target == "local":
        place = folder.root / entry.name
        if place.is_dir():
            return "up"
        return "down" if os.path.lexists(place) else "gone"
    ours = entry.target == "api" and entry.host in (None, socket.gethostname())
    return _ready(entry.name) if ours and entry.name.startswith("http://") else "unknown"


def _ready(address: str) -> State:
    """Whether an API of this computer says that it is ready."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{address}/readyz", timeout=_SECONDS):
            return "up"
    except urllib.error.HTTPError:
        return "down"
    except (OSError, ValueError):
        return "gone"

"""Where versions go: each target's module, imported when it is wanted."""

from __future__ import annotations

import importlib
from typing import Protocol, cast

from nlp_skills.deployment.going import Going
from nlp_skills.schema.deployment import Deployment, Target
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

_ROOM = "nlp_skills.deployment"
_MODULES: dict[Target, str] = {
    "huggingface": f"{_ROOM}.huggingface",
    "ollama": f"{_ROOM}.ollama",
    "api": f"{_ROOM}.serving.api_target",
    "local": f"{_ROOM}.local",
}
NAMES: tuple[Target, ...] = tuple(_MODULES)


class Module(Protocol):
    """What a target knows to do."""

    def deploy(self, going: Going, **options: object) -> list[Deployment]:
        """Put a version there; what answers with it since. Nothing is recorded yet."""
        ...

    def undeploy(self, folder: TaskFolder, entry: Deployment) -> None:
        """Take it away again; fine where it is gone already."""
        ...

    def move(self, folder: TaskFolder, entry: Deployment, version: VersionFolder) -> bool:
        """Let a name that follows stand for another version; False where that is out of reach from here."""
        ...


def of(target: Target) -> Module:
    """The target's module."""
    return cast(Module, importlib.import_module(_MODULES[target]))

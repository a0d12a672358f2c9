"""Where versions go: each target's module, imported when it is wanted."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Protocol, cast

from nlp_skills.deployment.going import Going
from nlp_skills.errors import Usage
from nlp_skills.i18n import _
from nlp_skills.schema.deployment import Deployment, Target
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

if TYPE_CHECKING:
    from nlp_skills.deployment.huggingface import Plan

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


def plan(target: Target, going: Going, **options: Any) -> Plan:
    """What a deployment with these options would send.

    Raises:
        Usage: the target sends nothing away.
        Invalid, Unavailable: as the target.
    """
    if target != "huggingface":
        raise Usage(_("there is no dry run of {target}: nothing leaves by it", target=target))
    from nlp_skills.deployment import huggingface

    return huggingface.plan(going, **options)

"""Local: a path in the task folder that leads to the model, and to another version's when the active one changes."""

from __future__ import annotations

from nlp_skills import files
from nlp_skills.deployment.going import Going
from nlp_skills.schema.deployment import Deployment
from nlp_skills.workspace import active
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

_PLACE = "models/deployed"


def deploy(going: Going) -> list[Deployment]:
    """Let models/deployed lead to the active version's model, or models/deployed-V to another's.

    Raises:
        Invalid: something that is no link stands there.
        Unavailable: the disk is full, or knows no links.
    """
    name = _PLACE if going.active else f"{_PLACE}-{going.version.name}"
    active.lead(going.folder.root / name, going.version)
    return [
        Deployment(
            target="local",
            name=name,
            version=going.version.name,
            since=files.now(),
            follows=going.active,
            link=name if going.active else None,
            artefact=going.info.adapter_path or going.info.merged_path,
        )
    ]


def undeploy(folder: TaskFolder, entry: Deployment) -> None:
    """Remove the link; what it led to stays."""
    place = folder.root / entry.name
    if place.is_symlink():
        place.unlink()


def move(_folder: TaskFolder, _entry: Deployment, _version: VersionFolder) -> bool:
    """The versions room moves links itself, in the same step as the active version."""
    return False

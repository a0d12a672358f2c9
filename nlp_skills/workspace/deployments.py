"""What runs where, by which version: versions/deployments.json. The deployment room writes it, others read it."""

from __future__ import annotations

from nlp_skills.schema.deployment import Deployment, Deployments
from nlp_skills.workspace.folder import TaskFolder


def load(folder: TaskFolder) -> list[Deployment]:
    """Every deployment of the task; none where nothing was ever deployed.

    Raises:
        Invalid: the file is not what we wrote.
    """
    path = folder.deployments_path
    return Deployments.load(path).deployments if path.exists() else []


def of(folder: TaskFolder, version: str) -> list[Deployment]:
    """The deployments that a version answers in."""
    return [entry for entry in load(folder) if entry.version == version]


def put(folder: TaskFolder, entry: Deployment) -> None:
    """Add a deployment, or replace the one of the same target and name. The caller holds the task's lock."""
    others = [known for known in load(folder) if (known.target, known.name) != (entry.target, entry.name)]
    save(folder, [*others, entry])


def save(folder: TaskFolder, entries: list[Deployment]) -> None:
    """Write all of them."""
    Deployments(deployments=entries).save(folder.deployments_path)

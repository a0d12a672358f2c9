"""What a deployment leaves in the task: versions/deployments.json, the lineage, the life cycle."""

from __future__ import annotations

from collections.abc import Sequence

from nlp_skills.deployment.going import Going
from nlp_skills.i18n import _
from nlp_skills.schema.deployment import Deployment
from nlp_skills.workspace import deployments, digest, lifecycle, lineage, lock
from nlp_skills.workspace.folder import TaskFolder

# What finished deployments wait for the task's lock: something answers out there already.
_PATIENCE = 600.0


def deployed(going: Going, entries: Sequence[Deployment], overruled: str = "") -> None:
    """Record where a version answers now; `overruled` is what spoke against it, where it went out all the same.

    Raises:
        Invalid: another command holds the task for very long; deploying again records it.
    """
    with lock.writing(going.folder, wait_seconds=_PATIENCE):
        before = deployments.load(going.folder)
        for entry in entries:
            deployments.put(going.folder, _since(entry, before))
        known = {(entry.target, entry.name, entry.version, entry.forced) for entry in before}
        fresh = [entry for entry in entries if (entry.target, entry.name, entry.version, entry.forced) not in known]
        if fresh:
            lineage.note(going.version, "deployed", reason=_told(fresh, overruled))
        task = going.folder.task()
        if task.version == going.version.name and task.status == "evaluating":
            lifecycle.move(going.folder, "deployed", f"deployed {going.version.name} to {entries[0].target}")
        digest.write(going.folder)


def undeployed(folder: TaskFolder, entry: Deployment) -> None:
    """Record that a version no longer answers there."""
    with lock.writing(folder, wait_seconds=_PATIENCE):
        left = [known for known in deployments.load(folder) if (known.target, known.name) != (entry.target, entry.name)]
        deployments.save(folder, left)
        version = folder.version(entry.version)
        if version.root.is_dir():
            lineage.note(version, "undeployed", reason=f"{entry.target}: {entry.name}")
        task = folder.task()
        if task.status == "deployed" and not any(known.version == task.version for known in left):
            lifecycle.move(folder, "evaluating", f"undeployed {task.version} from {entry.target}")
        digest.write(folder)


def moved(folder: TaskFolder, entries: Sequence[Deployment]) -> None:
    """Replace entries that answer with another version since."""
    with lock.writing(folder, wait_seconds=_PATIENCE):
        for entry in entries:
            deployments.put(folder, entry)


def _since(entry: Deployment, before: Sequence[Deployment]) -> Deployment:
    """An entry that was there with the same version has been there since then."""
    same = (entry.target, entry.name, entry.version)
    since = next((known.since for known in before if (known.target, known.name, known.version) == same), entry.since)
    return entry.model_copy(update={"since": since})


def _told(entries: Sequence[Deployment], overruled: str) -> str:
    places = ", ".join(f"{entry.target}: {entry.name}" for entry in entries)
    if not any(entry.forced for entry in entries):
        return places
    why = overruled or _("it does not answer there as it did when it was evaluated")
    return _("{places}; forced: {why}", places=places, why=why)

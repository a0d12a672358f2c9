"""Going back to a version: checked first, then everything that follows the active version switches together."""

from __future__ import annotations

from nlp_skills.errors import Invalid, Problem, Usage
from nlp_skills.i18n import _
from nlp_skills.schema.deployment import Deployment
from nlp_skills.workspace import active, deployments, lifecycle, lock, trash
from nlp_skills.workspace.active import Switched
from nlp_skills.workspace.folder import TaskFolder, VersionFolder


def rollback(folder: TaskFolder, name: str | None = None, *, reason: str | None = None) -> Switched:
    """Make a version the active one again, by default the one that was active before.

    A version that is active already stays so: nothing is written, and what does not follow is told.

    Raises:
        Usage: not a version name; no version was active before.
        Invalid: the version does not exist, its model is gone, or was never there while a deployment follows; the
            task is archived; something that is no link stands where a link is to be.
        Unavailable: the disk is full or read-only.
    """
    with lock.writing(folder):
        current = folder.task().version
        to = _existing(folder, name or previous(folder))
        if to.name == current:
            return Switched(current, current, left=_others(folder, current))
        _check(folder, to)
        said = (reason or "").strip() or _("rolled back from {before} to {after}", before=current, after=to.name)
        return active.switch(folder, to, reason=said)


def previous(folder: TaskFolder) -> str:
    """The version that was active before the current one, by the task's history; one that was purged is passed over.

    Raises:
        Usage: there was none.
    """
    task, known = folder.task(), folder.version_names()
    earlier = [entry.version for entry in task.history if entry.version in known and entry.version != task.version]
    if not earlier or earlier[-1] is None:
        raise Usage(
            _("no other version was active before {name}", name=task.version),
            file=folder.task_path,
            mend=_("name one; versions here: {known}", known=", ".join(known) or _("none")),
        )
    return earlier[-1]


def trained(version: VersionFolder) -> bool:
    """Whether a version ever had a model, by its records."""
    try:
        lineage = version.lineage()
        return version.model_info() is not None or (lineage is not None and lineage.model is not None)
    except Problem:
        return True


def _existing(folder: TaskFolder, name: str) -> VersionFolder:
    try:
        return folder.existing_version(name)
    except Invalid as problem:
        if held := trash.holding(folder, name):
            problem.mend = _undo(folder, held)
        raise


def _others(folder: TaskFolder, version: str) -> list[Deployment]:
    return [entry for entry in deployments.load(folder) if entry.follows and entry.version != version]


def _check(folder: TaskFolder, to: VersionFolder) -> None:
    lifecycle.refuse_archived(folder, folder.task())
    if to.model is not None:
        return
    if trained(to):
        held, names = trash.holding(folder, to.name), {"task": folder.root.name, "name": to.name}
        raise Invalid(
            _("the model of version {name} is gone", name=to.name),
            file=to.adapter,
            cause=_("a cleanup took it") if held else None,
            mend=_undo(folder, held) if held else _("make it again: nlp-skills reproduce {task} {name}", **names),
        )
    following = [entry.name for entry in deployments.load(folder) if entry.follows]
    if following:
        raise Invalid(
            _("version {name} was never trained", name=to.name),
            file=to.root,
            cause=_("deployments follow the active version: {names}", names=", ".join(following)),
            mend=_("train it first: nlp-skills train {task} --version {name}", task=folder.root.name, name=to.name),
        )


def _undo(folder: TaskFolder, batch: str) -> str:
    return _("bring it back from the trash: nlp-skills cleanup {task} --undo {id}", task=folder.root.name, id=batch)

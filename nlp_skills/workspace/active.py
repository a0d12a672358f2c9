"""The active version and every path that follows it: all switch together.

A note of the intended switch is on the disk before its first write and gone after its last. Whoever takes the
task's lock next finishes what a kill cut off, so no command ever works on half a switch.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.errors import Invalid, Problem
from nlp_skills.i18n import _
from nlp_skills.schema.deployment import Deployment
from nlp_skills.schema.task import Status, Task
from nlp_skills.workspace import deployments, digest, events, lifecycle, runs
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

# What a file system that knows no links answers.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)


@dataclass(frozen=True)
class Switched:
    """What a switch did: `moved` deployments answer with the new version, `left` ones are beyond the task folder.

    Where `before` and `after` are the same, nothing was written.
    """

    before: str
    after: str
    moved: list[Deployment] = field(default_factory=list)
    left: list[Deployment] = field(default_factory=list)


def link(folder: TaskFolder) -> Path:
    """models/current: leads to the model of the active version, for whatever loads it by path."""
    return folder.root / "models" / "current"


def point(folder: TaskFolder) -> None:
    """Let models/current lead to the active version's model; while that has none yet, it stays where it is.

    Something there that is not a link was put there by a person, and stays too.
    """
    place = link(folder)
    if place.is_symlink() or not place.exists():
        lead(place, folder.version())


def switch(folder: TaskFolder, to: VersionFolder, *, reason: str, deployments_too: bool = True) -> Switched:
    """Make `to` the active version, and move every path that follows. The caller holds the lock.

    Deployments that follow move as well, unless `deployments_too` is false: a version that nobody decided to deploy
    is not put before users because it became active.

    Raises:
        Invalid: what is to be a link is a file or a folder; nothing is written then.
        Usage: a deployment's link leaves the task folder.
        Unavailable: the disk is full or read-only; the next command finishes the switch or finds nothing begun.
    """
    task = folder.task()
    behind = [entry for entry in deployments.load(folder) if entry.follows and entry.version != to.name]
    moved = [entry for entry in behind if deployments_too and entry.link and to.model]
    for place in (link(folder), *(_place(folder, entry) for entry in moved)):
        _refuse_no_link(place)
    note = {
        "from": task.version,
        "to": to.name,
        "reason": reason,
        "time": files.now().isoformat(),
        "deployments": deployments_too,
    }
    files.write_json(_note(folder), note)
    _carry_out(folder, note)
    return Switched(
        before=task.version,
        after=to.name,
        moved=[entry.model_copy(update={"version": to.name}) for entry in moved],
        left=[entry for entry in behind if entry not in moved],
    )


def recover(folder: TaskFolder) -> None:
    """Finish a switch that was cut off. The caller holds the lock."""
    path = _note(folder)
    if not path.exists():
        return
    note = _intended(folder)
    if note is None:
        # Not what we wrote, or its version is gone since: what task.yaml says holds.
        point(folder)
        path.unlink()
    else:
        _carry_out(folder, note)


def _intended(folder: TaskFolder) -> dict[str, Any] | None:
    try:
        note: dict[str, Any] = files.read_json(_note(folder))
        dt.datetime.fromisoformat(note["time"])
        whole = isinstance(note["reason"], str) and folder.version(note["from"])
        return note if whole and folder.version(note["to"]).config_path.is_file() else None
    except (Problem, KeyError, TypeError, ValueError):
        return None


def _note(folder: TaskFolder) -> Path:
    return folder.state / "switching.json"


def _carry_out(folder: TaskFolder, note: dict[str, Any]) -> None:
    """Every step may have been done before; task.yaml comes last but one, the note's removal last."""
    before, after = folder.version(note["from"]), folder.version(note["to"])
    time, reason = dt.datetime.fromisoformat(note["time"]), note["reason"]
    lead(link(folder), after)
    if note.get("deployments", True):
        _move_deployments(folder, after, time)
    events.once(after, "activated", time=time, other=before.name, reason=reason)
    if before.root.is_dir():
        events.once(before, "deactivated", time=time, other=after.name, reason=reason)
    task = folder.task()
    if task.version != after.name:
        lifecycle.move(folder, _state(folder, task, after), note["reason"], version=after.name)
    digest.write(folder)
    _note(folder).unlink()


def _state(folder: TaskFolder, task: Task, version: VersionFolder) -> Status:
    """Where the task stands with this version: it is or was trained, answers somewhere, or has yet to be made."""
    if task.status == "created":
        return "created"
    with contextlib.suppress(Problem):
        if runs.alive(version.status()):
            return "training"
    if version.model is None:
        return "configuring"
    return "deployed" if deployments.of(folder, version.name) else "evaluating"


def _move_deployments(folder: TaskFolder, after: VersionFolder, time: dt.datetime) -> None:
    entries = deployments.load(folder)
    moved = []
    for entry in entries:
        if entry.follows and entry.link and entry.version != after.name and after.model:
            lead(_place(folder, entry), after)
            entry = entry.model_copy(update={"version": after.name, "since": time})
        moved.append(entry)
    if moved != entries:
        deployments.save(folder, moved)


def _place(folder: TaskFolder, entry: Deployment) -> Path:
    """Where a deployment's link is: inside the task, or inside models/ where that is a link to another disk.

    Raises:
        Usage: it is elsewhere.
    """
    path = Path(entry.link or "")
    parent = (folder.root / path).parent.resolve()
    if not parent.is_relative_to((folder.root / "models").resolve()):
        parent = files.inside(folder.root, path.parent)
    return parent / path.name


def _refuse_no_link(place: Path) -> None:
    if place.exists() and not place.is_symlink():
        raise Invalid(
            _("this is not a link, so it cannot follow the active version"),
            file=place,
            mend=_("move it away; the link is then made by itself"),
        )


def lead(place: Path, version: VersionFolder) -> None:
    """Let `place` lead to a version's model: a relative link, put there in one step, so that the folder can be copied.

    Raises:
        Invalid: what stands there is no link.
        Unavailable: the disk is full or read-only.
    """
    _refuse_no_link(place)
    model = version.model
    if model is None:
        return
    try:
        target = os.path.relpath(model.parent.resolve() / model.name, place.parent.resolve())
        if place.is_symlink() and str(place.readlink()) == target:
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        beside = place.with_name(f".{place.name}.tmp")
        beside.unlink(missing_ok=True)
        beside.symlink_to(target)
        beside.replace(place)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise files.storage_problem(error, place) from error

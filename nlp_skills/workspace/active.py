"""The active version and every path that follows it: all switch together.

A note of the intended switch is on the disk before its first write and gone after its last. Whoever takes the
task's lock next finishes what a kill cut off, so no command ever works on half a switch.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.errors import Invalid
from nlp_skills.schema.version import Deployment, Event
from nlp_skills.workspace import deployments, digest, lifecycle, lineage
from nlp_skills.workspace.folder import TaskFolder, VersionFolder


@dataclass(frozen=True)
class Switched:
    """What a switch did: `moved` deployments answer with the new version, `left` ones are beyond the task folder."""

    before: str
    after: str
    moved: list[Deployment] = field(default_factory=list)
    left: list[Deployment] = field(default_factory=list)


def link(folder: TaskFolder) -> Path:
    """models/current: leads to the model of the active version, for whatever loads it by path."""
    return folder.root / "models" / "current"


def point(folder: TaskFolder) -> None:
    """Let models/current lead to the active version's model; while that has none yet, it stays where it is."""
    _point(folder, link(folder), folder.version())


def switch(folder: TaskFolder, to: VersionFolder, *, reason: str) -> Switched:
    """Make `to` the active version, and move every path and deployment that follows. The caller holds the lock.

    Raises:
        Unavailable: the disk is full or read-only; the next command finishes the switch or finds nothing begun.
    """
    task = folder.task()
    followers = [entry for entry in deployments.load(folder) if entry.follows]
    note = {"from": task.version, "to": to.name, "reason": reason, "time": files.now().isoformat()}
    files.write_json(_note(folder), note)
    _carry_out(folder, note)
    return Switched(
        before=task.version,
        after=to.name,
        moved=[entry for entry in deployments.of(folder, to.name) if entry.follows and entry.link],
        left=[entry for entry in followers if not entry.link and entry.version != to.name],
    )


def recover(folder: TaskFolder) -> None:
    """Finish a switch that was cut off. The caller holds the lock."""
    with contextlib.suppress(Invalid):
        note = files.read_json(_note(folder))
        _carry_out(folder, note)


def _note(folder: TaskFolder) -> Path:
    return folder.state / "switching.json"


def _carry_out(folder: TaskFolder, note: dict[str, Any]) -> None:
    """Every step may have been done before; task.yaml comes last but one, the note's removal last."""
    before, after = folder.version(note["from"]), folder.version(note["to"])
    _point(folder, link(folder), after)
    _move_deployments(folder, after, dt.datetime.fromisoformat(note["time"]))
    _tell(after, "activated", before.name, note)
    if before.root.is_dir():
        _tell(before, "deactivated", after.name, note)
    task = folder.task()
    if task.version != after.name:
        state = "configuring" if task.status == "training" else task.status
        lifecycle.move(folder, state, note["reason"], version=after.name)
    digest.write(folder)
    _note(folder).unlink()


def _move_deployments(folder: TaskFolder, after: VersionFolder, time: dt.datetime) -> None:
    entries = deployments.load(folder)
    moved = []
    for entry in entries:
        if entry.follows and entry.link and entry.version != after.name and after.model:
            _point(folder, files.inside(folder.root, Path(entry.link).parent) / Path(entry.link).name, after)
            entry = entry.model_copy(update={"version": after.name, "since": time})
        moved.append(entry)
    if moved != entries:
        deployments.save(folder, moved)


def _tell(version: VersionFolder, event: Event, other: str, note: dict[str, Any]) -> None:
    time = dt.datetime.fromisoformat(note["time"])
    known = lineage.ensure(version).events
    if not any(entry.event == event and entry.time == time for entry in known):
        lineage.note(version, event, other=other, reason=note["reason"], time=time)


def _point(folder: TaskFolder, place: Path, version: VersionFolder) -> None:
    """A relative link, put in place in one step; the folder may be copied elsewhere as a whole."""
    model = version.model
    if model is None:
        return
    target = os.path.relpath(model, place.parent)
    try:
        if place.is_symlink() and str(place.readlink()) == target:
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        beside = place.with_name(f".{place.name}.{os.getpid()}.tmp")
        beside.unlink(missing_ok=True)
        beside.symlink_to(target)
        beside.replace(place)
    except OSError as error:
        raise files.storage_problem(error, place) from error

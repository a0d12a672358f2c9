"""After the active version changed: names beyond the task folder that follow it are moved, as far as they are reached.

Links inside the folder are moved by the versions room, in the same step.
"""

from __future__ import annotations

from dataclasses import replace

from nlp_skills import files, progress
from nlp_skills.deployment import records, targets
from nlp_skills.errors import Problem
from nlp_skills.i18n import _
from nlp_skills.schema.deployment import Deployment
from nlp_skills.workspace.active import Switched
from nlp_skills.workspace.folder import TaskFolder, VersionFolder


def carry_on(folder: TaskFolder, switched: Switched) -> Switched:
    """Move what a switch of the active version left behind; what could not be reached is still in `left`."""
    version = folder.version(switched.after)
    moved, left = [], []
    for entry in switched.left:
        there = entry.model_copy(update={"version": version.name, "since": files.now()})
        (moved if _moved(folder, entry, version) else left).append((entry, there))
    if moved:
        records.moved(folder, [there for _entry, there in moved])
    return replace(
        switched, moved=[*switched.moved, *(there for _entry, there in moved)], left=[entry for entry, _there in left]
    )


def _moved(folder: TaskFolder, entry: Deployment, version: VersionFolder) -> bool:
    try:
        return targets.of(entry.target).move(folder, entry, version)
    except Problem as problem:
        progress.notice(_("{name}: {message}", name=entry.name, message=problem.message))
        return False

"""After the active version changed: names beyond the task folder that follow it are moved, as far as they are reached.

Links inside the folder are moved by the versions room, in the same step.
"""

from __future__ import annotations

from dataclasses import replace

from nlp_skills import files, progress
from nlp_skills.deployment import records, targets
from nlp_skills.errors import Problem
from nlp_skills.schema.deployment import Deployment
from nlp_skills.workspace.active import Switched
from nlp_skills.workspace.folder import TaskFolder, VersionFolder


def carry_on(folder: TaskFolder, switched: Switched) -> Switched:
    """Move what a switch of the active version left behind; what could not be reached is still in `left`."""
    version = folder.version(switched.after)
    reached = [entry for entry in switched.left if _reached(folder, entry, version)]
    moved = [entry.model_copy(update={"version": version.name, "since": files.now()}) for entry in reached]
    if moved:
        records.moved(folder, moved)
    left = [entry for entry in switched.left if entry not in reached]
    return replace(switched, moved=[*switched.moved, *moved], left=left)


def _reached(folder: TaskFolder, entry: Deployment, version: VersionFolder) -> bool:
    try:
        return targets.of(entry.target).move(folder, entry, version)
    except Problem as problem:
        progress.notice(f"{entry.name}: {problem.message}")
        return False

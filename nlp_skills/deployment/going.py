"""A version that is about to go out: what every target is given."""

from __future__ import annotations

from dataclasses import dataclass

from nlp_skills.schema.task import Task
from nlp_skills.schema.version import ModelInfo
from nlp_skills.workspace import naming
from nlp_skills.workspace.folder import TaskFolder, VersionFolder


@dataclass(frozen=True)
class Going:
    """A version on its way. `forced`: no gate stops it; an entry's own `forced` says whether one would have."""

    folder: TaskFolder
    task: Task
    version: VersionFolder
    info: ModelInfo
    forced: bool = False

    @property
    def active(self) -> bool:
        """Whether names that follow the active version come to stand for this one."""
        return self.task.version == self.version.name

    @property
    def model_name(self) -> str:
        """What the version's model is called outside the task, by `versioning.naming`."""
        return naming.model_name(self.task, self.version.name)

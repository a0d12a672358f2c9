"""task_summary.yaml: the goal as the coach and the user agreed on it."""

from __future__ import annotations

from pydantic import Field

from nlp_skills.schema.document import Document, Model
from nlp_skills.schema.task import SuccessCriteria, TaskType, Versioning


class Summary(Model):
    """The agreed goal. A constraint is a sentence, or one `name: value` pair."""

    name: str
    type: TaskType
    domain: str | None = None
    goal: str
    constraints: list[str | dict[str, str | int | float]] = Field(default_factory=list)
    success_criteria: SuccessCriteria = Field(default_factory=SuccessCriteria)
    versioning: Versioning = Field(default_factory=Versioning)


class TaskSummary(Document):
    """task_summary.yaml."""

    task_summary: Summary

"""task_summary.yaml: the goal as the coach and the user agreed on it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from nlp_skills.i18n import _
from nlp_skills.schema.document import Document, Model
from nlp_skills.schema.task import Execution, OutputFormat, SuccessCriteria, TaskType, Versioning

Need = Literal["reasoning", "light", "ecosystem", "alignment"]


class Summary(Model):
    """The agreed goal. A constraint is a sentence, or one `name: value` pair.

    What stands after `versioning` is filled in when it is known. `labels` is the short form of a classification's
    `output_format`, or the types of an extraction's entities; `fields` are a row's input columns; `needs` says what
    the model must be good at beside the task; `data` is a file of labelled rows, from the summary's folder on.
    """

    name: str
    type: TaskType
    domain: str | None = None
    goal: str
    constraints: list[str | dict[str, str | int | float]] = Field(default_factory=list)
    success_criteria: SuccessCriteria = Field(default_factory=SuccessCriteria)
    versioning: Versioning = Field(default_factory=Versioning)
    language: str | None = None
    labels: list[str] = Field(default_factory=list)
    fields: list[str] = Field(default_factory=list)
    input_template: str | None = None
    output_format: OutputFormat | None = None
    needs: list[Need] = Field(default_factory=list)
    preference_pairs: Annotated[int, Field(ge=0)] = 0
    data: str | None = None
    execution: Execution | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Summary:
        if self.labels and self.output_format is not None:
            raise ValueError(_("labels and output_format say the same twice; keep one of them"))
        if len(set(self.labels)) != len(self.labels):
            raise ValueError(_("a label stands twice"))
        return self

    @property
    def classes(self) -> list[str]:
        """The labels, whichever way they are written."""
        return self.labels or (self.output_format.labels if self.output_format else [])


class TaskSummary(Document):
    """task_summary.yaml."""

    task_summary: Summary

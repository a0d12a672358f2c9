"""Everything a recommendation is asked for, brought together: the summary, the options, and what the data say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from nlp_skills.coach import constraints, dataset
from nlp_skills.coach.constraints import Constraints
from nlp_skills.coach.dataset import Dataset
from nlp_skills.errors import Usage
from nlp_skills.i18n import _
from nlp_skills.schema import kinds
from nlp_skills.schema.kinds import Kind
from nlp_skills.schema.summary import Summary, TaskSummary
from nlp_skills.schema.task import OutputFormat, TaskType
from nlp_skills.workspace import create

SUMMARY = "task_summary.yaml"


@dataclass(frozen=True)
class Asked:
    """What the command was given; what is None or empty is taken from the summary, else from the data."""

    summary: Path | None = None
    data: Sequence[Path] = ()
    gpu: str | None = None
    language: str | None = None
    labels: Sequence[str] = ()
    label_field: str | None = None
    task_type: TaskType | None = None
    base_model: str | None = None
    rules: Path | None = None


@dataclass(frozen=True)
class Wish:
    """What is wanted and what there is. Nothing here is judged yet."""

    asked: Asked
    summary: Summary | None
    data: Dataset | None
    said: Constraints = field(default_factory=Constraints)

    @property
    def name(self) -> str:
        """The task's name; of a file alone, the file's."""
        if self.summary:
            return self.summary.name
        return self.asked.data[0].name.split(".")[0] if self.asked.data else "task"

    @property
    def task_type(self) -> TaskType:
        """The kind of task; of rows alone, an extraction where they have entities, else a classification."""
        if self.asked.task_type is not None:
            return self.asked.task_type
        if self.summary is not None:
            return self.summary.type
        return "extraction" if self.data and self.data.entity_field else "classification"

    @cached_property
    def labels(self) -> list[str]:
        """The classes, or the types of an extraction's entities: as they were given, else those of the data."""
        if self.given_labels or self.data is None:
            return self.given_labels
        return self.data.entity_types if self.task_type == "extraction" else list(self.data.classes)

    @property
    def given_labels(self) -> list[str]:
        """The classes somebody named, whatever the data say."""
        return list(self.asked.labels) or (self.summary.classes if self.summary else [])

    @cached_property
    def output_format(self) -> OutputFormat:
        """The answer's form, as the summary has it or as a new task of this type would."""
        if self.summary and self.summary.output_format:
            return self.summary.output_format
        field_name = (self.data.label_field if self.data else None) or "label"
        if self.task_type == "classification" and self.data and self.data.several:
            part = {"type": "array", "items": {"type": "string", "enum": self.labels or ["?"]}}
            return OutputFormat.model_validate({"type": "json", "schema": {field_name: part}})
        labels = self.labels or (["?"] if self.task_type == "classification" else [])
        wish = create.Wish(self.name, self.task_type, labels, output_field=field_name)
        return OutputFormat.model_validate(create.output_format(wish))

    @property
    def kind(self) -> Kind:
        """What an answer is."""
        return kinds.of(self.task_type, self.output_format)

    @property
    def metric(self) -> str:
        """The metric that decides: the summary's, else the kind's own."""
        usual = kinds.usual_metric(self.task_type, self.output_format)
        criteria = self.summary.success_criteria if self.summary else None
        stated = criteria and "primary_metric" in criteria.model_fields_set
        return criteria.primary_metric if criteria and stated else usual

    @property
    def threshold(self) -> float | None:
        """What must be reached, a fraction."""
        return self.summary.success_criteria.threshold if self.summary else None

    @property
    def baseline(self) -> float | None:
        """What there is today, a fraction; None where it is not a figure."""
        from nlp_skills.evaluation.judgement import baseline_value

        return baseline_value(self.summary.success_criteria.baseline) if self.summary else None

    @property
    def language(self) -> str | None:
        """The language of the texts: as said, else as the letters tell."""
        return self.stated_language or (self.data.language if self.data else None)

    @property
    def stated_language(self) -> str | None:
        """The language somebody named, whatever the data say."""
        return self.asked.language or (self.summary.language if self.summary else None)

    @property
    def rows(self) -> int | None:
        """Labelled rows: those counted, else those said; None where nobody knows."""
        if self.data:
            # What answers an extraction or a generation is not looked for, so that every row counts.
            named = self.task_type == "classification" and self.data.label_field is not None
            return len(self.data.rows) - (self.data.unlabelled if named else 0)
        return self.said.rows

    @property
    def gpu(self) -> str | None:
        """The GPU by name; "" for none, None where nobody said."""
        return self.asked.gpu if self.asked.gpu is not None else self.said.gpu

    @property
    def needs(self) -> list[str]:
        return list(self.summary.needs) if self.summary else []

    @property
    def preference_pairs(self) -> int:
        return self.summary.preference_pairs if self.summary else 0

    @property
    def deploy_target(self) -> str:
        return self.summary.versioning.deploy_target if self.summary else "local"

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the rules ask about."""
        return {
            "language": self.language,
            "needs": self.needs,
            "preference_pairs": self.preference_pairs,
            "deploy_target": self.deploy_target,
        }


def of(asked: Asked) -> Wish:
    """Read the summary and the data.

    Raises:
        Usage: there is neither.
        Invalid: a file is missing or wrong, with its line.
        Unavailable: a package for the format of the data is missing.
    """
    summary = TaskSummary.load(asked.summary).task_summary if asked.summary else None
    paths = list(asked.data)
    if not paths and summary and summary.data and asked.summary:
        paths = [asked.summary.parent / summary.data]
    if summary is None and not paths:
        raise Usage(
            _("there is nothing to recommend on: no {file} here, and no --data", file=SUMMARY),
            mend=_("name a file of labelled rows: nlp-skills recommend --data labelled.csv; "
                   "or talk the goal through: /nlp-skills:coach"),
        )  # fmt: skip
    said = constraints.read(summary.constraints) if summary else Constraints()
    return Wish(asked, summary, _data(paths, asked, summary), said)


def _data(paths: Sequence[Path], asked: Asked, summary: Summary | None) -> Dataset | None:
    if not paths:
        return None
    labels = list(asked.labels) or (summary.classes if summary else [])
    fields = list(summary.fields) if summary else []
    wanted = summary.output_format.label_field if summary and summary.output_format else None
    return dataset.read(paths, fields=fields, labels=labels, label_field=asked.label_field or wanted)

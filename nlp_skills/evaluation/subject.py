"""What is evaluated: one version of a task and the test rows it is asked; and what cannot be."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nlp_skills import files
from nlp_skills.data import rows as lines
from nlp_skills.data import snapshot
from nlp_skills.errors import Invalid
from nlp_skills.evaluation import metrics, model
from nlp_skills.i18n import _
from nlp_skills.schema.task import PLACEHOLDER, Task
from nlp_skills.schema.version import ModelInfo, SplitFile
from nlp_skills.workspace import lifecycle, runs
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

Row = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """A trained version, asked as it was trained: labels and fields are the model's, not today's task's."""

    folder: TaskFolder
    version: VersionFolder
    task: Task
    info: ModelInfo

    @property
    def label_field(self) -> str:
        return str(self.info.output_format.label_field)

    @property
    def labels(self) -> list[str]:
        """The classes, in the order of the schema."""
        return self.info.output_format.labels

    @property
    def fields(self) -> list[str]:
        """The row's fields that the prompt shows."""
        return list(dict.fromkeys(PLACEHOLDER.findall(self.info.input_template)))

    @cached_property
    def test(self) -> list[Row]:
        return self.rows("test")

    @cached_property
    def gold(self) -> list[str]:
        return [row[self.label_field] for row in self.test]

    @cached_property
    def keys(self) -> list[str]:
        """One key a test row; the same text has the same key in every version."""
        return [snapshot.row_key(row, self.fields) for row in self.test]

    @cached_property
    def test_hash(self) -> str:
        return files.sha256_file(self.folder.split("test"))

    @cached_property
    def fingerprint(self) -> str:
        """One hash of what is asked of which model."""
        return model.digest([model.fingerprint(self.folder.root, self.info), self.test_hash])

    def rows(self, split: str) -> list[Row]:
        return list(lines.read(self.folder.split(split)))

    def unchanged(self, split: str) -> bool:
        """Whether a split is, byte for byte, the one in the version's data snapshot."""
        path, taken = self.folder.split(split), self.version.snapshot()
        recorded: SplitFile | None = {**taken.splits}.get(split) if taken else None  # type: ignore[call-overload]
        return path.is_file() and (recorded is None or files.sha256_file(path) == recorded.sha256)


def choose(folder: TaskFolder, version: str | None = None) -> Subject:
    """The version to evaluate, once everything it needs is known to be there.

    Raises:
        Invalid: an archived task, not a classification task, a metric we do not compute, nothing trained, a training
            of it that goes on, or a test split that is missing, empty, broken or not the version's.
    """
    subject = asked(folder, version)
    status = subject.version.status()
    if status is not None and runs.alive(status):
        raise runs.busy(subject.version, status)
    _check_test(subject)
    return subject


def asked(folder: TaskFolder, version: str | None = None) -> Subject:
    """A version that can be asked for labels; nothing is said of the test rows, and they are not looked at.

    Raises:
        Invalid: an archived task, not a classification task, a metric we do not compute, or nothing trained.
    """
    task, chosen = folder.task(), folder.existing_version(version)
    lifecycle.refuse_archived(folder, task)
    _check_task(task, folder)
    subject = Subject(folder, chosen, task, model.info(chosen))
    _check_answer(subject)
    return subject


def _check_task(task: Task, folder: TaskFolder) -> None:
    if task.task_type != "classification":
        raise Invalid(
            _("only classification tasks can be evaluated yet; this one is {type}", type=task.task_type),
            file=folder.task_path,
            mend=_("score its answers with your own script for now"),
        )
    if task.multi_label:
        raise Invalid(
            _("tasks with several labels a row cannot be evaluated yet"),
            file=folder.task_path,
            cause=_("the property {name} is a list of labels", name=str(task.label_field)),
            mend=_("score its answers with your own script for now"),
        )
    wanted = task.success_criteria.primary_metric
    if wanted not in metrics.NAMES:
        raise Invalid(
            _("the metric {name} is not one we compute", name=wanted),
            file=folder.task_path,
            mend=_("set success_criteria.primary_metric to one of: {names}", names=", ".join(metrics.NAMES)),
        )


def _check_answer(subject: Subject) -> None:
    names = list(subject.info.output_format.schema_)
    if len(names) > 1:
        raise Invalid(
            _("answers with more than one property cannot be evaluated yet"),
            file=subject.folder.task_path,
            cause=_("the answer has: {names}", names=", ".join(names)),
            mend=_("keep only {name} in output_format.schema and train again", name=subject.label_field),
        )
    if subject.info.output_format.multi_label:
        raise Invalid(
            _("version {version} was trained to give several labels", version=subject.version.name),
            file=subject.version.model_info_path,
            cause=_("the task now wants one"),
            mend=_("train again, as task.yaml now says: nlp-skills new-version"),
        )


def _check_test(subject: Subject) -> None:
    path = subject.folder.split("test")
    report = _looked_at(subject)
    if not report["rows"]:
        raise Invalid(
            _("the test split is empty"), file=path, mend=_("fill it from its sources: nlp-skills regenerate")
        )
    if report["bad"]:
        fault = next(fault for fault in report["faults"] if fault["code"] not in lines.REMARKS)
        raise Invalid(
            _("test rows that cannot be evaluated: {count}", count=report["bad"]),
            file=path,
            line=fault["line"],
            cause=f"{fault['code']}: {fault['detail']}",
            mend=_("see them all: nlp-skills validate"),
        )
    if not subject.unchanged("test"):
        name = subject.version.name
        raise Invalid(
            _("the test split is not the one version {version} was made with", version=name),
            file=path,
            cause=_("it has changed since the version's data snapshot"),
            mend=_("bring the file back, or: nlp-skills train --version {version} --again", version=name),
        )


def _looked_at(subject: Subject) -> dict[str, Any]:
    path = subject.folder.split("test")
    output = {name: part.model_dump(exclude_none=True) for name, part in subject.info.output_format.schema_.items()}
    try:
        return lines.check(path, subject.fields, output, max_faults=1)
    except FileNotFoundError as error:
        mend = _("make it from its sources: nlp-skills regenerate")
        raise Invalid(_("the test split is missing"), file=path, mend=mend) from error

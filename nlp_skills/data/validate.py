"""The gate before training: do the documents parse, are the rows good, does test leak into train?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from nlp_skills import extras
from nlp_skills.data import leakage, near, sources
from nlp_skills.data import rows as lines
from nlp_skills.data.faults import fault_words
from nlp_skills.data.findings import Finding, of_problem, passed
from nlp_skills.data.merge import output_shape
from nlp_skills.data.regenerate import interrupted
from nlp_skills.errors import Problem
from nlp_skills.files import storage_problem
from nlp_skills.i18n import _
from nlp_skills.schema.data_source import DataSource
from nlp_skills.schema.task import Task
from nlp_skills.schema.version import SPLITS
from nlp_skills.workspace import digest
from nlp_skills.workspace.folder import TaskFolder

__all__ = ["Finding", "Report", "validate"]

_SHOWN_LINES = 5


@dataclass
class Report:
    """`splits`: rows, bad rows and class distribution of each file that could be read."""

    findings: list[Finding] = field(default_factory=list)
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the data may be trained on."""
        return passed(self.findings)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "ok": self.ok,
            "findings": [finding.as_dict() for finding in self.findings],
            "splits": self.splits,
        }


def validate(folder: TaskFolder, *, documents_only: bool = False) -> Report:
    """Check the task's documents and, unless told otherwise, its splits.

    Never raises for what it looks for: that is in the report. Files that were read are remembered, and the
    digest for the hooks is refreshed where the documents parse.

    Raises:
        Unavailable: the task folder cannot be written.
    """
    report = Report()
    task, config = _documents(folder, report)
    if task is None or config is None:
        return report
    digest.write(folder)
    if not documents_only:
        _data(folder, task, config, report)
    return report


def _documents(folder: TaskFolder, report: Report) -> tuple[Task | None, DataSource | None]:
    task = _load(Task, folder.task_path, report)
    config = _load(DataSource, folder.sources_path, report)
    if config is not None:
        texts = [text for source in config.sources for text in sources.warnings(source)]
        report.findings += [Finding("warning", "source", text, file=str(folder.sources_path)) for text in texts]
    if task is not None:
        _version_documents(folder, task, report)
    return task, config


def _version_documents(folder: TaskFolder, task: Task, report: Report) -> None:
    try:
        version = folder.version(task.version)
    except Problem as problem:
        report.findings += of_problem(problem, "document")
        return
    for path, read in ((version.config_path, version.config), (version.lineage_path, version.lineage)):
        if path.is_file():
            try:
                read()
            except Problem as problem:
                report.findings += of_problem(problem, "document")


def _load(document: Any, path: Any, report: Report) -> Any:
    try:
        return document.load(path)
    except Problem as problem:
        report.findings += of_problem(problem, "document")
        return None


def _data(folder: TaskFolder, task: Task, config: DataSource, report: Report) -> None:
    if interrupted(folder):
        report.findings.append(_interrupted(folder))
    for name in SPLITS:
        path = folder.split(name)
        if not path.is_file():
            report.findings.append(_missing(str(path)))
            continue
        checked = lines.check(path, task.input_fields, output_shape(task))
        report.splits[name] = {key: checked[key] for key in ("rows", "bad", "blank", "duplicates", "distribution")}
        report.findings += [*_row_findings(str(path), checked), *_class_findings(str(path), name, checked, config)]
        _remember(folder, name, checked)
    if len(report.splits) == len(SPLITS):
        report.findings += _between(folder, task, config)


def _remember(folder: TaskFolder, name: str, checked: lines.Report) -> None:
    try:
        lines.remember(folder.state, f"data/{name}.jsonl", checked)
    except OSError as error:
        raise storage_problem(error, folder.state / lines.MEMORY) from error


def _row_findings(path: str, checked: lines.Report) -> Iterator[Finding]:
    for code, count in checked["codes"].items():
        found = [fault for fault in checked["faults"] if fault["code"] == code]
        shown = ", ".join(f"{fault['line']} ({fault['detail']})" for fault in found[:_SHOWN_LINES])
        yield Finding(
            "warning" if code == "duplicate" else "error",
            code,
            fault_words(code),
            file=path,
            line=found[0]["line"] if found else None,
            count=count,
            cause=_("rows: {count}; lines: {lines}", count=count, lines=shown),
            mend=_("correct the rows at their source and run: nlp-skills regenerate"),
        )
    if checked["blank"]:
        yield Finding("warning", "blank", _("blank lines"), file=path, count=checked["blank"])


def _class_findings(path: str, name: str, checked: lines.Report, config: DataSource) -> Iterator[Finding]:
    if not checked["rows"]:
        if getattr(config.split, name) > 0:
            yield Finding("error", "empty_split", _("the split is empty"), file=path, mend="nlp-skills regenerate")
        return
    for label in [label for label, count in checked["distribution"].items() if not count]:
        yield Finding(
            "warning",
            "missing_class",
            _("class {label} has no rows here", label=label),
            file=path,
            mend=_("add rows of this class; for test, test_rows: growing lets new rows in"),
        )


def _between(folder: TaskFolder, task: Task, config: DataSource) -> Iterator[Finding]:
    if config.dedup.near < 1 and not near.available():
        yield Finding("warning", "near_unsearched", near.missing_words(), mend=extras.install_command("data"))
    yield from leakage.search(folder, task, config.dedup.near)


def _missing(path: str) -> Finding:
    return Finding("error", "missing_file", _("file not found"), file=path, mend="nlp-skills regenerate")


def _interrupted(folder: TaskFolder) -> Finding:
    return Finding(
        "error",
        "interrupted",
        _("the last regeneration was interrupted; the splits may not belong together"),
        file=str(folder.split("train").parent),
        mend="nlp-skills regenerate",
    )

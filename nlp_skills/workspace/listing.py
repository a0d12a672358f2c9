"""What there is: every task of a project in one row, every version of a task in one row."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path

from nlp_skills.errors import Problem
from nlp_skills.schema.version import Lineage
from nlp_skills.workspace import locate
from nlp_skills.workspace.folder import TaskFolder, VersionFolder


@dataclass(frozen=True)
class TaskRow:
    """One task; `problem` says why the other fields could not be read."""

    name: str
    path: Path
    status: str | None = None
    version: str | None = None
    primary_metric: str | None = None
    value: float | None = None
    updated: dt.datetime | None = None
    problem: Problem | None = None


@dataclass(frozen=True)
class VersionRow:
    """One version; `value` is its primary metric, a fraction."""

    version: str
    current: bool
    parent: str | None = None
    created: dt.datetime | None = None
    value: float | None = None
    changes: list[str] = field(default_factory=list)
    problem: Problem | None = None


def tasks(root: Path) -> list[TaskRow]:
    """Every task under `root`, by name; a broken one is listed with its problem."""
    return sorted((_task_row(path) for path in locate.find(root)), key=lambda row: row.name)


def _task_row(path: Path) -> TaskRow:
    try:
        folder = TaskFolder.at(path)
        task = folder.task()
        version = folder.version(task.version)
        metric = task.success_criteria.primary_metric
        value = metric_value(version, metric)
    except Problem as problem:
        return TaskRow(path.name, path, problem=problem)
    return TaskRow(task.task_name, path, task.status, task.version, metric, value, task.updated)


def metric_value(version: VersionFolder, metric: str) -> float | None:
    """A metric from results.json, or from the lineage of a version whose results were cleaned up."""
    if results := version.results():
        return results.metrics.get(metric)
    lineage = version.lineage()
    return lineage_metrics(lineage).get(metric) if lineage else None


def lineage_metrics(lineage: Lineage) -> dict[str, float]:
    """The scalar metrics of a lineage, by name."""
    return dict(lineage.results.model_extra or {}) if lineage.results else {}


def versions(folder: TaskFolder) -> list[VersionRow]:
    """Every version, newest first."""
    task = folder.task()
    metric = task.success_criteria.primary_metric
    return [
        _version_row(folder.version(name), metric, current=name == task.version)
        for name in reversed(folder.version_names())
    ]


def _version_row(version: VersionFolder, metric: str, *, current: bool) -> VersionRow:
    try:
        lineage = version.lineage()
        value = metric_value(version, metric)
    except Problem as problem:
        return VersionRow(version.name, current, problem=problem)
    if lineage is None:
        return VersionRow(version.name, current, value=value)
    return VersionRow(version.name, current, lineage.parent, lineage.created, value, lineage.changes)

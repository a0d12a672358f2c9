"""The task in one small JSON file, for those who have neither a YAML parser nor time: hooks, and the list of tasks."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlp_skills import files, i18n
from nlp_skills.errors import Problem

if TYPE_CHECKING:
    from nlp_skills.schema.task import Task
    from nlp_skills.workspace.folder import TaskFolder

SCHEMA_VERSION = 1
# A version stands in a path; whoever wrote the digest, it must not lead out of versions/.
_VERSION = re.compile(r"\w[\w.-]*\Z")


@dataclass(frozen=True)
class Brief:
    """What the list of tasks needs of task.yaml."""

    name: str
    version: str
    status: str
    task_type: str
    domain: str | None
    primary_metric: str
    updated: dt.datetime | None

    @classmethod
    def of(cls, task: Task) -> Brief:
        """The same of a task.yaml that was read whole."""
        metric = task.metric
        return cls(task.task_name, task.version, task.status, task.task_type, task.domain, metric, task.updated)


def write(folder: TaskFolder) -> None:
    """Refresh `.nlp-skills/digest.json`; it holds nothing that task.yaml and data_source.yaml do not."""
    # Looked at before they are read: a file that changes meanwhile is then newer than the digest.
    stats = {path.name: path.stat() for path in (folder.task_path, folder.sources_path) if path.exists()}
    task = folder.task()
    fields = task.output_format.schema_
    try:
        checks = folder.sources().checks.model_dump(include={"min_chars", "max_chars"})
    except Problem:
        checks = {}  # said where the document is checked
    files.write_json(
        folder.state / "digest.json",
        {
            "schema_version": SCHEMA_VERSION,
            "task": task.task_name,
            "version": task.version,
            "status": task.status,
            "task_type": task.task_type,
            "domain": task.domain,
            "updated": task.updated.isoformat() if task.updated else None,
            "lang": i18n.language(),
            "documents": {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()},
            "fields": task.input_fields,
            "output": {name: field.model_dump(exclude_none=True) for name, field in fields.items()},
            "label_field": task.label_field,
            "checks": checks,
            "primary_metric": task.metric,
            "threshold": task.success_criteria.threshold,
        },
    )


def brief(root: Path) -> Brief | None:
    """The task in `root` by its digest; None where there is none, or task.yaml was changed or closed since."""
    document = root / "task.yaml"
    try:
        stat = document.stat()
        with open(f"{root}/.nlp-skills/digest.json", "rb") as stream:
            known = json.loads(stream.read())
        if known["documents"]["task.yaml"] != [stat.st_size, stat.st_mtime_ns] or not os.access(document, os.R_OK):
            return None
        return _brief(known)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _brief(known: dict[str, Any]) -> Brief | None:
    texts = [known[key] for key in ("task", "version", "status", "task_type", "primary_metric")]
    name, version, status, task_type, metric = texts
    domain, updated = known["domain"], known["updated"]
    if not all(isinstance(text, str) for text in texts) or not _VERSION.match(version):
        return None
    if domain is not None and not isinstance(domain, str):
        return None
    time = None if updated is None else dt.datetime.fromisoformat(updated)
    return Brief(name, version, status, task_type, domain, metric, time)

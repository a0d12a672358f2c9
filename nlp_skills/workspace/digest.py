"""The task in one small JSON file, for hooks that have neither a YAML parser nor time."""

from __future__ import annotations

from nlp_skills import files, i18n
from nlp_skills.errors import Problem
from nlp_skills.workspace.folder import TaskFolder

SCHEMA_VERSION = 1


def write(folder: TaskFolder) -> None:
    """Refresh `.nlp-skills/digest.json`; it holds nothing that task.yaml and data_source.yaml do not."""
    task = folder.task()
    stats = {path.name: path.stat() for path in (folder.task_path, folder.sources_path) if path.exists()}
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
            "lang": i18n.language(),
            "documents": {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()},
            "fields": task.input_fields,
            "output": {name: field.model_dump(exclude_none=True) for name, field in fields.items()},
            "label_field": task.label_field,
            "checks": checks,
            "primary_metric": task.success_criteria.primary_metric,
            "threshold": task.success_criteria.threshold,
        },
    )

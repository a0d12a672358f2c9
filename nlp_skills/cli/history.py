"""A task's versions: the table, and the tree where they branch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.workspace.folder import TaskFolder


@frame.command(
    "history",
    help=N_("Show a task's versions, newest first."),
    examples=["nlp-skills history", "nlp-skills history reviews --json"],
)
@frame.task_argument
@frame.json_option
def history(folder: TaskFolder, as_json: bool) -> None:
    from nlp_skills.evaluation import words
    from nlp_skills.workspace import listing

    task, rows = folder.task(), listing.versions(folder)
    metric = task.success_criteria.primary_metric
    if as_json:
        entries = [{**vars(row), "problem": row.problem and row.problem.as_dict()} for row in rows]
        frame.emit({"task": task.task_name, "version": task.version, "primary_metric": metric, "versions": entries})
        return
    frame.say(_("Task: {name}", name=task.task_name))
    frame.say(_("Current version: {version}", version=task.version))
    columns = [_("Version"), _("Created"), words.metric(metric), _("Parent"), _("Main changes")]
    frame.table(columns, [_history_cells(row, metric) for row in rows], right=[2])


def _history_cells(row: Any, metric: str) -> list[str]:
    from nlp_skills.evaluation import words

    name = f"{row.version} (*)" if row.current else row.version
    day = row.created.astimezone().strftime("%Y-%m-%d") if row.created else "-"
    changes = str(row.problem) if row.problem else ", ".join(row.changes) or "-"
    return [name, day, words.figure(metric, row.value), row.parent or "-", changes]

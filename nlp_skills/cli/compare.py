"""Two versions side by side, and whether the difference is real."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.workspace.compare import Difference
    from nlp_skills.workspace.folder import TaskFolder, VersionFolder


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

"""The gate over documents and rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.data.findings import Finding
    from nlp_skills.data.validate import Report
    from nlp_skills.workspace.folder import TaskFolder


@frame.command(
    "validate",
    help=N_(
        "Check the documents and every row, and look for test rows in the training data. Exit code 1: do not "
        "train on it."
    ),
    examples=["nlp-skills validate", "nlp-skills validate sentiment --documents", "nlp-skills validate --json"],
)
@frame.task_argument
@frame.option("--documents", is_flag=True, help=N_("Check the YAML documents only."))
@frame.json_option
def validate(folder: TaskFolder, documents: bool, as_json: bool) -> int:
    from nlp_skills.data import validate as room

    report = room.validate(folder, documents_only=documents)
    if as_json:
        frame.emit(report.as_dict())
    else:
        _show_report(report)
    return 0 if report.ok else 1


def _show_report(report: Report) -> None:
    if report.splits:
        frame.splits(report.splits)
    for finding in report.findings:
        _show_finding(finding)
    frame.say(_("valid") if report.ok else _("not valid"))


def _show_finding(finding: Finding) -> None:
    title = _("error:") if finding.severity == "error" else _("warning:")
    where = f"{frame.shown(Path(finding.where))}: " if finding.where else ""
    frame.note(f"{title} {where}{finding.message}")
    for name, text in ((_("cause:"), finding.cause), (_("mend:"), finding.mend)):
        if text:
            frame.note(f"  {name} {text}")

"""Why a version is not better than it is, and what to change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.diagnosis.diagnose import Diagnosis
    from nlp_skills.diagnosis.finding import Effort, Finding
    from nlp_skills.workspace.folder import TaskFolder


@frame.command(
    "diagnose",
    help=N_(
        "Why is it not better? From the curves, the rows, the configuration and the answers of a version to findings, "
        "the likeliest cause first: the evidence and where it stands, the change as a command, what it costs. Works "
        "with whatever is there, says what could not be looked at, asks no model and writes nothing."
    ),
    examples=[
        "nlp-skills diagnose",
        "nlp-skills diagnose reviews --version v2",
        "nlp-skills diagnose reviews --json",
    ],
)
@frame.task_argument
@frame.version_option
@frame.json_option
def diagnose(folder: TaskFolder, version_name: str | None, as_json: bool) -> None:
    from nlp_skills.diagnosis import diagnose as room

    found = room.of(folder, version_name)
    if as_json:
        frame.emit({"ok": True, **found.as_dict()})
    else:
        _show(found)


def _show(found: Diagnosis) -> None:
    frame.say(_("{task} {version}", task=found.task, version=found.version))
    words = {"critical": _("critical"), "warning": _("warning"), "note": _("note")}
    for number, finding in enumerate(found.findings, 1):
        frame.say()
        frame.say(f"{number}. [{words[finding.severity]}] {finding.title} ({finding.code})")
        _show_finding(finding)
    if found.unseen:
        frame.say()
        frame.say(_("not looked at:"))
    for entry in found.unseen:
        frame.say(f"  {entry.what}: {entry.why}" + (f" ({entry.mend})" if entry.mend else ""))


def _show_finding(finding: Finding) -> None:
    for entry in finding.evidence:
        frame.say(f"   - {entry.text}" + (f"  [{entry.where}]" if entry.where else ""))
    if finding.or_else:
        frame.say("   " + _("the same evidence would fit: {codes}", codes=", ".join(finding.or_else)))
    if finding.change is None:
        return
    frame.say("   " + _("change: {text}", text=finding.change.text))
    for line in finding.change.lines:
        frame.say(f"     {line}")
    if finding.change.commands:
        frame.say("   " + _("expected: {effect}", effect=finding.effect or _("not known before it is tried")))
    if finding.effort:
        frame.say("   " + _("effort: {effort}", effort=_effort(finding.effort)))


def _effort(effort: Effort) -> str:
    from nlp_skills.training.curves import duration

    parts = []
    if effort.label_rows is not None:
        parts.append(_("rows to label or look at: {rows}", rows=effort.label_rows))
    if effort.training_seconds is not None:
        parts.append(_("a training of {time}", time=duration(effort.training_seconds)))
    return "; ".join(parts)

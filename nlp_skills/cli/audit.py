"""The audit of the data, and rows made from rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.data.audit import Audit
    from nlp_skills.workspace.folder import TaskFolder

_SHOWN = 5


@frame.command(
    "audit",
    help=N_(
        "Look for wrong labels, contradictions, personal data and annotators who disagree, and write the data card "
        "and a report to docs/. It refuses nothing; that is what validate is for."
    ),
    examples=["nlp-skills audit", "nlp-skills audit sentiment --annotator rater --open", "nlp-skills audit --json"],
)
@frame.task_argument
@frame.option("--annotator", metavar="COLUMN", help=N_("The raw rows' column that names who annotated."))
@frame.option("--open", "show", is_flag=True, help=N_("Open the report in a browser."))
@frame.json_option
def audit(folder: TaskFolder, annotator: str | None, show: bool, as_json: bool) -> None:
    from nlp_skills.data.audit import audit as look

    done = look(folder, annotator=annotator)
    if show:
        click.launch(done.report.as_uri())
    if as_json:
        frame.emit(done.as_dict())
        return
    frame.splits(done.found["figures"]["splits"])
    _show_findings(done)
    for path in (done.report, done.card, done.json):
        frame.say(_("written: {path}", path=frame.shown(path)))


def _show_findings(done: Audit) -> None:
    from nlp_skills.data.audit import words

    found = done.found
    for text in words.problems(found) or [_("the checks found nothing")]:
        frame.say(text)
    for row in found["label_errors"]["found"][:_SHOWN]:
        what = _("{given}, likely {suggested} ({sure})", given=words.label(row["given"]),
                 suggested=words.label(row["suggested"]), sure=words.percent(row["confidence"], 0))  # fmt: skip
        frame.say(f"  {row['file']}:{row['line']}: {what}: {row['excerpt']}")
    for row in found["pii"]["places"][:_SHOWN]:
        frame.say(f"  {row['file']}:{row['line']}: {words.kind(row['kind'])}: {row['excerpt']}")
    alpha = found["agreement"].get("alpha")
    if alpha is not None:
        between = words.interval(found["agreement"]["interval"])
        frame.say(_("Krippendorff's alpha {alpha} {interval}", alpha=words.figure(alpha), interval=between))
    checks = ((_("label errors"), "label_errors"), (_("agreement"), "agreement"), (_("entities"), "entities"))
    for name, check in checks:
        why = words.skipped(found[check])
        if why:
            frame.say(_("left out: {check}: {why}", check=name, why=why))
    note = words.searched(found["conflicts"]["searched"])
    if note:
        frame.note(note)

"""The gate over documents and rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlp_skills.cli import frame
from nlp_skills.errors import Problem
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
@frame.option(
    "--tokens/--no-tokens",
    default=True,
    help=N_("Count the tokens of each row too, where the base model is on this machine; nothing is fetched."),
)
@frame.json_option
def validate(folder: TaskFolder, documents: bool, tokens: bool, as_json: bool) -> int:
    from nlp_skills.data import validate as room

    tokenizer, remark = (None, None) if documents or not tokens else _tokenizer(folder)
    report = room.validate(folder, documents_only=documents, tokenizer=tokenizer)
    if remark and report.splits:
        report.findings.append(remark)
    if as_json:
        frame.emit(report.as_dict())
    else:
        _show_report(report)
    return 0 if report.ok else 1


def _tokenizer(folder: TaskFolder) -> tuple[Any, Finding | None]:
    """The base model's tokenizer, or the remark that says why there is none; neither where no training is set."""
    from nlp_skills.data.findings import Finding
    from nlp_skills.data.validate import training

    try:
        config = training(folder, folder.task())
        if config is None:
            return None, None
        from nlp_skills.training import base_model

        found = base_model.locate(config.base_model, root=folder.root, fetch=False)
        return base_model.load_tokenizer(found), None
    except Problem as problem:
        why = f"{problem.message} ({problem.cause})" if problem.cause else problem.message
        return None, Finding("info", "tokens_uncounted", _("tokens were not counted: {why}", why=why))


def _show_report(report: Report) -> None:
    if report.splits:
        frame.splits(report.splits)
        _show_lengths(report)
    for finding in report.findings:
        _show_finding(finding)
    frame.say(_("valid") if report.ok else _("not valid"))


def _show_lengths(report: Report) -> None:
    """Characters and, where they were counted, tokens of a row: half have at most p50, 95 of 100 at most p95."""
    header = (_("split"), _("unit"), _("min"), _("p50"), _("p95"), _("max"))
    units = (("chars", _("characters")), ("tokens", _("tokens")))
    body = [
        [name, unit, *(str(part[key][figure]) for figure in ("min", "p50", "p95", "max"))]
        for name, part in report.splits.items()
        for key, unit in units
        if part.get(key)
    ]
    if body:
        frame.table(header, body, right=range(2, 6))


def _show_finding(finding: Finding) -> None:
    title = {"error": _("error:"), "warning": _("warning:"), "info": _("note:")}[finding.severity]
    where = f"{frame.shown(Path(finding.where))}: " if finding.where else ""
    frame.note(f"{title} {where}{finding.message}")
    for name, text in ((_("cause:"), finding.cause), (_("mend:"), finding.mend)):
        if text:
            frame.note(f"  {name} {text}")

"""The audit of the data, and rows made from rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.data.audit import Audit
    from nlp_skills.data.augmentation import Planned
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


@frame.command(
    "augment",
    help=N_(
        "Add training rows made from training rows: rare classes repeated, entities exchanged, or rows said in other "
        "words by a language model. The method is written to data_source.yaml and the data regenerated; valid and "
        "test stay as they are."
    ),
    examples=[
        "nlp-skills augment --method oversample --to 0.8 --dry-run",
        "nlp-skills augment ner --method entity_swap --per-row 2",
        "nlp-skills augment --method paraphrase --model MODEL --base-url http://localhost:8000/v1 --label negative",
    ],
)
@frame.task_argument
@frame.option(
    "--method", type=click.Choice(["oversample", "entity_swap", "paraphrase"]), required=True, help=N_("How.")
)
@frame.option("--to", type=click.FloatRange(0, 1, min_open=True), help=N_("oversample: rows beside the largest class."))
@frame.option("--per-row", type=click.IntRange(1), help=N_("entity_swap, paraphrase: new rows from each row."))
@frame.option("--label", "labels", multiple=True, help=N_("paraphrase: only rows of this class; repeatable."))
@frame.option("--model", help=N_("paraphrase: the model."))
@frame.option("--provider", type=click.Choice(["openai", "anthropic", "google"]), help=N_("paraphrase: who serves it."))
@frame.option("--base-url", help=N_("paraphrase: the address of an OpenAI-compatible server."))
@frame.option("--api-key", help=N_("paraphrase: the key, as ${VAR}; the provider's own variable when left out."))
@frame.option("--temperature", type=click.FloatRange(0, 2), help=N_("paraphrase: how freely the model chooses words."))
@frame.option(
    "--max-cost", type=click.FloatRange(0, min_open=True), help=N_("paraphrase: US dollars not to be passed.")
)
@frame.option("--dry-run", is_flag=True, help=N_("Say how many rows would come, show three, write nothing."))
@frame.json_option
def augment(folder: TaskFolder, labels: tuple[str, ...], dry_run: bool, as_json: bool, **given: Any) -> None:
    from nlp_skills.data import augmentation as room

    settings = {**given, "labels": list(labels) or None}
    if dry_run:
        planned = room.preview(folder, settings)
        frame.emit({"ok": True, **vars(planned)}) if as_json else _show_plan(planned)
        return
    done = room.add(folder, settings)
    if as_json:
        frame.emit(done.as_dict())
        return
    frame.splits(done.splits)
    frame.say(_("rows made from training rows: {count}", count=done.augmented))
    frame.warn(done.warnings)
    frame.say(_("next: {command}", command="nlp-skills validate"))


def _show_plan(planned: Planned) -> None:
    from nlp_skills.data.source_list import shown_row

    words = _("at most {count} rows", count=planned.rows) if planned.at_most else _("rows {rows}", rows=planned.rows)
    frame.say(f"{planned.method}: {words}")
    classes = [(name, str(count)) for name, count in planned.counts.items() if name]
    if classes:
        frame.table((_("class"), _("rows")), classes, right=[1])
    for name, count in planned.refused.items():
        frame.say(_("refused ({reason}): {count}", reason=name, count=count))
    for before, after in planned.examples:
        changed = [name for name in before if before[name] != after[name]] or list(before)[:1]
        for mark, row in (("-", before), ("+", after)):
            for name, value in shown_row({key: row[key] for key in changed}).items():
                frame.say(f"  {mark} {name}: {value}")

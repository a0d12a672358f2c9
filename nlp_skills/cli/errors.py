"""Show why a version fails."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.evaluation.why.findings import Analysis, Error, Slice
    from nlp_skills.workspace.folder import TaskFolder

_SHOWN = 10
_TEXT = 60


@frame.command(
    "errors",
    help=N_("Show why a version fails: what it confuses, where it is worse, which rows to read or relabel first."),
    examples=[
        "nlp-skills errors",
        "nlp-skills errors reviews --version v1 --slice annotator",
        "nlp-skills errors --limit 30 --out look-at.jsonl",
        "nlp-skills errors --json",
    ],
)
@frame.task_argument
@frame.version_option
@frame.option(
    "--slice", "column", metavar="COLUMN", help=N_("Slice the test rows by this column alone, such as annotator.")
)
@frame.option(
    "--limit", type=click.IntRange(min=1), help=N_("How many of each list to show; left out, 10, and in JSON all.")
)
@frame.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help=N_("Write every wrong row to a JSONL file, what matters first, to be read or relabelled."),
)
@frame.json_option
def errors(
    folder: TaskFolder, version_name: str | None, column: str | None, limit: int | None, out: Path | None, as_json: bool
) -> None:
    from nlp_skills.evaluation.why import analysis, export

    found = analysis.of(folder, version_name, column=column)
    if out is not None:
        export.write(found, out)
    if as_json:
        frame.emit({"ok": True, **found.first(limit).as_dict()})
        return
    _show(found, limit or _SHOWN, column)
    if out is not None:
        frame.note(_("{count} rows → {path}", count=len(found.errors), path=frame.shown(out)))


def _show(found: Analysis, limit: int, column: str | None) -> None:
    from nlp_skills.evaluation import words

    frame.say(
        _("{task} {version}: {wrong} of {rows} test rows answered wrongly; {metric} {value}",
          task=found.task, version=found.version, wrong=found.wrong, rows=found.rows,
          metric=words.metric(found.metric), value=words.figure(found.metric, found.value))
    )  # fmt: skip
    frame.warn(found.notes)
    if column is not None:
        _slices(found, limit, column)
        return
    _confusions(found, limit)
    _slices(found, limit, column)
    _doubts(found, limit)
    _errors(_("Errors, what matters first"), found, found.errors, limit)
    if found.near_misses:
        _errors(_("Nearly right: the right answer came second"), found, found.near_misses, limit)
    frame.say()
    frame.say(_("next: {command}", command=f"nlp-skills diagnose {found.task} --version {found.version}"))


def _heading(text: str, shown: int, total: int) -> None:
    frame.say()
    frame.say(text if shown >= total else _("{heading} ({shown} of {total})", heading=text, shown=shown, total=total))


def _confusions(found: Analysis, limit: int) -> None:
    from nlp_skills.evaluation import shown, words
    from nlp_skills.evaluation.why import words as why

    if not found.confusions:
        return
    _heading(_("What goes wrong, by what it costs"), limit, len(found.confusions))
    columns = [_("True"), _("Answered"), _("Fault"), _("Times"), _("Share"), _("Cost"), _("Lines of test")]
    body = [
        [
            shown.cut("–" if one.gold is None else one.gold, 30),
            shown.cut("–" if one.predicted is None else one.predicted, 30),
            why.fault(one),
            str(one.count),
            words.percent(one.share, 0),
            f"{one.cost:.4g}",
            ", ".join(map(str, one.rows)),
        ]
        for one in found.confusions[:limit]
    ]
    frame.table(columns, body, right=(3, 4, 5))


def _slices(found: Analysis, limit: int, column: str | None) -> None:
    from nlp_skills.evaluation.why import words as why

    listed: Sequence[Slice] = found.slices if column else found.worse
    frame.say()
    if listed:
        frame.say(_("Slices of {column}", column=column) if column else _("Where it is worse than elsewhere"))
        columns = [_("Slice"), _("Rows"), _("Wrong"), _("Metric and interval (95%)"), _("Holm's p"), _("Worse")]
        frame.table(columns, [_slice(one) for one in listed[:limit]], right=(1, 2, 4))
    if found.slices and not found.worse:
        frame.say(_("No slice of {count} is significantly worse than the other rows.", count=len(found.slices)))
    if found.small:
        few = frame.listed([f"{why.part(one)} ({one.rows})" for one in found.small[:limit]])
        frame.say(_("Slices with too few rows to tell: {count}, such as {slices}", count=len(found.small), slices=few))
    if column is None and found.not_sliced:
        listed_names = frame.listed([f"{name}: {reason}" for name, reason in found.not_sliced.items()][:limit])
        frame.say(_("Not sliced (--slice COLUMN does it all the same): {columns}", columns=listed_names))


def _slice(one: Slice) -> list[str]:
    from nlp_skills.evaluation import words
    from nlp_skills.evaluation.why import words as why

    ends = " – ".join(words.figure(one.metric, end) for end in one.interval) if one.interval else "–"
    figure = f"{words.metric(one.metric)} {words.figure(one.metric, one.value)} ({ends})"
    p = "< 0.001" if one.p_holm < 0.001 else f"{one.p_holm:.3f}"
    return [why.part(one), str(one.rows), str(one.wrong), figure, p, _("yes") if one.worse else ""]


def _doubts(found: Analysis, limit: int) -> None:
    from nlp_skills.evaluation import shown, words

    if not found.doubts:
        return
    _heading(_("Labels that look wrong"), limit, len(found.doubts))
    columns = [_("Line of test"), _("Text"), _("Label"), _("Suggested"), _("Doubt")]
    body = [
        [str(one.line), shown.cut(one.text, _TEXT), shown.cut(one.gold, 30), shown.cut(one.suggested, 30),
         words.percent(one.doubt, 0)]
        for one in found.doubts[:limit]
    ]  # fmt: skip
    frame.table(columns, body, right=(0, 4))


def _errors(heading: str, found: Analysis, rows: Sequence[Error], limit: int) -> None:
    from nlp_skills.evaluation import shown, words
    from nlp_skills.evaluation.why import words as why

    if not rows:
        return
    _heading(heading, limit, len(rows))
    columns = [
        _("Line of test"),
        _("Text"),
        _("True"),
        _("Answered"),
        _("Sure"),
        _("Why look"),
        _("Most like it in train"),
    ]
    body = []
    for one in rows[:limit]:
        near = one.neighbours[0] if one.neighbours else None
        like = _("line {line}: {answer} ({alike} alike)", line=near.line, alike=words.percent(near.similarity, 0),
                 answer=shown.line(found.kind, near.answer, 30)) if near else ""  # fmt: skip
        body.append(
            [
                str(one.line),
                shown.cut(one.text, _TEXT),
                shown.line(found.kind, one.gold, 40),
                shown.line(found.kind, one.predicted, 40),
                "" if one.probability is None else words.percent(one.probability, 0),
                frame.listed([why.mark(mark) for mark in one.marks]),
                like,
            ]
        )
    told = [place for place, cells in enumerate(zip(*body, strict=True)) if any(cells)]
    right = [at for at, place in enumerate(told) if place in (0, 4)]
    frame.table([columns[place] for place in told], [[row[place] for place in told] for row in body], right=right)

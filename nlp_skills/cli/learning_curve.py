"""How good a version gets with how many rows, and whether to label more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.learning_curve.curve import Curve
    from nlp_skills.workspace.folder import TaskFolder


def _percents(_ctx: click.Context, _param: click.Parameter, value: str) -> list[int]:
    try:
        return [int(part) for part in value.split(",")]
    except ValueError as error:
        raise click.BadParameter(_("whole percentages, set apart by commas: 25,50,100")) from error


@frame.command(
    "learning-curve",
    help=N_(
        "Should I label more? Trains a version's configuration on nested shares of its rows, every class in its "
        "share, asks each model the valid split, and fits a power law: what twice and four times the rows would give, "
        "as an interval. Each training has the version's own settings, so a quarter of the rows is also a quarter of "
        "the steps. The test split is not asked, and neither the version nor its model is touched; a model trained on "
        "all rows already is taken as it is. After Ctrl-C the same command goes on. The curve is kept in "
        "versions/VERSION/learning_curve.json, drawn in learning_curve.svg."
    ),
    examples=[
        "nlp-skills learning-curve",
        "nlp-skills learning-curve reviews --version v2 --fractions 10,25,50,100",
        "nlp-skills learning-curve reviews --seeds 3 --json",
    ],
)
@frame.task_argument
@frame.version_option
@frame.option(
    "--fractions",
    "percents",
    metavar="P,P,…",
    default="25,50,100",
    show_default=True,
    callback=_percents,
    help=N_("Shares of the training rows in percent, at least three; all rows are always among them."),
)
@frame.option(
    "--seeds",
    type=click.IntRange(1, 20),
    default=1,
    show_default=True,
    help=N_("Trainings for each share, with other rows and another seed each: how far chance moves a point."),
)
@frame.json_option
def learning_curve(folder: TaskFolder, version_name: str | None, percents: list[int], seeds: int, as_json: bool) -> int:
    from nlp_skills.learning_curve import curve

    def on_stop() -> None:
        frame.note(_("stopping after this step, saving a checkpoint; Ctrl-C again stops at once"))

    try:
        made = curve.make(folder, version_name, percents=percents, seeds=seeds, tell=frame.note, on_stop=on_stop)
    except KeyboardInterrupt:
        frame.note(_("stopped; points that are made are kept, and the same command goes on from there"))
        raise
    if as_json:
        frame.emit({"ok": True, **made.as_dict(), "file": made.file, "drawing": made.drawing})
    else:
        _show(made)
    return 0


def _show(made: Curve) -> None:
    from nlp_skills.evaluation import words
    from nlp_skills.learning_curve import sayings

    found = made.outlook
    metric = words.metric(found.metric)

    def interval(low: float, high: float) -> str:
        return _("{low} to {high}", low=words.figure(found.metric, low), high=words.figure(found.metric, high))

    measured = [
        [f"{one.percent}%", str(one.rows), words.figure(found.metric, one.value), interval(*one.interval)]
        for one in found.points
    ]
    ahead = [
        [f"{one.times}×", str(one.rows), words.figure(found.metric, one.value), interval(*one.interval)]
        for one in found.ahead
    ]
    columns = (_("share"), _("rows"), metric, _("Interval (95%)"))
    frame.say(_("{task} {version}, measured on valid rows: {rows}", task=made.task, version=made.version,
                rows=made.valid_rows))  # fmt: skip
    frame.table(columns, measured, right=(0, 1, 2))
    if ahead:
        frame.say(_("what the law through these points says of more rows:"))
        frame.table(columns, ahead, right=(0, 1, 2))
    frame.say(sayings.sentence(found))
    for line in sayings.caveats(found, made.valid_rows):
        frame.say(f"  {line}")
    frame.say(_("kept: {path}", path=frame.shown(made.file)))
    frame.say(_("drawn: {path}", path=frame.shown(made.drawing)))

"""Preferences: pairs of a version's wrong answers and the right ones, for a second stage of training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.evaluation.mistakes import Made
    from nlp_skills.workspace.folder import TaskFolder


@frame.command(
    "preferences",
    help=N_(
        "Ask a trained version every row of train and valid, and write pairs for dpo, orpo and kto: the right answer "
        "chosen, the wrong one it gave, or came near to giving, rejected. The test rows are not read."
    ),
    examples=[
        "nlp-skills data preferences",
        "nlp-skills data preferences reviews --version v2",
        "nlp-skills data preferences --margin 1 --json",
    ],
)
@frame.task_argument
@frame.version_option
@frame.option(
    "--margin",
    type=click.FloatRange(0, 1),
    metavar="P",
    help=N_(
        "Beside mistakes, take rows answered rightly with a probability below P, against the likeliest wrong answer: "
        "0.9 when left out. With 0, mistakes alone, by which a model forgets what it got right."
    ),
)
@frame.option("--replace", is_flag=True, help=N_("Write over preferences that people wrote or changed."))
@frame.json_option
def preferences(
    folder: TaskFolder, version_name: str | None, margin: float | None, replace: bool, as_json: bool
) -> None:
    from nlp_skills.evaluation import mistakes

    try:
        made = mistakes.make(folder, version_name, margin=margin, replace=replace)
    except KeyboardInterrupt:
        frame.note(_("the answers so far are kept; the same command goes on"))
        raise
    if as_json:
        frame.emit(made.as_dict())
    else:
        _show(folder, made)


def _show(folder: TaskFolder, made: Made) -> None:
    columns = (_("split"), _("rows"), _("wrong"), _("right, but unsure"), _("pairs"))
    rows = [
        [split, *map(str, (count.rows, count.wrong, count.unsure, count.pairs))] for split, count in made.splits.items()
    ]
    frame.say(_("asked: {version}", version=made.version))
    frame.table(columns, rows, right=range(1, len(columns)))
    for path in made.files:
        frame.say(_("written: {path}", path=frame.shown(folder.root / path)))
    if not made.splits.get("valid") or not made.splits["valid"].pairs:
        frame.note(_("no pairs for valid: nothing tells which epoch is best; --margin 1 makes some"))
    frame.say(_("next: {command}", command=_next(folder, made)))


def _next(folder: TaskFolder, made: Made) -> str:
    """Training, where the current version waits for these pairs; else making the version that learns from them."""
    from nlp_skills.workspace import versions

    name, current = folder.root.name, folder.version()
    if current.name != made.version and not versions.begun(current) and current.config().init_from == made.version:
        return f"nlp-skills train {name}"
    return f"nlp-skills new-version {name} --method dpo --init-from {made.version}"

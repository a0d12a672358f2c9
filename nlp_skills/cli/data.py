"""Data: fetch and split it, convert it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.data.regenerate import Regenerated
    from nlp_skills.workspace.folder import TaskFolder


@frame.command(
    "regenerate",
    help=N_(
        "Fetch the sources, drop duplicates, split into train, valid and test. The same sources give the same "
        "files; a row that a version was tested on is never trained on."
    ),
    examples=[
        "nlp-skills regenerate",
        "nlp-skills regenerate sentiment --source reviews",
        "nlp-skills regenerate --json",
    ],
)
@frame.task_argument
@frame.option("--source", "names", multiple=True, help=N_("Fetch only this source; repeatable."))
@frame.json_option
def regenerate(folder: TaskFolder, names: tuple[str, ...], as_json: bool) -> None:
    from nlp_skills.data import regenerate as room

    done = room.regenerate(folder, list(names) or None)
    if as_json:
        frame.emit(done.as_dict())
        return
    _show_sources(done)
    frame.splits(done.splits)
    frame.say(_("duplicates dropped: {count}", count=done.duplicates_dropped))
    frame.say(_("rows kept beside a near-identical one: {count}", count=done.near_identical))
    if done.pinned:
        frame.say(_("rows kept in test because a version was tested on them: {count}", count=done.pinned))
    frame.warn(done.warnings)
    frame.say(_("written") if done.changed else _("unchanged"))
    frame.say(_("next: {command}", command="nlp-skills validate"))


def _show_sources(done: Regenerated) -> None:
    rows = [[s.name, s.type, str(s.rows), _("kept") if s.reused else _("fetched")] for s in done.sources]
    frame.table((_("source"), _("type"), _("rows"), ""), rows, right=[2])


@frame.command(
    "convert",
    help=N_("Write data/converted: the splits as chat messages, the form that TRL and most trainers take."),
    examples=["nlp-skills convert", "nlp-skills convert sentiment --json"],
)
@frame.task_argument
@frame.json_option
def convert(folder: TaskFolder, as_json: bool) -> None:
    from nlp_skills.data import convert as room

    done = room.convert(folder)
    if as_json:
        frame.emit({"ok": True, **done})
        return
    for name, count in done["rows"].items():
        frame.say(_("{path}: rows {count}", path=done["files"][name], count=count))

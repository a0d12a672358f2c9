"""Data: fetch and split it, convert it, bring a version's back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nlp_skills.cli import frame, offers
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nlp_skills.data.regenerate import Regenerated
    from nlp_skills.data.restore import Restored
    from nlp_skills.workspace.folder import TaskFolder


@frame.command(
    "regenerate",
    help=N_(
        "Fetch what is stale, drop duplicates, split into train, valid and test. The same sources give the same "
        "files; a row that a version was tested on is never trained on."
    ),
    examples=[
        "nlp-skills regenerate",
        "nlp-skills regenerate sentiment --source reviews",
        "nlp-skills regenerate --refresh --json",
    ],
)
@frame.task_argument
@frame.option("--source", "names", multiple=True, help=N_("Fetch only this source, stale or not; repeatable."))
@frame.option(
    "--all", "everything", is_flag=True, help=N_("Take every step again; what pages and models answered is replayed.")
)
@frame.option("--refresh", is_flag=True, help=N_("Ask the origins again, whatever was recorded of them."))
@offers.yes_option
@frame.json_option
def regenerate(folder: TaskFolder, names: tuple[str, ...], everything: bool, refresh: bool, as_json: bool) -> int:
    from nlp_skills.cli import elsewhere

    if elsewhere.is_meant(folder, "regenerate", None):
        words = [word for name in names for word in ("--source", name)]
        words += ["--all"] * everything + ["--refresh"] * refresh
        return elsewhere.carry_out(folder, None, "regenerate", words, as_json=as_json)
    from nlp_skills.data import regenerate as room

    try:
        done = room.regenerate(folder, list(names) or None, everything=everything, refresh=refresh, tell=frame.note)
    except KeyboardInterrupt:
        return _stopped("nlp-skills regenerate", as_json)
    if as_json:
        frame.emit(done.as_dict())
    else:
        _show(done)
    return 0


def _stopped(command: str, as_json: bool) -> int:
    """Ctrl-C: nothing is half written, and the same command goes on."""
    if as_json:
        frame.emit({"ok": False, "error": {"message": "stopped", "mend": command}, "exit_code": 130})
    else:
        frame.note(_("stopped; what was there is whole. Go on with: {command}", command=command))
    return 130


def _show(done: Regenerated) -> None:
    kept = {True: _("kept"), False: _("fetched")}
    rows = [[s.name, s.type, str(s.rows), _why(kept[s.reused], s.reasons)] for s in done.sources]
    frame.table((_("source"), _("type"), _("rows"), ""), rows, right=[2])
    frame.splits(done.splits)
    frame.say(_("duplicates dropped: {count}", count=done.duplicates_dropped))
    frame.say(_("near-identical rows dropped: {count}, kept: {kept}", count=done.near_dropped, kept=done.near_kept))
    if done.augmented:
        frame.say(_("rows added to train by augmentation: {count}", count=done.augmented))
    if done.pinned:
        frame.say(_("rows kept in test because a version was tested on them: {count}", count=done.pinned))
    frame.warn(done.warnings)
    frame.say(_("written") if done.changed else _("unchanged"))
    frame.say(_("next: {command}", command="nlp-skills validate"))


def _why(done: str, reasons: Sequence[str]) -> str:
    return _("{done}: {reasons}", done=done, reasons=frame.listed(reasons)) if reasons else done


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


@click.group(
    "data",
    cls=frame.LazyGroup,
    lazy={"restore": f"{__name__}:restore", "preferences": "nlp_skills.cli.preferences:preferences"},
    help=N_("Bring back the data a version was made with; make preferences of a version's mistakes."),
)
def data() -> None:
    """The group; its text is in `help`, where it can be translated."""


@frame.command(
    "restore",
    help=N_(
        "Bring train, valid and test of a version back, byte for byte, with their raw files. data_source.yaml stays "
        "as it is."
    ),
    examples=["nlp-skills data restore v1", "nlp-skills data restore sentiment v1 --dry-run"],
)
@click.argument("names", nargs=-1, metavar="[TASK] VERSION")
@frame.option("--dry-run", is_flag=True, help=N_("Show what would be replaced; replace nothing."))
@frame.json_option
def restore(names: tuple[str, ...], dry_run: bool, as_json: bool) -> int:
    from nlp_skills.data import restore as room

    folder, versions = frame.task_and_versions(names, most=1)
    if not versions:
        raise click.UsageError(_("which version? nlp-skills history lists them"))
    try:
        done = room.restore(folder, versions[0], dry_run=dry_run, tell=frame.note)
    except KeyboardInterrupt:
        return _stopped(f"nlp-skills data restore {versions[0]}", as_json)
    if as_json:
        frame.emit(done.as_dict())
    else:
        _show_restored(folder, done)
    return 0


def _show_restored(folder: TaskFolder, done: Restored) -> None:
    for path in done.restored:
        frame.say(_("would be replaced: {path}", path=path) if done.dry_run else _("replaced: {path}", path=path))
    frame.say(_("as they were already: {count}", count=len(done.same)))
    if done.config_changed:
        names = ", ".join(done.config_changed)
        frame.warn([_("data_source.yaml is not as it was for {version}: {names}", version=done.version, names=names)])
        paths = " ".join(frame.shown(path) for path in (folder.sources_path, folder.root / str(done.config)))
        frame.note(_("  it was kept; compare: diff {paths}", paths=paths))
    if not done.dry_run:
        frame.say(_("data/ is that of {version}", version=done.version))
        frame.say(_("next: {command}", command="nlp-skills validate"))

"""One page over all tasks and versions."""

from __future__ import annotations

from pathlib import Path

import click

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _


@frame.command(
    "dashboard",
    help=N_(
        "Write one HTML page over all tasks and versions: state, verdict, the metric that decides with its interval, "
        "how it went from version to version, and links to the reports there are. It needs no network."
    ),
    examples=["nlp-skills dashboard", "nlp-skills dashboard ~/projects --out /tmp/tasks.html"],
)
@click.argument("root", metavar="[FOLDER]", required=False, type=click.Path(path_type=Path))
@frame.option("--out", type=click.Path(path_type=Path), help=N_("Write it there; dashboard.html in the folder else."))
@frame.json_option
def dashboard(root: Path | None, out: Path | None, as_json: bool) -> None:
    from nlp_skills.evaluation import dashboard as pages

    path, found = pages.write(root, out)
    counts = {"tasks": len(found.tasks), "versions": found.versions, "unreadable": len(found.broken)}
    if as_json:
        frame.emit({"ok": True, "dashboard": path, **counts})
        return
    frame.say(_("tasks: {tasks}, versions: {versions}", tasks=counts["tasks"], versions=counts["versions"]))
    if found.broken:
        frame.note(_("tasks that cannot be read: {count}", count=counts["unreadable"]))
    frame.say(_("dashboard: {path}", path=frame.shown(path)))

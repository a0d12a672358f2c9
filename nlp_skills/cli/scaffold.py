"""The task folder's own tools: scripts, configuration, project file, wheel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.scaffold.ledger import State
    from nlp_skills.workspace.folder import TaskFolder


@frame.command(
    "generate",
    help=N_("Make the task's scripts, configuration and project file. What you changed is never overwritten."),
    examples=["nlp-skills generate", "nlp-skills generate reviews --json"],
)
@frame.task_argument
@frame.json_option
def generate(folder: TaskFolder, as_json: bool) -> None:
    from nlp_skills.scaffold.generate import generate as make

    made = make(folder)
    made.files.update(_for_rented_machines(folder))
    if as_json:
        frame.emit({"ok": True, "version": made.version, "files": made.files, "kept": made.kept})
        return
    for name, state in made.files.items():
        # The schemas and other notes under .nlp-skills are the machine's own.
        if state in _SHOWN and not name.startswith(".nlp-skills/"):
            frame.say(f"{_(_SHOWN[state]):<10} {name}")
    for name in made.kept:
        frame.say(_("you changed {name}: it stays, and the new text is in {name}.new", name=name))
    frame.say(_("files as they were: {count}", count=list(made.files.values()).count("unchanged")))
    frame.say(_("next: nlp-skills regenerate {task}", task=folder.root.name))


def _for_rented_machines(folder: TaskFolder) -> dict[str, State]:
    """Where execution rents machines: what SkyPilot is told of them."""
    wanted = folder.task().execution
    if wanted.type != "cloud":
        return {}
    from nlp_skills.execution.cloud import task_file

    version = folder.version()
    return {task_file.path(version).relative_to(folder.root).as_posix(): task_file.put(folder, version, wanted)}


_SHOWN = {"written": N_("written"), "refreshed": N_("refreshed"), "removed": N_("removed")}

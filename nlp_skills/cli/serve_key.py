"""serve-key: who may call a task's API."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.workspace.folder import TaskFolder


@click.group(
    "serve-key",
    cls=frame.LazyGroup,
    lazy={"add": f"{__name__}:add", "list": f"{__name__}:listed", "remove": f"{__name__}:remove"},
    help=N_("The keys of a task's API. A gateway that runs takes a change up by itself."),
)
def serve_key() -> None:
    """The group; its text is in `help`, where it can be translated."""


@frame.command(
    "add",
    help=N_("Make a key and show it, this once: only its hash is kept."),
    examples=["nlp-skills serve-key add reviews web", "nlp-skills serve-key add reviews ops --admin"],
)
@click.argument("folder", metavar="TASK", callback=frame.resolve_task)
@click.argument("name", metavar="NAME")
@frame.option("--admin", is_flag=True, help=N_("It may switch versions too."))
@frame.json_option
def add(folder: TaskFolder, name: str, admin: bool, as_json: bool) -> None:
    from nlp_skills.deployment.serving import keys

    key = keys.add(keys.place(folder), name, admin=admin)
    if as_json:
        frame.emit({"ok": True, "name": name, "admin": admin, "key": key})
        return
    frame.say(key)
    frame.note(_("it is not shown again; callers send it as Authorization: Bearer KEY"))


@frame.command(
    "list",
    help=N_("Show the keys' names; the keys themselves are not known."),
    examples=["nlp-skills serve-key list reviews"],
)
@frame.task_argument
@frame.json_option
def listed(folder: TaskFolder, as_json: bool) -> None:
    from nlp_skills.deployment.serving import keys

    found = keys.listed(keys.place(folder))
    if as_json:
        frame.emit({"keys": [{"name": key.name, "admin": key.admin, "created": key.created} for key in found]})
    elif found:
        rows = [[key.name, _("yes") if key.admin else _("no"), (key.created or "-")[:10]] for key in found]
        frame.table([_("Name"), _("Administrates"), _("Created")], rows)
    else:
        frame.say(_("no keys: on this machine, everyone may call the API"))


@frame.command("remove", help=N_("Let a key be known no more."), examples=["nlp-skills serve-key remove reviews web"])
@click.argument("folder", metavar="TASK", callback=frame.resolve_task)
@click.argument("name", metavar="NAME")
@frame.json_option
def remove(folder: TaskFolder, name: str, as_json: bool) -> None:
    from nlp_skills.deployment.serving import keys

    keys.remove(keys.place(folder), name)
    if as_json:
        frame.emit({"ok": True, "removed": name})
    else:
        frame.say(_("the key {name} is known no more", name=name))

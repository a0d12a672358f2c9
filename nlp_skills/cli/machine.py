"""The machine: make the plugin's environment, and say what is here and what is missing."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.machine.doctor import Check


@frame.command(
    "setup",
    help=N_("Make the environment that nlp-skills runs in, or add an extra to it."),
    examples=["nlp-skills setup", "nlp-skills setup --extra demo", "nlp-skills setup --core"],
)
@frame.option("--extra", "extras", multiple=True, metavar="NAME", help=N_("An extra to install; repeatable."))
@frame.option("--core", is_flag=True, help=N_("Only the core: no training, no databases."))
@frame.json_option
def setup(extras: tuple[str, ...], core: bool, as_json: bool) -> None:
    from nlp_skills.machine import setup as machine

    made = machine.make(machine.plugin_root(), extras, core=core)
    if as_json:
        frame.emit({"ok": True, **asdict(made)})
    else:
        frame.say(machine.describe(made))


@frame.command(
    "doctor",
    help=N_("Say what is installed, on which device, what is missing and the command for it."),
    examples=["nlp-skills doctor", "nlp-skills doctor --online --json"],
)
@frame.option("--online", is_flag=True, help=N_("Also ask the model hub whether it answers."))
@frame.json_option
def doctor(online: bool, as_json: bool) -> int:
    from nlp_skills.machine import doctor as machine

    diagnosis = machine.diagnose(online=online)
    if as_json:
        frame.emit(diagnosis.as_dict())
        return 0 if diagnosis.ok else 1
    for check in diagnosis.checks:
        frame.say(f"{_mark(check)}  {check.name:<20} {check.value}")
        if check.mend and check.ok is not True:
            frame.say(f"   {'':<20} → {check.mend}")
    frame.say()
    frame.say(
        _("everything the main job needs is here") if diagnosis.ok else _("something the main job needs is missing")
    )
    return 0 if diagnosis.ok else 1


def _mark(check: Check) -> str:
    return {True: "ok", False: "no", None: "--"}[check.ok]

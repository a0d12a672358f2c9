"""runs."""

from __future__ import annotations

from nlp_skills.cli import frame
from nlp_skills.i18n import N_


@frame.command("runs", help=N_("To come."), examples=["nlp-skills runs"])
def runs() -> int:
    return 1


@frame.command("logs", help=N_("To come."), examples=["nlp-skills logs"])
def logs() -> int:
    return 1


@frame.command("stop", help=N_("To come."), examples=["nlp-skills stop"])
def stop() -> int:
    return 1


@frame.command("resume", help=N_("To come."), examples=["nlp-skills resume"])
def resume() -> int:
    return 1

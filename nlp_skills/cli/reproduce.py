"""Train a version again from its record, and compare."""

from __future__ import annotations

from nlp_skills.cli import frame
from nlp_skills.i18n import N_


@frame.command("reproduce", help=N_("Again."))
def reproduce() -> None:
    raise NotImplementedError

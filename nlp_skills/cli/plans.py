"""Written plans."""

from __future__ import annotations

from nlp_skills.cli import frame
from nlp_skills.i18n import N_


@frame.command("plan", help=N_("Plans."))
def plan() -> None:
    raise NotImplementedError

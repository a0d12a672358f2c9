"""estimate."""

from __future__ import annotations

from nlp_skills.cli import frame
from nlp_skills.i18n import N_


@frame.command("estimate", help=N_("To come."), examples=["nlp-skills estimate"])
def estimate() -> int:
    return 1

"""learning_curve."""

from __future__ import annotations

from nlp_skills.cli import frame
from nlp_skills.i18n import N_


@frame.command("learning-curve", help=N_("To come."), examples=["nlp-skills learning-curve"])
def learning_curve() -> int:
    return 1

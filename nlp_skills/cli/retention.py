"""Going back to a version, clearing away those nobody needs, and what they weigh."""

from __future__ import annotations

from nlp_skills.cli import frame
from nlp_skills.i18n import N_


@frame.command("rollback", help=N_("Go back."))
def rollback() -> None:
    raise NotImplementedError


@frame.command("cleanup", help=N_("Clean up."))
def cleanup() -> None:
    raise NotImplementedError


@frame.command("du", help=N_("Disk use."))
def du() -> None:
    raise NotImplementedError

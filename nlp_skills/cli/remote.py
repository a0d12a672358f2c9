"""remote: the server that a task's steps run on: what is there, and removing what we put there."""

from __future__ import annotations

import click

from nlp_skills.cli import frame
from nlp_skills.i18n import N_


@click.group(
    "remote",
    cls=frame.LazyGroup,
    lazy={"check": f"{__name__}:check", "clean": f"{__name__}:clean"},
    help=N_("Look at the server that a task's steps run on; remove from it what we put there."),
)
def remote() -> None:
    """The group; its text is in `help`, where it can be translated."""

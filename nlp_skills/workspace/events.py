"""Telling a version's lineage of one event, whatever a kill cut off in between."""

from __future__ import annotations

import contextlib
import datetime as dt

from nlp_skills.errors import Invalid
from nlp_skills.schema.version import Event
from nlp_skills.workspace import lineage
from nlp_skills.workspace.folder import VersionFolder


def once(
    version: VersionFolder, event: Event, *, time: dt.datetime, other: str | None = None, reason: str | None = None
) -> None:
    """Note an event, unless its lineage has it.

    A lineage that cannot be read is left as it is: it has a command that mends it, and what happened goes on.
    """
    with contextlib.suppress(Invalid):
        known = lineage.ensure(version).events
        if not any(entry.event == event and entry.time == time for entry in known):
            lineage.note(version, event, other=other, reason=reason, time=time)

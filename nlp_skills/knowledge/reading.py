"""Reading a document: its table of contents, the whole of it or one section, in the user's language."""

from __future__ import annotations

import difflib

from nlp_skills.errors import Usage
from nlp_skills.i18n import _
from nlp_skills.knowledge import search


def contents() -> dict[str, list[str]]:
    """The titles of each document's sections, by its name."""
    return {
        name: [part.title for part in search.sections(name, text) if part.number]
        for name, text in search.topics().items()
    }


def text(name: str, section: int | None = None) -> str:
    """A document, or a section of it under its title.

    Raises:
        Usage: there is no such document or section.
    """
    known = search.topics()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        mend = _("did you mean {name}?", name=near[0]) if near else _("there are: {names}", names=", ".join(known))
        raise Usage(_("no topic is called {name}", name=name[:60]), mend=mend)
    if section is None:
        return known[name].strip()
    parts = list(search.sections(name, known[name]))
    if section >= len(parts):
        raise Usage(
            _("{topic} has no section {number}", topic=name, number=section),
            mend=_("its last one is {number}", number=len(parts) - 1),
        )
    part = parts[section]
    return f"{part.title}\n\n{part.text}"

"""Pages people decide by: one HTML file each that loads nothing, runs nothing and reads the same in ten years.

Their frame and style are in `templates/`, what a room says on them in the room's own. Text from data reaches a
page only through jinja2's escaping.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nlp_skills import __version__, i18n


def render(room: Path, template: str, texts: dict[str, str], context: dict[str, Any]) -> str:
    """A template of the folder `room` filled in; everything that is not the template's own text is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([room, Path(__file__).parent / "templates"]),
        autoescape=True,
        finalize=_finalized,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(
        w=texts, lang=i18n.language(), package_version=__version__, **context
    )


def harmless(text: str) -> str:
    """Text without what moves, hides or turns other text: control characters, marks of direction, half characters.

    Lines stay lines.
    """
    return text if text.isprintable() else "".join("�" if _steers(character) else character for character in text)


def _finalized(value: Any) -> Any:
    """What an expression of a template comes to; our own markup is let through."""
    return harmless(value) if type(value) is str else value


def _steers(character: str) -> bool:
    code = ord(character)
    control = code < 32 or 127 <= code < 160
    turns = 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069
    return (control and character not in "\n\t") or turns or 0xD800 <= code <= 0xDFFF

"""Texts of the files, from their templates."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from nlp_skills.i18n import _

_TEMPLATES = Path(__file__).parent / "templates"


def of(template: str, **values: Any) -> bytes:
    """A template with its values; `json` and `shell` quote them."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    engine = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        # No HTML: escaping would show in the text.
        autoescape=False,  # noqa: S701
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    engine.filters |= {"json": lambda value: json.dumps(value, ensure_ascii=False), "shell": shlex.quote}
    return engine.get_template(template).render(_=_, **values).encode()

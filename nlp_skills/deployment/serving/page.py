"""A page that lists the calls, with nothing fetched from elsewhere."""

from __future__ import annotations

from html import escape
from typing import Any

_STYLE = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}code{font-size:1rem}"


def of(document: dict[str, Any]) -> str:
    """An OpenAPI document as HTML: what can be called, and where the document itself is."""
    title = escape(str(document["info"]["title"]))
    rows = "".join(
        f"<tr><td><code>{escape(verb.upper())}</code></td><td><code>{escape(path)}</code></td>"
        f"<td>{escape(str(call.get('summary', '')))}</td></tr>"
        for path, calls in document["paths"].items()
        for verb, call in calls.items()
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f'<h1>{title}</h1><table>{rows}</table><p><a href="/openapi.json">OpenAPI</a></p></html>'
    )

"""Where rows come from: one module a source type, each a generator of plain JSON-able rows.

In: one entry of data_source.yaml. Out: rows as the source has them, before any mapping. A type is added
with a module that has `fetch(source, folder)` and a line in `fetch` here.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from nlp_skills.errors import Unavailable
from nlp_skills.i18n import _
from nlp_skills.schema.data_source import Database, FileImport, Source
from nlp_skills.workspace.folder import TaskFolder

Row = dict[str, Any]


def fetch(source: Source, folder: TaskFolder) -> Generator[Row, None, None]:
    """The rows of a source, streamed.

    Raises:
        Invalid: the source's content or query is wrong (with file and line where there is one).
        Unavailable: a database or a package is not there, or this type of source is not built yet.
    """
    if isinstance(source, FileImport):
        from nlp_skills.data.sources import file_import

        return file_import.fetch(source, folder)
    if isinstance(source, Database):
        from nlp_skills.data.sources import database

        return database.fetch(source, folder)
    raise Unavailable(
        _("sources of type {type} are not available yet", type=source.type),
        file=folder.sources_path,
        cause=_("source {name} has this type", name=str(source.name)),
        mend=_("save its rows to a CSV or JSONL file and use type: file_import"),
    )


def warnings(source: Source) -> list[str]:
    """What is legal about a source but likely not meant, in words."""
    if isinstance(source, Database):
        from nlp_skills.data.sources import database

        return database.warnings(source)
    return []

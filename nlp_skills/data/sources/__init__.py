"""Where rows come from: one module a source type, each a generator of plain JSON-able rows.

In: one entry of data_source.yaml and a `Fetching`. Out: rows as the source has them, before any mapping. A type
is added with a model in schema.source and a module here of the same name, which has `VERSION` and
`fetch(source, fetching)`; it may also have `warnings(source)` and `inputs(source, folder)`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nlp_skills.data.sources.recording import Recording
from nlp_skills.data.sources.settings import literal_secret
from nlp_skills.i18n import _
from nlp_skills.schema.source import Source
from nlp_skills.workspace.folder import TaskFolder

Row = dict[str, Any]


def _silent(text: str) -> None:
    """Nobody listens."""


@dataclass
class Fetching:
    """One fetch of one source: what the module is told, and what it tells.

    `refresh`: ask the origin again, whatever was recorded. `preview`: only a look at the first rows, for which
    nothing is written, reviewed or paid for more than needed. `note` takes a word on the progress, `tell` what must
    be seen even where progress is not shown (money above all); both already translated. What the source did
    (requests, pages, tokens …) goes to `record`, what is odd to `warnings`.
    """

    folder: TaskFolder
    refresh: bool = False
    preview: bool = False
    note: Callable[[str], None] = _silent
    tell: Callable[[str], None] = _silent
    record: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def recording(self, source: Source) -> Recording:
        """What was recorded of this source's conversations; a preview reads it and adds nothing."""
        return Recording(recording_path(self.folder, source), read_only=self.preview)


def recording_path(folder: TaskFolder, source: Source) -> Path:
    """data/raw/recorded/NAME.jsonl."""
    return folder.raw / "recorded" / f"{source.name}.jsonl"


def fetch(source: Source, fetching: Fetching) -> Generator[Row, None, None]:
    """The rows of a source, streamed.

    Raises:
        Invalid: the source's content or query is wrong (with file and line where there is one).
        Unavailable: a server, a file system or a package is not there.
    """
    rows: Generator[Row, None, None] = _module(source).fetch(source, fetching)
    return rows


def version(source: Source) -> int:
    """The version of the code that fetches this type; a newer one makes older rows stale."""
    return int(_module(source).VERSION)


def inputs(source: Source, folder: TaskFolder) -> dict[str, str]:
    """The local files a source reads, by their path as written, with a `sha256:…` each; a change makes it stale."""
    found = getattr(_module(source), "inputs", None)
    return found(source, folder) if found else {}


def warnings(source: Source) -> list[str]:
    """What is legal about a source but likely not meant, in words."""
    found = getattr(_module(source), "warnings", None)
    own: list[str] = found(source) if found else []
    if literal_secret(source):
        name = str(source.name)
        own.append(_("source {name}: a password stands in the file; write ${{VAR}} and set it outside", name=name))
    return own


def _module(source: Source) -> Any:
    return importlib.import_module(f"{__name__}.{source.type}")

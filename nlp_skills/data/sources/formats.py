"""What the readers of all file formats share: the file at hand, and the wrong lines found in it."""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from nlp_skills import extras
from nlp_skills.data import rows as lines
from nlp_skills.data.sources import opened
from nlp_skills.data.sources.settings import line_of
from nlp_skills.errors import Invalid, Problem, Usage
from nlp_skills.i18n import _
from nlp_skills.schema.source import FileImport
from nlp_skills.workspace.folder import TaskFolder

_FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".geojson": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".xlsx": "xlsx",
}
_MOST_PROBLEMS = 20


@dataclass
class File:
    """One file of a source; `whole`: all of it will be read. What was found out goes to `record` and `warnings`."""

    path: Path
    name: str
    source: FileImport
    folder: TaskFolder
    whole: bool = True
    record: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @cached_property
    def format(self) -> str:
        """The format as given, or as the file's name tells.

        Raises:
            Usage: neither says.
        """
        known = self.source.format or _FORMATS.get(opened.plain_suffix(self.name))
        if known is None:
            raise Usage(
                _("the format of {path} is not known from its name", path=self.name),
                mend=_("give format: csv, tsv, json, jsonl, parquet or xlsx"),
            )
        return known

    @cached_property
    def encoding(self) -> opened.Encoding:
        """What the text is written in; a guess is warned about.

        Raises:
            Invalid: the encoding given is not known.
        """
        try:
            found = opened.encoding_of(self.path, self.source.encoding, whole=self.whole)
        except LookupError as error:
            raise self.wrong_setting(
                "encoding",
                _("unknown encoding {name}", name=str(self.source.encoding)),
                mend=_("leave encoding: out, or write one such as utf-8, big5, cp950, gb18030 or utf-16"),
            ) from error
        self.record["encoding"] = found.name
        if found.by == "guess":
            self.warnings.append(
                _(
                    "{path} was read as {encoding}, which is a guess: look at the rows, then say encoding:",
                    path=self.name,
                    encoding=found.name,
                )
            )
        return found

    def wrong_setting(self, key: str, message: str, *, cause: str | None = None, mend: str) -> Invalid:
        """A setting of the source is to blame."""
        return Invalid(
            message,
            file=self.folder.sources_path,
            line=line_of(self.source, self.folder, key),
            cause=cause or _("{key} of source {name}", key=key, name=str(self.source.name)),
            mend=mend,
        )

    def undecodable(self, error: UnicodeError) -> Invalid:
        """The text is not in its encoding, with the first line where that shows."""
        return Invalid(
            _("the file is not {encoding} text", encoding=self.encoding.name),
            file=self.path,
            line=_first_wrong_line(self.path, self.encoding.name),
            cause=error.reason if isinstance(error, UnicodeDecodeError) else str(error),
            mend=self.encoding_mend(),
        )

    def encoding_mend(self) -> str:
        """What to do about text that cannot be decoded."""
        words = _("save it as UTF-8, or give encoding: (such as cp950 for Big5, gb18030, utf-16 or cp1252)")
        if self.encoding.by != "unknown" or extras.installed("charset_normalizer"):
            return words
        install = extras.install_command("files")
        return _("{words}; this finds the encoding of most files: {command}", words=words, command=install)


class Problems:
    """Collects wrong lines, so that one run names them all."""

    def __init__(self, file: File) -> None:
        self.file = file
        self.count = 0
        self.undecodable = False
        self.found: list[Problem] = []

    def add(self, message: str, line: int, cause: str) -> None:
        """One more; the first 20 are kept."""
        self.count += 1
        if len(self.found) < _MOST_PROBLEMS:
            self.found.append(Invalid(message, file=self.file.path, line=line, cause=cause))

    def report(self) -> None:
        """Raise them as one.

        Raises:
            Invalid: there are any.
        """
        if not self.found:
            return
        first, *others = self.found
        first.mend = _("correct the file and run this again; wrong lines: {count}", count=self.count)
        if self.undecodable:
            first.mend = self.file.encoding_mend()
        first.also = others
        raise first


def check_header(header: list[str], file: File, line: int) -> None:
    """Refuse a header in which a name stands twice.

    Raises:
        Invalid: it does.
    """
    repeated = next((name for name in header if header.count(name) > 1), None)
    if repeated is not None:
        message = _("the column {name} stands twice", name=lines.shown_name(repeated))
        raise Invalid(message, file=file.path, line=line, mend=_("rename one of the two in the file"))


def _first_wrong_line(path: Path, name: str) -> int | None:
    decoder = codecs.getincrementaldecoder(name)()
    line = 1
    with opened.open_bytes(path) as stream:
        while True:
            block = stream.read(1 << 16)
            try:
                line += decoder.decode(block, final=not block).count("\n")
            except UnicodeDecodeError as error:
                return line + error.object[: error.start].decode(name, errors="ignore").count("\n")
            except UnicodeError:
                return line
            if not block:
                return None

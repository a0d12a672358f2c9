"""Rows of a CSV, TSV, JSON or JSONL file, with the line of whatever is wrong in it."""

from __future__ import annotations

import csv
import json
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from nlp_skills.data import rows as lines
from nlp_skills.data.faults import fault_words
from nlp_skills.data.sources import Fetching
from nlp_skills.errors import Invalid, Problem, Usage
from nlp_skills.i18n import _
from nlp_skills.schema.source import FileImport

_FORMATS = {".csv": "csv", ".tsv": "tsv", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_MOST_PROBLEMS = 20


VERSION = 1


def fetch(source: FileImport, fetching: Fetching) -> Generator[dict[str, Any], None, None]:
    """The file's rows. All the wrong lines (up to 20) are named in one problem.

    Raises:
        Invalid: the file is missing, empty, not of its format or not in its encoding.
    """
    folder = fetching.folder
    path = folder.root / source.path
    if not path.is_file():
        raise Invalid(
            _("file not found"),
            file=path,
            cause=_("source {name} reads this file", name=str(source.name)),
            mend=_("put the file there, or correct path: in data_source.yaml"),
        )
    reader = {"csv": _separated, "tsv": _separated, "json": _json, "jsonl": _jsonl}[file_format(source)]
    count = 0
    try:
        for row in reader(path, source):
            yield row
            count += 1
    except UnicodeDecodeError as error:
        raise _encoding_problem(path, source.encoding or "utf-8-sig", error) from error
    except LookupError as error:
        raise Invalid(_("unknown encoding {name}", name=str(source.encoding)), file=folder.sources_path) from error
    except OSError as error:
        raise Invalid(_("the file cannot be read"), file=path, cause=error.strerror) from error
    if not count:
        raise Invalid(_("the file has no rows"), file=path, mend=_("fill it, or remove the source"))


def file_format(source: FileImport) -> str:
    """The format as given, or as the file's name tells.

    Raises:
        Usage: neither says.
    """
    known = source.format or _FORMATS.get(Path(source.path).suffix.lower())
    if known is None:
        raise Usage(
            _("the format of {path} is not known from its name", path=source.path),
            mend=_("give format: csv, tsv, json or jsonl"),
        )
    return known


def _separated(path: Path, source: FileImport) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(lines.MAX_LINE_BYTES)
    delimiter = source.delimiter or ("\t" if file_format(source) == "tsv" else ",")
    problems = _Problems(path)
    with open(path, encoding=source.encoding or "utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, delimiter=delimiter, strict=True)
        try:
            header = next(reader, [])
            _check_header(header, path)
            for values in reader:
                if len(values) == len(header):
                    yield dict(zip(header, values, strict=True))
                elif values:
                    cause = _("{found} columns, the header has {expected}", found=len(values), expected=len(header))
                    problems.add(_("the row does not fit the header"), reader.line_num, cause)
        except csv.Error as error:
            problems.add(_("not valid CSV"), reader.line_num, str(error))
    problems.report()


def _check_header(header: list[str], path: Path) -> None:
    repeated = next((name for name in header if header.count(name) > 1), None)
    if repeated is not None:
        message = _("the column {name} stands twice", name=lines.shown_name(repeated))
        raise Invalid(message, file=path, line=1, mend=_("rename one of the two in the file"))


def _json(path: Path, source: FileImport) -> Iterator[dict[str, Any]]:
    text = path.read_bytes().decode(source.encoding or "utf-8-sig")
    try:
        content = lines.parse(text.encode("utf-8"))
    except (ValueError, RecursionError) as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else None
        code, detail = lines.parse_fault(error)
        raise Invalid(fault_words(code), file=path, line=line, cause=detail) from error
    if not isinstance(content, list):
        raise Invalid(
            _("the file is not a list of objects"), file=path, mend=_('write [{"text": …}, …], or use format: jsonl')
        )
    for number, row in enumerate(content, 1):
        if not isinstance(row, dict):
            cause = _("entry {number} is {value}", number=number, value=lines.shown(row))
            raise Invalid(_("the file is not a list of objects"), file=path, cause=cause)
        yield row


def _jsonl(path: Path, source: FileImport) -> Iterator[dict[str, Any]]:
    problems = _Problems(path)
    for number, line in enumerate(_byte_lines(path, source.encoding or "utf-8-sig"), 1):
        if not line or line.isspace():
            continue
        row, fault = _parsed(line)
        if fault is None:
            yield row
        else:
            problems.add(fault_words(fault[0]), number, fault[1])
    problems.report()


def _parsed(line: bytes) -> tuple[dict[str, Any], lines.Fault | None]:
    if len(line) > lines.MAX_LINE_BYTES:
        return {}, ("too_long_line", f"> {lines.MAX_LINE_BYTES} bytes")
    try:
        row = lines.parse(line)
    except (ValueError, RecursionError) as error:
        return {}, lines.parse_fault(error)
    return (row, None) if isinstance(row, dict) else ({}, ("not_object", lines.shown(row)))


def _byte_lines(path: Path, encoding: str) -> Iterator[bytes]:
    """Lines as UTF-8 bytes. A UTF-8 file is split before it is decoded, so that one bad byte spoils one line."""
    if encoding.lower().replace("_", "-") in ("utf-8", "utf-8-sig", "utf8"):
        with open(path, "rb") as stream:
            if stream.read(len(lines.BOM)) != lines.BOM:
                stream.seek(0)
            yield from iter(lambda: _bounded_line(stream), b"")
        return
    with open(path, encoding=encoding, newline="\n") as text:
        yield from (line.encode("utf-8") for line in text)


def _bounded_line(stream: Any) -> bytes:
    """A line of at most one byte over the limit; the rest of a longer one is skipped, not kept."""
    line: bytes = stream.readline(lines.MAX_LINE_BYTES + 1)
    more = line
    while more and len(more) > lines.MAX_LINE_BYTES and not more.endswith(b"\n"):
        more = stream.readline(lines.MAX_LINE_BYTES + 1)
    return line


class _Problems:
    """Collects wrong lines, so that one run names them all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self.found: list[Problem] = []

    def add(self, message: str, line: int, cause: str) -> None:
        self.count += 1
        if len(self.found) < _MOST_PROBLEMS:
            self.found.append(Invalid(message, file=self.path, line=line, cause=cause))

    def report(self) -> None:
        if not self.found:
            return
        first, *others = self.found
        first.mend = _("correct the file and run this again; wrong lines: {count}", count=self.count)
        first.also = others
        raise first


def _encoding_problem(path: Path, encoding: str, error: UnicodeDecodeError) -> Invalid:
    line = None
    with open(path, "rb") as stream:
        for number, raw in enumerate(stream, 1):
            try:
                raw.decode(encoding)
            except UnicodeDecodeError:
                line = number
                break
    return Invalid(
        _("the file is not {encoding} text", encoding=encoding),
        file=path,
        line=line,
        cause=error.reason,
        mend=_("save it as UTF-8, or give encoding: (such as big5 or cp1252)"),
    )

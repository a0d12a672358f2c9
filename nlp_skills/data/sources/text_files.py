"""Rows of CSV, TSV, JSON and JSONL text, with the line of whatever is wrong in it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from itertools import islice
from typing import IO, Any

from nlp_skills.data import rows as lines
from nlp_skills.data.faults import fault_words
from nlp_skills.data.sources import opened
from nlp_skills.data.sources.formats import File, Problems, check_header
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _

_DELIMITERS = ",;\t|"
_LOOKED_AT = 20


def separated(file: File) -> Iterator[dict[str, Any]]:
    """The rows of CSV or TSV under the names in the header; blank lines are passed over."""
    csv.field_size_limit(lines.MAX_LINE_BYTES)
    delimiter = _delimiter(file)
    file.record["delimiter"] = delimiter
    problems = Problems(file)
    with opened.open_text(file.path, file.encoding) as stream:
        reader = csv.reader(_bounded(stream), delimiter=delimiter, strict=True)
        begins = 1
        try:
            header = next(reader, [])
            check_header(header, file, 1)
            begins = reader.line_num + 1
            for values in reader:
                if len(values) == len(header):
                    yield dict(zip(header, values, strict=True))
                elif values:
                    cause = _("{found} columns, the header has {expected}", found=len(values), expected=len(header))
                    problems.add(_("the row does not fit the header"), begins, cause)
                begins = reader.line_num + 1
        except csv.Error as error:
            problems.add(_("not valid CSV"), begins, str(error))
        except _TooLong:
            problems.add(fault_words("too_long_line"), reader.line_num + 1, f"> {lines.MAX_LINE_BYTES}")
    problems.report()


class _TooLong(Exception):
    """A line that nobody wrote by hand."""


def _bounded(stream: IO[str]) -> Iterator[str]:
    for line in iter(lambda: stream.readline(lines.MAX_LINE_BYTES + 1), ""):
        if len(line) > lines.MAX_LINE_BYTES:
            raise _TooLong
        yield line


def _delimiter(file: File) -> str:
    """As given, or a comma; another one where only that one splits the header, and the first rows like it."""
    if file.source.delimiter:
        return file.source.delimiter
    if file.format == "tsv":
        return "\t"
    with opened.open_text(file.path, file.encoding) as stream:
        try:
            head = list(islice(_bounded(stream), 5 * _LOOKED_AT))
        except (_TooLong, UnicodeError):
            return ","
    return next((mark for mark in _DELIMITERS if _splits(head, mark)), ",")


def _splits(head: list[str], delimiter: str) -> bool:
    reader = csv.reader(head, delimiter=delimiter)
    try:
        found = [len(values) for values in islice(reader, _LOOKED_AT) if values]
    except csv.Error:
        return False
    if not found or found[0] < 2:
        return False
    # A header with a comma in it settles it: rows that do not fit are then wrong rows.
    return delimiter == "," or len(set(found)) == 1


def json_rows(file: File) -> Iterator[dict[str, Any]]:
    """The objects of the list that a JSON file is or holds; the file is read whole.

    Raises:
        Invalid: not JSON, or there is no such list, or several and `records` does not say which.
    """
    with opened.open_text(file.path, file.encoding) as stream:
        text = stream.read()
    try:
        content = lines.parse(text.encode("utf-8"))
    except (ValueError, RecursionError) as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else None
        code, detail = lines.parse_fault(error)
        mend = None
        if detail.startswith("Extra data"):
            mend = _("where each line is an object of its own, give format: jsonl")
        raise Invalid(fault_words(code), file=file.path, line=line, cause=detail, mend=mend) from error
    for number, row in enumerate(_records(content, file), 1):
        if not isinstance(row, dict):
            cause = _("entry {number} is {value}", number=number, value=lines.shown(row))
            raise Invalid(_("the file is not a list of objects"), file=file.path, cause=cause)
        yield row


def _records(content: Any, file: File) -> list[Any]:
    if file.source.records is not None:
        return _searched(content, file.source.records, file)
    if isinstance(content, list):
        return content
    held = content if isinstance(content, dict) else {}
    found = [name for name, value in held.items() if isinstance(value, list) and value and isinstance(value[0], dict)]
    if len(found) == 1:
        file.record["records"] = found[0]
        rows: list[Any] = held[found[0]]
        return rows
    if found:
        raise Invalid(
            _("the file holds several lists of objects"),
            file=file.path,
            cause=lines.cut(", ".join(lines.shown_name(name) for name in found), 200),
            mend=_("name the one that is meant: records: {name}", name=lines.shown_name(found[0])),
        )
    raise Invalid(
        _("the file is not a list of objects"), file=file.path, mend=_('write [{"text": …}, …], or use format: jsonl')
    )


def _searched(content: Any, expression: str, file: File) -> list[Any]:
    import jmespath
    from jmespath.exceptions import JMESPathError

    try:
        found = jmespath.search(expression, content)
    except JMESPathError as error:
        raise file.wrong_setting(
            "records",
            _("records: is not a JMESPath that works here"),
            cause=str(error).strip().split("\n", 1)[0],
            mend=_("write it like data.items, where that is the list of rows"),
        ) from error
    if isinstance(found, list):
        return found
    known = ", ".join(lines.shown_name(name) for name in content) if isinstance(content, dict) else lines.shown(content)
    raise file.wrong_setting(
        "records",
        _("records: {path} is no list in {file}", path=expression, file=file.name),
        cause=_("the file holds: {names}", names=lines.cut(known, 200)),
        mend=_("correct records:, or leave it out where the file is the list"),
    )


def jsonl(file: File) -> Iterator[dict[str, Any]]:
    """An object a line; blank lines are passed over."""
    problems = Problems(file)
    for number, line in enumerate(_byte_lines(file), 1):
        if not line or line.isspace():
            continue
        row, fault = _parsed(line)
        if fault is None:
            yield row
        else:
            problems.undecodable |= fault[0] == "bad_utf8" and file.encoding.by != "utf-8"
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


def _byte_lines(file: File) -> Iterator[bytes]:
    """Lines as UTF-8 bytes. A UTF-8 file is split before it is decoded, so that one bad byte spoils one line."""
    if file.encoding.utf8:
        with opened.open_bytes(file.path) as stream:
            first = _bounded_line(stream, b"\n")
            yield first.removeprefix(lines.BOM)
            if first:
                yield from iter(lambda: _bounded_line(stream, b"\n"), b"")
        return
    with opened.open_text(file.path, file.encoding) as text:
        yield from (line.encode("utf-8") for line in iter(lambda: _bounded_line(text, "\n"), ""))


def _bounded_line(stream: Any, end: Any) -> Any:
    """A line of at most one character over the limit; the rest of a longer one is skipped, not kept."""
    line = stream.readline(lines.MAX_LINE_BYTES + 1)
    more = line
    while more and len(more) > lines.MAX_LINE_BYTES and not more.endswith(end):
        more = stream.readline(lines.MAX_LINE_BYTES + 1)
    return line

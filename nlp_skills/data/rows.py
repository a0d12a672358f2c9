"""Checking a JSONL file line by line, and remembering that it was checked.

Standard library only, Python 3.9, no import of ours: the hook that Claude Code starts uses this file
with the system's interpreter. Lines end at `\n` and nowhere else, so line numbers are an editor's.
"""

# Imports are what the hook spends its time on: no pathlib, no tempfile, typing for the checker only.
# ruff: noqa: PTH118, PTH103
from __future__ import annotations

import contextlib
import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import IO, Any, NoReturn

    Fault = tuple[str, str]  # code and detail
    Report = dict[str, Any]

BLOCK_BYTES = 1 << 20
ORJSON_FROM_BYTES = 2 << 20
MAX_LINE_BYTES = 1 << 20
BOM = b"\xef\xbb\xbf"


class _NotANumber(ValueError):
    pass


def _refuse(constant: str) -> NoReturn:
    raise _NotANumber(constant)


def _finite(digits: str) -> float:
    value = float(digits)
    return _refuse(digits) if value in (float("inf"), float("-inf")) else value


_decoder = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)


def parse(line: bytes) -> Any:
    """One JSON value from a line of UTF-8.

    Raises:
        ValueError: not JSON, not UTF-8, NaN or infinity, or half a surrogate pair (which no file can hold).
        RecursionError: nested too deeply.
    """
    value = _decoder.decode(line.decode("utf-8"))
    if b"\\ud" in line or b"\\uD" in line:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def _parser(size: int) -> Callable[[bytes], Any]:
    """The parser: orjson, as strict as ours, where it is installed and the file is large enough to earn its import."""
    if size < ORJSON_FROM_BYTES:
        return parse
    try:
        from orjson import loads
    except ImportError:
        return parse
    return loads


def read(path: Any) -> Iterator[dict[str, Any]]:
    """The rows of a file that passed `check`; blank lines are skipped.

    Raises:
        ValueError: a line is not JSON.
    """
    with open(path, "rb") as stream:
        parse_line = _parser(os.fstat(stream.fileno()).st_size)
        for line in stream:
            if not line.isspace():
                yield parse_line(line)


def dump(row: dict[str, Any]) -> bytes:
    """A row as one line of a data file, its line end included."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"


def canonical(value: Any) -> bytes:
    """The one spelling of a JSON value, for hashes and for order."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")).encode("utf-8")


class Shape:
    """What a row must look like, and how many good rows each label has."""

    parse_line: Callable[[bytes], Any] = staticmethod(parse)

    def __init__(self, fields: list[str], output: dict[str, dict[str, Any]]) -> None:
        self.fields = list(fields)
        self.output = output
        self.label = next((name for name, part in output.items() if part.get("enum")), None)
        self.counts: dict[Any, int] = {}
        if self.label is not None:
            self.counts = {label_key(value): 0 for value in output[self.label]["enum"]}

    @property
    def simple(self) -> bool:
        """One property, whose values are text from a list: what classification looks like."""
        return (
            len(self.output) == 1
            and self.label is not None
            and all(isinstance(value, str) for value in self.output[self.label]["enum"])
        )

    def faults(self, row: Any) -> list[Fault]:
        """Everything wrong with a parsed row."""
        if not isinstance(row, dict):
            return [("not_object", shown(row))]
        found = [fault for name in self.fields for fault in _text_faults(name, row)]
        return found + [fault for name, part in self.output.items() for fault in _output_faults(name, part, row)]

    def count(self, row: dict[str, Any]) -> None:
        """Count a good row's label."""
        if self.label is not None:
            self.counts[label_key(row[self.label])] += 1

    def diagnose(self, line: bytes) -> tuple[Any, list[Fault]]:
        """The row in a line, as far as it can be read, and everything wrong with it."""
        if len(line) > MAX_LINE_BYTES:
            return None, [("too_long_line", f"> {MAX_LINE_BYTES} bytes")]
        marked = line.startswith(BOM)
        try:
            row = parse(line[len(BOM) :] if marked else line)
        except (ValueError, RecursionError) as error:
            return None, [parse_fault(error)]
        return row, ([("bom", "U+FEFF")] if marked else []) + self.faults(row)


def label_key(value: Any) -> str:
    """A label's name in a distribution."""
    return value if isinstance(value, str) else json.dumps(value)


def _text_faults(name: str, row: dict[str, Any]) -> list[Fault]:
    if name not in row:
        return [("missing_field", shown_name(name))]
    value = row[name]
    if not isinstance(value, str):
        return [("wrong_type", _pair(name, value))]
    return [] if value and not value.isspace() else [("empty_text", shown_name(name))]


_TYPES: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


def _output_faults(name: str, part: dict[str, Any], row: dict[str, Any]) -> list[Fault]:
    if name not in row:
        return [("missing_field", shown_name(name))]
    value, allowed = row[name], part.get("enum")
    if not _TYPES[part.get("type", "string")](value):
        return [("wrong_type", _pair(name, value))]
    return [("unknown_label", _pair(name, value))] if allowed and value not in allowed else []


def parse_fault(error: Exception) -> Fault:
    """The code and the detail of what `parse` refused."""
    if isinstance(error, (UnicodeDecodeError, UnicodeEncodeError)):
        return "bad_utf8", cut(error.reason)
    if isinstance(error, _NotANumber):
        return "nan", cut(str(error))
    if isinstance(error, json.JSONDecodeError):
        return "bad_json", cut(f"{error.msg}: {error.colno}")
    return "bad_json", cut(str(error))


def cut(text: str, limit: int = 80) -> str:
    """At most `limit` characters, the last an ellipsis when some were left out."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def shown(value: Any) -> str:
    """A value from a row for people: one line, control and invisible characters escaped, cut."""
    return cut(repr(value if not isinstance(value, str) else value[:200]))


def shown_name(name: str) -> str:
    """A key from a row for people, without quotes where it is plain."""
    return cut(name if name.isprintable() else repr(name), 40)


def _pair(name: str, value: Any) -> str:
    return cut(f"{shown_name(name)} = {shown(value)}")


class _Tally:
    """Faults as they are found; every one is counted, the first `limit` are kept."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.lines = self.bad = self.blank = 0
        self.codes: dict[str, int] = {}
        self.faults: list[dict[str, Any]] = []

    def add(self, line: int, faults: Iterable[Fault]) -> None:
        for code, detail in faults:
            self.codes[code] = self.codes.get(code, 0) + 1
            if len(self.faults) < self.limit:
                self.faults.append({"line": line, "code": code, "detail": detail})


def check(
    path: Any,
    fields: list[str],
    output: dict[str, dict[str, Any]],
    *,
    max_faults: int = 1000,
) -> Report:
    """Look at every line of a JSONL file.

    `fields` must be non-empty text in every row; `output` maps each property of the answer to its JSON
    Schema fragment. Returns counts (`rows` without the blank lines, `bad` rows, `blank` lines,
    `duplicates`: lines that repeat an earlier one, not counted as bad), `faults` by line, `codes` with
    the full number of each fault, and the `distribution` of the good rows over the labels.

    Raises:
        OSError: the file cannot be read.
    """
    shape, tally, twins = Shape(fields, output), _Tally(max_faults), _Twins()
    with open(path, "rb") as stream:
        stat = os.fstat(stream.fileno())
        shape.parse_line = _parser(stat.st_size)
        look = _simple_lines if shape.simple else _any_lines
        for first, lines in _blocks(stream):
            look(lines, first, shape, tally)
            twins.look(lines)
            tally.lines += len(lines)
        duplicates = twins.confirm(stream, tally)
    return {
        "rows": tally.lines - tally.blank,
        "bad": tally.bad,
        "blank": tally.blank,
        "faults": sorted(tally.faults, key=lambda fault: fault["line"]),
        "codes": tally.codes,
        "distribution": shape.counts,
        "duplicates": duplicates,
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
    }


def _blocks(stream: IO[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    """Lists of whole lines with the number of their first; only a list's first line can be overlong.

    Of an overlong line, one byte more than the limit is kept: memory stays bounded whatever comes.
    """
    first, rest = 1, b""
    while True:
        block = stream.read(BLOCK_BYTES)
        lines = (rest + block).split(b"\n")
        rest = lines.pop() if block else b""
        if len(rest) > MAX_LINE_BYTES:
            rest = rest[: MAX_LINE_BYTES + 1]
        if not block and lines == [b""]:
            return
        yield first, lines
        if not block:
            return
        first += len(lines)


def _simple_lines(lines: list[bytes], first: int, shape: Shape, tally: _Tally) -> None:
    """The quick way for classification: a good row costs a parse and a few look-ups, nothing is called."""
    parse_line, counts, label, fields = shape.parse_line, shape.counts, shape.label, shape.fields
    if lines and len(lines[0]) > MAX_LINE_BYTES:
        _slow_line(lines[0], first, shape, tally)
        lines, first = lines[1:], first + 1
    for number, line in enumerate(lines, first):
        try:
            row = parse_line(line)
            count = counts[row[label]]
            for field in fields:
                text = row[field]
                if text.__class__ is not str or not text or text.isspace():
                    break
            else:
                counts[row[label]] = count + 1
                continue
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        _slow_line(line, number, shape, tally)


def _any_lines(lines: list[bytes], first: int, shape: Shape, tally: _Tally) -> None:
    for number, line in enumerate(lines, first):
        _slow_line(line, number, shape, tally)


def _slow_line(line: bytes, number: int, shape: Shape, tally: _Tally) -> None:
    if not line or line.isspace():
        tally.blank += 1
        return
    row, faults = shape.diagnose(line)
    if faults:
        tally.bad += 1
        tally.add(number, faults)
    else:
        shape.count(row)


class _Twins:
    """Finds repeated lines with eight bytes a line; a second read confirms what a hash only suspects."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.suspects: set[int] = set()

    def look(self, lines: list[bytes]) -> None:
        hashes = [hash(line) for line in lines]
        new = set(hashes)
        if len(new) == len(hashes) and self.seen.isdisjoint(new):
            self.seen |= new
            return
        for value in hashes:
            if value in self.seen:
                self.suspects.add(value)
            self.seen.add(value)

    def confirm(self, stream: IO[bytes], tally: _Tally) -> int:
        if not self.suspects:
            return 0
        stream.seek(0)
        firsts: dict[bytes, int] = {}
        found = 0
        for first, lines in _blocks(stream):
            for number, line in enumerate(lines, first):
                if hash(line) not in self.suspects or not line.strip() or len(line) > MAX_LINE_BYTES:
                    continue
                earlier = firsts.setdefault(line, number)
                if earlier != number:
                    found += 1
                    tally.add(number, [("duplicate", f"= {earlier}")])
        return found


_REMEMBERED = ("size", "mtime_ns", "rows", "bad", "blank", "duplicates", "distribution")


MEMORY = "checked.json"


def _memories(state_dir: Any) -> dict[str, Any]:
    try:
        with open(os.path.join(state_dir, MEMORY), encoding="utf-8") as stream:
            found = json.load(stream)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def remember(state_dir: Any, path_key: str, report: Report) -> None:
    """Note what a check saw, under `path_key` (such as `data/train.jsonl`), in `checked.json`, atomically.

    Raises:
        OSError: the folder cannot be written.
    """
    memories = _memories(state_dir)
    memories[path_key] = {name: report[name] for name in _REMEMBERED}
    os.makedirs(state_dir, exist_ok=True)
    path = os.path.join(state_dir, MEMORY)
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "w", encoding="utf-8") as stream:
            json.dump(memories, stream, ensure_ascii=False, indent=2)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def recall(state_dir: Any, path_key: str) -> Report | None:
    """What `remember` noted for a file, or None; a damaged note counts as none."""
    entry = _memories(state_dir).get(path_key)
    if not isinstance(entry, dict) or any(name not in entry for name in _REMEMBERED):
        return None
    return entry

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
import re
import zlib
from array import array
from collections import Counter

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


def parser(size: int) -> Callable[[bytes], Any]:
    """`parse` for so many bytes: orjson, as strict, where it is installed and they are enough to earn its import."""
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
        parse_line = parser(os.fstat(stream.fileno()).st_size)
        for line in stream:
            if not line.isspace():
                yield parse_line(line)


def sampled(path: Any, rows: int, most: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and row of about `most` of a file's `rows` lines, evenly spread; what is no object is passed over.

    Raises:
        OSError: the file cannot be read.
    """
    step = max(1, -(-rows // most))
    with open(path, "rb") as stream:
        parse_line = parser(min(rows, most) * 200)
        for number, line in enumerate(stream, 1):
            if step == 1 or number % step == 1:
                try:
                    row = parse_line(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(row, dict):
                    yield number, row


def dump(row: dict[str, Any]) -> bytes:
    """A row as one line of a data file, its line end included."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"


def canonical(value: Any) -> bytes:
    """The one spelling of a JSON value, for hashes and for order."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")).encode("utf-8")


# Faults that do not make a row bad.
REMARKS = frozenset(("duplicate", "entity_repeated"))


class Shape:
    """What a row must look like, and how many good rows each label has.

    `min_chars` and `max_chars` bound the characters of the fields together. `also` is asked about rows that are
    good so far and returns further faults.
    """

    parse_line: Callable[[bytes], Any] = staticmethod(parse)

    def __init__(
        self,
        fields: list[str],
        output: dict[str, dict[str, Any]],
        *,
        min_chars: int = 0,
        max_chars: int | None = None,
        also: Callable[[dict[str, Any]], list[Fault]] | None = None,
    ) -> None:
        self.fields = list(fields)
        self.output = output
        self.least, self.most = min_chars, MAX_LINE_BYTES if max_chars is None else max_chars
        self.also = also
        self.label = next((name for name, part in output.items() if choices(part)), None)
        self.counts: dict[Any, int] = {}
        if self.label is not None:
            self.counts = {label_key(value): 0 for value in choices(output[self.label])}

    @property
    def simple(self) -> bool:
        """One property, whose values are text from a list: what classification looks like."""
        return (
            self.also is None
            and bool(self.fields)
            and len(self.output) == 1
            and self.label is not None
            and self.output[self.label].get("type", "string") == "string"
            and all(isinstance(value, str) for value in choices(self.output[self.label]))
        )

    def faults(self, row: Any) -> list[Fault]:
        """Everything wrong with a parsed row."""
        if not isinstance(row, dict):
            return [("not_object", brief(row))]
        found = [fault for name in self.fields for fault in _text_faults(name, row)] or self._length_faults(row)
        found += [fault for name, part in self.output.items() for fault in _output_faults(name, part, row)]
        return found or (self.also(row) if self.also else [])

    def chars(self, row: dict[str, Any]) -> int:
        """The characters of a good row's fields together."""
        return sum([len(row[name]) for name in self.fields])

    def count(self, row: dict[str, Any]) -> None:
        """Count a good row's labels."""
        if self.label is not None:
            for label in labels_of(row, self.label):
                self.counts[label] += 1

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

    def _length_faults(self, row: dict[str, Any]) -> list[Fault]:
        chars = self.chars(row)
        if self.least <= chars <= self.most or not self.fields:
            return []
        return [
            ("too_short", f"{chars} < {self.least}") if chars < self.least else ("too_long", f"{chars} > {self.most}")
        ]


def choices(part: dict[str, Any]) -> list[Any]:
    """The values a property of the answer is chosen from; those of its items where it is an array."""
    if part.get("type") == "array":
        part = part.get("items") or {}
    return list(part.get("enum") or [])


def label_key(value: Any) -> str:
    """A label's name in a distribution."""
    return value if isinstance(value, str) else json.dumps(value)


def labels_of(row: dict[str, Any], name: str) -> list[str]:
    """The label of a good row, or all of them where it has a list, as they are named in a distribution."""
    value = row[name]
    return [label_key(one) for one in value] if isinstance(value, list) else [label_key(value)]


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
    value, allowed = row[name], choices(part)
    if not _TYPES[part.get("type", "string")](value):
        return [("wrong_type", _pair(name, value))]
    if not isinstance(value, list):
        return [("unknown_label", _pair(name, value))] if allowed and value not in allowed else []
    unknown = [item for item in value if item not in allowed] if allowed else []
    if unknown:
        return [("unknown_label", _pair(name, unknown[0]))]
    # More labels than there are: one repeats. Only shorter lists are worth a closer look.
    twice = allowed and (len(value) > len(allowed) or any(item in value[:at] for at, item in enumerate(value)))
    return [("repeated_label", shown_name(name))] if twice else []


def parse_fault(error: Exception) -> Fault:
    """The code and the detail of what `parse` refused."""
    if isinstance(error, (UnicodeDecodeError, UnicodeEncodeError)):
        return "bad_utf8", cut(error.reason)
    if isinstance(error, _NotANumber):
        return "nan", cut(str(error), 30)
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


# Letters and marks that show nothing: text can be hidden in them.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def brief(value: Any) -> str:
    """A value from a row in so few characters that it can be recognised and can say nothing else.

    A short text stands in quotes, of a longer one the beginning and its length; of arrays and objects, what
    they are. Whatever does not print, or prints as nothing, is escaped.
    """
    if isinstance(value, str):
        quoted = repr(value if len(value) <= _BRIEF else value[:12] + "…")
        quoted = _UNSEEN.sub(lambda found: ascii(found[0])[1:-1], quoted)
        return quoted if len(value) <= _BRIEF else f"{quoted} ({len(value)})"
    if isinstance(value, (list, dict)):
        return f"{'array' if isinstance(value, list) else 'object'} ({len(value)})"
    return cut(json.dumps(value), _BRIEF)


_BRIEF = 30


def _pair(name: str, value: Any) -> str:
    return f"{shown_name(name)} = {brief(value)}"


class _Tally:
    """Faults as they are found; all are counted, the first `limit` of each kind are kept."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.lines = self.bad = self.blank = 0
        self.codes: dict[str, int] = {}
        self.faults: list[dict[str, Any]] = []
        self.lengths = _Lengths()

    def add(self, line: int, faults: Iterable[Fault]) -> None:
        for code, detail in faults:
            self.codes[code] = self.codes.get(code, 0) + 1
            if self.codes[code] <= self.limit:
                self.faults.append({"line": line, "code": code, "detail": detail})


class _Lengths:
    """How many characters good rows have, and where the longest and the shortest stand."""

    KEPT = 5

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.longest: list[tuple[int, int]] = []
        self.shortest: list[tuple[int, int]] = []

    def look(self, chars: list[int], first: int) -> None:
        """The characters of each line of a block; 0 stands for a line that is no good row."""
        self.counts.update(chars)
        above = self.longest[-1][0] if len(self.longest) == self.KEPT else 0
        if max(chars, default=0) > above:
            found = [(count, line) for line, count in enumerate(chars, first) if count > above]
            self.longest = sorted([*self.longest, *found], key=lambda place: (-place[0], place[1]))[: self.KEPT]
        below = self.shortest[-1][0] if len(self.shortest) == self.KEPT else MAX_LINE_BYTES
        if min(filter(None, chars), default=below) < below:
            found = [(count, line) for line, count in enumerate(chars, first) if 0 < count < below]
            self.shortest = sorted([*self.shortest, *found])[: self.KEPT]

    def report(self) -> Report:
        """Counts by number of characters, and [characters, line] of the extremes."""
        counts = {chars: count for chars, count in sorted(self.counts.items()) if chars}
        return {"counts": counts, "longest": self.longest, "shortest": self.shortest}


def expectation(
    fields: list[str], output: dict[str, dict[str, Any]], min_chars: int = 0, max_chars: int | None = None
) -> int:
    """A number that changes with what is expected of rows: a file that passed need not pass another."""
    return zlib.crc32(canonical([fields, output, min_chars, max_chars]))


def check(
    path: Any,
    fields: list[str],
    output: dict[str, dict[str, Any]],
    *,
    min_chars: int = 0,
    max_chars: int | None = None,
    also: Callable[[dict[str, Any]], list[Fault]] | None = None,
    max_faults: int = 100,
    on_bytes: Callable[[int], None] | None = None,
) -> Report:
    """Look at every line of a JSONL file.

    `fields` must be non-empty text in every row, together of `min_chars` to `max_chars` characters; `output`
    maps each property of the answer to its JSON Schema fragment; `also` names further faults of a row;
    `on_bytes` is told of every block that is done.

    Returns counts (`rows` without the blank lines, `bad` rows, `blank` lines, `duplicates`: lines that repeat an
    earlier one, not counted as bad), the first `max_faults` `faults` of each code by line, `codes` with the full
    number of each, the `distribution` of the good rows over the labels, and their `lengths` in characters.

    Raises:
        OSError: the file cannot be read.
    """
    shape = Shape(fields, output, min_chars=min_chars, max_chars=max_chars, also=also)
    tally, twins = _Tally(max_faults), _Twins()
    with open(path, "rb") as stream:
        stat = os.fstat(stream.fileno())
        shape.parse_line = parser(stat.st_size)
        look = _simple_lines if shape.simple else _any_lines
        for first, lines in _blocks(stream):
            look(lines, first, shape, tally)
            twins.look(lines)
            tally.lines += len(lines)
            if on_bytes:
                on_bytes(stream.tell())
        duplicates = twins.report(tally)
    report = _report(shape, tally, stat)
    return {**report, "duplicates": duplicates, "expected": expectation(shape.fields, output, min_chars, max_chars)}


def _report(shape: Shape, tally: _Tally, stat: os.stat_result) -> Report:
    return {
        "rows": tally.lines - tally.blank,
        "bad": tally.bad,
        "blank": tally.blank,
        "faults": sorted(tally.faults, key=lambda fault: fault["line"]),
        "codes": tally.codes,
        "distribution": shape.counts,
        "lengths": tally.lengths.report(),
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
    }


_WINDOWS = 8


def glance(path: Any, fields: list[str], output: dict[str, dict[str, Any]], *, budget: int, **more: Any) -> Report:
    """Look at about `budget` bytes of a large file: half of them at its beginning, the rest spread to its end.

    As `check`, without looking for duplicates; `seen` is the number of bytes looked at. A fault beyond the
    beginning has no `line` but the number of the `byte` its line begins at.

    Raises:
        OSError: the file cannot be read.
    """
    shape, tally = Shape(fields, output, **more), _Tally(100)
    with open(path, "rb") as stream:
        stat = os.fstat(stream.fileno())
        shape.parse_line = parser(budget)
        look = _simple_lines if shape.simple else _any_lines
        head = stream.read(budget // 2)
        lines = head.split(b"\n")[:-1]
        look(lines, 1, shape, tally)
        tally.lines, seen = len(lines), sum(map(len, lines)) + len(lines)
        far, width = _Tally(100), budget // 2 // _WINDOWS
        for window in range(_WINDOWS):
            start = len(head) + (stat.st_size - len(head) - width) * window // (_WINDOWS - 1)
            seen += _look_at(stream, start, width, shape, far)
    report = _report(shape, tally, stat)
    report["faults"] += [{**fault, "line": None, "byte": fault["line"]} for fault in far.faults]
    report["codes"] = {code: tally.codes.get(code, 0) + far.codes.get(code, 0) for code in {**tally.codes, **far.codes}}
    for name in ("bad", "blank"):
        report[name] += getattr(far, name)
    report["rows"] += far.lines - far.blank
    return {**report, "duplicates": 0, "seen": seen}


def _look_at(stream: IO[bytes], start: int, width: int, shape: Shape, tally: _Tally) -> int:
    """Look at the whole lines of a window; in `tally` they are numbered by their first byte. Returns their bytes."""
    stream.seek(start)
    partial, *lines = stream.read(width).split(b"\n")
    lines = lines[:-1]
    at = start + len(partial) + 1
    look = _simple_lines if shape.simple else _any_lines
    for line in lines:
        look([line], at, shape, tally)
        at += len(line) + 1
    tally.lines += len(lines)
    return sum(map(len, lines)) + len(lines)


def _blocks(stream: IO[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    """Lists of whole lines with the number of their first; only a list's first line can be overlong.

    Of an overlong line, one byte more than the limit is kept: memory stays bounded whatever comes.
    """
    first, rest = 1, b""
    while True:
        block = stream.read(BLOCK_BYTES)
        lines = block.split(b"\n")
        lines[0] = rest + lines[0]
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
    parse_line, counts, label = shape.parse_line, shape.counts, shape.label
    field, *others = shape.fields
    least, most = shape.least, shape.most
    lengths: list[int] = []
    add = lengths.append
    if lines and len(lines[0]) > MAX_LINE_BYTES:
        add(_slow_line(lines[0], first, shape, tally))
        lines = lines[1:]
    for line in lines:
        try:
            row = parse_line(line)
            answer = row[label]
            count = counts[answer]
            text = row[field]
            if text.__class__ is str and text and not text.isspace():
                chars = len(text)
                if others:
                    chars += _chars_of(row, others)
                if least <= chars <= most:
                    counts[answer] = count + 1
                    add(chars)
                    continue
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        add(_slow_line(line, first + len(lengths), shape, tally))
    tally.lengths.look(lengths, first)


def _chars_of(row: dict[str, Any], fields: list[str]) -> int:
    """The characters of these fields together; a number that is out of bounds where one of them is no text."""
    chars = 0
    for field in fields:
        text = row[field]
        if text.__class__ is not str or not text or text.isspace():
            return MAX_LINE_BYTES + 1
        chars += len(text)
    return chars


def _any_lines(lines: list[bytes], first: int, shape: Shape, tally: _Tally) -> None:
    parse_line = shape.parse_line
    lengths: list[int] = []
    for number, line in enumerate(lines, first):
        try:
            row = parse_line(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict) and len(line) <= MAX_LINE_BYTES and not shape.faults(row):
            shape.count(row)
            lengths.append(shape.chars(row))
        else:
            lengths.append(_slow_line(line, number, shape, tally))
    tally.lengths.look(lengths, first)


def _slow_line(line: bytes, number: int, shape: Shape, tally: _Tally) -> int:
    """Judge a line that is not simply good; returns the characters of its fields when it is good after all."""
    if not line or line.isspace():
        tally.blank += 1
        return 0
    row, faults = shape.diagnose(line)
    tally.add(number, faults)
    if any(code not in REMARKS for code, _detail in faults):
        tally.bad += 1
        return 0
    shape.count(row)
    return shape.chars(row)


class _Twins:
    """Finds repeated lines by Python's own keyed 64-bit hash of each, sixteen bytes and a place in a set a line.

    Among a million lines chance makes two look alike once in some thirty million files, and a warning of it.
    """

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.repeated: set[int] = set()
        self.blocks: list[array[int]] = []

    def look(self, lines: list[bytes]) -> None:
        hashes = list(map(hash, lines))
        self.blocks.append(array("q", hashes))
        new = set(hashes)
        repeated = new & self.seen
        if len(new) < len(hashes):
            repeated |= {value for value, count in Counter(hashes).items() if count > 1}
        repeated -= self.repeated
        if repeated:
            blank = {hash(line) for line in lines if not line or line.isspace() or len(line) > MAX_LINE_BYTES}
            self.repeated |= repeated - blank
        self.seen |= new

    def report(self, tally: _Tally) -> int:
        """Name each line that repeats an earlier one, with the first of them; returns how many there are."""
        firsts: dict[int, int] = {}
        found, first = 0, 1
        for hashes in self.blocks:
            if not self.repeated.isdisjoint(hashes):
                for number, value in enumerate(hashes, first):
                    if value in self.repeated and firsts.setdefault(value, number) != number:
                        found += 1
                        tally.add(number, [("duplicate", f"= {firsts[value]}")])
            first += len(hashes)
        return found


_REMEMBERED = ("size", "mtime_ns", "expected", "rows", "bad", "blank", "duplicates", "distribution")
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

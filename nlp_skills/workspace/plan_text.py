"""A plan's text: steps read out of Markdown that a person edits, and a status changed without touching the rest.

A step is a list item with a box, `- [ ] Train v2`, or one under which a status stands. Under it, each on its line:
`status`, `command`, `expected`, `verify`, `note`. Whatever else is in the file is the person's.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from nlp_skills.errors import Invalid
from nlp_skills.i18n import _

Status = Literal["pending", "in-progress", "completed", "blocked", "skipped"]
STATUSES: tuple[Status, ...] = get_args(Status)
EVERY = 3  # steps between two checkpoints

_KEYS = {"verification": "verify", "notes": "note"}
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z")
_ITEM = re.compile(
    r"(?P<lead>[ \t]*)(?P<mark>[-*+]|\d{1,9}[.)])[ \t]+(?:\[(?P<box>.)\][ \t]+)?(?P<title>\S.*?)?[ \t]*\Z"
)
_FIELD = re.compile(
    r"(?P<lead>[ \t]*(?:[-*+][ \t]+)?)[*_]{0,2}(?P<key>status|command|expected|verify|verification|notes?)[*_]{0,2}"
    r"[ \t]*[:：][*_]{0,2}[ \t]*(?P<value>.*?)[ \t]*\Z",
    re.IGNORECASE,
)
_CHECKPOINT = re.compile(r"[ \t]*>[ \t]*[*_]{0,2}checkpoint\b[^:：]{0,20}[:：][*_]{0,2}(?P<text>.*)", re.IGNORECASE)
_WORD = re.compile(r"[*_`]*(?P<word>pending|in[ _-]progress|completed|blocked|skipped)(?![\w-])", re.IGNORECASE)
_MADE = re.compile(r"<!-- made (\d{4}-[\d:.T+Z-]+)")
_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})")


@dataclass
class Step:
    """One step; `number` counts from 1 in the file's order, `line` is its title's."""

    number: int
    title: str
    line: int
    status: Status = "pending"
    command: str | None = None
    expected: str | None = None
    verify: str | None = None
    notes: list[str] = field(default_factory=list)
    indent: int = field(default=0, repr=False)
    # Where the status stands in the file, for changing it: (line, start, end); and the step's last line of its own.
    box: tuple[int, int, int] | None = field(default=None, repr=False)
    word: tuple[int, int, int] | None = field(default=None, repr=False)
    last: int = field(default=0, repr=False)
    lead: str = field(default="  - ", repr=False)


@dataclass(frozen=True)
class Text:
    """What was read: the goal, the steps, and what to look at after each three."""

    goal: str
    steps: list[Step]
    checkpoints: list[str]


@dataclass(frozen=True)
class Wanted:
    """A step to be written."""

    title: str
    command: str = ""
    expected: str = ""
    verify: str = ""


def lines(content: str) -> list[str]:
    """The lines with their ends, whichever they are; joined they are the content again."""
    return _LINE.findall(content)


def decoded(content: bytes, path: Path) -> str:
    """The text of a file, a byte order mark kept.

    Raises:
        Invalid: it is not UTF-8, with the line.
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise Invalid(
            _("not UTF-8 text"), file=path, line=line, mend=_("save the file as UTF-8 in your editor")
        ) from error


def parse(content: str, path: Path) -> Text:
    """The plan in `content`; `path` is for messages.

    Raises:
        Invalid: a status that is none of the five, or two in one step; with one entry in `also` for each further.
    """
    reader = _Reader(path)
    for index, line in enumerate(lines(content.removeprefix("\ufeff"))):
        reader.take(index, line.rstrip("\r\n"))
    reader.close()
    if reader.problems:
        first, *rest = reader.problems
        first.also.extend(rest)
        raise first
    for number, step in enumerate(reader.steps, 1):
        step.number = number
    return Text(reader.goal or path.stem, reader.steps, reader.checkpoints)


def made(content: str) -> str | None:
    """When the file was made, as it was noted at its head."""
    found = _MADE.search(content)
    return found[1] if found else None


class _Reader:
    """Goes through a plan line by line; what is open is the item or the field that the next line may belong to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.goal = ""
        self.steps: list[Step] = []
        self.checkpoints: list[str] = []
        self.problems: list[Invalid] = []
        self.open: Step | None = None
        self.boxed = False
        self.key: tuple[str, int] | None = None
        self.in_checkpoint = False
        self.apart = False
        self.fence: str | None = None
        self.comment = False

    def take(self, index: int, line: str) -> None:
        if self._hidden(index, line):
            return
        if not line.strip():
            self.in_checkpoint, self.apart = False, True
            return
        # At the margin, "Expected: …" after an empty line is prose.
        found = _FIELD.match(line) if self.open else None
        if found and (found["lead"] or not self.apart):
            self._field(index, found)
        elif found := _CHECKPOINT.match(line):
            self.close()
            self.checkpoints.append(shown(found["text"]))
            self.in_checkpoint = True
        elif self.in_checkpoint and line.lstrip().startswith(">"):
            more = shown(line.lstrip()[1:])
            self.checkpoints[-1] = f"{self.checkpoints[-1]} {more}".strip()
        elif found := _ITEM.match(line):
            self._item(index, line, found)
        else:
            self._prose(index, line)
        self.apart = False

    def _hidden(self, index: int, line: str) -> bool:
        """Fenced lines are no steps, but may be a field's value; comments are neither."""
        if self.comment or line.lstrip().startswith("<!--"):
            self.comment = "-->" not in line
            return True
        mark = _FENCE.match(line)
        if self.fence is None and not mark:
            return False
        if self.fence is None and mark:
            self.fence = mark[1]
            if self.key and _width(line) <= self.key[1]:
                self.key = None
        elif mark and mark[1].startswith(self.fence or "") and not line.strip().strip(mark[1][0]):
            self.fence = None
        else:
            self._more(index, line)
            return True
        if self.open and self.key:
            self.open.last = index
        return True

    def close(self) -> None:
        """The open item ends; without a box or a status it was no step."""
        if self.open and (self.boxed or self.open.word):
            self.steps.append(self.open)
        self.open, self.key, self.boxed = None, None, False

    def _item(self, index: int, line: str, found: re.Match[str]) -> None:
        indent = _width(found["lead"])
        is_step = self.open is not None and (self.boxed or self.open.word is not None)
        nested = self.open is not None and indent > self.open.indent
        if nested and (is_step or found["box"] is None):
            self._more(index, line)
            return
        self.close()
        self.in_checkpoint = False
        text_at = found.start("mark") + len(found["mark"]) + 1
        self.open = Step(0, shown(found["title"] or ""), index + 1, indent=indent, last=index)
        self.open.lead = f"{found['lead']}{' ' * (text_at - len(found['lead']))}- "
        self.boxed = found["box"] is not None
        if self.boxed:
            self.open.box = (index, *found.span("box"))
            self.open.status = "completed" if found["box"] in "xX✓✔" else "pending"

    def _field(self, index: int, found: re.Match[str]) -> None:
        assert self.open is not None
        key = found["key"].lower()
        key = _KEYS.get(key, key)
        self.open.last, self.open.lead = index, found["lead"]
        self.key = (key, _width(found["lead"]))
        if key == "status":
            self._status(index, found)
        elif key == "note":
            self.open.notes.append(shown(found["value"]))
        else:
            setattr(self.open, key, _value(found["value"]) or None)

    def _status(self, index: int, found: re.Match[str]) -> None:
        step = self.open
        assert step is not None
        if step.word:
            self._refuse(index, _("the step {title} has a second status", title=_cut(step.title)))
            return
        known = _WORD.match(found["value"])
        start = found.start("value")
        if known is None and found["value"]:
            self._refuse(index, _("unknown status {status}", status=_cut(shown(found["value"]))))
            return
        step.word = (index, start + known.start("word"), start + known.end("word")) if known else (index, start, start)
        if known is None:
            return
        said: Status = next(s for s in STATUSES if s == re.sub("[ _]", "-", known["word"].lower()))
        # A ticked box is a person's word too: it says completed, except of what was passed over.
        if step.status != "completed" or said == "skipped":
            step.status = said

    def _refuse(self, index: int, message: str) -> None:
        self.problems.append(
            Invalid(message, file=self.path, line=index + 1, mend=_("one of: {allowed}", allowed=", ".join(STATUSES)))
        )

    def _prose(self, index: int, line: str) -> None:
        if line.startswith("#"):
            self.close()
            self.goal = self.goal or (shown(line.lstrip("#")) if line.startswith("# ") else "")
        elif not line[0].isspace():
            self.close()
        else:
            self._more(index, line)

    def _more(self, index: int, line: str) -> None:
        """A further line of the open field, where it is one of those that may have several."""
        if self.open is None or self.key is None:
            return
        key, indent = self.key
        if _width(re.match(r"[ \t]*", line)[0]) <= indent and self.fence is None:  # type: ignore[index]
            self.key = None
            return
        self.open.last = index
        if key in ("command", "expected", "verify"):
            before = getattr(self.open, key)
            setattr(self.open, key, "\n".join(filter(None, [before, _value(line.strip())])))
        elif key == "note":
            self.open.notes[-1] = f"{self.open.notes[-1]} {shown(line)}".strip()


def _width(lead: str) -> int:
    return len(re.match(r"[ \t]*", lead)[0].expandtabs(4))  # type: ignore[index]


def shown(text: str) -> str:
    """Text on one line, without characters that steer a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def local(note: str) -> str:
    """A note with the time it begins with as the clock here shows it."""
    time, _space, rest = note.partition(" ")
    try:
        return f"{dt.datetime.fromisoformat(time).astimezone():%Y-%m-%d %H:%M} {rest}"
    except (ValueError, OverflowError):
        return note


def _cut(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _value(text: str) -> str:
    """A field's text; code stands in backticks, as many as it takes."""
    found = re.fullmatch(r"(`+)[ ]?(.*?[^`])[ ]?\1", text)
    inner = found[2] if found and found[1] not in found[2] else text
    return "".join(c if c.isprintable() else " " for c in inner).strip()


def with_status(content: str, step: Step, status: Status, note: str | None = None) -> str:
    """The text with this step's status, and a note under it; every other byte stays."""
    mark = "\ufeff" if content.startswith("\ufeff") else ""
    parts = lines(content.removeprefix("\ufeff"))
    end = _line_end(parts)
    if step.box:
        _replace(parts, step.box, "x" if status == "completed" else " ")
    added = []
    if step.word:
        empty = step.word[1] == step.word[2]
        glue = " " if empty and not parts[step.word[0]][: step.word[1]].endswith((" ", "\t")) else ""
        _replace(parts, step.word, glue + status)
    elif status not in ("pending", "completed"):
        _insert(parts, step.line - 1, f"{step.lead}status: {status}", end)
        added.append(1)
    if note:
        _insert(parts, step.last + len(added), f"{step.lead}note: {note}", end)
    return mark + "".join(parts)


def _replace(parts: list[str], place: tuple[int, int, int], text: str) -> None:
    index, start, stop = place
    parts[index] = parts[index][:start] + text + parts[index][stop:]


def _insert(parts: list[str], after: int, text: str, end: str) -> None:
    if parts[after].endswith(("\n", "\r")):
        parts.insert(after + 1, text + end)
    else:
        parts[after] += end
        parts.insert(after + 1, text)


def _line_end(parts: Sequence[str]) -> str:
    return next((found[0] for part in parts if (found := re.search(r"[\r\n]+\Z", part))), "\n")


def written(goal: str, about: str, wanted: Sequence[Wanted], checkpoints: Sequence[str], made: str) -> str:
    """A whole plan as Markdown: a checkpoint after each three steps, and one after the last."""
    parts = [f"# {goal}", f"<!-- made {made}; status: {', '.join(STATUSES)} -->", about]
    for number, step in enumerate(wanted, 1):
        parts.append("\n".join(_step_lines(step)))
        if number % EVERY == 0:
            text = checkpoints[min(number // EVERY, len(checkpoints)) - 1]
            parts.append(f"> checkpoint: {text}")
    return "\n\n".join(parts) + "\n"


def _step_lines(step: Wanted) -> Iterator[str]:
    yield f"- [ ] {step.title}"
    yield "  - status: pending"
    yield f"  - command: {_code(step.command)}".rstrip()
    yield f"  - expected: {step.expected}".rstrip()
    yield f"  - verify: {_code(step.verify)}".rstrip()


def _code(text: str) -> str:
    if not text:
        return ""
    ticks = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    pad = " " if "`" in (text[0], text[-1]) else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"

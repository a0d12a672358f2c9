"""A file of rows in, a file of predictions out: one JSON object a line, in the order of the rows.

What was answered is appended as it comes, so that the file itself is what an interrupted run goes on from. A line has
`row` (from 1), `version`, `model` (what answered, as a hash), `input`, and what `Prediction` has.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from nlp_skills import files, progress
from nlp_skills.data import rows as lines
from nlp_skills.deployment import asker, predicting
from nlp_skills.deployment.asker import Prediction, Row
from nlp_skills.deployment.predicting import Predictor
from nlp_skills.errors import Invalid, Usage
from nlp_skills.evaluation import model
from nlp_skills.evaluation.subject import Subject
from nlp_skills.i18n import _

# Rows asked at a time: more of them where they are answered fast, so that little is lost when somebody stops it.
_FEW, _MANY = 16, 512
_SECONDS = 5.0
_HASH_SHOWN = 19


@dataclass
class Done:
    """How many rows the file has, how many were asked now, and how many have no answer that could be read."""

    rows: int
    asked: int = 0
    unread: int = 0


@dataclass(frozen=True)
class _Work:
    """The rows of one file, asked of one version by one engine."""

    chosen: Subject
    engine: str
    source: Path
    target: Path
    model: str

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Line and row of all rows."""
        return _rows(self.source)

    def line(self, number: int, row: Row, said: Prediction) -> bytes:
        """One line of the file that is written."""
        # ASCII, since a model within a schema may spell half a character.
        return json.dumps({**self._head(number, row), **said.as_json()}).encode() + b"\n"

    def is_of(self, kept: Any, number: int, row: Row) -> bool:
        """Whether a line that is there answers this row, and comes from this model."""
        head = json.loads(json.dumps(self._head(number, row)))
        return isinstance(kept, dict) and "answer" in kept and {name: kept.get(name) for name in head} == head

    def _head(self, number: int, row: Row) -> dict[str, Any]:
        shown = {name: row[name] for name in self.chosen.fields}
        return {"row": number + 1, "version": self.chosen.version.name, "model": self.model, "input": shown}


def predict(chosen: Subject, source: Path, target: Path, engine: str = "transformers", *, again: bool = False) -> Done:
    """Answer every row of a file, those left out that `target` has already; `again`: those too.

    Every row is looked at before the first is asked, and the model is loaded only if one is left.

    Raises:
        Usage: both are the same file, or its name ends neither in .jsonl nor in .csv.
        Invalid: a row is broken or lacks a field, or the answers that are there are to other rows or of another model.
        Unavailable: the disk is full, or as `predicting.opened`.
    """
    if target.exists() and target.resolve() == source.resolve():
        raise Usage(_("the answers would take the place of the rows"), mend=_("name another file with --out"))
    _refuse_directory(target)
    fingerprint = model.fingerprint(chosen.folder.root, chosen.info)
    work = _Work(chosen, engine, source, target, model.digest([engine, fingerprint])[:_HASH_SHOWN])
    done = Done(rows=_checked(work))
    if again:
        target.unlink(missing_ok=True)
    kept = _kept(work, done)
    if kept < done.rows:
        with predicting.opened(chosen, engine) as predictor, _appending(target) as stream:
            _ask(work, predictor, stream, kept, done)
    elif not target.exists():
        files.write_bytes(target, b"")
    return done


def _ask(work: _Work, predictor: Predictor, stream: IO[bytes], kept: int, done: Done) -> None:
    rows = itertools.islice((row for _line, row in work.rows()), kept, None)
    size, number = _FEW, kept
    with progress.bar(_("predict with {version}", version=predictor.version), done.rows) as bar:
        bar.advance(kept)
        while part := list(itertools.islice(rows, size)):
            started = time.monotonic()
            for at, said in _in_order(predictor, part, number):
                _write(stream, work.line(at, part[at - number], said), work.target)
                done.asked, done.unread = done.asked + 1, done.unread + (said.answer is None)
                bar.advance()
            number += len(part)
            if time.monotonic() - started < _SECONDS:
                size = min(_MANY, size * 2)


def _in_order(predictor: Predictor, part: Sequence[Row], first: int) -> Iterator[tuple[int, Prediction]]:
    """The rows' answers in their order, each as soon as those before it are there."""
    early: dict[int, Prediction] = {}
    following = first
    for number, said in predictor.asker.each(part, first=first):
        early[number] = said
        while following in early:
            yield following, early.pop(following)
            following += 1


def _checked(work: _Work) -> int:
    """How many rows there are, all of them whole."""
    number = 0
    for line, row in work.rows():
        try:
            asker.refuse(row, work.chosen.fields, number)
        except Invalid as problem:
            problem.file, problem.line = str(work.source), line
            raise
        number += 1
    return number


def _kept(work: _Work, done: Done) -> int:
    """How many rows have their answer; what follows the last whole line, where a run was cut off, is removed."""
    if not work.target.exists():
        return 0
    count = end = 0
    with work.target.open("rb") as stream:
        asked = work.rows()
        for count, line in enumerate(stream, 1):
            if not line.endswith(b"\n"):
                count -= 1
                break
            _number, row = next(asked, (0, None))
            said = _read(line)
            if row is None or not work.is_of(said, count - 1, row):
                raise Invalid(
                    _("the file has answers to other rows, or of another version or engine"),
                    file=work.target,
                    line=count,
                    mend=_("name another file with --out, or ask all rows anew with --again"),
                )
            end += len(line)
            done.unread += said["answer"] is None
    if work.target.stat().st_size > end:
        os.truncate(work.target, end)
    return count


def _read(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _appending(target: Path) -> IO[bytes]:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered, so that the file holds whole lines only.
        return target.open("ab", buffering=0)
    except OSError as error:
        raise files.storage_problem(error, target) from error


def _write(stream: IO[bytes], line: bytes, target: Path) -> None:
    try:
        stream.write(line)
    except OSError as error:
        raise files.storage_problem(error, target) from error


def _refuse_directory(target: Path) -> None:
    if target.exists() and not target.is_file():
        raise Usage(_("this is no file"), file=target, mend=_("name another file with --out"))


def _rows(path: Path) -> Iterator[tuple[int, Row]]:
    readers = {".jsonl": _jsonl, ".ndjson": _jsonl, ".csv": _csv}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise Usage(
            _("{name} is of no kind that can be read here", name=path.name),
            mend=_("give rows as .jsonl or .csv"),
        )
    try:
        yield from reader(path)
    except OSError as error:
        raise Invalid(
            _("the file cannot be read"), file=path, cause=error.strerror, mend=_("check the file's name")
        ) from error


def _jsonl(path: Path) -> Iterator[tuple[int, Row]]:
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            text = line.removeprefix(lines.BOM) if number == 1 else line
            if text.isspace() or not text:
                continue
            try:
                yield number, lines.parse(text)
            except (ValueError, RecursionError) as error:
                raise _broken(path, number, ": ".join(lines.parse_fault(error))) from error


def _csv(path: Path) -> Iterator[tuple[int, Row]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream, strict=True)
        try:
            for row in reader:
                if None in row:
                    raise _broken(path, reader.line_num, _("more cells than the first line has names"))
                yield reader.line_num, {name: value for name, value in row.items() if value is not None}
        except (csv.Error, UnicodeDecodeError) as error:
            raise _broken(path, reader.line_num + 1, str(error)) from error


def _broken(path: Path, line: int, cause: str) -> Invalid:
    return Invalid(
        _("a row cannot be read"),
        file=path,
        line=line,
        cause=lines.cut(cause, 200),
        mend=_("mend the line; no row was asked"),
    )

"""Does a row, or nearly the same row, stand on two sides of the split, or say two different things?

Of each row eight bytes of its key and its place are held; texts are read again where two rows may be the same.
"""

from __future__ import annotations

import contextlib
import os
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

from nlp_skills.data import near
from nlp_skills.data import rows as lines
from nlp_skills.data.findings import Finding
from nlp_skills.data.snapshot import pinned_keys
from nlp_skills.i18n import _
from nlp_skills.schema.task import Task
from nlp_skills.schema.version import SPLITS
from nlp_skills.workspace.folder import TaskFolder

_SHOWN = 5
_SHELVES = 64
Tick = Callable[[int], None]


@dataclass(frozen=True)
class _Place:
    """Where a row stands and what it answers."""

    split: str
    line: int
    answer: bytes

    @property
    def where(self) -> str:
        return f"data/{self.split}.jsonl:{self.line}"


@dataclass
class _Pairs:
    """Two places that should not say the same: how often, and the first few."""

    count: int = 0
    first: list[tuple[_Place, _Place]] = field(default_factory=list)

    def add(self, one: _Place, other: _Place) -> None:
        self.count += 1
        if len(self.first) < _SHOWN:
            self.first.append((one, other))


def search(
    folder: TaskFolder,
    task: Task,
    threshold: float,
    on_bytes: Tick | None = None,
    on_texts: Tick | None = None,
) -> Iterator[Finding]:
    """Errors for rows shared between splits (same input, or near-identical from `threshold`), for rows of
    train or valid that another version was tested on, and for one input with two answers.

    `on_bytes` hears how much of each split was read, `on_texts` how many texts were compared.
    """
    with contextlib.ExitStack() as files:
        streams = [files.enter_context(open(folder.split(name), "rb")) for name in SPLITS]
        rows = _Rows(streams, task)
        rows.read(on_bytes)
        yield from _same(rows, pinned_keys(folder), folder)
        yield from _nearly(rows, threshold, folder, on_texts)


class _Rows:
    """The rows of all splits that parse and carry their fields, by number; the others are named by the check of
    the rows.
    """

    def __init__(self, streams: Sequence[IO[bytes]], task: Task) -> None:
        self.streams, self.task = streams, task
        self.parse = lines.parser(sum(os.fstat(stream.fileno()).st_size for stream in streams))
        self.keys = array("Q")
        self.offsets = array("Q")
        self.numbers = array("L")
        self.ends: list[int] = []

    def read(self, on_bytes: Tick | None) -> None:
        """One pass over the splits."""
        for stream in self.streams:
            offset = 0
            for number, line in enumerate(stream, 1):
                row = self._parsed(line)
                if row is not None:
                    self.keys.append(_short(near.text_key(self._text(row))))
                    self.offsets.append(offset)
                    self.numbers.append(number)
                offset += len(line)
                if on_bytes and number % 5000 == 0:
                    on_bytes(offset)
            if on_bytes:
                on_bytes(offset)
            self.ends.append(len(self.keys))

    def __len__(self) -> int:
        return len(self.keys)

    def split(self, index: int) -> int:
        """The number of the split a row is in."""
        return bisect_right(self.ends, index)

    def row(self, index: int) -> dict[str, Any]:
        stream = self.streams[self.split(index)]
        stream.seek(self.offsets[index])
        return dict(self.parse(stream.readline()))

    def text(self, index: int) -> str:
        return self._text(self.row(index))

    def place(self, index: int) -> _Place:
        row = self.row(index)
        answer = lines.canonical({name: row.get(name) for name in self.task.output_fields})
        return _Place(SPLITS[self.split(index)], self.numbers[index], answer)

    def repeated(self) -> set[int]:
        """The short keys that more than one row has."""
        shelves = [array("Q") for _shelf in range(_SHELVES)]
        for key in self.keys:
            shelves[key % _SHELVES].append(key)
        found: set[int] = set()
        for shelf in shelves:
            ordered = sorted(shelf)
            found.update(key for key, following in pairwise(ordered) if key == following)
        return found

    def _text(self, row: dict[str, Any]) -> str:
        return near.normalised(row, self.task.input_fields)

    def _parsed(self, line: bytes) -> dict[str, Any] | None:
        try:
            row = self.parse(line) if len(line) <= lines.MAX_LINE_BYTES else None
        except (ValueError, RecursionError):
            return None
        good = isinstance(row, dict) and all(isinstance(row.get(name), str) for name in self.task.input_fields)
        return row if good else None


def _short(key: bytes) -> int:
    return int.from_bytes(key[:8], "big")


def _same(rows: _Rows, pinned: set[str], folder: TaskFolder) -> Iterator[Finding]:
    """What rows of the very same input say of the splits; short keys only propose them."""
    repeated = rows.repeated()
    tested = {_short(bytes.fromhex(key)) for key in pinned}
    leaks, clashes = _Pairs(), _Pairs()
    before: list[_Place] = []
    count = 0
    firsts: dict[bytes, _Place] = {}
    for index, short in enumerate(rows.keys):
        if short not in repeated and short not in tested:
            continue
        key, place = near.text_key(rows.text(index)), rows.place(index)
        if place.split != "test" and key.hex() in pinned:
            count += 1
            before += [place] * (len(before) < _SHOWN)
        first = firsts.setdefault(key, place)
        if first.split != place.split:
            leaks.add(first, place)
        if first.answer != place.answer:
            clashes.add(first, place)
    yield from _finding("leak", _("the same input stands in two splits"), leaks, folder)
    yield from _finding("contradiction", _("the same input has two different answers"), clashes, folder)
    if before:
        yield _trained_on_test(before, count, folder)


def _nearly(rows: _Rows, threshold: float, folder: TaskFolder, on_texts: Tick | None) -> Iterator[Finding]:
    """For each cluster of near-identical texts that spans splits, its first row and the first of each other split."""
    texts = _Texts(rows)
    pairs = _Pairs()
    for members in near.joined(texts, threshold, _scratch(folder), on_texts).groups().values():
        firsts: dict[int, int] = {}
        for member in members:
            firsts.setdefault(rows.split(texts.chosen[member]), texts.chosen[member])
        first, *others = [rows.place(firsts[split]) for split in sorted(firsts)]
        for other in others:
            pairs.add(first, other)
    yield from _finding("near_leak", _("near-identical inputs stand in two splits"), pairs, folder)


def _scratch(folder: TaskFolder) -> Path:
    folder.state.mkdir(parents=True, exist_ok=True)
    return folder.state


class _Texts(Sequence[str]):
    """The texts of the rows, one for each input, read from the disk as they are asked for."""

    def __init__(self, rows: _Rows) -> None:
        self.rows = rows
        self.chosen = array("L", self._distinct(rows.repeated()))

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: Any) -> Any:
        return self.rows.text(self.chosen[index])

    def _distinct(self, repeated: set[int]) -> Iterable[int]:
        seen: set[int] = set()
        for index, key in enumerate(self.rows.keys):
            if key not in repeated:
                yield index
            elif key not in seen:
                seen.add(key)
                yield index


def _trained_on_test(found: Sequence[_Place], count: int, folder: TaskFolder) -> Finding:
    return Finding(
        "error",
        "tested_before",
        _("another version was tested on rows that are now trained on"),
        file=str(folder.split(found[0].split)),
        line=found[0].line,
        lines=tuple(place.line for place in found if place.split == found[0].split),
        count=count,
        cause=_("at {places}", places=", ".join(place.where for place in found)),
        mend="nlp-skills regenerate",
    )


def _finding(code: str, message: str, pairs: _Pairs, folder: TaskFolder) -> Iterator[Finding]:
    if not pairs.count:
        return
    split = pairs.first[0][1].split
    yield Finding(
        "error",
        code,
        message,
        file=str(folder.split(split)),
        line=pairs.first[0][1].line,
        lines=tuple(other.line for _one, other in pairs.first if other.split == split),
        count=pairs.count,
        cause=_("at {places}", places="; ".join(f"{one.where} = {other.where}" for one, other in pairs.first)),
        mend=_mend(code),
    )


def _mend(code: str) -> str:
    if code == "contradiction":
        return _("decide which answer is right, correct it at the source, then: nlp-skills regenerate")
    return "nlp-skills regenerate"

"""Rows on the disk while they are sorted, compared and split; in memory stand a few numbers for each."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

from nlp_skills.data import rows as lines

_KEY_BYTES = 16
_ANSWER_BYTES = 8
_AT_A_TIME = 100_000


class Names:
    """Lists of labels, each known by a number."""

    def __init__(self) -> None:
        self.lists: list[tuple[str, ...]] = []
        self._numbers: dict[tuple[str, ...], int] = {}

    def number(self, names: tuple[str, ...]) -> int:
        """The number of a list of labels; a new one's is the next."""
        found = self._numbers.setdefault(names, len(self.lists))
        if found == len(self.lists):
            self.lists.append(names)
        return found


class Workbench:
    """Rows by number, from 0: first in the order they were put down, after `arrange` in another.

    For each: `identity` (16 bytes of the input's key, then 8 that stand for the answer), number of its source,
    line in its raw file, `label` and `stratum` (numbers of `names`), and `group` (64 bits that stand for the
    group's value; 0 for a row without). Body and normalised text are read from the file when asked for.
    """

    def __init__(self, path: Path) -> None:
        self._stream = open(path, "w+b", buffering=1 << 20)  # noqa: SIM115
        self._file = self._stream.fileno()
        self._end = 0
        self._starts, self._bodies, self._sizes = array("Q"), array("I"), array("I")
        self._identities = bytearray()
        self.sources, self.lines = array("H"), array("Q")
        self.labels, self.strata, self.groups = array("I"), array("I"), array("Q")
        self.names = Names()

    def __enter__(self) -> Workbench:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stream.close()

    def __len__(self) -> int:
        return len(self._starts)

    def put(self, body: bytes, text: str, identity: bytes) -> None:
        """Lay a row down: its line, its normalised text, and its identity; the numbers are the caller's to add.

        Raises:
            OSError: the disk is full.
        """
        said = text.encode("utf-8")
        self._stream.write(body)
        self._stream.write(said)
        self._starts.append(self._end)
        self._bodies.append(len(body))
        self._sizes.append(len(body) + len(said))
        self._end += len(body) + len(said)
        self._identities += identity

    def flush(self) -> None:
        """Bring what was put down within reach of the readers.

        Raises:
            OSError: the disk is full.
        """
        self._stream.flush()

    def body(self, number: int) -> bytes:
        """The row as a line of a data file."""
        return os.pread(self._file, self._bodies[number], self._starts[number])

    def row(self, number: int) -> dict[str, Any]:
        """The row itself."""
        row: dict[str, Any] = lines.parse(self.body(number))
        return row

    def text(self, number: int) -> str:
        """The row's input, normalised."""
        skipped = self._bodies[number]
        return os.pread(self._file, self._sizes[number] - skipped, self._starts[number] + skipped).decode("utf-8")

    def identity(self, number: int) -> bytes:
        """Rows with the same input and answer share it."""
        width = _KEY_BYTES + _ANSWER_BYTES
        return bytes(self._identities[number * width : (number + 1) * width])

    def key(self, number: int) -> bytes:
        """The 16 bytes of `near.text_key`."""
        return self.identity(number)[:_KEY_BYTES]

    def answer(self, number: int) -> bytes:
        """Rows of one answer share it."""
        return self.identity(number)[_KEY_BYTES:]

    def arrange(self, order: Sequence[int]) -> None:
        """Keep the rows of `order`, in that order; they are numbered anew."""
        identities = bytearray()
        for number in order:
            identities += self.identity(number)
        self._identities = identities
        for name in ("_starts", "_bodies", "_sizes", "sources", "lines", "labels", "strata", "groups"):
            column = getattr(self, name)
            setattr(self, name, array(column.typecode, map(column.__getitem__, order)))


class Texts(Sequence[str]):
    """The normalised texts of a workbench's rows, read one at a time."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench

    def __len__(self) -> int:
        return len(self._bench)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self._bench.text(number) for number in range(len(self))[index]]
        return self._bench.text(index)


def ranked(count: int, key: Callable[[int], bytes]) -> array[int]:
    """0 … count - 1 in the order of `key`, whose first byte is spread evenly; some hundred thousand at a time."""
    heads = bytes(key(number)[0] for number in range(count))
    found = array("I")
    width = max(1, _AT_A_TIME * 256 // max(count, 1))
    for low in range(0, 256, width):
        part = range(low, low + width)
        found.extend(sorted((number for number, head in enumerate(heads) if head in part), key=key))
    return found


def runs(order: Sequence[int], column: Sequence[Any]) -> Iterator[Sequence[int]]:
    """The stretches of two or more numbers that agree in `column`, where `order` has equals side by side."""
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or column[order[end]] != column[order[start]]:
            if end - start > 1:
                yield order[start:end]
            start = end

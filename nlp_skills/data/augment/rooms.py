"""What every method works with: the original rows, and the guard that lets nothing near the held-out rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nlp_skills.data import near
from nlp_skills.data import rows as lines
from nlp_skills.data.sources import Fetching
from nlp_skills.data.split import keyed_hash
from nlp_skills.schema.data_source import DataSource
from nlp_skills.schema.task import Task
from nlp_skills.workspace.folder import TaskFolder

Row = dict[str, Any]


@dataclass(frozen=True)
class Original:
    """A training row nobody made: where its line begins in the file, its key, its classes."""

    offset: int
    key: str
    labels: tuple[str, ...]


class Originals:
    """The rows of a train.jsonl that are not augmented, in the order of their keyed hash; read when asked for.

    `others` counts, by class, rows there that another method than repetition made.
    """

    def __init__(self, path: Path, task: Task, seed: int) -> None:
        self.path, self.task = path, task
        self.others: Counter[str] = Counter()
        self.entries = sorted(self._entries(), key=lambda entry: (keyed_hash(seed, entry.key), entry.key, entry.labels))

    def _entries(self) -> Iterator[Original]:
        offset = 0
        with open(self.path, "rb") as stream:
            for line in stream:
                row = None if line.isspace() else lines.parse(line)
                if row is not None:
                    found = lines.labels_of(row, self.task.label_field) if self.task.label_field else []
                    if "_augmented" not in row:
                        yield Original(offset, near.row_key(row, self.task.input_fields), tuple(found))
                    elif row["_augmented"].get("method") != "oversample":
                        self.others.update(found)
                offset += len(line)

    def read(self, entries: Iterable[Original]) -> Iterator[tuple[Original, Row]]:
        """Entries with their rows."""
        with open(self.path, "rb") as stream:
            for entry in entries:
                stream.seek(entry.offset)
                yield entry, lines.parse(stream.readline())


class Resembling:
    """Texts, and whether another is one of them but for a few characters."""

    def __init__(self, texts: Sequence[str], threshold: float) -> None:
        self._texts, self._near = texts, threshold
        self._sieve = near.Sieve(threshold, texts)
        if threshold < 1:
            for number, text in enumerate(texts):
                self._sieve.add(number, near.grams(text))

    def has(self, text: str) -> bool:
        """Whether one of the texts is as similar to this one as the threshold says. The answer is exact."""
        if self._near >= 1:
            return False
        own = near.grams(text)
        found = self._sieve.candidates(own)
        return any(near.similarity(own, near.grams(self._texts[number])) >= self._near for number in found)


@dataclass
class Work:
    """One run of `apply`. `produced` counts what was made by class, `refused` what was not by reason."""

    task: Task
    config: DataSource
    folder: TaskFolder
    originals: Originals
    held_out: Container[str]
    resembling: Resembling
    fetching: Fetching
    seen: set[str]
    produced: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        return self.config.split.seed

    def marked(self, row: Row, original: Original, method: str, number: int) -> Row:
        """The row with what says how it was made; `number` tells apart those made from one original."""
        return {**row, "_augmented": {"method": method, "of": original.key, "number": number}}

    def new(self, row: Row) -> bool:
        """Whether a row says something that no held-out row says, or nearly, and no training row. Refusals count."""
        why = self._why_not(row)
        if why is not None:
            self.refused[why] += 1
        return why is None

    def _why_not(self, row: Row) -> str | None:
        key = near.row_key(row, self.task.input_fields)
        if key in self.held_out:
            return "held_out"
        if key in self.seen:
            return "repeat"
        if self.resembling.has(near.normalised(row, self.task.input_fields)):
            return "near_held_out"
        self.seen.add(key)
        return None

    def count(self, row: Row) -> None:
        """Count a row that was made under its classes."""
        if self.task.label_field:
            self.produced.update(lines.labels_of(row, self.task.label_field))


def held_out_texts(train: Path, task: Task) -> list[str]:
    """The normalised inputs of valid.jsonl and test.jsonl, which stand beside train.jsonl."""
    paths = [train.with_name(f"{name}.jsonl") for name in ("valid", "test")]
    return [near.normalised(row, task.input_fields) for path in paths if path.is_file() for row in lines.read(path)]

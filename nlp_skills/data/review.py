"""Generated rows that a person looks at before they count.

`data/review/NAME.jsonl` holds every generated row of a source with where it came from; `NAME.decisions.jsonl`
beside it holds what was decided, one line a decision, the last one on a row counting.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.data import rows as lines
from nlp_skills.data.row_form import Row
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema.source import LlmGenerated
from nlp_skills.workspace.folder import TaskFolder

DECISIONS = ("accept", "edit", "reject")


@dataclass(frozen=True)
class Entry:
    """A generated row and where it came from: provider, model, prompt hash, parameters, response id."""

    row: Row
    origin: dict[str, Any]

    @cached_property
    def key(self) -> str:
        """16 hex digits that stand for the whole row."""
        return hashlib.blake2b(lines.canonical(self.row), digest_size=8).hexdigest()


@dataclass(frozen=True)
class Decision:
    """What was decided on a row: `accept`, `edit` (with the row as it shall be) or `reject`."""

    decision: str
    row: Row | None = None


@dataclass(frozen=True)
class State:
    """A source's rows with their decisions. `sampled`: the keys of those that must be looked at in any case."""

    source: LlmGenerated
    entries: list[Entry]
    sampled: set[str]
    decisions: dict[str, Decision]

    @property
    def to_review(self) -> list[Entry]:
        """What a person has to look at now: the sample first; all the others too where too much of it was bad."""
        open_entries = [entry for entry in self.entries if entry.key not in self.decisions]
        sample = [entry for entry in open_entries if entry.key in self.sampled]
        return sample or ([] if self.good_enough else open_entries)

    @property
    def waiting(self) -> int:
        """How many rows no decision lets through or keeps out yet."""
        return 0 if self.good_enough else sum(entry.key not in self.decisions for entry in self.entries)

    @property
    def counts(self) -> dict[str, int]:
        """Decisions by kind, on the rows there are."""
        found = Counter(self.decisions[entry.key].decision for entry in self.entries if entry.key in self.decisions)
        return {name: found[name] for name in DECISIONS}

    @property
    def good_enough(self) -> bool:
        """Whether the whole sample was looked at and enough of it accepted."""
        if any(key not in self.decisions for key in self.sampled):
            return False
        kept = sum(self.decisions[key].decision != "reject" for key in self.sampled)
        return kept >= self.source.validation.accept_rate * len(self.sampled)

    def released(self) -> list[Row]:
        """The rows that count: accepted, edited, and those nobody had to look at."""
        return list(self._released())

    def _released(self) -> Iterator[Row]:
        for entry in self.entries:
            decided = self.decisions.get(entry.key)
            if decided is None and self.good_enough:
                yield entry.row
            elif decided is not None and decided.decision != "reject":
                yield entry.row if decided.row is None else decided.row


def rows_path(folder: TaskFolder, source: LlmGenerated) -> Path:
    """data/review/NAME.jsonl."""
    return folder.raw.parent / "review" / f"{source.name}.jsonl"


def decisions_path(folder: TaskFolder, source: LlmGenerated) -> Path:
    """data/review/NAME.decisions.jsonl."""
    return folder.raw.parent / "review" / f"{source.name}.decisions.jsonl"


def keep(folder: TaskFolder, source: LlmGenerated, entries: Sequence[Entry]) -> None:
    """Write the generated rows; the same rows are the same bytes.

    Raises:
        Unavailable: the disk is full or the folder cannot be written.
    """
    wanted = source.validation.require_review
    sampled = _sample(entries, source.validation.review_sample) if wanted else set()
    with files.atomic_writer(rows_path(folder, source)) as stream:
        for entry in entries:
            line = {"key": entry.key, "row": entry.row, "origin": entry.origin, "sampled": entry.key in sampled}
            stream.write(lines.dump(line))


def state(folder: TaskFolder, source: LlmGenerated) -> State:
    """The rows of a source and what was decided on them.

    Raises:
        Invalid: nothing was generated yet, or the file is damaged.
    """
    path = rows_path(folder, source)
    if not path.is_file():
        raise Invalid(
            _("source {name} has no generated rows yet", name=str(source.name)),
            file=path,
            mend="nlp-skills regenerate",
        )
    try:
        kept = [(Entry(line["row"], line["origin"]), line["sampled"]) for line in lines.read(path)]
    except (ValueError, KeyError, TypeError) as error:
        raise Invalid(
            _("the rows to review are damaged"), file=path, cause=str(error), mend="nlp-skills regenerate --refresh"
        ) from error
    sampled = {entry.key for entry, chosen in kept if chosen}
    return State(source, [entry for entry, _chosen in kept], sampled, _decisions(decisions_path(folder, source)))


def decide(folder: TaskFolder, source: LlmGenerated, key: str, decision: Decision | None) -> None:
    """Note a decision on the disk; None takes back whatever was decided on the row.

    Raises:
        Unavailable: the disk is full or the folder cannot be written.
    """
    path = decisions_path(folder, source)
    line: dict[str, Any] = {"key": key, "decision": decision.decision if decision else None}
    if decision and decision.row is not None:
        line["row"] = decision.row
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab+") as stream:
            torn = _ends_torn(stream)
            stream.write((b"\n" if torn else b"") + lines.dump({**line, "time": files.now().isoformat()}))
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise files.storage_problem(error, path) from error


def _ends_torn(stream: Any) -> bool:
    """Whether the last line has no end: a kill cut it off."""
    if stream.seek(0, os.SEEK_END) == 0:
        return False
    stream.seek(-1, os.SEEK_END)
    return bool(stream.read(1) != b"\n")


def _decisions(path: Path) -> dict[str, Decision]:
    """The last decision on each key; lines that are not whole are passed over."""
    found: dict[str, Decision] = {}
    if not path.is_file():
        return found
    with open(path, "rb") as stream:
        for raw in stream:
            try:
                line = json.loads(raw)
                key, decision, row = line["key"], line["decision"], line.get("row")
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
            if decision is None:
                found.pop(key, None)
            elif decision in DECISIONS and isinstance(key, str) and isinstance(row, dict | None):
                found[key] = Decision(decision, row)
    return found


def _sample(entries: Sequence[Entry], share: float) -> set[str]:
    """The share of the rows that must be looked at, at least one: which ones depends on the rows alone."""

    def place(key: str) -> bytes:
        return hashlib.blake2b(key.encode(), key=b"review", digest_size=8).digest()

    keys = sorted((entry.key for entry in entries), key=place)
    return set(keys[: math.ceil(share * len(keys))])

"""The rows of the splits with their true line numbers; rows that cannot be read are counted, not met with refusal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlp_skills.data import near
from nlp_skills.data import rows as lines
from nlp_skills.data.merge import output_shape
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema.task import Task
from nlp_skills.schema.version import SPLITS
from nlp_skills.workspace.folder import TaskFolder


@dataclass(frozen=True)
class Entry:
    """A good row: the file from the task folder, the line from 1, and what it says. `method` made it, if any did."""

    split: str
    line: int
    row: dict[str, Any]
    text: str
    key: str
    method: str | None = None

    @property
    def file(self) -> str:
        """The file's path from the task folder."""
        return f"data/{self.split}.jsonl"

    @property
    def where(self) -> dict[str, Any]:
        """File and line, as results carry them."""
        return {"file": self.file, "line": self.line}


def entries(folder: TaskFolder, task: Task) -> tuple[list[Entry], dict[str, int]]:
    """The good rows of the three splits in their order, and how many lines of each split are bad.

    Raises:
        Invalid: a split is not there, or none of them has a good row.
    """
    bad = dict.fromkeys(SPLITS, 0)
    found: list[Entry] = []
    for name in SPLITS:
        path = folder.split(name)
        if not path.is_file():
            raise Invalid(_("file not found"), file=path, mend="nlp-skills regenerate")
        for entry in split_entries(path, name, task):
            if entry is None:
                bad[name] += 1
            else:
                found.append(entry)
    if not found:
        raise Invalid(
            _("there is no row to look at"),
            file=folder.split("train").parent,
            cause=_("bad lines: {count}", count=sum(bad.values())),
            mend=_("nlp-skills validate names the bad rows; nlp-skills regenerate writes them anew"),
        )
    return found, bad


def split_entries(path: Path, name: str, task: Task) -> Iterator[Entry | None]:
    """The rows of one split in their order; None for a bad one.

    Raises:
        OSError: the file cannot be read.
    """
    shape = lines.Shape(task.input_fields, output_shape(task))
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, 1):
            if line.isspace():
                continue
            row, faults = shape.diagnose(line)
            yield None if faults else entry_of(row, name, number, task)


def entry_of(row: dict[str, Any], split: str, line: int, task: Task) -> Entry:
    """A row with what the checks need of it."""
    text = "\n".join(str(row[name]) for name in task.input_fields)
    augmented = row.get("_augmented")
    method = None
    if augmented:
        method = str(augmented.get("method", "?")) if isinstance(augmented, dict) else "?"
    return Entry(split, line, row, text, near.row_key(row, task.input_fields), method)

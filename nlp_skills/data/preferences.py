"""data/preferences/{train,valid}.jsonl: of two answers to a prompt the better one, or of one answer whether it is good.

Pairs are `{prompt, chosen, rejected}`. KTO also learns from `{prompt, completion, label}`, whose label is true or
false. A prompt is the user's turn as input_template renders it, or a list of chat messages that ends with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.data import rows as lines
from nlp_skills.data.render import Message
from nlp_skills.errors import Problem
from nlp_skills.workspace.folder import TaskFolder

SPLITS = ("train", "valid")
PAIR = ("prompt", "chosen", "rejected")
JUDGED = ("prompt", "completion", "label")
ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt, the better one first; `line` is where it stands in its file."""

    line: int
    prompt: str | list[Message]
    chosen: str
    rejected: str


@dataclass(frozen=True)
class Judged:
    """One answer to a prompt, and whether it is good."""

    line: int
    prompt: str | list[Message]
    answer: str
    good: bool


def source_path(folder: TaskFolder) -> Path:
    """data/preferences/source.json: which version the pairs were asked of, where a program made them."""
    return folder.preferences("train").with_name("source.json")


def paths(folder: TaskFolder) -> list[Path]:
    """The files of data/preferences/ that are there."""
    wanted = [*(folder.preferences(split) for split in SPLITS), source_path(folder)]
    return [path for path in wanted if path.is_file()]


def asked(folder: TaskFolder) -> str | None:
    """The version whose mistakes the pairs are; None where people wrote them, or nothing says so."""
    try:
        return str(files.read_json(source_path(folder))["version"])
    except (Problem, KeyError, TypeError):
        return None


def is_judged(row: dict[str, Any]) -> bool:
    """Whether a row is of KTO's form, by its columns."""
    return "chosen" not in row and "rejected" not in row and bool({"completion", "label"} & row.keys())


def read(path: Path) -> Iterator[Pair | Judged]:
    """The rows of a file that was checked."""
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield of(number, lines.parse(line))


def of(line: int, row: dict[str, Any]) -> Pair | Judged:
    """A parsed row without faults."""
    if is_judged(row):
        return Judged(line, row["prompt"], row["completion"], row["label"])
    return Pair(line, row["prompt"], row["chosen"], row["rejected"])


def judged(rows: Iterable[Pair | Judged]) -> Iterator[Judged]:
    """Single answers, those of a pair one after the other."""
    for row in rows:
        if isinstance(row, Judged):
            yield row
        else:
            yield Judged(row.line, row.prompt, row.chosen, True)
            yield Judged(row.line, row.prompt, row.rejected, False)


def question(prompt: str | list[Message]) -> str:
    """What the user asks last."""
    return prompt if isinstance(prompt, str) else prompt[-1]["content"]

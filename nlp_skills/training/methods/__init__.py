"""The methods a version can be trained by, one module a family.

A family says which files it learns from, turns their rows into token ids (`read`), and makes TRL's trainer of them
(`trainer_class`, `dataset`). What all share (order of rows, checkpoints, records) is in `trainer`. A new method is a
module here, a name in `schema.training.Method` and a line below.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from nlp_skills.data.findings import Finding
from nlp_skills.data.render import Renderer
from nlp_skills.schema.task import Task
from nlp_skills.schema.training import Config, Method
from nlp_skills.workspace.folder import TaskFolder


class Row(Protocol):
    """A row as token ids; its length is what it costs, its line where it stands in its file."""

    line: int

    def __len__(self) -> int: ...

    @property
    def learnt(self) -> int:
        """Tokens the loss is on."""

    def marked(self, tokenizer: Any) -> str:
        """The row in words, what is learnt from it marked."""


class Split(Protocol):
    """One file, read: its rows, and what was found while reading."""

    rows: list[Any]
    findings: list[Finding]


class Family(Protocol):
    """What a module of this package provides."""

    def files(self, folder: TaskFolder) -> dict[str, Path]:
        """The files it learns from, by split (train, valid); only those that are there."""

    def read(self, folder: TaskFolder, split: str, renderer: Renderer, tokenizer: Any, config: Config) -> Split:
        """A file's rows, encoded, with what is wrong with them."""

    def check(self, folder: TaskFolder, task: Task, config: Config) -> list[Finding]:
        """What can be said of the data before anything is encoded; an error among it ends the preflight."""

    def trainer_class(self, config: Config) -> type[Any]:
        """TRL's trainer, with what is ours on top."""

    def dataset(self, rows: Sequence[Any], config: Config) -> Any:
        """Encoded rows as the columns the trainer takes."""

    def collator(self, tokenizer: Any, config: Config) -> Any:
        """What makes a batch of them; None for TRL's own."""


def of(method: Method) -> Family:
    """The family of a method."""
    from nlp_skills.training.methods import preference, sft

    return sft if method == "sft" else preference

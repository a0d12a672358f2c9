"""Learning from preferences: DPO and ORPO from pairs of answers, KTO from answers judged good or bad."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlp_skills.data.findings import Finding
from nlp_skills.data.render import Renderer
from nlp_skills.errors import Unavailable
from nlp_skills.schema.task import Task
from nlp_skills.schema.training import Config
from nlp_skills.workspace.folder import TaskFolder


@dataclass(frozen=True)
class Read:
    """One file's encoded rows and what was found."""

    rows: list[Any]
    findings: list[Finding]


def files(folder: TaskFolder) -> dict[str, Path]:
    """data/preferences/train.jsonl and valid.jsonl, those of them that are there."""
    return {split: path for split in ("train", "valid") if (path := folder.preferences(split)).is_file()}


def check(folder: TaskFolder, task: Task, config: Config) -> list[Finding]:
    """What is wrong with the files as they are."""
    raise Unavailable("not yet")


def read(folder: TaskFolder, split: str, renderer: Renderer, tokenizer: Any, config: Config) -> Read:
    raise Unavailable("not yet")


def trainer_class(config: Config) -> type[Any]:
    raise Unavailable("not yet")


def dataset(rows: Sequence[Any], config: Config) -> Any:
    raise Unavailable("not yet")


def collator(tokenizer: Any, config: Config) -> Any:
    return None

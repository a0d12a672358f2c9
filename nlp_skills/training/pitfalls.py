"""What trains without a word and works badly: looked for in the tokenizer, the base model and the settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nlp_skills.data.findings import Finding
from nlp_skills.schema.task import Task
from nlp_skills.schema.training import Config
from nlp_skills.workspace.folder import TaskFolder, VersionFolder


def check(
    folder: TaskFolder,
    version: VersionFolder,
    task: Task,
    config: Config,
    tokenizer: Any,
    encoded: Mapping[str, Sequence[Any]],
) -> list[Finding]:
    """Everything found; an error among it means that training does not start."""
    return []

"""data/data.lock.yaml: read, written, and what of the settings goes into it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.data import near
from nlp_skills.data import rows as lines
from nlp_skills.data.sources.settings import unexpanded
from nlp_skills.errors import Invalid
from nlp_skills.schema.data_lock import DataLock
from nlp_skills.schema.data_source import DataSource, Source
from nlp_skills.schema.task import Task
from nlp_skills.workspace.compare import flat
from nlp_skills.workspace.folder import TaskFolder

_HEADER = "# Written by nlp-skills regenerate; it says what the splits were made of. Not for editing.\n"
# A source's name and mapping are applied when its raw rows are merged, not when they are fetched.
_NOT_FETCHED = ("name", "mapping")


def path(folder: TaskFolder) -> Path:
    """data/data.lock.yaml."""
    return folder.raw.parent / "data.lock.yaml"


def load(folder: TaskFolder) -> DataLock | None:
    """The lock, or None where none was written.

    Raises:
        Invalid: the file is not a lock, or one of a later release.
    """
    return DataLock.load(path(folder)) if path(folder).is_file() else None


def save(folder: TaskFolder, lock: DataLock) -> None:
    """Write the lock; one that says the same as the file is not written again, so its time stays.

    Raises:
        Unavailable: the disk is full or the folder cannot be written.
    """
    try:
        earlier = load(folder)
    except Invalid:
        earlier = None
    if earlier is None or earlier.model_dump(exclude={"made"}) != lock.model_dump(exclude={"made"}):
        lock.save(path(folder), header=_HEADER)


def fetch_settings(source: Source | dict[str, Any]) -> dict[str, Any]:
    """The settings that decide which rows a source gives, as written: variables not filled in, secrets hidden.

    Takes a source, or what `unexpanded` once made of it.
    """
    settings = source if isinstance(source, dict) else unexpanded(source)
    return {key: value for key, value in settings.items() if key not in _NOT_FETCHED}


def pipeline_settings(task: Task, config: DataSource) -> dict[str, Any]:
    """Everything that decides how raw rows become splits, by dotted key."""
    prompt = {"fields": task.input_fields, "output": task.output_format.json_schema()["properties"]}
    settings = {
        "sources": {str(source.name): source.mapping or "-" for source in config.sources},
        "order": [str(source.name) for source in config.sources],
        "dedup": {**config.dedup.model_dump(mode="json"), "searched": config.dedup.near < 1 and near.available()},
        "split": config.split.model_dump(mode="json", exclude_none=True),
        "augmentation": {str(at): unexpanded(step) for at, step in enumerate(config.augmentation)},  # type: ignore[arg-type]
        "task": {"type": task.task_type, **prompt},
    }
    return dict(flat(settings))


def hashed(value: Any) -> str:
    """`sha256:…` of a JSON value, whatever its spelling."""
    return files.sha256_bytes(lines.canonical(value))


def pinned_hash(keys: Collection[str]) -> str:
    """`sha256:…` of the keys of rows that other versions were tested on."""
    return hashed(sorted(keys))

"""What a run is made of, in five hashes: a checkpoint only goes on with the same data, settings and base model."""

from __future__ import annotations

import json
from pathlib import Path

from nlp_skills import files
from nlp_skills.errors import Invalid
from nlp_skills.schema.task import Task
from nlp_skills.schema.training import Config
from nlp_skills.training import base_model
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

Identity = dict[str, str]


def of(folder: TaskFolder, task: Task, config: Config, version: VersionFolder) -> Identity:
    """The hashes, by the name a person knows the thing under. The test rows are no part of a training.

    Raises:
        Unavailable: the base model is not there.
    """
    prompt = {"template": task.input_template, "output": task.output_format.json_schema()}
    splits = {split: path for split in ("train", "valid") if (path := folder.split(split)).is_file()}
    return {
        **{f"data/{split}.jsonl": files.sha256_file(path) for split, path in splits.items()},
        str(version.config_path.relative_to(folder.root)): _hash(config.dump()),
        "task.yaml": _hash({**prompt, "type": task.output_format.type}),
        config.base_model: base_model.fingerprint(config.base_model, root=folder.root),
    }


def _hash(content: object) -> str:
    return files.sha256_bytes(json.dumps(content, ensure_ascii=False, sort_keys=True).encode())


def path(version: VersionFolder) -> Path:
    """Where a run keeps the identity it began with."""
    return version.run / "identity.json"


def changed(version: VersionFolder, now: Identity) -> list[str] | None:
    """What differs from the identity the version's run began with; None when there was no run."""
    try:
        before: Identity = files.read_json(path(version))
    except Invalid:
        return None
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))

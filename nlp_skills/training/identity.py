"""What a run is made of, in five hashes: a checkpoint only goes on with the same data, settings and base model."""

from __future__ import annotations

import json
import re
from pathlib import Path

from nlp_skills import files
from nlp_skills.errors import Invalid
from nlp_skills.schema.task import Task
from nlp_skills.schema.training import Config
from nlp_skills.training import base_model, methods
from nlp_skills.workspace.folder import TaskFolder, VersionFolder
from nlp_skills.workspace.lineage import file_hashes

Identity = dict[str, str]

_CONFIG = "config.yaml"
_MODELS = "models/"
# The key of the configuration in files of the first releases; the version may carry another name by now.
_FORMER = re.compile(r"versions/[^/]+/config\.yaml\Z")


def of(folder: TaskFolder, task: Task, config: Config) -> Identity:
    """The hashes, by the name a person knows the thing under. The test rows are no part of a training.

    Raises:
        Unavailable: the base model is not there.
    """
    prompt = {"template": task.input_template, "output": task.output_format.json_schema()}
    learnt = [*methods.of(config.method).files(folder).values()]
    if config.early_stopping and folder.split("valid").is_file():
        learnt.append(folder.split("valid"))
    return {
        **{path.relative_to(folder.root).as_posix(): files.sha256_file(path) for path in learnt},
        **start(folder, config),
        **_template(folder, config),
        _CONFIG: _hash(config.dump()),
        "task.yaml": _hash({**prompt, "type": task.output_format.type}),
        config.base_model: base_model.fingerprint(config.base_model, root=folder.root),
    }


def start(folder: TaskFolder, config: Config) -> Identity:
    """The weights that training begins with, where they are an earlier version's and still there."""
    model = folder.version(config.init_from).model if config.init_from else None
    return {model.relative_to(folder.root).as_posix(): _hash(file_hashes(model, folder.root))} if model else {}


def _template(folder: TaskFolder, config: Config) -> Identity:
    """The chat template, where it is not the base model's own: config.yaml holds no more than its name."""
    text = base_model.template_text(config.chat_template, folder.root)
    return {} if text is None else {f"chat_template {config.chat_template}": _hash(text)}


def _hash(content: object) -> str:
    return files.sha256_bytes(json.dumps(content, ensure_ascii=False, sort_keys=True).encode())


def path(version: VersionFolder) -> Path:
    """Where a run keeps the identity it began with."""
    return version.run / "identity.json"


def changed(version: VersionFolder, now: Identity) -> list[str] | None:
    """What differs from the identity the version's run began with; None when there was no run."""
    try:
        read: Identity = files.read_json(path(version))
    except Invalid:
        return None
    before = {_FORMER.sub(_CONFIG, name): value for name, value in read.items()}
    # What a version began with may be gone once it is trained: it needs it no more.
    gone = {name for name in before.keys() - now.keys() if name.startswith(_MODELS)}
    names = (before.keys() | now.keys()) - gone
    differing = sorted(name for name in names if before.get(name) != now.get(name))
    shown = str(version.config_path.relative_to(version.task_root))
    return [shown if name == _CONFIG else name for name in differing]

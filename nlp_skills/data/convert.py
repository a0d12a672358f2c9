"""data/converted/*.jsonl: the splits as chat messages, the form TRL and most other trainers take."""

from __future__ import annotations

from typing import Any

from nlp_skills import files
from nlp_skills.data import rows as lines
from nlp_skills.data.load import load
from nlp_skills.data.render import Renderer
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema.training import Training
from nlp_skills.schema.version import SPLITS
from nlp_skills.workspace.folder import TaskFolder
from nlp_skills.workspace.lock import writing


def convert(folder: TaskFolder) -> dict[str, Any]:
    """Write the converted splits; each row holds `prompt`, `completion` and `chat_template_kwargs`.

    Returns the rows of each split and the files' paths relative to the task.

    Raises:
        Invalid: a split is missing or has a bad row, or nothing says how to train.
    """
    renderer = Renderer.of(folder.task(), _training(folder))
    with writing(folder):
        rows = {name: _convert(folder, name, renderer) for name in SPLITS}
    paths = {name: f"data/converted/{name}.jsonl" for name in SPLITS}
    return {"rows": rows, "files": paths}


def _convert(folder: TaskFolder, name: str, renderer: Renderer) -> int:
    rows = load(folder, name)
    with files.atomic_writer(folder.root / "data" / "converted" / f"{name}.jsonl") as stream:
        for row in rows:
            stream.write(lines.dump(_converted(row, renderer)))
    return len(rows)


def _converted(row: dict[str, Any], renderer: Renderer) -> dict[str, Any]:
    return {
        "prompt": renderer.messages(row),
        "completion": [{"role": "assistant", "content": renderer.answer(row)}],
        "chat_template_kwargs": renderer.chat_template_kwargs,
    }


def _training(folder: TaskFolder) -> Training:
    """The current version's configuration, or the task's before there is one."""
    version = folder.version()
    if version.config_path.is_file():
        return version.config()
    training = folder.task().training
    if training is None:
        raise Invalid(
            _("the key {name} is missing", name="training"),
            file=folder.task_path,
            mend=_("add training: with base_model:, the system prompt and template settings belong to it"),
        )
    return training

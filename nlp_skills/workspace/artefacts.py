"""What a version weighs: the model files that follow its name, by kind, and their bytes.

Links are not followed, with one exception: models/ itself may be a link to another disk.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nlp_skills.schema.task import Task
from nlp_skills.workspace import naming
from nlp_skills.workspace.folder import TaskFolder

Kind = Literal["checkpoints", "merged", "gguf", "adapter"]

# Heaviest first.
KINDS: tuple[Kind, ...] = ("checkpoints", "merged", "gguf", "adapter")
# What may stand between a model's name and `.gguf`: the quantisations llama.cpp names its files by.
_QUANTISATION = re.compile(r"-(?:(?:iq|tq|q)\d[0-9a-z_]*|b?f16|f32|mxfp4\w*)\.gguf\Z", re.IGNORECASE)


@dataclass(frozen=True)
class Artefact:
    """One folder or file of a version's; `bytes` counts a file once, however many links it has in there."""

    version: str
    kind: Kind
    path: Path
    bytes: int


def of(folder: TaskFolder, task: Task, version: str) -> list[Artefact]:
    """What there is of a version under models/, heaviest kinds first; links are not followed."""
    return [
        Artefact(version, kind, path, size(path))
        for kind, path in _places(folder, task, version)
        if path.exists() and not _foreign(folder, path)
    ]


def elsewhere(folder: TaskFolder, task: Task, version: str) -> list[Path]:
    """What stands at a version's places and is not the task's own: links, and disks mounted there."""
    places = [path for _kind, path in _places(folder, task, version)]
    return [path for path in places if os.path.lexists(path) and _foreign(folder, path)]


def beyond(folder: TaskFolder, path: Path) -> bool:
    """Whether a path in the task leads out of it: through a link, or by models/ into another task."""
    models, inner = folder.root / "models", path.relative_to(folder.root)
    steps = [folder.root / step for step in (*reversed(inner.parents), inner)][1:]
    if any(step.is_symlink() for step in steps if step != models):
        return True
    return models in steps and models.is_symlink() and _of_another_task(folder, models.resolve())


def _foreign(folder: TaskFolder, path: Path) -> bool:
    return beyond(folder, path) or path.is_mount()


def _of_another_task(folder: TaskFolder, models: Path) -> bool:
    return any((place / "task.yaml").is_file() and place != folder.root for place in (models, *models.parents))


def _places(folder: TaskFolder, task: Task, version: str) -> Iterator[tuple[Kind, Path]]:
    place = folder.version(version)
    yield "checkpoints", place.checkpoints
    yield "merged", place.merged
    for path in _gguf(folder, task, version):
        yield "gguf", path
    yield "adapter", place.adapter


def _gguf(folder: TaskFolder, task: Task, version: str) -> list[Path]:
    found = sorted((folder.root / "models" / "gguf").glob("*.gguf"))
    return [path for path in found if is_gguf_of(task, version, path.name)]


def is_gguf_of(task: Task, version: str, name: str) -> bool:
    """`MODEL-NAME-q8_0.gguf` or `v2-q8_0.gguf`; the former may also be the start of another version's name."""
    return _QUANTISATION.sub("", name) in (naming.model_name(task, version), version)


def size(path: Path) -> int:
    """Bytes of a file, or of all files under a folder."""
    return sum({(stat.st_dev, stat.st_ino): stat.st_size for stat in _stats(path)}.values())


def freed(path: Path) -> int:
    """The bytes that come back when it is deleted: not those of files that have a link elsewhere."""
    stats = list(_stats(path))
    seen = Counter((stat.st_dev, stat.st_ino) for stat in stats)
    last = {(stat.st_dev, stat.st_ino): stat for stat in stats}
    return sum(stat.st_size for file, stat in last.items() if seen[file] >= stat.st_nlink)


def _stats(path: Path) -> Iterator[os.stat_result]:
    if path.is_symlink() or not path.is_dir():
        with contextlib.suppress(FileNotFoundError):
            yield path.lstat()
        return
    for parent, _folders, names in os.walk(path):
        for name in names:
            # A training that goes on deletes its older checkpoints.
            with contextlib.suppress(FileNotFoundError):
                yield Path(parent, name).lstat()

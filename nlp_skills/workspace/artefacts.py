"""What a version weighs: the model files that follow its name, by kind, and their bytes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nlp_skills.schema.task import Task
from nlp_skills.workspace import naming
from nlp_skills.workspace.folder import TaskFolder

Kind = Literal["checkpoints", "merged", "gguf", "adapter"]

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
    place = folder.version(version)
    folders: list[tuple[Kind, Path]] = [("checkpoints", place.checkpoints), ("merged", place.merged)]
    found = [(kind, path) for kind, path in folders if path.is_dir() and not path.is_symlink()]
    found += [("gguf", path) for path in _gguf(folder, task, version)]
    if place.adapter.is_dir() and not place.adapter.is_symlink():
        found.append(("adapter", place.adapter))
    return [Artefact(version, kind, path, size(path)) for kind, path in found]


def _gguf(folder: TaskFolder, task: Task, version: str) -> list[Path]:
    """`MODEL-NAME-q8_0.gguf` or `v2-q8_0.gguf`; the former may also be the start of another version's name."""
    names = {naming.model_name(task, version), version}
    found = sorted((folder.root / "models" / "gguf").glob("*.gguf"))
    return [path for path in found if _QUANTISATION.sub("", path.name) in names and not path.is_symlink()]


def size(path: Path) -> int:
    """Bytes of a file, or of all files under a folder."""
    return sum({(stat.st_dev, stat.st_ino): stat.st_size for stat in _stats(path)}.values())


def _stats(path: Path) -> Iterator[os.stat_result]:
    if path.is_symlink() or not path.is_dir():
        if path.exists() or path.is_symlink():
            yield path.lstat()
        return
    for parent, _folders, names in os.walk(path):
        for name in names:
            yield Path(parent, name).lstat()

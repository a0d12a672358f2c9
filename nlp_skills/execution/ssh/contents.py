"""What a step needs of a task's folder on another machine, and which base models; never anything that is secret.

A list of what goes rather than of what stays: .env, .git, .venv, checkpoints and caches are not in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nlp_skills import files
from nlp_skills.errors import Unavailable, Usage
from nlp_skills.i18n import _
from nlp_skills.schema.remote_job import Step
from nlp_skills.schema.source import FileImport
from nlp_skills.schema.training import Config
from nlp_skills.schema.version import ModelInfo
from nlp_skills.workspace import digests, remote_jobs
from nlp_skills.workspace.folder import TaskFolder

_ALWAYS = ("data_source.yaml", "pyproject.toml", "uv.lock", "vendor", "configs", "scripts", "metrics", "templates")
_SPLITS = ("data/train.jsonl", "data/valid.jsonl", "data/test.jsonl", "data/preferences")
_SOURCES = ("data/raw", "data/review")
# Of these, those of a version that a job is at work on are the job's.
_MADE = ("lineage.yaml", "data_snapshot.json", "results.json", "predictions.jsonl", "model_info.json")
# May be links to another disk: they are the owner's own.
_ON_ANOTHER_DISK = ("data", "models")
_CACHES = ("__pycache__", "node_modules")
# Weights in forms that are never read, as some of them run code.
_NEVER_READ = (".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx", ".ot", ".tflite")


@dataclass(frozen=True)
class Item:
    """A file as it is to be over there: its path in the folder, its bytes' hash (64 hex digits) and where they are."""

    path: str
    hash: str
    size: int
    source: Path | bytes
    executable: bool = False

    def read(self) -> bytes:
        """Its bytes as they are now; they may be others by now."""
        return self.source if isinstance(self.source, bytes) else self.source.read_bytes()


def written(path: str, content: bytes) -> Item:
    """A file that is there only."""
    return Item(path, files.sha256_bytes(content).removeprefix("sha256:"), len(content), content)


def hashed(folder: TaskFolder, found: dict[str, Path]) -> list[Item]:
    """The files with their hashes, in the order of their paths; one that is gone by now is left out.

    Raises:
        Unavailable: one cannot be read.
    """
    try:
        known = digests.of(folder, found.values())
    except OSError as error:
        raise Unavailable(
            _("the file cannot be read"), file=error.filename, cause=error.strerror,
            mend=_("make it readable, then run the command again"),
        ) from error  # fmt: skip
    return [
        Item(path, known[place].removeprefix("sha256:"), stat.st_size, place, bool(stat.st_mode & 0o100))
        for path, place in sorted(found.items())
        if place in known and (stat := place.stat())
    ]


def of(folder: TaskFolder, version: str, step: Step) -> dict[str, Path]:
    """The task's files that `step` of `version` needs: path in the task to file; task.yaml is one of them.

    Raises:
        Usage: a link among them leads out of the task.
        Problem: a document cannot be read.
    """
    wanted = ["task.yaml", *_ALWAYS, *_SPLITS, "benchmarks/baselines.json", "versions/deployments.json"]
    busy = {job.version for job in remote_jobs.open_ones(folder) if (job.version, job.step) != (version, step)}
    for name in folder.version_names():
        made = () if name in busy else _MADE
        wanted += [f"versions/{name}/{part}" for part in ("config.yaml", *made)]
    needed = list(_needed(folder, version, step))
    wanted += [path for one, info in needed for path in (*_templates(one), *_weights(info))]
    if step == "regenerate":
        wanted += [*_SOURCES, *_named_by_sources(folder)]
    return {path: place for start in dict.fromkeys(wanted) for path, place in _walk(folder.root, start)}


def _needed(folder: TaskFolder, version: str, step: Step) -> Iterator[tuple[Config | None, ModelInfo | None]]:
    """The configuration and, where its weights are read, the model of each version that the step works on."""
    if step == "regenerate":
        return
    current = folder.version(version)
    config = current.config() if current.config_path.is_file() else None
    yield config, current.model_info() if step == "evaluate" else None
    if config is not None and config.init_from and step == "train":
        earlier = folder.version(config.init_from)
        yield (earlier.config() if earlier.config_path.is_file() else None), earlier.model_info()


def _templates(config: Config | None) -> list[str]:
    """The chat template that is a file of the task."""
    named = config.chat_template if config is not None else None
    return [named] if named is not None and named.endswith(".jinja") else []


def _weights(info: ModelInfo | None) -> list[str]:
    return [path for path in (info.adapter_path, info.merged_path) if path] if info is not None else []


def _named_by_sources(folder: TaskFolder) -> Iterator[str]:
    """Files inside the task that data_source.yaml imports."""
    if not folder.sources_path.is_file():
        return
    for source in folder.sources().sources:
        if isinstance(source, FileImport):
            path = Path(source.path)
            inner = path.relative_to(folder.root) if path.is_relative_to(folder.root) else path
            if not inner.is_absolute():
                yield from (found.relative_to(folder.root).as_posix() for found in folder.root.glob(str(inner)))


def _walk(root: Path, start: str) -> Iterator[tuple[str, Path]]:
    """The files at or below a path of the task. What begins with a dot, and caches, are left out."""
    inner = PurePosixPath(os.path.normpath(start))
    if inner.is_absolute() or ".." in inner.parts or any(part.startswith(".") for part in inner.parts):
        files.inside(root, start)
        return
    top = root / inner
    if not os.path.lexists(top):
        return
    _refuse_leaving(root, top)
    if top.is_file():
        yield inner.as_posix(), top
        return
    for place, folders, names in os.walk(top, followlinks=True):
        here = Path(place)
        folders[:] = sorted(name for name in folders if _entered(root, here / name))
        for name in sorted(names):
            path = here / name
            if not name.startswith(".") and path.is_file():
                if path.is_symlink():
                    _refuse_leaving(root, path)
                yield path.relative_to(root).as_posix(), path


def _entered(root: Path, path: Path) -> bool:
    if path.name.startswith(".") or path.name in _CACHES:
        return False
    if path.is_symlink():
        _refuse_leaving(root, path)
        return path.resolve() not in {above.resolve() for above in path.parents}
    return True


def home_of(root: Path, path: Path) -> Path:
    """The folder that a file of the task must be in: the task's, or where its data/ or models/ is a link to."""
    inner = path.relative_to(root).parts
    if inner and inner[0] in _ON_ANOTHER_DISK and (root / inner[0]).is_symlink():
        return (root / inner[0]).resolve()
    return root.resolve()


def _refuse_leaving(root: Path, path: Path) -> None:
    if not path.resolve().is_relative_to(home_of(root, path)):
        raise Usage(
            _("this link leads out of the task folder, so it is not sent"),
            file=path,
            cause=_("it points to {target}", target=str(path.resolve())),
            mend=_("put the file itself there, or remove the link"),
        )


def models(folder: TaskFolder, version: str, step: Step) -> dict[str, Path]:
    """Base models that the step names by a folder of this computer: name as written to folder."""
    names: dict[str, None] = {}
    for config, info in _needed(folder, version, step):
        names |= dict.fromkeys(one.base_model for one in (config, info) if one is not None)
    found = {}
    for name in names:
        for start in (folder.root, Path.cwd()):
            path = start / Path(name).expanduser()
            if not name.startswith("pypi:") and path.is_dir():
                found[name] = path.resolve()
                break
    return found


def model_files(model: Path) -> dict[str, Path]:
    """The files of a base model's folder that are read to load it.

    Raises:
        Usage: a link among them leads elsewhere; those of the Hub's cache, into its own store, do not.
    """
    around = model.parents[1] if model.parent.name == "snapshots" else model
    found = {}
    for path in sorted(model.iterdir()):
        if path.name.startswith(".") or path.suffix in _NEVER_READ or not path.is_file():
            continue
        if not path.resolve().is_relative_to(around):
            raise Usage(
                _("this link leads out of the base model's folder, so it is not sent"),
                file=path,
                cause=_("it points to {target}", target=str(path.resolve())),
                mend=_("put the file itself there, or remove the link"),
            )
        found[path.name] = path
    return found

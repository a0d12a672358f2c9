"""The place where a version is trained again: a whole small task in `.nlp-skills/reproduce/VERSION/`.

It is made from the version's records and touches nothing of the version itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from nlp_skills import files
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.provenance.original import Original
from nlp_skills.provenance.surroundings import Kind
from nlp_skills.schema import yaml
from nlp_skills.schema.data_source import DataSource
from nlp_skills.training import artefact
from nlp_skills.workspace import runs, sections, store
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

# The part of task.yaml that training and evaluation read; an older release refuses keys that it does not know.
_OF_THE_TASK = {"task_name", "task_type", "domain", "language", "success_criteria"}
_NOTE = "reproduction.json"


def place(folder: TaskFolder, version: str) -> Path:
    """Where the scratch task of a version is.

    Raises:
        Invalid: somebody put a link there.
    """
    parent = folder.state / "reproduce"
    for path in (parent, parent / version):
        if path.is_symlink():
            mend = _("remove the link")
            raise Invalid(_("this is a link, and what is behind it is not ours to change"), file=path, mend=mend)
    return parent / version


@contextlib.contextmanager
def alone(folder: TaskFolder, version: str) -> Iterator[None]:
    """One reproduction of a version at a time.

    Raises:
        Invalid: another process is at it.
        Unavailable: the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    path = place(folder, version).with_name(f"{version}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=0)
        lock.acquire()
    except OSError as error:
        busy = isinstance(error, Timeout)
        raise (_busy(version, path) if busy else files.storage_problem(error, path)) from error
    try:
        _refuse_an_orphan(folder, version)
        yield
    finally:
        lock.release()


def _busy(version: str, path: Path) -> Invalid:
    mend = _("wait until it ends, or stop it, then run this command again")
    return Invalid(_("version {name} is being reproduced by another command", name=version), file=path, mend=mend)


def _refuse_an_orphan(folder: TaskFolder, version: str) -> None:
    """A training whose reproduction was killed goes on by itself."""
    status = VersionFolder(place(folder, version), version).status()
    if status is not None and runs.alive(status):
        raise Invalid(
            _("an earlier reproduction of version {name} is still training: process {pid}",
              name=version, pid=status.pid),
            file=place(folder, version),
            mend=_("wait until it ends, or stop it with: kill {pid}", pid=status.pid),
        )  # fmt: skip


def make(original: Original, kind: Kind) -> tuple[TaskFolder, bool]:
    """The scratch task, and whether it is one that was begun before in the same way and goes on."""
    root = place(original.folder, original.version.name)
    if _note(root) == _asked(original, kind):
        return TaskFolder(root), True
    remove(root)
    try:
        _fill(original, kind, root)
    except OSError as error:
        raise files.storage_problem(error, root) from error
    # Last: without it the folder is not a whole one, and is made anew.
    files.write_json(root / _NOTE, {"asked": _asked(original, kind)})
    return TaskFolder(root), False


def finish(root: Path, *, keep: bool) -> None:
    """The comparison is made: the next one begins from the beginning."""
    (root / _NOTE).unlink(missing_ok=True)
    if not keep:
        remove(root)


def remove(root: Path) -> None:
    """Delete the scratch task; links in it are removed, what they lead to stays."""
    try:
        shutil.rmtree(root)
    except FileNotFoundError:
        return
    except OSError as error:
        raise files.storage_problem(error, root) from error


def _note(root: Path) -> str | None:
    with contextlib.suppress(Invalid, KeyError, TypeError):
        return str(files.read_json(root / _NOTE)["asked"])
    return None


def _asked(original: Original, kind: Kind) -> str:
    """A hash of all that the scratch task is made of: what was begun with something else does not go on."""
    snapshot = original.snapshot()
    around = artefact.packages() if kind == "here" else original.run.pinned
    content = [
        kind,
        around,
        files.sha256_file(original.version.config_path),
        snapshot.files,
        snapshot.config,
        original.base_hash,
        original.info.dump(),
        str(original.run.threads),
    ]
    return files.sha256_bytes(json.dumps(content, sort_keys=True, ensure_ascii=False).encode())


def _fill(original: Original, kind: Kind, root: Path) -> None:
    folder, snapshot = original.folder, original.snapshot()
    scratch = VersionFolder(root, original.version.name)
    for path, sha256 in snapshot.files.items():
        store.restore(folder, sha256, files.inside(root, path))
    if snapshot.config:
        store.restore(folder, snapshot.config, root / "data_source.yaml")
    else:
        # The file of then was not kept, for a password stands in it. Training reads nothing of the sources.
        bare = folder.sources().model_copy(update={"sources": [], "augmentation": []})
        DataSource.model_validate(bare.model_dump(by_alias=True)).save(root / "data_source.yaml")
    files.write_bytes(scratch.config_path, original.version.config_path.read_bytes())
    files.write_text(root / "task.yaml", _task(original))
    if kind == "pinned":
        for path, sha256 in original.run.pinned.items():
            store.restore(folder, sha256, files.inside(root, path))
    _lead_to_base(original, root)
    _bring_start(original, root)


def _bring_start(original: Original, root: Path) -> None:
    """The version it went on from, with its weights: linked as files, which nobody changes in place."""
    name = VersionFolder(root, original.version.name).config().init_from
    if name is None:
        return
    there = original.folder.version(name)
    model = there.model
    for path in (there.config_path, there.model_info_path, *(sections.regular_files(model) if model else [])):
        target = root / path.relative_to(original.folder.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, target)
        except OSError:
            shutil.copy2(path, target)


def _task(original: Original) -> str:
    task = original.folder.task()
    content = {
        **task.model_dump(mode="json", by_alias=True, exclude_none=True, include=_OF_THE_TASK),
        **original.info.model_dump(mode="json", by_alias=True, exclude_none=True,
                                   include={"input_template", "output_format"}),
        "version": original.version.name,
        "status": "configuring",
        "execution": {"type": "local", "cuda_devices": task.execution.cuda_devices},
    }  # fmt: skip
    if not task.execution.cuda_devices:
        content["execution"] = {"type": "local"}
    return yaml.dumps(content)


def _lead_to_base(original: Original, root: Path) -> None:
    """Let the base model's name mean the same here, in the same words: a folder of the task, or a commit of the Hub."""
    name = Path(original.info.base_model).expanduser()
    if name.is_absolute() or ":" in original.info.base_model or ".." in name.parts:
        return
    link = root / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(original.base(), target_is_directory=True)


def working_directory(original: Original) -> Path:
    """Where programs start, so that a base model named `../models/x` is found as it was from the task itself."""
    name = Path(original.info.base_model).expanduser()
    return original.folder.root if (original.folder.root / name).is_dir() else Path.cwd()

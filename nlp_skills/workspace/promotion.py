"""An experiment becomes the next version: its records under the new name, its model linked, and active."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from nlp_skills import files
from nlp_skills.errors import Invalid, Problem, Usage
from nlp_skills.i18n import _
from nlp_skills.schema import yaml
from nlp_skills.schema.task import Task
from nlp_skills.schema.version import Lineage, LineageModel, LineageResults
from nlp_skills.workspace import active, lineage, lock, naming, runs, sections, trash, versions
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

_MODELS = ("adapter", "merged")


@dataclass(frozen=True)
class Promoted:
    """What a promotion did. `switched` is None where the experiment had been promoted before, and nothing was done."""

    version: VersionFolder
    experiment: str
    parent: str | None
    changes: list[str]
    switched: active.Switched | None


def promote(folder: TaskFolder, name: str, *, changes: Sequence[str] = ()) -> Promoted:
    """Make an experiment the next major version and the active one; `changes` are added to its own.

    The experiment stays as it is. A promotion that was cut off is finished; one that was finished is told again.

    Raises:
        Usage: not a version name, or not an experiment's.
        Invalid: no such version, it runs or is not trained; the task is archived.
        Unavailable: the disk is full.
    """
    experiment(folder, name)
    with lock.writing(folder):
        task = versions.open_task(folder)
        origin = experiment(folder, name)
        version = _made_before(folder, origin)
        if version is None or version.name not in _once_active(task):
            version = _put_in_place(
                origin, version or folder.version(versions.next_name(folder, task, "major", origin.name)), changes
            )
            _tell(origin, version)
            reason = _("promoted {experiment} to {version}", experiment=origin.name, version=version.name)
            switched = active.switch(folder, version, reason=reason, deployments_too=False)
        else:
            switched = None
    made = lineage.existing(version)
    return Promoted(version, origin.name, made.parent, made.changes, switched)


def experiment(folder: TaskFolder, name: str) -> VersionFolder:
    """An experiment that is fit to be promoted.

    Raises:
        Usage: not a version name, or not an experiment's.
        Invalid: it does not exist, is being trained, or has no finished model.
    """
    version = folder.version(name)
    if not naming.is_experiment(version.name):
        raise Usage(
            _("{name} is not an experiment", name=version.name),
            mend=_("only experiments, such as v3-exp, are promoted; nlp-skills rollback makes another version active"),
        )
    folder.existing_version(name)
    status = version.status()
    if status and runs.alive(status):
        raise runs.busy(version, status)
    train = f"nlp-skills train {folder.root.name} --version {version.name}"
    if version.model_info() is None or (status and status.state != "completed"):
        raise Invalid(
            _("version {name} is not trained to its end", name=version.name),
            mend=_("train it first: {command}", command=train),
        )
    if version.model is None:
        held = trash.holding(folder, version.name)
        raise Invalid(
            _("the weights of version {version} are gone", version=version.name),
            file=version.adapter,
            mend=_(
                "bring it back from the trash: nlp-skills cleanup {task} --undo {id}", task=folder.root.name, id=held
            )
            if held
            else _("train it anew: {command}", command=f"{train} --again"),
        )
    return version


def _made_before(folder: TaskFolder, origin: VersionFolder) -> VersionFolder | None:
    """The version that this model of the experiment was promoted to, whole or not."""
    trained = origin.model_info()
    for name in reversed(folder.version_names()):
        version = folder.version(name)
        with contextlib.suppress(Problem, OSError):
            made, info = version.lineage(), version.model_info()
            if made and made.promoted_from == origin.name and info and trained and info.created == trained.created:
                return version
    return None


def _once_active(task: Task) -> set[str | None]:
    """Versions that were made active: the last step of a promotion, which leaves its line in the history."""
    return {task.version, *(entry.version for entry in task.history)}


def _put_in_place(origin: VersionFolder, version: VersionFolder, changes: Sequence[str]) -> VersionFolder:
    """Everything is made beside its place first, so that little can come between the renames."""
    models = [_linked_beside(origin, version, kind) for kind in _MODELS]
    if not version.root.exists():
        half = versions.half_made(TaskFolder(version.task_root), version.name)
        try:
            _copy_records(origin, half, version.name, changes)
        except OSError as error:
            raise files.storage_problem(error, half.root) from error
        versions.put_in_place(half, version)
    for beside, target in filter(None, models):
        try:
            beside.rename(target)
        except OSError as error:
            raise files.storage_problem(error, target) from error
    return version


def _linked_beside(origin: VersionFolder, version: VersionFolder, kind: str) -> tuple[Path, Path] | None:
    """The experiment's model folder of this kind again, beside the version's, sharing its bytes."""
    source, target = (getattr(place, kind) for place in (origin, version))
    if target.exists() or not source.is_dir():
        return None
    beside = target.with_name(f".{target.name}.promoting")
    try:
        for left in target.parent.glob(".*.promoting"):
            left.unlink() if left.is_symlink() else shutil.rmtree(left)
        if source.is_symlink():
            beside.symlink_to(source.readlink())
        else:
            shutil.copytree(source, beside, symlinks=True, copy_function=_link)
    except OSError as error:
        raise files.storage_problem(error, target) from error
    return beside, target


def _link(source: str, target: str) -> None:
    """A second name for a file; a copy of it where the file system has none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _copy_records(origin: VersionFolder, half: VersionFolder, name: str, changes: Sequence[str]) -> None:
    """All that is known of the experiment, under the new name; its report is left: it is made anew from these."""
    for path in (origin.config_path, origin.snapshot_path, origin.predictions_path):
        if path.is_file():
            shutil.copyfile(path, half.root / path.name)
    if results := origin.results():
        results.model_copy(update={"version": name}).save(half.results_path)
    if info := origin.model_info():
        paths = {key: _renamed(getattr(info, key), origin.name, name) for key in ("adapter_path", "merged_path")}
        info.model_copy(update={"version": name, **paths}).save(half.model_info_path)
    _copy_run(origin, half, name)
    files.write_text(half.lineage_path, _lineage(origin, half, name, changes))


def _copy_run(origin: VersionFolder, half: VersionFolder, name: str) -> None:
    for path in sections.regular_files(origin.run):
        place = half.run / path.relative_to(origin.run)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    if status := origin.status():
        status.model_copy(update={"version": name}).save(half.status_path)


def _lineage(origin: VersionFolder, half: VersionFolder, name: str, changes: Sequence[str]) -> str:
    """The experiment's lineage as the version's: a person's comments and keys stay, its own events do not."""
    known = lineage.ensure(origin)
    event = {"time": files.now().isoformat(), "event": "promoted", "other": origin.name, "by": lineage.whoami()}
    sections: dict[tuple[str | int, ...], Any] = {
        ("version",): name,
        ("created",): event["time"],
        ("promoted_from",): origin.name,
        ("changes",): [*known.changes, *changes],
        ("events",): [event],
    }
    if known.model:
        sections[("model",)] = _model(known.model, origin.name, name)
    if known.results and known.results.hashes:
        sections[("results", "hashes")] = _hashes(known.results, origin, half)
    text = yaml.changed(origin.lineage_path, sections)
    parsed = yaml.loads(text, origin.lineage_path)
    Lineage.check(parsed.data, origin.lineage_path, parsed.lines)
    return text


def _model(section: LineageModel, old: str, new: str) -> dict[str, Any]:
    """Where the model is now. What was exported or uploaded of the experiment stays the experiment's."""
    paths = {key: _renamed(getattr(section, key), old, new) for key in ("adapter_path", "merged_path")}
    hashes = {_renamed(path, old, new): sha256 for path, sha256 in section.hashes.items()}
    kept = {path: sha256 for path, sha256 in hashes.items() if path not in section.hashes}
    return {key: value for key, value in {**paths, "hashes": kept}.items() if value}


def _hashes(section: LineageResults, origin: VersionFolder, half: VersionFolder) -> dict[str, str]:
    """results.json has another name in it now. A record that did not match before is not made to match."""
    recorded = section.hashes.get(origin.results_path.name)
    if not half.results_path.is_file() or recorded != files.sha256_file(origin.results_path):
        return section.hashes
    return {**section.hashes, origin.results_path.name: files.sha256_file(half.results_path)}


def _renamed(path: str | None, old: str, new: str) -> str | None:
    """A path under models/adapter/OLD or models/merged/OLD, under the new name; any other stays."""
    parts = PurePosixPath(path).parts if path else ()
    if parts[:1] != ("models",) or parts[1:2] not in [(kind,) for kind in _MODELS] or parts[2:3] != (old,):
        return path
    return str(PurePosixPath(*parts[:2], new, *parts[3:]))


def _tell(origin: VersionFolder, version: VersionFolder) -> None:
    """The experiment's lineage knows what became of it; told once."""
    known = lineage.ensure(origin).events
    if not any(entry.event == "promoted" and entry.other == version.name for entry in known):
        lineage.note(origin, "promoted", other=version.name)

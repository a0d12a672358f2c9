"""The next version: a copy of its parent's configuration, with what changed and why."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from nlp_skills import files
from nlp_skills.errors import Invalid, Problem, Usage
from nlp_skills.i18n import _
from nlp_skills.schema import yaml
from nlp_skills.schema.task import Task
from nlp_skills.schema.training import Config
from nlp_skills.workspace import digest, lifecycle, lineage, lock, naming
from nlp_skills.workspace.folder import TaskFolder, VersionFolder


@dataclass(frozen=True)
class Draft:
    """A version before it is made: its parent, and its config.yaml as text and as read."""

    origin: VersionFolder
    text: str
    config: Config

    def edited(self, text: str) -> Draft:
        """The draft with another config.yaml.

        Raises:
            Invalid: the text is no configuration; the lines are its own.
        """
        place = Path("config.yaml")
        parsed = yaml.loads(text, place)
        return replace(self, text=text, config=Config.check(parsed.data, place, parsed.lines))


class Decision(NamedTuple):
    """What becomes of a draft."""

    draft: Draft
    kind: naming.Kind
    changes: list[str]


def new_version(
    folder: TaskFolder,
    *,
    settings: Mapping[str, Any],
    changes: Sequence[str] = (),
    parent: str | None = None,
    kind: naming.Kind = "major",
    decide: Callable[[Draft], Decision] | None = None,
) -> VersionFolder:
    """Make the next version from `parent` (the current one by default) and make it current.

    `settings` are configuration keys with dots (`lora.r`) and their new values. `decide` sees the draft before
    anything is made and has the last word. A version that an interruption left half-made is taken up again.

    Raises:
        Usage: a setting that has no place; a kind that the naming strategy does not have.
        Invalid: the parent does not exist, the new configuration is not valid, or the task is archived.
    """
    with lock.writing(folder):
        task = open_task(folder)
        draft = _draft(folder, settings, parent, changes)
        chosen = decide(draft) if decide else Decision(draft, kind, list(changes))
        version = _unfinished(folder, chosen) or _make(
            folder.version(next_name(folder, task, chosen.kind, draft.origin.name)), chosen
        )
        lifecycle.move(folder, "configuring", _("new version {name}", name=version.name), version=version.name)
        digest.write(folder)
    return version


def open_task(folder: TaskFolder) -> Task:
    """The task, when it may have another version.

    Raises:
        Invalid: it is archived, or task.yaml names versions by another strategy than those there are.
    """
    task = folder.task()
    lifecycle.refuse_archived(folder, task)
    naming.refuse_mixing(task.versioning, folder.version_names(), file=folder.task_path)
    return task


def next_name(folder: TaskFolder, task: Task, kind: naming.Kind, parent: str) -> str:
    """What the next version from `parent` is called.

    Raises:
        Usage: as `naming.next_name`.
    """
    return naming.next_name(task.versioning, taken(folder, task), kind=kind, parent=parent)


def taken(folder: TaskFolder, task: Task) -> set[str]:
    """Every version name that is or was: a name that was purged is not given again."""
    return {*folder.version_names(), *(entry.version for entry in task.history if entry.version)}


def begun(version: VersionFolder) -> bool:
    """Whether anything was done with a version since it was made."""
    return version.run.exists() or version.model is not None or version.model_info_path.exists()


def half_made(folder: TaskFolder, name: str) -> VersionFolder:
    """An empty folder beside versions/NAME, to be filled and renamed; what kills left of others is removed."""
    for left in (folder.root / "versions").glob("*.tmp"):
        if naming.is_version(left.name.removesuffix(".tmp")):
            shutil.rmtree(left, ignore_errors=True)
    beside = VersionFolder(folder.root, f"{name}.tmp")
    beside.root.mkdir(parents=True)
    return beside


def put_in_place(half: VersionFolder, version: VersionFolder) -> None:
    """Rename a filled folder to the version's own, so that a version is whole or absent.

    Raises:
        Invalid: a folder of that name is there.
    """
    try:
        half.root.rename(version.root)
    except OSError as error:
        shutil.rmtree(half.root, ignore_errors=True)
        raise Invalid(_("version {name} could not be made", name=version.name), cause=str(error)) from error


def _draft(folder: TaskFolder, settings: Mapping[str, Any], parent: str | None, changes: Sequence[str]) -> Draft:
    """The configuration to come; anew from the parent where the current version is what this very request made."""
    origin = folder.existing_version(parent)
    if parent is None and changes and not begun(origin):
        with contextlib.suppress(Problem, OSError):
            made = origin.lineage()
            if made and made.parent and made.changes == list(changes):
                draft = _with_settings(folder.existing_version(made.parent), settings)
                if draft.text == _text(origin.config_path):
                    return draft
    return _with_settings(origin, settings)


def _with_settings(origin: VersionFolder, settings: Mapping[str, Any]) -> Draft:
    path = origin.config_path
    present = yaml.read(path).data
    changes: dict[tuple[yaml.Key, ...], Any] = {tuple(key.split(".")): value for key, value in settings.items()}
    for at in changes:
        _refuse_a_setting_without_place(present, at)
    text = yaml.changed(path, changes) if changes else _text(path)
    parsed = yaml.loads(text, path)
    return Draft(origin, text, Config.check(parsed.data, path, parsed.lines))


def _refuse_a_setting_without_place(present: Any, at: Sequence[yaml.Key]) -> None:
    for index, key in enumerate(at):
        if present is None:
            return
        if not isinstance(present, dict):
            raise Usage(
                _("{key} cannot be set", key=".".join(map(str, at))),
                cause=_("{key} is one value, not a group of settings", key=".".join(map(str, at[:index]))),
                mend=_("the settings are those of config.yaml, such as lora.r=32 or epochs=3"),
            )
        present = present.get(key)


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8-sig")


def _unfinished(folder: TaskFolder, wanted: Decision) -> VersionFolder | None:
    """The version that this very request made before it was cut off, if there is one."""
    for name in reversed(folder.version_names()):
        version = folder.version(name)
        if naming.kind(name) != wanted.kind or begun(version):
            continue
        with contextlib.suppress(Problem, OSError):
            made = version.lineage()
            same = made and made.parent == wanted.draft.origin.name and made.changes == wanted.changes
            if same and _text(version.config_path) == wanted.draft.text:
                return version
    return None


def _make(version: VersionFolder, wanted: Decision) -> VersionFolder:
    """Fill a folder beside the final one and rename it."""
    half = half_made(TaskFolder(version.task_root), version.name)
    files.write_text(half.config_path, wanted.draft.text)
    lineage.start(half, name=version.name, parent=wanted.draft.origin.name, changes=wanted.changes)
    put_in_place(half, version)
    return version

"""The next version: a copy of its parent's configuration, with what changed and why."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nlp_skills.errors import Invalid, Usage
from nlp_skills.i18n import _
from nlp_skills.schema import yaml
from nlp_skills.schema.task import Task
from nlp_skills.schema.training import Config
from nlp_skills.workspace import compare, digest, lifecycle, lineage, lock, naming
from nlp_skills.workspace.folder import TaskFolder, VersionFolder


def new_version(
    folder: TaskFolder,
    *,
    changes: Sequence[str],
    settings: Mapping[str, Any],
    parent: str | None = None,
    kind: naming.Kind = "major",
) -> VersionFolder:
    """Make the next version from `parent` (the current one by default) and make it current.

    `settings` are configuration keys with dots (`lora.r`) and their new values. A version that an
    interruption left half-made is taken up again.

    Raises:
        Usage: nothing said about what changes; a kind that the naming strategy does not have.
        Invalid: the parent does not exist, or the new configuration is not valid.
    """
    with lock.writing(folder):
        task = folder.task()
        origin = folder.existing_version(parent)
        config = origin.config()
        text, after = _changed_config(origin.config_path, settings)
        said = [*changes, *(compare.sentences(config, after) if not changes else ())]
        if not said:
            raise Usage(
                _("nothing says what changes"),
                mend=_('add --change "LoRA rank 16 → 32", or --set lora.r=32'),
            )
        version = _unfinished(folder, origin, said) or folder.version(
            naming.next_name(task.versioning, taken(folder, task), kind=kind, parent=origin.name)
        )
        if not version.root.exists():
            _make(version, text, parent=origin.name, changes=said)
        lifecycle.move(folder, "configuring", _("new version {name}", name=version.name), version=version.name)
        digest.write(folder)
    return version


def taken(folder: TaskFolder, task: Task) -> set[str]:
    """Every version name that is or was: a name that was purged is not given again."""
    return {*folder.version_names(), *(entry.version for entry in task.history if entry.version)}


def _changed_config(path: Path, settings: Mapping[str, Any]) -> tuple[str, Config]:
    text = yaml.changed(path, {tuple(key.split(".")): value for key, value in settings.items()})
    parsed = yaml.loads(text, path)
    return text, Config.check(parsed.data, path, parsed.lines)


def _unfinished(folder: TaskFolder, origin: VersionFolder, changes: Sequence[str]) -> VersionFolder | None:
    """The version that this very command made before it was cut off, if there is one."""
    latest = folder.version(folder.version_names()[-1])
    made = latest.lineage() if latest.name != origin.name else None
    if made and made.parent == origin.name and made.changes == list(changes) and not latest.run.exists():
        return latest
    return None


def _make(version: VersionFolder, config_text: str, *, parent: str, changes: Sequence[str]) -> None:
    """Fill a folder beside the final one and rename it, so that a version is whole or absent."""
    half_made = VersionFolder(version.task_root, f"{version.name}.tmp")
    shutil.rmtree(half_made.root, ignore_errors=True)
    half_made.root.mkdir(parents=True)
    half_made.config_path.write_text(config_text, encoding="utf-8")
    lineage.start(half_made, name=version.name, parent=parent, changes=list(changes))
    try:
        half_made.root.rename(version.root)
    except OSError as error:
        shutil.rmtree(half_made.root, ignore_errors=True)
        raise Invalid(_("version {name} could not be made", name=version.name), cause=str(error)) from error
